/**
 * What a caller asks for, and what that comes to. Every request passes here before any work: each option is checked by
 * itself (request-options.ts), then against the others and against the model, and what was left out is filled in from the model
 * folder. Sizes and frame counts that the networks cannot work at are moved to the next that they can, and a warning says so. The
 * pipeline reads only the result.
 */
import { invalid } from './errors.js'
import { type ImageSource, probeImage } from './media/image.js'
import type { ModelFolder } from './model-folder.js'
import { compression } from './models/autoencoder.js'
import { checkOptions, maxSide, minSide } from './request-options.js'
import {
  createSolver,
  customSchedule,
  gridSchedule,
  isGuided,
  type Schedule,
  type SolverName,
} from './sampling/index.js'
import type { Stage } from './stages.js'
import type { Tensor } from './tensor.js'
import type { Tokenizer } from './tokenizer.js'

/** Numbers that the caller has already: a tensor of any device, or f32 data with its shape. */
export type HostTensor = Tensor | { readonly data: Float32Array; readonly shape: readonly number[] }

/** Told after every step of a sampler. */
export interface StepEvent {
  stage: Stage
  /** Steps done so far, from 1. */
  step: number
  steps: number
  sigma: number
  timestep: number
}

/**
 * Names and meanings follow diffusers' Wan image-to-video pipeline. A list for `image`, `prompt`, `negativePrompt` or `seed`
 * makes a batch; a single value serves every sample of it. What is left out comes from the model's scheduler_config.json.
 */
export interface GenerateRequest {
  /** The first frame. */
  image: ImageSource | readonly ImageSource[]
  /** What happens. Left out only where `promptEmbeds` are given. */
  prompt?: string | readonly string[]
  /** What should not happen; has an effect under guidance only. */
  negativePrompt?: string | readonly string[]
  /** 0 to 2^64 − 1; 0 when left out. The same request with the same seed gives the same video. */
  seed?: number | bigint | readonly (number | bigint)[]
  /** 1 to 4097; moved to the nearest 4k + 1. */
  frames?: number
  /** Frames a second of the video, above 0, at most 240. Does not change what is generated. */
  fps?: number
  /** 64 to 8192. With only one of both given the other follows the picture's shape; with none the picture's size is taken, scaled down to the model's `max_pixels`. */
  width?: number
  height?: number
  /** Steps of the base's sampler, 1 to 1000. */
  steps?: number
  refinerSteps?: number
  /** 1 (none, half the work) to 100. */
  guidanceScale?: number
  solver?: SolverName
  refinerSolver?: SolverName
  /** 0.01 to 100: larger spends more steps near noise. */
  shift?: number
  refinerShift?: number
  /** Noise levels in place of `steps` and `shift`: falling, from at most 1; the closing 0 may be left out. */
  sigmas?: readonly number[]
  refinerSigmas?: readonly number[]
  /** `lite` is faster and smaller in memory. Default: `standard` where the model has it. */
  decoder?: 'standard' | 'lite'
  /** [n, C] or [B, n, C], n at most the model's `text_len`: the text encoder's output, in place of `prompt`. */
  promptEmbeds?: HostTensor
  negativePromptEmbeds?: HostTensor
  /** [n, C] or [B, n, C]: the image encoder's output. */
  imageEmbeds?: HostTensor
  /** The base's noise [T, H, W, C] or [B, T, H, W, C] in latent frames and cells, in place of what `seed` gives. */
  latents?: HostTensor
  onStep?: (event: StepEvent) => void
  signal?: AbortSignal
  /** Bytes that the generation may take on the device. */
  maxMemory?: number
}

/** Something of the request that was changed or has no effect. */
export interface Warning {
  code: 'WARN_FSVIDEO_FRAMES' | 'WARN_FSVIDEO_SIZE' | 'WARN_FSVIDEO_UNUSED'
  field: string
  message: string
}

export interface Size {
  readonly width: number
  readonly height: number
}

/** A text as the networks get it: the token ids of each sample, or ready embeddings. */
export type TextInput = { readonly tokens: readonly Int32Array[] } | { readonly embeds: HostTensor }

export interface SamplerInput {
  readonly solver: SolverName
  readonly schedule: Schedule
}

/** A request that can be carried out: nothing in it needs to be checked again. */
export interface ResolvedRequest {
  readonly batch: number
  /** One a sample. */
  readonly images: readonly ImageSource[]
  readonly text: TextInput
  /** Absent without guidance. */
  readonly negativeText?: TextInput
  readonly imageEmbeds?: HostTensor
  readonly latents?: HostTensor
  /** One a sample. */
  readonly seeds: readonly bigint[]
  readonly frames: number
  readonly latentFrames: number
  readonly fps: number
  /** What is delivered: the top left of what is worked. */
  readonly size: Size
  /** What the refiner and the decoder work at, in pixels; the base works at this over `latent_upsampler.scale`. */
  readonly workSize: Size
  /** Latent cells of the base and of the refiner. */
  readonly baseCells: Size
  readonly refinerCells: Size
  readonly base: SamplerInput & { readonly guidanceScale: number }
  /** `fromNoise`: else from the upsampled latents noised to the first level. */
  readonly refiner: SamplerInput & { readonly fromNoise: boolean }
  readonly decoder: 'standard' | 'lite'
  readonly onStep?: (event: StepEvent) => void
  readonly signal?: AbortSignal
  readonly maxMemory?: number
  readonly warnings: readonly Warning[]
}

/**
 * The request with every choice made.
 * @param tokenizer The model's; it counts the tokens of the prompts.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT with field, got and expected; ERR_FSVIDEO_IMAGE for a picture whose header is not
 * one; `signal.reason` if the signal is aborted already.
 */
export async function resolveRequest(
  request: GenerateRequest,
  model: ModelFolder,
  tokenizer: Pick<Tokenizer, 'encode'>,
): Promise<ResolvedRequest> {
  checkOptions(request)
  request.signal?.throwIfAborted()
  const { scheduler } = model
  const warnings: Warning[] = []
  const batch = batchOf(request)
  const base = {
    ...sampler(request, ['steps', 'shift', 'solver', 'sigmas'], scheduler.base),
    guidanceScale: request.guidanceScale ?? scheduler.base.guidanceScale,
  }
  const refiner = {
    ...sampler(
      request,
      ['refinerSteps', 'refinerShift', 'refinerSolver', 'refinerSigmas'],
      scheduler.refiner,
    ),
    fromNoise: request.refinerSigmas ? request.refinerSigmas[0] === 1 : scheduler.refiner.sigmaStart === 1,
  }
  const text = textInput(request, ['prompt', 'promptEmbeds'], batch, model, tokenizer)
  if (!text) throw invalid('prompt', undefined, 'given, as a string or by promptEmbeds')
  const negativeText = negativeInput(request, base.guidanceScale, batch, model, tokenizer, warnings)
  checkImageEmbeds(request.imageEmbeds, batch, model)
  const decoder = chooseDecoder(request.decoder, model)
  const images = spread(request.image, batch)

  const { frames, latentFrames } = roundFrames(request.frames ?? scheduler.frames, model, warnings)
  const pictures = await Promise.all(images.map((image) => probeImage(image)))
  const size = chooseSize(request, pictures[0]!, scheduler.maxPixels)
  const workSize = roundSize(size, scheduler.sizeMultiple, warnings)
  const { space } = compression(model.encoder)
  const cells = (pixels: number): Size => ({
    width: workSize.width / pixels,
    height: workSize.height / pixels,
  })
  const baseCells = cells(space * model.latentUpsampler.scale)
  if (request.latents) {
    const expected = [latentFrames, baseCells.height, baseCells.width, model.encoder.latentChannels]
    checkShape('latents', request.latents, batch, expected)
  }
  request.signal?.throwIfAborted()
  return {
    batch,
    images,
    text,
    negativeText,
    imageEmbeds: request.imageEmbeds,
    latents: request.latents,
    seeds: spread(request.seed ?? 0, batch).map((seed) => BigInt(seed)),
    frames,
    latentFrames,
    fps: request.fps ?? scheduler.fps,
    size,
    workSize,
    baseCells,
    refinerCells: cells(space),
    base,
    refiner,
    decoder,
    onStep: request.onStep,
    signal: request.signal,
    maxMemory: request.maxMemory,
    warnings,
  }
}

/** The number of samples: the length that all lists have. */
function batchOf(request: GenerateRequest): number {
  const lengths = (['image', 'prompt', 'negativePrompt', 'seed'] as const).flatMap((field) => {
    const value = request[field]
    return Array.isArray(value) ? [{ field, length: value.length }] : []
  })
  const first = lengths[0]
  for (const { field, length } of lengths)
    if (length !== first!.length)
      throw invalid(
        field,
        request[field],
        `one value or a list of ${first!.length}, as long as ${first!.field}`,
      )
  return first?.length ?? 1
}

function spread<T>(value: T | readonly T[], batch: number): readonly T[] {
  return Array.isArray(value) ? [...value] : Array.from({ length: batch }, () => value as T)
}

type SamplerFields = readonly [
  steps: 'steps' | 'refinerSteps',
  shift: 'shift' | 'refinerShift',
  solver: 'solver' | 'refinerSolver',
  sigmas: 'sigmas' | 'refinerSigmas',
]

function sampler(
  request: GenerateRequest,
  [steps, shift, solver, levels]: SamplerFields,
  defaults: { steps: number; shift: number; solver: SolverName; sigmaStart: number },
): SamplerInput {
  const name = request[solver] ?? defaults.solver
  const given = request[levels]
  if (given) {
    for (const field of [steps, shift])
      if (request[field] !== undefined)
        throw invalid(field, request[field], `left out where ${levels} is given`)
    return { solver: name, schedule: customSchedule(given, levels) }
  }
  const schedule = gridSchedule({
    steps: request[steps] ?? defaults.steps,
    shift: request[shift] ?? defaults.shift,
    grid: createSolver(name).grid,
    sigmaStart: defaults.sigmaStart,
  })
  return { solver: name, schedule }
}

function textInput(
  request: GenerateRequest,
  [words, embeds]: readonly ['prompt', 'promptEmbeds'] | readonly ['negativePrompt', 'negativePromptEmbeds'],
  batch: number,
  { transformer }: ModelFolder,
  tokenizer: Pick<Tokenizer, 'encode'>,
): TextInput | undefined {
  const [prompt, ready] = [request[words], request[embeds]]
  if (prompt !== undefined && ready !== undefined)
    throw invalid(embeds, ready, `left out where ${words} is given`)
  if (ready !== undefined) {
    const rows = ready.shape.at(-2) ?? 0
    checkShape(embeds, ready, batch, [Math.min(rows, transformer.textLen), transformer.textDim])
    return { embeds: ready }
  }
  if (prompt === undefined) return undefined
  const name = (i: number) => (Array.isArray(prompt) ? `${words}[${i}]` : words)
  const texts = spread(prompt, Array.isArray(prompt) ? batch : 1)
  const tokens = texts.map((text, i) => tokenizer.encode(text, transformer.textLen, name(i)))
  return { tokens: spread(Array.isArray(prompt) ? tokens : tokens[0]!, batch) }
}

function negativeInput(
  request: GenerateRequest,
  guidanceScale: number,
  batch: number,
  model: ModelFolder,
  tokenizer: Pick<Tokenizer, 'encode'>,
  warnings: Warning[],
): TextInput | undefined {
  const fields = ['negativePrompt', 'negativePromptEmbeds'] as const
  const given = textInput(request, fields, batch, model, tokenizer)
  if (isGuided(guidanceScale))
    return (
      given ??
      textInput(
        { ...request, negativePrompt: model.scheduler.negativePrompt },
        fields,
        batch,
        model,
        tokenizer,
      )
    )
  const unused = fields.find((field) => request[field] !== undefined)
  if (unused)
    warnings.push({
      code: 'WARN_FSVIDEO_UNUSED',
      field: unused,
      message: `${unused} has no effect: guidanceScale is 1`,
    })
  return undefined
}

function checkImageEmbeds(
  embeds: HostTensor | undefined,
  batch: number,
  { transformer, refiner }: ModelFolder,
): void {
  if (!embeds) return
  const { imageLen, imageDim } = transformer.imageDim === null ? refiner : transformer
  if (imageDim === null) throw invalid('imageEmbeds', embeds, 'left out: this model has no image_encoder')
  checkShape('imageEmbeds', embeds, batch, [imageLen!, imageDim])
}

/** `expected`, or that for every sample. */
function checkShape(field: string, { shape }: HostTensor, batch: number, expected: readonly number[]): void {
  const fits = (want: readonly number[]) =>
    shape.length === want.length && want.every((d, i) => d === shape[i])
  if (!fits(expected) && !fits([batch, ...expected]))
    throw invalid(
      `${field}.shape`,
      [...shape],
      `[${expected.join(', ')}] or [${[batch, ...expected].join(', ')}]`,
    )
}

function chooseDecoder(wanted: 'standard' | 'lite' | undefined, model: ModelFolder): 'standard' | 'lite' {
  const there = [...(model.decoder ? ['standard'] : []), ...(model.decoderLite ? ['lite'] : [])] as (
    | 'standard'
    | 'lite'
  )[]
  if (wanted && !there.includes(wanted))
    throw invalid('decoder', wanted, `'${there[0]}': this model has no other`)
  return wanted ?? there[0]!
}

/** Latent frame 0 stands for one frame and every other for four (or as many as the encoder's temporal stages make). */
function roundFrames(
  wanted: number,
  { encoder }: ModelFolder,
  warnings: Warning[],
): { frames: number; latentFrames: number } {
  const { time: factor } = compression(encoder)
  const groups = Math.round((wanted - 1) / factor)
  const frames = 1 + factor * groups
  if (frames !== wanted)
    warnings.push({
      code: 'WARN_FSVIDEO_FRAMES',
      field: 'frames',
      message: `${frames} frames are made, not ${wanted}: the nearest number of the form ${factor}k + 1`,
    })
  return { frames, latentFrames: 1 + groups }
}

function chooseSize({ width, height }: GenerateRequest, picture: Size, maxPixels: number): Size {
  if (width !== undefined && height !== undefined) return { width, height }
  const shape = picture.width / picture.height
  if (width !== undefined) return { width, height: evenSide(width / shape) }
  if (height !== undefined) return { width: evenSide(height * shape), height }
  const scale = Math.min(1, Math.sqrt(maxPixels / (picture.width * picture.height)))
  return { width: evenSide(picture.width * scale), height: evenSide(picture.height * scale) }
}

/** Even, as video formats want their sides. */
function evenSide(wanted: number): number {
  return Math.min(maxSide, Math.max(minSide, 2 * Math.round(wanted / 2)))
}

function roundSize(size: Size, multiple: number, warnings: Warning[]): Size {
  const up = (side: number) => multiple * Math.ceil(side / multiple)
  const work = { width: up(size.width), height: up(size.height) }
  for (const field of ['width', 'height'] as const)
    if (work[field] !== size[field])
      warnings.push({
        code: 'WARN_FSVIDEO_SIZE',
        field,
        message: `a ${field} of ${size[field]} is worked at ${work[field]}, a multiple of ${multiple}, and cropped`,
      })
  return work
}
