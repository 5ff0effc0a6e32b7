/**
 * The denoise loop: a DIT, a solver's plan and a starting noise, out comes a sample. Base and refiner run through here. One step
 * of the network is captured once and replayed; around it a few `combine`s do what the plan says (lib/sampling/solver.ts).
 */
import type { Device } from './device.js'
import { FSVideoError } from './errors.js'
import type { Conditioning, DIT } from './models/dit.js'
import { timestepFeatures } from './models/rope.js'
import * as ops from './ops.js'
import { dataPrediction, isGuided, type KeptTensor, type SolverStep, type Term } from './sampling/index.js'
import type { Tensor } from './tensor.js'

/** A step that has been computed. */
export interface DenoiseStep {
  /** From 1 to `steps`. */
  step: number
  steps: number
  sigma: number
  timestep: number
  elapsedMs: number
  /** The data prediction x̂0 of this step, f32 [B, T, h, w, C]: what a preview shows. Valid until the next step. */
  prediction: Tensor
}

export interface DenoiseOptions {
  dit: DIT
  plan: readonly SolverStep[]
  /** x at the first sigma, f32 [B, T, h, w, C]. */
  start: Tensor
  /** [B, T, h, w, maskChannels] and [B, T, h, w, C], in the network's type. */
  mask: Tensor
  condition: Tensor
  /** Of the batch B, or 2B with the unconditional half behind where guidance is used. */
  conditioning: Conditioning
  guidanceScale: number
  /** Fresh normal numbers like `start` for step i, for the solvers that ask. */
  noise(step: number): Tensor
  signal?: AbortSignal
  /** Named in errors and traces. */
  stage: string
}

/**
 * Yields every step when it has been computed and returns the sample, f32, which the caller disposes of. The next step is queued
 * before the last one is waited for, so the device never idles.
 * Throws ERR_FSVIDEO_NON_FINITE with stage, step and layer (the first block whose output is not finite), or `signal.reason`.
 */
export async function* denoise(options: DenoiseOptions): AsyncGenerator<DenoiseStep, Tensor, void> {
  const { dit, plan, signal, stage } = options
  const device = options.start.device
  const network = device.range(stage, () => captureNetwork(device, options))
  const kept = new Kept(device, options.start)
  const began = performance.now()
  try {
    let pending: { flags: Promise<unknown>; step: DenoiseStep } | undefined
    for (const [i, step] of plan.entries()) {
      signal?.throwIfAborted()
      const queue = () => {
        const features = timestepFeatures(new Array(network.batch).fill(step.timestep), dit.config.freqDim)
        network.evaluate(kept.get('x'), features)
        device.scope(() => kept.advance(step, network.velocities, options, i))
        return network.flags.read()
      }
      const flags = device.withSignal(signal, () =>
        device.range(stage, () => device.range(`step ${i + 1}`, queue)),
      )
      flags.catch(() => {}) // judged below, one step later
      const { sigma, timestep } = step
      if (pending) yield await finished(pending, stage, signal)
      pending = {
        flags,
        step: { step: i + 1, steps: plan.length, sigma, timestep, elapsedMs: 0, prediction: kept.get('m1') },
      }
    }
    if (pending) yield await finished(pending, stage, signal)
    return kept.take('x')
  } finally {
    kept.dispose()
    network.dispose()
  }

  async function finished(
    { flags, step }: { flags: Promise<unknown>; step: DenoiseStep },
    name: string,
    abort?: AbortSignal,
  ): Promise<DenoiseStep> {
    const values = (await flags) as Int32Array
    abort?.throwIfAborted()
    const layer = device.dry ? -1 : values.indexOf(0)
    if (layer >= 0) {
      const where = layer < values.length - 1 ? `layer ${layer}` : 'the output'
      throw new FSVideoError(
        'ERR_FSVIDEO_NON_FINITE',
        `a value that is not finite in stage ${name}, step ${step.step} of ${step.steps}, ${where}`,
        { stage: name, step: step.step, layer },
      )
    }
    return { ...step, elapsedMs: performance.now() - began }
  }
}

/** One evaluation of the network as a graph over fixed input and output tensors. */
function captureNetwork(device: Device, options: DenoiseOptions) {
  const { dit, mask, condition, conditioning, guidanceScale, start } = options
  const samples = start.dim(0)
  const batch = isGuided(guidanceScale) ? 2 * samples : samples
  const [x, features] = device
    .scope(() => [ops.fill(device, start.shape, 0), ops.fill(device, [batch, dit.config.freqDim], 0)])
    .map((tensor) => device.keep(tensor)) as [Tensor, Tensor]
  const { graph, result } = device.capture(() => {
    const input = ops.concat([ops.cast(x, mask.dtype), mask, condition], -1)
    return dit.forward(
      isGuided(guidanceScale) ? ops.concat([input, input], 0) : input,
      features,
      conditioning,
      { flags: true },
    )
  })
  const { velocity, flags } = result
  const velocities = isGuided(guidanceScale)
    ? [velocity.slice(0, 0, samples), velocity.slice(0, samples, batch)]
    : [velocity]
  return {
    batch,
    flags,
    /** Of the prompt, and of the negative prompt where guidance is used: f32 [B, T, h, w, C]. */
    velocities,
    evaluate(latents: Tensor, timestep: Float32Array): void {
      ops.assign(x, latents)
      features.write(timestep)
      graph.replay()
    },
    dispose(): void {
      for (const tensor of [x, features, velocity, flags, ...velocities]) tensor.dispose()
      graph.dispose()
    },
  }
}

/** The tensors a solver may name, from step to step. */
class Kept {
  readonly #device: Device
  readonly #tensors = new Map<KeptTensor, Tensor>()

  constructor(device: Device, start: Tensor) {
    this.#device = device
    this.#tensors.set('x', device.keep(start.reshape(...start.shape)))
  }

  get(name: KeptTensor): Tensor {
    return this.#tensors.get(name)!
  }

  /** Gives the tensor away: `dispose` leaves it. */
  take(name: KeptTensor): Tensor {
    const tensor = this.get(name)
    this.#tensors.delete(name)
    return tensor
  }

  advance(step: SolverStep, velocities: readonly Tensor[], options: DenoiseOptions, index: number): void {
    this.#set(
      'm0',
      ops.combine([this.get('x'), ...velocities], dataPrediction(step.sigma, options.guidanceScale)),
    )
    if ([...(step.corrector ?? []), ...step.predictor].some(({ tensor }) => tensor === 'noise'))
      this.#set('noise', options.noise(index))
    if (step.corrector) this.#set('x', this.#sum(step.corrector))
    const next = this.#sum(step.predictor)
    this.#move('x', 'lastX')
    this.#set('x', next)
    this.#move('m1', 'm2')
    this.#move('m0', 'm1')
  }

  #sum(terms: readonly Term[]): Tensor {
    return ops.combine(
      terms.map(({ tensor }) => this.get(tensor)),
      terms.map(({ coefficient }) => coefficient),
    )
  }

  #set(name: KeptTensor, tensor: Tensor): void {
    this.#tensors.get(name)?.dispose()
    this.#tensors.set(name, this.#device.keep(tensor))
  }

  #move(from: KeptTensor, to: KeptTensor): void {
    const tensor = this.#tensors.get(from)
    if (!tensor) return
    this.#tensors.delete(from)
    this.#set(to, tensor)
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose()
    this.#tensors.clear()
  }
}
