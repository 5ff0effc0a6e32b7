/**
 * What memory a request will need, known before its work: a twin of the networks on the planning device runs the request's first
 * steps without computing. Bytes in use depend on the calls alone, so what it sees is what will be.
 */
import { Device } from './device.js'
import { FSVideoError } from './errors.js'
import { Generation } from './generation.js'
import type { ModelFolder } from './model-folder.js'
import { Networks, type WeightsOf } from './networks.js'
import type { Precision } from './parameters.js'
import { blankPicture, type Picture } from './picture.js'
import type { HostTensor, ResolvedRequest, TextInput } from './requests.js'
import type { Schedule } from './sampling/index.js'
import { Stages } from './stages.js'

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

/** Bytes. */
interface Shortage {
  needed: number
  available: number
}

/** Latent frames decoded at a time where memory allows it. */
const decodeChunks = { standard: 4, lite: 1 }
/** Steps after which a sampler holds all the tensors it ever holds. */
const plannedSteps = 4

export class Planner {
  readonly #device: Device
  readonly #model: ModelFolder
  readonly #dtype: Precision
  readonly #weights: WeightsOf | undefined
  readonly #plans = new Map<string, Promise<Plan>>()
  #twin?: Promise<Generation>
  #measuring: Promise<unknown> = Promise.resolve()

  /** Plans for networks of `model`, in `dtype`, on `device`. */
  constructor(device: Device, model: ModelFolder, dtype: Precision, weights?: WeightsOf) {
    this.#weights = weights
    this.#device = device
    this.#model = model
    this.#dtype = dtype
  }

  /** The plan with the largest decode chunk that fits. Throws ERR_FSVIDEO_OUT_OF_MEMORY with needed and available bytes. */
  async plan(request: ResolvedRequest): Promise<Plan> {
    let chunk = Math.min(decodeChunks[request.decoder], request.latentFrames)
    if (this.#device.dry) return { peakBytes: 0, weightBytes: 0, reservedBytes: 0, decodeChunk: chunk }
    let least: Shortage | undefined
    for (;;) {
      const plan = await this.#planned(request, chunk)
      const shortage = this.#shortage(request, plan) && (await this.#shortageWithoutKept(request, plan))
      if (!shortage) return plan
      if (!least || shortage.needed < least.needed) least = shortage
      if (chunk === 1)
        throw new FSVideoError(
          'ERR_FSVIDEO_OUT_OF_MEMORY',
          `this generation needs ${megabytes(least.needed)} on ${this.#device.name}, of which ${megabytes(plan.weightBytes)} are weights; ` +
            `${megabytes(least.available)} may be used. Fewer frames, a smaller size or the lite decoder need less`,
          { ...least },
        )
      chunk = Math.ceil(chunk / 2)
    }
  }

  /** What the plan lacks most: of what the request allows to be in use, of the device's limit, or of what the system has left. */
  #shortage(request: ResolvedRequest, plan: Plan): Shortage | undefined {
    const { reserved, inUse } = this.#device.memory()
    const foreign = Math.max(0, inUse - plan.weightBytes)
    const system = this.#device.freeMemory() + reserved - foreign
    const limit = (this.#device.memoryLimit || Infinity) - foreign
    const shortages = [
      { needed: plan.peakBytes, available: request.maxMemory ?? Infinity },
      { needed: plan.reservedBytes, available: Math.min(limit, system) },
    ].filter(({ needed, available }) => needed > available)
    return shortages.sort((a, b) => a.available - a.needed - (b.available - b.needed))[0]
  }

  /** The same once the device has returned what it kept for the next request. */
  async #shortageWithoutKept(request: ResolvedRequest, plan: Plan): Promise<Shortage | undefined> {
    this.#device.trim()
    await this.#device.synchronize()
    return this.#shortage(request, plan)
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
    const picture = blankPicture(request, this.#model)
    twin.device.resetPeak()
    for await (const _ of twin.run(short, new Array<Picture>(request.batch).fill(picture), chunk));
    const { peak, reservedPeak } = twin.device.memory()
    twin.device.trim()
    return { peakBytes: peak, weightBytes, reservedBytes: reservedPeak, decodeChunk: chunk }
  }

  async #makeTwin(): Promise<Generation> {
    const meta = await Device.open('meta', {}, this.#device)
    const networks = await Networks.load(this.#model, {
      device: meta,
      dtype: this.#dtype,
      weights: this.#weights,
    })
    return new Generation(new Stages(networks, this.#model.scheduler), this.#model)
  }

  /** Idempotent. */
  async dispose(): Promise<void> {
    const twin = await this.#twin?.catch(() => undefined)
    twin?.stages.networks.dispose()
    twin?.device.dispose()
  }
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
