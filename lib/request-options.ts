/** The options of a request: their names, and what each must be by itself, before the others and the model are looked at. */
import { FSVideoError, invalid } from './errors.js'
import { maxFps } from './model-folder.js'
import { suggest } from './options.js'
import type { GenerateRequest } from './requests.js'
import {
  checkGuidanceScale,
  checkShift,
  checkSolverName,
  checkSteps,
  customSchedule,
} from './sampling/index.js'
import { requireLive, Tensor } from './tensor.js'

const maxBatch = 64
const maxFrames = 1 + 4 * 1024
/** Pixels. */
export const [minSide, maxSide] = [64, 8192]
const maxSeed = 2n ** 64n - 1n

type Check = (value: unknown, field: string) => void

function rule(expected: string, ok: (value: unknown) => boolean): Check {
  return (value, field) => {
    if (!ok(value)) throw invalid(field, value, expected)
  }
}

const integer = (least: number, most: number): Check =>
  rule(
    `a whole number from ${least} to ${most}`,
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  )

const listOr =
  (check: Check): Check =>
  (value, field) => {
    if (!Array.isArray(value)) return check(value, field)
    if (value.length < 1 || value.length > maxBatch)
      throw invalid(field, value, `one value or a list of 1 to ${maxBatch}`)
    for (const [i, item] of value.entries()) check(item, `${field}[${i}]`)
  }

const text = rule('a string', (value) => typeof value === 'string')
const side = integer(minSide, maxSide)
const seed = rule(`a whole number from 0 to 2^64 - 1 (above 2^53 - 1 as a bigint)`, (value) =>
  typeof value === 'bigint'
    ? value >= 0n && value <= maxSeed
    : Number.isSafeInteger(value) && (value as number) >= 0,
)
const image = rule(
  'a path, a file: URL, the bytes of a picture, or { data, width, height }',
  (value) =>
    (typeof value === 'string' && value !== '') ||
    value instanceof URL ||
    value instanceof Uint8Array ||
    value instanceof ArrayBuffer ||
    (typeof value === 'object' && value !== null && 'data' in value),
)
const sigmas: Check = (value, field) => void customSchedule(value as number[], field)

const numbers: Check = (value, field) => {
  if (value instanceof Tensor) {
    requireLive(value, field)
    if (value.dtype !== 'f32' && value.dtype !== 'bf16')
      throw invalid(`${field}.dtype`, value.dtype, 'f32 or bf16')
    return
  }
  const { data, shape } = (value ?? {}) as { data?: unknown; shape?: unknown }
  if (!(data instanceof Float32Array) || !Array.isArray(shape))
    throw invalid(field, value, 'a Tensor or { data: Float32Array, shape }')
  if (!shape.every((d) => Number.isSafeInteger(d) && d > 0))
    throw invalid(`${field}.shape`, shape, 'a list of sizes')
  const elements = shape.reduce((n, d) => n * d, 1)
  if (data.length !== elements) throw invalid(`${field}.data`, data, `${elements} numbers, as shape says`)
  const wrong = data.findIndex((number) => !Number.isFinite(number))
  if (wrong >= 0) throw invalid(`${field}.data[${wrong}]`, data[wrong], 'a finite number')
}

/** Every option there is, and what it must be by itself. */
const checks: { readonly [K in keyof Required<GenerateRequest>]: Check } = {
  image: listOr(image),
  prompt: listOr(text),
  negativePrompt: listOr(text),
  seed: listOr(seed),
  frames: integer(1, maxFrames),
  fps: rule(
    `a number above 0, at most ${maxFps}`,
    (value) => typeof value === 'number' && value > 0 && value <= maxFps,
  ),
  width: side,
  height: side,
  steps: checkSteps,
  refinerSteps: checkSteps,
  guidanceScale: checkGuidanceScale,
  solver: checkSolverName,
  refinerSolver: checkSolverName,
  shift: checkShift,
  refinerShift: checkShift,
  sigmas,
  refinerSigmas: sigmas,
  decoder: rule("'standard' or 'lite'", (value) => value === 'standard' || value === 'lite'),
  promptEmbeds: numbers,
  negativePromptEmbeds: numbers,
  imageEmbeds: numbers,
  latents: numbers,
  onStep: rule('a function', (value) => typeof value === 'function'),
  signal: rule('an AbortSignal', (value) => value instanceof AbortSignal),
  maxMemory: integer(1, Number.MAX_SAFE_INTEGER),
}

/** The options of a request, in the order of their documentation. */
export const requestOptions = Object.keys(checks) as readonly (keyof GenerateRequest)[]

/** Names under which other programs know an option. */
const otherNames: Readonly<Record<string, keyof GenerateRequest>> = {
  numframes: 'frames',
  numinferencesteps: 'steps',
  numsteps: 'steps',
  cfg: 'guidanceScale',
  cfgscale: 'guidanceScale',
  generator: 'seed',
  scheduler: 'solver',
  sampler: 'solver',
  size: 'width',
  resolution: 'width',
  text: 'prompt',
  abortsignal: 'signal',
  onstepend: 'onStep',
  onprogress: 'onStep',
}

/** Names and single values; what is `undefined` was left out. */
export function checkOptions(request: unknown): void {
  if (request === null || typeof request !== 'object' || Array.isArray(request))
    throw invalid('request', request, 'an object')
  for (const [name, value] of Object.entries(request)) {
    if (!Object.hasOwn(checks, name)) throw unknownOption(name, value)
    if (value !== undefined) checks[name as keyof GenerateRequest](value, name)
  }
}

function unknownOption(name: string, got: unknown): FSVideoError {
  const meant = suggest(name, requestOptions, otherNames)
  const expected = `one of ${requestOptions.join(', ')}`
  const message = `${name} is no option of a request${meant ? ` (did you mean ${meant}?)` : ''}: it must be ${expected}`
  return new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, { field: name, got, expected })
}
