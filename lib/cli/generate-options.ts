/** The options of `fsvideo generate`, and the request that they amount to. */
import { join } from 'node:path'
import { packageRoot } from '../addon.js'
import { FSVideoError, invalid } from '../errors.js'
import type { GenerateRequest } from '../requests.js'
import { solverNames } from '../sampling/index.js'
import type { Given, Options } from './command.js'

export const options = {
  image: { value: 'F', help: 'the first frame: a JPEG, PNG, WebP, AVIF, TIFF or GIF picture' },
  prompt: { value: 'S', help: 'what happens in the video' },
  out: { value: 'F', help: 'where to: a name in .mp4, .webm, .webp or .rgb, or a folder of PNG frames' },
  model: {
    value: 'DIR',
    help: 'the model folder; FSVIDEO_MODEL, or the shipped model shapes, when left out',
  },
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
  dtype: { value: 'T', help: 'what is computed in: bf16 (when left out), fp8 or f32' },
  decoder: { value: 'NAME', help: 'standard, or lite, which is faster and needs less memory' },
  threads: { value: 'N', help: 'of the CPU; FSVIDEO_THREADS, or all there are, when left out' },
  quality: { value: 'N', help: 'of the encoded video, 1 to 100; 80 when left out' },
  json: { help: 'print the result as one JSON document' },
} as const satisfies Options

export type GenerateOptions = Given<typeof options>

/**
 * What neither the pipeline nor the request checks before the model is loaded.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT
 */
export function checkPlaces(given: GenerateOptions): { model: string; device: string; quality?: number } {
  const model = given.model ?? process.env.FSVIDEO_MODEL ?? join(packageRoot, 'models/shapes')
  const device = checkDevice(given.device)
  const quality = numeric(given.quality)
  if (quality !== undefined && !(typeof quality === 'number' && quality >= 1 && quality <= 100))
    throw invalid('--quality', quality, 'a number from 1 to 100')
  return { model, device, quality }
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT. Simulated cards are for tests, and only in their own build. */
export function checkDevice(device = 'auto'): string {
  if (/^(auto|cpu|(cuda|sim)(:\d+)?)$/.test(device)) return device
  throw invalid('--device', device, 'auto, cpu or cuda[:N]')
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
export function requestOf(given: GenerateOptions): GenerateRequest {
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
export function numeric(text: string | undefined): number | bigint | string | undefined {
  if (text === undefined || !/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return text
  const number = Number(text)
  return /^\d+$/.test(text) && !Number.isSafeInteger(number) ? BigInt(text) : number
}

/** Errors about a field that an option set name the option. */
export async function inOptionNames<T>(given: GenerateOptions, work: () => Promise<T>): Promise<T> {
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
