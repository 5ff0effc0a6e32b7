/**
 * `fsvideo generate`: a picture and a prompt to a video file. Everything that was typed is held against the model's
 * configuration before a weight is read; the pipeline does the rest.
 */
import { FSVideoError, invalid } from '../errors.js'
import { probeImage } from '../media/image.js'
import { checkOutput, type VideoFile } from '../media/video.js'
import { loadTokenizer, type ModelFolder, readModelFolder } from '../model-folder.js'
import type { ComputeType } from '../parameters.js'
import { FSVideoPipeline, type ProgressEvent } from '../pipeline.js'
import { type GenerateRequest, type ResolvedRequest, resolveRequest } from '../requests.js'
import { solverNames } from '../sampling/index.js'
import type { Stage } from '../stages.js'
import type { GenerationReport } from '../video.js'
import { command, type Given, type Options } from './command.js'
import { bytes, columns, duration } from './format.js'
import { Progress } from './progress.js'

const options = {
  image: { value: 'F', help: 'the first frame: a JPEG, PNG, WebP, AVIF, TIFF or GIF picture' },
  prompt: { value: 'S', help: 'what happens in the video' },
  out: { value: 'F', help: 'where to: a name in .mp4, .webm, .webp or .rgb, or a folder of PNG frames' },
  model: { value: 'DIR', help: 'the model folder; FSVIDEO_MODEL when left out' },
  device: { value: 'NAME', help: 'auto (when left out), cpu, or cuda[:N]' },
  seed: { value: 'N', help: 'the same seed gives the same video; 0 when left out' },
  frames: { value: 'N', help: 'how many; rounded to 4k + 1' },
  fps: { value: 'N', help: 'frames a second of the file; does not change what is generated' },
  size: { value: 'WxH', help: "in pixels; the picture's own when left out, at most 720x1280 pixels" },
  steps: { value: 'N', help: 'steps of the base model' },
  'refiner-steps': { value: 'N', help: 'steps of the refiner' },
  guidance: { value: 'X', help: 'how closely the prompt is followed: 1 (not guided, twice as fast) to 100' },
  negative: { value: 'S', help: 'what should not happen' },
  solver: { value: 'NAME', help: `of the base model: ${solverNames.join(', ')}` },
  shift: { value: 'X', help: 'larger spends more steps near noise; 0.01 to 100' },
  dtype: { value: 'T', help: 'what is computed in: bf16 (when left out) or f32' },
  decoder: { value: 'NAME', help: 'standard, or lite, which is faster and needs less memory' },
  threads: { value: 'N', help: 'of the CPU; FSVIDEO_THREADS, or all there are, when left out' },
  quality: { value: 'N', help: 'of the encoded video, 1 to 100; 80 when left out' },
  json: { help: 'print the result as one JSON document' },
} as const satisfies Options

type GenerateOptions = Given<typeof options>

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
          dtype: (given.dtype ?? 'bf16') as ComputeType,
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

/** What neither the pipeline nor the request checks before the model is loaded. */
function checkPlaces(given: GenerateOptions): { model: string; device: string; quality?: number } {
  const model = given.model ?? process.env.FSVIDEO_MODEL
  if (!model) {
    const expected = 'a model folder, here or in FSVIDEO_MODEL'
    const message = `--model is missing: it must be ${expected} (fsvideo init demo DIR makes one with random weights)`
    throw new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, {
      field: '--model',
      got: model,
      expected,
    })
  }
  const { device = 'auto' } = given
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(device)) throw invalid('--device', device, 'auto, cpu or cuda[:N]')
  const quality = numeric(given.quality)
  if (quality !== undefined && !(typeof quality === 'number' && quality >= 1 && quality <= 100))
    throw invalid('--quality', quality, 'a number from 1 to 100')
  return { model, device, quality }
}

/** Which field of the request an option sets; those of another name first. */
const optionOf: Readonly<Partial<Record<string, keyof GenerateOptions>>> = {
  guidanceScale: 'guidance',
  negativePrompt: 'negative',
  refinerSteps: 'refiner-steps',
  width: 'size',
  height: 'size',
  ...Object.fromEntries(Object.keys(options).map((name) => [name, name as keyof GenerateOptions])),
}

/**
 * The options as a request. What is no number stays the text that it is, for the request's own checks to refuse: they know what
 * is allowed.
 */
function requestOf(given: GenerateOptions): GenerateRequest {
  const fields = {
    image: given.image,
    prompt: given.prompt,
    negativePrompt: given.negative,
    seed: numeric(given.seed),
    frames: numeric(given.frames),
    fps: numeric(given.fps),
    ...sides(given.size),
    steps: numeric(given.steps),
    refinerSteps: numeric(given['refiner-steps']),
    guidanceScale: numeric(given.guidance),
    solver: given.solver,
    shift: numeric(given.shift),
    decoder: given.decoder,
  }
  return fields as GenerateRequest
}

function sides(size: string | undefined): { width?: number; height?: number } {
  if (size === undefined) return {}
  const [, width, height] = /^(\d{1,6})x(\d{1,6})$/i.exec(size) ?? []
  if (!width || !height) throw invalid('--size', size, 'WxH in pixels, such as 640x384')
  return { width: Number(width), height: Number(height) }
}

/** The number that a text is in decimal notation, exactly; any other text as it is. */
function numeric(text: string | undefined): number | bigint | string | undefined {
  if (text === undefined || !/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return text
  const number = Number(text)
  return /^\d+$/.test(text) && !Number.isSafeInteger(number) ? BigInt(text) : number
}

/** Errors about a field that an option set name the option. */
async function inOptionNames<T>(given: GenerateOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof FSVideoError) || error.code !== 'ERR_FSVIDEO_INVALID_ARGUMENT') throw error
    const { field = '', message, got, expected } = error
    const option = optionOf[field]
    if (!option || given[option] === undefined || !message.startsWith(field)) throw error
    const name = option === 'size' ? `the ${field} in --size` : `--${option}`
    throw new FSVideoError(error.code, name + message.slice(field.length), {
      field,
      got,
      expected,
      cause: error,
    })
  }
}

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

interface Result {
  given: GenerateOptions
  folder: string
  resolved: ResolvedRequest
  pipe: FSVideoPipeline
  file: VideoFile
  report: GenerationReport
  /** Reading the model. */
  loadMs: number
}

function summary({ resolved, pipe, file, report, loadMs }: Result): string {
  const { stages, totalMs } = report.timings
  const timings = Object.entries({ load: loadMs, ...stages, total: loadMs + totalMs })
  const sampled = ({ schedule, solver }: ResolvedRequest['base' | 'refiner']) =>
    `${schedule.timesteps.length} steps ${solver}`
  return columns([
    ['path', file.path ?? ''],
    ['video', `${file.width}x${file.height}, ${file.frames} frames, ${file.fps} a second`],
    ['file', `${bytes(file.bytes)}, ${file.format} by ${file.encoder}`],
    ['seed', `${report.seed}`],
    ['base', `${sampled(resolved.base)}, guidance ${resolved.base.guidanceScale}`],
    ['refiner', sampled(resolved.refiner)],
    ['timings', timings.map(([stage, ms]) => `${stage} ${duration(ms)}`).join(', ')],
    ['memory', `peak ${bytes(report.memory.peak)}, planned ${bytes(report.memory.planned)}`],
    ['device', `${pipe.device.name}: ${pipe.device.description}`],
  ])
}

/** The whole result with what it was made of. A seed that a JSON number cannot hold is a string. */
function document({ given, folder, resolved, pipe, file, report, loadMs }: Result): object {
  const { base, refiner, workSize, decoder } = resolved
  const { seed, warnings, memory } = report
  const sampled = ({ schedule, solver }: ResolvedRequest['base' | 'refiner']) => ({
    steps: schedule.timesteps.length,
    solver,
    sigmas: schedule.sigmas,
  })
  return {
    path: file.path,
    ...file,
    seed: seed <= Number.MAX_SAFE_INTEGER ? Number(seed) : `${seed}`,
    image: given.image,
    prompt: given.prompt,
    negativePrompt: given.negative,
    model: folder,
    dtype: pipe.stages.networks.dtype,
    decoder,
    workSize,
    base: { ...sampled(base), guidanceScale: base.guidanceScale },
    refiner: sampled(refiner),
    timings: { loadMs, stages: report.timings.stages, totalMs: loadMs + report.timings.totalMs },
    warnings,
    memory,
    device: { name: pipe.device.name, description: pipe.device.description },
  }
}
