/**
 * `fsvideo generate`: a picture and a prompt to a video file. Everything that was typed is held against the model's
 * configuration before a weight is read; the pipeline does the rest.
 */
import { FSVideoError } from '../errors.js'
import type { ProgressEvent } from '../events.js'
import { probeImage } from '../media/image.js'
import { checkOutput } from '../media/video.js'
import { loadTokenizer, type ModelFolder, readModelFolder } from '../model-folder.js'
import type { Precision } from '../parameters.js'
import { FSVideoPipeline } from '../pipeline.js'
import { type GenerateRequest, type ResolvedRequest, resolveRequest } from '../requests.js'
import type { Stage } from '../stages.js'
import { command } from './command.js'
import { checkPlaces, inOptionNames, numeric, options, requestOf } from './generate-options.js'
import { document, summary } from './generate-result.js'
import { Progress } from './progress.js'

export const generate = command({
  name: 'generate',
  about:
    'Makes a video of a picture and a prompt. Prints where it is and what it took; progress and warnings go to stderr.',
  positionals: [],
  options,
  required: ['image', 'prompt', 'out'],
  otherNames: {
    cfg: 'guidance',
    cfgscale: 'guidance',
    guidancescale: 'guidance',
    numframes: 'frames',
    numinferencesteps: 'steps',
    negativeprompt: 'negative',
    width: 'size',
    height: 'size',
    resolution: 'size',
    output: 'out',
    o: 'out',
    i: 'image',
    p: 'prompt',
    m: 'model',
    s: 'seed',
    sampler: 'solver',
    scheduler: 'solver',
    flowshift: 'shift',
  },
  notes: "Options about sampling that are left out are the model's own: fsvideo info DIR tells them.",
  async run(given, _, { signal }) {
    const { model: folder, device, quality } = checkPlaces(given)
    await checkOutput(given.out)
    await probeImage(given.image!)
    const request: GenerateRequest = { ...requestOf(given), signal }
    const progress = new Progress()
    let pipe: FSVideoPipeline | undefined
    try {
      const { model, resolved } = await inOptionNames(given, () => checkRequest(request, folder))
      for (const { message, code } of resolved.warnings) progress.note(`warning: ${message} (${code})`)

      const began = performance.now()
      progress.begin('load', model.networks.size, 'networks')
      pipe = await inOptionNames(given, () =>
        FSVideoPipeline.fromPretrained(folder, {
          device,
          signal,
          dtype: (given.dtype ?? 'bf16') as Precision,
          threads: numeric(given.threads) as number | undefined,
          onProgress: ({ index }) => progress.step(index),
        }),
      )
      const loadMs = performance.now() - began
      progress.end(loadMs)

      const { file, report } = await pipe.generateToFile(request, given.out!, {
        quality,
        onEvent: follow(progress, resolved),
      })
      for (const note of file.notes) progress.note(`note: ${note}`)
      const result = { given, folder, resolved, pipe, file, report, loadMs }
      process.stdout.write(given.json ? `${JSON.stringify(document(result), null, 2)}\n` : summary(result))
      return undefined
    } finally {
      progress.close()
      await pipe?.dispose()
    }
  },
})

/** Everything that can be known to be wrong before a weight is read. */
async function checkRequest(
  request: GenerateRequest,
  folder: string,
): Promise<{ model: ModelFolder; resolved: ResolvedRequest }> {
  const model = await readModelFolder(folder).catch((error) => {
    if (!(error instanceof FSVideoError) || error.field !== 'tokenizer') throw error
    const { code, message, field, got, expected } = error
    const hint = `fsvideo init ${folder} DIR makes a model of configurations alone`
    throw new FSVideoError(code, `${message}: ${hint}`, { field, got, expected, cause: error })
  })
  return { model, resolved: await resolveRequest(request, model, await loadTokenizer(model)) }
}

/** Shows a generation. A stage is shown from the moment when the one before it is done: its first step may take minutes. */
function follow(
  progress: Progress,
  { base, refiner, frames }: ResolvedRequest,
): (event: ProgressEvent) => void {
  const stages: readonly (readonly [stage: Stage, steps: number, unit?: string])[] = [
    ['encode', 3],
    ['denoise', base.schedule.timesteps.length, 'steps'],
    ['upsample', 1],
    ['refine', refiner.schedule.timesteps.length, 'steps'],
    ['decode', frames, 'frames'],
  ]
  progress.begin(...stages[0]!)
  return ({ stage, step, steps, elapsedMs }) => {
    progress.step(step)
    if (step < steps) return
    progress.end(elapsedMs)
    const next = stages[stages.findIndex(([name]) => name === stage) + 1]
    if (next) progress.begin(...next)
  }
}
