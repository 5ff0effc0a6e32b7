/**
 * From a picture and a prompt to a video: the public face of the engine. Checks the request, plans its memory, runs the stages
 * (stages.ts) over the networks of a model folder, and gives frames as they are decoded.
 * Names and defaults follow diffusers' Wan image-to-video pipeline in camelCase.
 */
import os from 'node:os'
import type { DenoiseStep } from './denoise.js'
import { Device, type DeviceOptions } from './device.js'
import { FSVideoError, invalid } from './errors.js'
import { clipPixels, fitImage, type Image, loadImage, padReplicate } from './media/image.js'
import { openVideo, type VideoFile } from './media/video.js'
import { loadTokenizer, type ModelFolder, readModelFolder } from './model-folder.js'
import { type Component, Networks } from './networks.js'
import * as ops from './ops.js'
import type { ComputeType } from './parameters.js'
import {
  type GenerateRequest,
  type HostTensor,
  type ResolvedRequest,
  resolveRequest,
  type TextInput,
} from './requests.js'
import type { Schedule } from './sampling/index.js'
import { type Conditions, type Stage, Stages } from './stages.js'
import { Tensor } from './tensor.js'
import type { Tokenizer } from './tokenizer.js'
import { type GenerationReport, type SaveOptions, Video } from './video.js'

export interface PipelineOptions extends DeviceOptions {
  /** `auto`, `cpu`, or an open device, which then outlives the pipeline. */
  device?: string | Device
  /** What is computed in. `bf16`, or `f32` for comparison with the reference. */
  dtype?: ComputeType
  /** Told when a component's weights are loaded. */
  onProgress?(progress: { component: Component; index: number; count: number }): void
  signal?: AbortSignal
}

/** What a generation will need, found by running it on the planning device. */
export interface Plan {
  /** Bytes: the most that is in use on the device at any time, and the part of it that is weights. */
  peakBytes: number
  weightBytes: number
  /** Bytes: the most that is taken from the system, with what is free between. */
  reservedBytes: number
  /** Latent frames that are decoded at a time. */
  decodeChunk: number
}

/** Latents as they look at a step, f32 [B, T, h, w, C]. */
export interface LatentPreview {
  data: Float32Array
  shape: readonly number[]
}

export interface ProgressEvent {
  type: 'progress'
  stage: Stage
  /** Parts of the stage that are done, from 1: steps of a sampler, frames of the decoder. */
  step: number
  steps: number
  elapsedMs: number
  /** Of samplers. */
  sigma?: number
  timestep?: number
  /** The data prediction of this step. To be called before the next event is asked for. */
  preview?(): Promise<LatentPreview>
}

export interface FrameEvent {
  type: 'frame'
  sample: number
  index: number
  width: number
  height: number
  /** sRGB, [height, width, 3]. */
  data: Uint8Array
}

export interface DoneEvent {
  type: 'done'
  /** One a sample. */
  reports: GenerationReport[]
}

export type StreamEvent = ProgressEvent | FrameEvent | DoneEvent

/** Bytes. */
interface Shortage {
  needed: number
  available: number
}

/** Latent frames decoded at a time where memory allows it. */
const decodeChunks = { standard: 4, lite: 1 }
/** Steps after which a sampler holds all the tensors it ever holds. */
const plannedSteps = 4

export class FSVideoPipeline {
  readonly device: Device
  readonly model: ModelFolder
  /** The stages, callable alone. */
  readonly stages: Stages
  readonly #tokenizer: Tokenizer
  readonly #ownsDevice: boolean
  readonly #plans = new Map<string, Promise<Plan>>()
  #twin?: Promise<FSVideoPipeline>
  #measuring: Promise<unknown> = Promise.resolve()
  #turn: Promise<unknown> = Promise.resolve()
  #disposed = false

  private constructor(
    device: Device,
    ownsDevice: boolean,
    model: ModelFolder,
    networks: Networks,
    tokenizer: Tokenizer,
  ) {
    this.device = device
    this.model = model
    this.stages = new Stages(networks, model.scheduler)
    this.#ownsDevice = ownsDevice
    this.#tokenizer = tokenizer
  }

  /**
   * Loads a model folder (models/FORMAT.md). Everything in it is checked before any weight is read.
   * Throws ERR_FSVIDEO_MODEL_FILE, ERR_FSVIDEO_NO_DEVICE, ERR_FSVIDEO_OUT_OF_MEMORY, or `signal.reason`.
   */
  static async fromPretrained(folder: string, options: PipelineOptions = {}): Promise<FSVideoPipeline> {
    const { dtype = 'bf16', signal, onProgress, device: wanted = 'auto', ...deviceOptions } = options
    if (dtype !== 'bf16' && dtype !== 'f32') throw invalid('dtype', dtype, 'bf16 or f32')
    signal?.throwIfAborted()
    const model = await readModelFolder(folder)
    const tokenizer = await loadTokenizer(model)
    const device = wanted instanceof Device ? wanted : await Device.open(wanted, deviceOptions)
    try {
      const networks = await Networks.load(model, {
        device,
        dtype,
        onComponent: async (component, index, count) => {
          await device.synchronize()
          onProgress?.({ component, index: index + 1, count })
          signal?.throwIfAborted()
        },
      })
      return new FSVideoPipeline(device, wanted !== device, model, networks, tokenizer)
    } catch (error) {
      if (wanted !== device) device.dispose()
      throw error
    }
  }

  /** Generates one video and keeps its frames. Rejects with a typed error or with `signal.reason`; the pipeline stays usable. */
  async generate(request: GenerateRequest): Promise<Video> {
    const videos = await this.generateBatch(request)
    if (videos.length !== 1)
      throw invalid('request', `${videos.length} samples`, 'one: lists are for generateBatch and stream')
    return videos[0]!
  }

  /** Generates as many videos as the request's lists are long; each has the bits that it has alone. */
  async generateBatch(request: GenerateRequest): Promise<Video[]> {
    const resolved = await this.#resolve(request)
    const frames: Uint8Array[][] = Array.from({ length: resolved.batch }, () => [])
    for await (const event of this.#events(resolved)) {
      if (event.type === 'frame') frames[event.sample]!.push(event.data)
      if (event.type === 'done')
        return event.reports.map((report, i) => new Video(resolved.size, resolved.fps, frames[i]!, report))
    }
    throw new FSVideoError('ERR_FSVIDEO_INTERNAL', 'the generation ended without a result')
  }

  /** Generates one video into a file; a frame is encoded while the next ones are decoded. No file is left when anything fails. */
  async generateToFile(
    request: GenerateRequest,
    path: string,
    options: SaveOptions & { onEvent?(event: ProgressEvent): void } = {},
  ): Promise<{ file: VideoFile; report: GenerationReport }> {
    const { onEvent, ...save } = options
    const resolved = await this.#resolve(request)
    if (resolved.batch !== 1) throw invalid('request', `${resolved.batch} samples`, 'one')
    const writer = await openVideo(path, {
      ...resolved.size,
      fps: resolved.fps,
      signal: request.signal,
      ...save,
    })
    try {
      let report: GenerationReport | undefined
      for await (const event of this.#events(resolved)) {
        if (event.type === 'frame') await writer.write(event.data)
        else if (event.type === 'progress') onEvent?.(event)
        else report = event.reports[0]
      }
      return { file: await writer.finish(), report: report! }
    } catch (error) {
      await writer.abort(error)
      throw error
    }
  }

  /** The generation as it goes: progress of every stage with previews, frames as they are decoded, at last the reports. */
  async *stream(request: GenerateRequest): AsyncGenerator<StreamEvent, void, void> {
    yield* this.#events(await this.#resolve(request))
  }

  /** Predicts the memory of a request. Throws what `generate` would throw before its work. */
  async plan(request: GenerateRequest): Promise<Plan> {
    return this.#planWithin(await this.#resolve(request))
  }

  /** Idempotent. Running generations fail with ERR_FSVIDEO_DISPOSED. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    this.stages.networks.dispose()
    if (this.#ownsDevice) this.device.dispose()
    const twin = await this.#twin?.catch(() => undefined)
    await twin?.dispose()
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #resolve(request: GenerateRequest): Promise<ResolvedRequest> {
    this.#requireLive()
    return resolveRequest(request, this.model, this.#tokenizer)
  }

  #requireLive(): void {
    if (this.#disposed) throw new FSVideoError('ERR_FSVIDEO_DISPOSED', 'the pipeline has been disposed of')
  }

  /** Waits for its turn, plans, and runs. One generation at a time: two would only take each other's memory. */
  async *#events(request: ResolvedRequest): AsyncGenerator<StreamEvent, void, void> {
    const { device } = this
    const { signal } = request
    const before = this.#turn
    let release = () => {}
    const done = new Promise<void>((resolve) => {
      release = resolve
    })
    this.#turn = Promise.all([before, done])
    try {
      await unlessAborted(before, signal)
      const plan = await this.#planWithin(request)
      const pictures = await unlessAborted(
        Promise.all(request.images.map((image) => preparePicture(image, request, this.model))),
        signal,
      )
      this.#requireLive()
      device.resetPeak()
      const timings: GenerationReport['timings'] = { stages: {}, totalMs: 0 }
      const began = performance.now()
      for await (const event of this.#run(request, pictures, plan.decodeChunk)) {
        if (event.type === 'progress') {
          timings.stages[event.stage] = event.elapsedMs
          const { stage, step, steps, sigma, timestep } = event
          if (sigma !== undefined && timestep !== undefined)
            request.onStep?.({ stage, step, steps, sigma, timestep })
        }
        yield event
        this.#requireLive()
      }
      timings.totalMs = performance.now() - began
      const memory = { planned: plan.peakBytes, peak: device.memory().peak }
      yield {
        type: 'done',
        reports: request.seeds.map((seed) => ({ seed, warnings: request.warnings, timings, memory })),
      }
    } finally {
      if (!device.disposed) device.trim()
      release()
    }
  }

  /** The stages one after the other. Tensors go as soon as the last stage that needs them has been queued. */
  async *#run(
    request: ResolvedRequest,
    pictures: readonly Picture[],
    chunk: number,
  ): AsyncGenerator<ProgressEvent | FrameEvent, void, void> {
    const { device, stages } = this
    const { signal, seeds, batch, latentFrames, size } = request
    const own = new Set<Tensor>()
    const hold = <T extends Tensor | undefined>(tensor: T): T => {
      if (tensor) own.add(tensor)
      return tensor
    }
    const free = (...tensors: (Tensor | undefined)[]) => {
      for (const tensor of tensors) {
        tensor?.dispose()
        if (tensor) own.delete(tensor)
      }
    }
    try {
      const conditions = yield* this.#encode(request, pictures, hold)
      const base = {
        ...request.base,
        seeds,
        signal,
        frames: latentFrames,
        latents: undefined as Tensor | undefined,
      }
      if (request.latents) base.latents = hold(await this.#upload(request.latents, batch, 5, 'f32'))
      const low = hold(yield* sampled('denoise', stages.denoise(conditions, base)))
      free(conditions.negative, conditions.lowVideo, base.latents)

      const began = performance.now()
      const upsampled = hold(device.withSignal(signal, () => stages.upsample(low)))
      await this.#requireFinite('upsample', upsampled, signal)
      yield { type: 'progress', stage: 'upsample', step: 1, steps: 1, elapsedMs: performance.now() - began }
      free(low)

      const refiner = { ...request.refiner, guidanceScale: 1, seeds, signal }
      const latents = hold(yield* sampled('refine', stages.refine(upsampled, conditions, refiner)))
      free(upsampled, conditions.text, conditions.image, conditions.low, conditions.high)

      const decodeBegan = performance.now()
      for (let sample = 0; sample < batch; sample++) {
        const of = (tensor: Tensor) => (batch === 1 ? tensor : hold(tensor.slice(0, sample, sample + 1)))
        const options = { decoder: request.decoder, ...size, chunk, seed: seeds[sample]!, signal }
        let index = 0
        for await (const { frames, count } of stages.decode(
          of(latents),
          conditions.features.map(of),
          options,
        )) {
          const bytes = size.width * size.height * 3
          for (let i = 0; i < count; i++) {
            const data = frames.subarray(i * bytes, (i + 1) * bytes)
            yield { type: 'frame', sample, index: index++, ...size, data }
          }
          const [step, steps] = [sample * request.frames + index, batch * request.frames]
          yield { type: 'progress', stage: 'decode', step, steps, elapsedMs: performance.now() - decodeBegan }
        }
      }
    } finally {
      free(...own)
    }
  }

  async *#encode(
    request: ResolvedRequest,
    pictures: readonly Picture[],
    hold: <T extends Tensor | undefined>(tensor: T) => T,
  ): AsyncGenerator<ProgressEvent, Conditions, void> {
    const { device, stages } = this
    const { signal, batch, latentFrames, workSize } = request
    const began = performance.now()
    const steps = 3
    const progress = (step: number): ProgressEvent => ({
      type: 'progress',
      stage: 'encode',
      step,
      steps,
      elapsedMs: performance.now() - began,
    })
    const text = hold(await this.#encodeText(request.text, request))
    const negative = hold(request.negativeText && (await this.#encodeText(request.negativeText, request)))
    await this.#requireFinite('encode', text, signal)
    yield progress(1)

    const image = hold(await this.#encodeImage(request, pictures))
    if (image) await this.#requireFinite('encode', image, signal)
    yield progress(2)

    const scale = this.model.latentUpsampler.scale
    const [height, width] = [workSize.height, workSize.width]
    const picture = device.withSignal(signal, () =>
      device.scope(() => {
        const high = joined(
          device,
          pictures.map(({ high }) => high.data),
          [1, height, width, 3],
        )
        const low = joined(
          device,
          pictures.map(({ low }) => low.data),
          [1, height / scale, width / scale, 3],
        )
        return stages.encodePicture(high, low, latentFrames)
      }),
    )
    for (const tensor of [picture.high, picture.low, picture.lowVideo, ...picture.features]) hold(tensor)
    await this.#requireFinite('encode', picture.high, signal)
    yield progress(3)
    if (text.dim(0) !== batch)
      throw new FSVideoError('ERR_FSVIDEO_INTERNAL', 'text embeddings of another batch')
    return { text, negative, image, ...picture }
  }

  async #encodeText(input: TextInput, { batch, signal }: ResolvedRequest): Promise<Tensor> {
    const { device, stages } = this
    if ('tokens' in input) return device.withSignal(signal, () => stages.encodeText(input.tokens))
    const { textLen, textDim } = this.model.transformer
    const { dtype } = stages.networks
    const given = await this.#upload(input.embeds, batch, 3, dtype)
    const rest = textLen - given.dim(1)
    if (rest === 0) return given
    return device.scope(() =>
      ops.concat([device.release(given), ops.fill(device, [batch, rest, textDim], 0, dtype)], 1),
    )
  }

  async #encodeImage(request: ResolvedRequest, pictures: readonly Picture[]): Promise<Tensor | undefined> {
    const { device, stages, model } = this
    const { dtype } = stages.networks
    if (request.imageEmbeds) return this.#upload(request.imageEmbeds, request.batch, 3, dtype)
    if (!model.imageEncoder) return undefined
    const side = model.imageEncoder.imageSize
    return device.withSignal(request.signal, () =>
      device.scope(() => {
        const pixels = joined(
          device,
          pictures.map(({ clip }) => clip!.data),
          [1, side, side, 3],
        )
        return stages.encodeClip(pixels)
      }),
    )
  }

  /** Numbers of the caller as a tensor of this device, repeated for every sample when they are given once. */
  async #upload(host: HostTensor, batch: number, rank: number, dtype: ComputeType): Promise<Tensor> {
    const { device } = this
    const data = host instanceof Tensor ? await host.toFloat32() : host.data
    return device.scope(() => {
      const given = ops.cast(device.tensor(data, host.shape), dtype)
      if (host.shape.length === rank) return given
      const one = given.reshape(1, ...host.shape)
      return ops.concat(new Array<Tensor>(batch).fill(one), 0)
    })
  }

  async #requireFinite(stage: Stage, tensor: Tensor, signal?: AbortSignal): Promise<void> {
    const flag = ops.allFinite(tensor)
    const [finite] = (await flag.read()) as Int32Array
    flag.dispose()
    signal?.throwIfAborted()
    if (finite === 0 && !this.device.dry)
      throw new FSVideoError('ERR_FSVIDEO_NON_FINITE', `a value that is not finite in stage ${stage}`, {
        stage,
      })
  }

  /** The plan with the largest decode chunk that fits. Throws ERR_FSVIDEO_OUT_OF_MEMORY with needed and available bytes. */
  async #planWithin(request: ResolvedRequest): Promise<Plan> {
    let chunk = Math.min(decodeChunks[request.decoder], request.latentFrames)
    if (this.device.dry) return { peakBytes: 0, weightBytes: 0, reservedBytes: 0, decodeChunk: chunk }
    let least: Shortage | undefined
    for (;;) {
      const plan = await this.#planned(request, chunk)
      const shortage = this.#shortage(request, plan)
      if (!shortage) return plan
      if (!least || shortage.needed < least.needed) least = shortage
      if (chunk === 1)
        throw new FSVideoError(
          'ERR_FSVIDEO_OUT_OF_MEMORY',
          `this generation needs ${megabytes(least.needed)} on ${this.device.name}, of which ${megabytes(plan.weightBytes)} are weights; ` +
            `${megabytes(least.available)} may be used. Fewer frames, a smaller size or the lite decoder need less`,
          { ...least },
        )
      chunk = Math.ceil(chunk / 2)
    }
  }

  /** What the plan lacks most: of what the request allows to be in use, of the device's limit, or of what the system has left. */
  #shortage(request: ResolvedRequest, plan: Plan): Shortage | undefined {
    const { reserved, inUse } = this.device.memory()
    const foreign = Math.max(0, inUse - plan.weightBytes)
    const system = os.freemem() + reserved - foreign
    const limit = (this.device.memoryLimit || Infinity) - foreign
    const shortages = [
      { needed: plan.peakBytes, available: request.maxMemory ?? Infinity },
      { needed: plan.reservedBytes, available: Math.min(limit, system) },
    ].filter(({ needed, available }) => needed > available)
    return shortages.sort((a, b) => a.available - a.needed - (b.available - b.needed))[0]
  }

  #planned(request: ResolvedRequest, chunk: number): Promise<Plan> {
    const { batch, latentFrames, workSize, decoder, base, refiner } = request
    const steps = [base, refiner].map(({ schedule, solver }) => [
      Math.min(schedule.timesteps.length, plannedSteps),
      solver,
    ])
    const lengths = [request.text, request.negativeText].map(
      (text) => text && 'tokens' in text && text.tokens.map((t) => t.length),
    )
    const ready = [request.imageEmbeds, request.latents].map((given) => given !== undefined)
    const key = JSON.stringify([
      chunk,
      batch,
      latentFrames,
      workSize,
      decoder,
      base.guidanceScale === 1,
      steps,
      refiner.fromNoise,
      lengths,
      ready,
    ])
    let plan = this.#plans.get(key)
    if (!plan) {
      // One at a time: they share the planning device and its peak.
      plan = this.#measuring.then(() => this.#measure(request, chunk))
      this.#measuring = plan.catch(() => {})
      this.#plans.set(key, plan)
      plan.catch(() => this.#plans.delete(key))
    }
    return plan
  }

  /** Runs the request on the planning device with its first steps only: memory does not change after them. */
  async #measure(request: ResolvedRequest, chunk: number): Promise<Plan> {
    this.#twin ??= this.#makeTwin()
    const twin = await this.#twin
    const weightBytes = twin.device.memory().inUse
    const short: ResolvedRequest = {
      ...request,
      base: { ...request.base, schedule: shortened(request.base.schedule) },
      refiner: { ...request.refiner, schedule: shortened(request.refiner.schedule) },
      text: onlyShapes(request.text),
      negativeText: request.negativeText && onlyShapes(request.negativeText),
      imageEmbeds: request.imageEmbeds && zerosLike(request.imageEmbeds),
      latents: request.latents && zerosLike(request.latents),
      signal: undefined,
      onStep: undefined,
    }
    const picture = blankPicture(request, this.model)
    twin.device.resetPeak()
    for await (const _ of twin.#run(short, new Array<Picture>(request.batch).fill(picture), chunk));
    const { peak, reservedPeak } = twin.device.memory()
    twin.device.trim()
    return { peakBytes: peak, weightBytes, reservedBytes: reservedPeak, decodeChunk: chunk }
  }

  async #makeTwin(): Promise<FSVideoPipeline> {
    const meta = await Device.open('meta')
    const networks = await Networks.load(this.model, { device: meta, dtype: this.stages.networks.dtype })
    return new FSVideoPipeline(meta, true, this.model, networks, this.#tokenizer)
  }
}

/** What `promise` gives, or `signal.reason` as soon as there is one; the promise is then left to itself. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  signal.throwIfAborted()
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Progress of a sampler as events. */
async function* sampled(
  stage: 'denoise' | 'refine',
  steps: AsyncGenerator<DenoiseStep, Tensor, void>,
): AsyncGenerator<ProgressEvent, Tensor, void> {
  try {
    for (;;) {
      const { value, done } = await steps.next()
      if (done) return value
      const { step, steps: count, sigma, timestep, elapsedMs, prediction } = value
      const preview = async () => ({ data: await prediction.toFloat32(), shape: prediction.shape })
      yield { type: 'progress', stage, step, steps: count, sigma, timestep, elapsedMs, preview }
    }
  } finally {
    await steps.return(undefined as never)
  }
}

/** A request's picture at every size that the networks want. */
interface Picture {
  high: Image
  low: Image
  clip?: Image
}

async function preparePicture(
  source: ResolvedRequest['images'][number],
  request: ResolvedRequest,
  model: ModelFolder,
): Promise<Picture> {
  const image = await loadImage(source)
  const fitted = await fitImage(image, request.size.width, request.size.height)
  const high = await padReplicate(fitted, request.workSize.width, request.workSize.height)
  const { scale } = model.latentUpsampler
  const low = await fitImage(high, high.width / scale, high.height / scale)
  const clip =
    model.imageEncoder && !request.imageEmbeds
      ? await clipPixels(image, model.imageEncoder.imageSize)
      : undefined
  return { high, low, clip }
}

function blankPicture({ workSize: { width, height } }: ResolvedRequest, model: ModelFolder): Picture {
  const blank = (w: number, h: number): Image => ({ width: w, height: h, data: new Uint8Array(w * h * 3) })
  const { scale } = model.latentUpsampler
  const side = model.imageEncoder?.imageSize
  return {
    high: blank(width, height),
    low: blank(width / scale, height / scale),
    clip: side ? blank(side, side) : undefined,
  }
}

/** One tensor u8 [B, ...shape] of B pictures. */
function joined(device: Device, pictures: readonly Uint8Array[], shape: readonly number[]): Tensor {
  const parts = pictures.map((data) => device.tensor(data, [1, ...shape]))
  return parts.length === 1 ? parts[0]! : ops.concat(parts, 0)
}

/** The first steps, ending at 0 as every schedule does. */
function shortened({ sigmas, timesteps }: Schedule): Schedule {
  const count = Math.min(timesteps.length, plannedSteps)
  return { sigmas: [...sigmas.slice(0, count), 0], timesteps: timesteps.slice(0, count) }
}

function onlyShapes(input: TextInput): TextInput {
  return 'tokens' in input ? input : { embeds: zerosLike(input.embeds) }
}

function zerosLike({ shape }: HostTensor): HostTensor {
  return { data: new Float32Array(shape.reduce((n, d) => n * d, 1)), shape }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`
}
