/**
 * From a picture and a prompt to a video: the public face of the engine. Checks the request, plans its memory
 * (planner.ts), waits for its turn, runs the stages (generation.ts), and gives frames as they are decoded.
 * Names and defaults follow diffusers' Wan image-to-video pipeline in camelCase.
 */
import { Device, type DeviceOptions } from './device.js'
import { FSVideoError, invalid } from './errors.js'
import type { ProgressEvent, StreamEvent } from './events.js'
import { Generation } from './generation.js'
import { checkSeed, randomComponent } from './init.js'
import { openVideo, type VideoFile } from './media/video.js'
import {
  loadTokenizer,
  type ModelFolder,
  madeTokenizer,
  readConfigFolder,
  readModelFolder,
} from './model-folder.js'
import { type Component, Networks, type WeightsOf } from './networks.js'
import { type Precision, precisions } from './parameters.js'
import { preparePicture } from './picture.js'
import { type Plan, Planner } from './planner.js'
import { type GenerateRequest, type ResolvedRequest, resolveRequest } from './requests.js'
import { Stages } from './stages.js'
import type { Tokenizer } from './tokenizer.js'
import { type GenerationReport, type SaveOptions, Video } from './video.js'

export interface PipelineOptions extends DeviceOptions {
  /** `auto`, `cpu`, or an open device, which then outlives the pipeline. */
  device?: string | Device
  /**
   * What is computed in: `bf16`; `fp8`, which is bf16 but for the large products of both transformers; or `f32`, for comparison with
   * the reference.
   */
  dtype?: Precision
  /** Told when a component's weights are loaded. */
  onProgress?(progress: { component: Component; index: number; count: number }): void
  signal?: AbortSignal
}

export class FSVideoPipeline {
  readonly device: Device
  readonly model: ModelFolder
  /** The stages, callable alone. */
  readonly stages: Stages
  readonly #tokenizer: Tokenizer
  readonly #ownsDevice: boolean
  readonly #planner: Planner
  #turn: Promise<unknown> = Promise.resolve()
  #disposed = false

  private constructor(
    device: Device,
    ownsDevice: boolean,
    model: ModelFolder,
    networks: Networks,
    tokenizer: Tokenizer,
    weights?: WeightsOf,
  ) {
    this.device = device
    this.model = model
    this.stages = new Stages(networks, model.scheduler)
    this.#planner = new Planner(device, model, networks.precision, weights)
    this.#ownsDevice = ownsDevice
    this.#tokenizer = tokenizer
  }

  /**
   * Loads a model folder (models/FORMAT.md). Everything in it is checked before any weight is read.
   * Throws ERR_FSVIDEO_MODEL_FILE, ERR_FSVIDEO_NO_DEVICE, ERR_FSVIDEO_OUT_OF_MEMORY, or `signal.reason`.
   */
  static async fromPretrained(folder: string, options: PipelineOptions = {}): Promise<FSVideoPipeline> {
    const model = await readModelFolder(folder)
    return FSVideoPipeline.#load(model, await loadTokenizer(model), options)
  }

  /**
   * A pipeline for a folder of configurations, with the weights that `initModel` would write for the seed, but made on the device: what
   * runs any size without a checkpoint, to measure it. The pictures are noise.
   */
  static async fromConfig(
    folder: string,
    { seed = 0, ...options }: PipelineOptions & { seed?: number | bigint } = {},
  ): Promise<FSVideoPipeline> {
    checkSeed(seed)
    const model = await readConfigFolder(folder)
    return FSVideoPipeline.#load(model, madeTokenizer(model), options, (component, device) =>
      randomComponent(device, seed, component),
    )
  }

  static async #load(
    model: ModelFolder,
    tokenizer: Tokenizer,
    options: PipelineOptions,
    weights?: WeightsOf,
  ): Promise<FSVideoPipeline> {
    const { dtype = 'bf16', signal, onProgress, device: wanted = 'auto', ...deviceOptions } = options
    if (!precisions.includes(dtype)) throw invalid('dtype', dtype, 'bf16, fp8 or f32')
    signal?.throwIfAborted()
    const device = wanted instanceof Device ? wanted : await Device.open(wanted, deviceOptions)
    try {
      const networks = await Networks.load(model, {
        device,
        dtype,
        weights,
        onComponent: async (component, index, count) => {
          await device.synchronize()
          onProgress?.({ component, index: index + 1, count })
          signal?.throwIfAborted()
        },
      })
      return new FSVideoPipeline(device, wanted !== device, model, networks, tokenizer, weights)
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
    return this.#planner.plan(await this.#resolve(request))
  }

  /** Idempotent. Running generations fail with ERR_FSVIDEO_DISPOSED. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    this.stages.networks.dispose()
    if (this.#ownsDevice) this.device.dispose()
    await this.#planner.dispose()
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
      const plan = await this.#planner.plan(request)
      const pictures = await unlessAborted(
        Promise.all(request.images.map((image) => preparePicture(image, request, this.model))),
        signal,
      )
      this.#requireLive()
      device.resetPeak()
      const timings: GenerationReport['timings'] = { stages: {}, totalMs: 0 }
      const began = performance.now()
      const generation = new Generation(this.stages, this.model)
      for await (const event of generation.run(request, pictures, plan.decodeChunk)) {
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
      if (!device.disposed) device.trim({ keep: true })
      release()
    }
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
