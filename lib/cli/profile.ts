/**
 * `fsvideo profile`: where the time of a generation goes. Any configuration runs, with random weights made on the device where
 * it has none; the request is made of the options of `generate`, and everything is checked before a weight is made or read.
 */
import { stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { packageRoot } from '../addon.js'
import { chromeTrace } from '../chrome-trace.js'
import { Device } from '../device.js'
import { FSVideoError, invalid } from '../errors.js'
import { modelInfo } from '../init.js'
import { probeImage } from '../media/image.js'
import { loadTokenizer, madeTokenizer, readConfigFolder, readModelFolder } from '../model-folder.js'
import type { Component } from '../networks.js'
import { type Precision, precisions } from '../parameters.js'
import { FSVideoPipeline } from '../pipeline.js'
import { profile } from '../profile/profile.js'
import { type GenerateRequest, resolveRequest } from '../requests.js'
import { hasWeights } from '../weights.js'
import { command } from './command.js'
import { bytes } from './format.js'
import {
  checkDevice,
  options as generateOptions,
  inOptionNames,
  numeric,
  requestOf,
} from './generate-options.js'
import { findModel } from './model-name.js'
import { document, tables } from './profile-tables.js'
import { Progress } from './progress.js'

const { out: _, quality: __, fps: ___, json, ...requestOptions } = generateOptions
const options = {
  ...requestOptions,
  image: { ...requestOptions.image, help: 'the first frame; a drawn circle when left out' },
  prompt: { ...requestOptions.prompt, help: 'what happens; the circle moves when left out' },
  model: {
    value: 'DIR',
    help: 'a model folder, or a configuration: tiny, demo, fsvideo-14b; shapes when left out',
  },
  repeats: { value: 'N', help: 'requests with and as many without a trace, 1 to 1000; 5 when left out' },
  trace: { value: 'FILE', help: 'where to write a trace for ui.perfetto.dev: a name in .json' },
  json: { help: 'print one JSON document' },
} as const

export const profileCommand = command({
  name: 'profile',
  about:
    'Tells where the time of a generation goes: percentiles of repeated requests, time and rates of each stage and kind of op, their share of the roofline that this run measures, and memory against the plan. A configuration without weights gets random ones.',
  positionals: [],
  options,
  notes:
    'Requests run in turns with and without a trace: latencies are those without, the rest is of the traces. Under NVIDIA Nsight Systems stages, steps, layers and ops are NVTX ranges.',
  async run(given, _, { signal }) {
    const deviceName = checkDevice(given.device)
    const dtype = precisionOf(given.dtype)
    const repeats = numeric(given.repeats ?? '5') as number
    if (!(Number.isInteger(repeats) && repeats >= 1 && repeats <= 1000))
      throw invalid('--repeats', given.repeats, 'an integer from 1 to 1000')
    if (given.trace !== undefined) await checkTrace(given.trace)
    const folder = await findModel(given.model ?? process.env.FSVIDEO_MODEL ?? 'shapes', '--model')
    const {
      image = join(packageRoot, 'models/samples/drawn-circle.png'),
      prompt = 'a large blue circle moves left',
    } = given
    await probeImage(image)
    const request: GenerateRequest = { ...requestOf(given), image, prompt, signal }
    const progress = new Progress()
    let device: Device | undefined
    let pipe: FSVideoPipeline | undefined
    try {
      const random = !(await hasAnyWeights(folder))
      const model = random ? await readConfigFolder(folder) : await readModelFolder(folder)
      const tokenizer = random ? madeTokenizer(model) : await loadTokenizer(model)
      const resolved = await inOptionNames(given, () => resolveRequest(request, model, tokenizer))
      for (const { message, code } of resolved.warnings) progress.note(`warning: ${message} (${code})`)

      const threads = numeric(given.threads) as number | undefined
      device = await inOptionNames(given, () => Device.open(deviceName, { threads }))
      if (random) await checkRoom(folder, dtype, device)
      progress.begin('load', model.networks.size, 'networks')
      const from = random ? FSVideoPipeline.fromConfig : FSVideoPipeline.fromPretrained
      pipe = await inOptionNames(given, () =>
        from(folder, {
          device,
          signal,
          dtype,
          onProgress: ({ index }) => progress.step(index),
        }),
      )
      progress.end()
      progress.begin('profile', 2 * repeats + 1, 'requests')
      const found = await profile(pipe, request, { repeats, onRequest: (done) => progress.step(done) })
      progress.end()

      const file = given.trace
      if (file !== undefined) {
        const about = {
          model: folder,
          dtype: pipe.stages.networks.precision,
          device: pipe.device.description,
        }
        const content = chromeTrace(found.trace, { device: pipe.device.name, spans: found.spans, about })
        await writeFile(file, `${JSON.stringify(content)}\n`).catch((cause) => {
          throw cannotWrite(file, `${cause.code}`, cause)
        })
      }
      const profiled = { folder, random, resolved, pipe, repeats, profile: found, file }
      process.stdout.write(given.json ? `${JSON.stringify(document(profiled), null, 2)}\n` : tables(profiled))
      return undefined
    } finally {
      progress.close()
      await pipe?.dispose()
      device?.dispose()
    }
  },
})

async function hasAnyWeights(folder: string): Promise<boolean> {
  const { networks } = await readConfigFolder(folder)
  const found = await Promise.all([...networks].map((name) => hasWeights(join(folder, name))))
  return found.some(Boolean)
}

function precisionOf(text = 'bf16'): Precision {
  const found = precisions.find((precision) => precision === text)
  if (!found) throw invalid('--dtype', text, 'bf16, fp8 or f32')
  return found
}

/** Random weights of the full model take 81 GB: better to know before they are made. */
async function checkRoom(folder: string, dtype: Precision, device: Device): Promise<void> {
  const { components } = await modelInfo(folder)
  const narrow: readonly Component[] = ['transformer', 'refiner']
  const bytesEach = (name: Component) =>
    dtype === 'f32' ? 4 : dtype === 'fp8' && narrow.includes(name) ? 1 : 2
  const needed = components.reduce((sum, { name, parameters }) => sum + parameters * bytesEach(name), 0)
  const available = device.freeMemory()
  if (needed <= available) return
  throw new FSVideoError(
    'ERR_FSVIDEO_OUT_OF_MEMORY',
    `the weights of ${folder} need ${bytes(needed)} on ${device.name}, and ${bytes(available)} are free there`,
    { needed, available },
  )
}

/** Before hours of work. */
async function checkTrace(file: string): Promise<void> {
  if (!file.endsWith('.json')) throw invalid('--trace', file, 'a name in .json')
  if ((await stat(file).catch(() => undefined))?.isDirectory()) throw cannotWrite(file, 'it is a folder')
  const folder = await stat(dirname(file)).catch(() => undefined)
  if (!folder?.isDirectory()) throw cannotWrite(file, `${dirname(file)} is no folder`)
}

function cannotWrite(file: string, why: string, cause?: unknown): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_OUTPUT', `${file} cannot be written: ${why}`, {
    field: '--trace',
    got: file,
    expected: 'a file in a folder that can be written',
    cause,
  })
}
