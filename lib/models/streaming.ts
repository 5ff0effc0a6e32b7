/**
 * Running a video network on consecutive chunks of frames so that the joined output equals one run over all frames, bit for bit.
 * A convolution over time keeps the last frames it has seen; one that looks ahead gives its output that much later; whatever
 * runs beside it (a residual path) is delayed to match. A run over everything is the case of a single chunk, so there is one
 * code path. Stands under the autoencoder. That chunks can be exact is FSVideo 2.2.1 (norms and attention are per frame);
 * keeping frames per convolution is the cache of IV-VAE, extended here to convolutions that look ahead.
 */
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'

/** Part of a network that may hold frames back: `undefined` stands for no frames. */
export interface TemporalLayer {
  push(x: Tensor | undefined, run: Run): Tensor | undefined
}

/** What one layer remembers between chunks. */
export interface LayerState {
  /** Frames [B, n, H, W, C] held back. */
  frames?: Tensor
  /** Whether the layer has given output yet. */
  begun: boolean
}

/** One pass over a video. */
export class Run {
  readonly device: Device
  /** True while the chunk that ends the video is pushed. */
  last = false
  #states = new Map<object, LayerState>()

  constructor(device: Device) {
    this.device = device
  }

  state(layer: object): LayerState {
    let state = this.#states.get(layer)
    if (!state) {
      state = { begun: false }
      this.#states.set(layer, state)
    }
    return state
  }

  /** Replaces what a layer holds. `frames` outlives the current scope; what was held before does not. */
  hold(layer: object, frames: Tensor | undefined): void {
    const state = this.state(layer)
    if (state.frames) this.device.release(state.frames)
    state.frames = frames && this.device.keep(frames)
  }

  dispose(): void {
    for (const { frames } of this.#states.values()) frames?.dispose()
    this.#states.clear()
  }
}

/** A path that runs beside a delayed one and gives out its frames as the other does. */
export class Delay {
  /** Queues `x` behind the frames held back and takes the `count` oldest. */
  match(x: Tensor | undefined, count: number, run: Run): Tensor | undefined {
    const { frames } = run.state(this)
    const all = frames && x ? ops.concat([frames, x], 1) : (frames ?? x)
    if (!all) return undefined
    const total = all.dim(1)
    const given = count === total ? all : count > 0 ? all.slice(1, 0, count) : undefined
    run.hold(this, count < total ? ops.slice(all, 1, count, total) : undefined)
    return given
  }
}

export type TimeMode = 'causal' | 'noncausal' | 'group_causal'

export interface TemporalConvOptions {
  mode: TimeMode
  timePadding: 'replicate' | 'zeros'
  /** Frames a group, for `group_causal`. */
  groupSize?: number
  /** A stride in time is for videos that are pushed whole. */
  stride?: readonly [number, number, number]
  groups?: number
  bias?: Tensor
}

/** What is fused into a convolution. The residual is asked for once the number of frames that come out is known, 0 among them. */
export interface TemporalEpilogue
  extends Pick<ops.Conv3dOptions, 'activation' | 'noise' | 'noiseWeight' | 'norm'> {
  residual?: (frames: number) => Tensor | undefined
}

/** A convolution [O, I / groups, kt, kh, kw] that knows its place in time; kt is 1 or 3 unless it is causal. */
export class TemporalConv {
  readonly #weight: Tensor
  readonly #options: TemporalConvOptions

  constructor(weight: Tensor, options: TemporalConvOptions) {
    this.#weight = weight
    this.#options = options
  }

  push(x: Tensor | undefined, run: Run, epilogue: TemporalEpilogue = {}): Tensor | undefined {
    const { mode, timePadding, groupSize = 1, stride = [1, 1, 1], groups, bias } = this.#options
    const [kt = 1, kh = 1, kw = 1] = this.#weight.shape.slice(2)
    /** `padded`: frames with all that stands beside the input. */
    const convolve = (input: Tensor, padded: number, time: ops.Conv3dOptions) =>
      ops.conv3d(input, this.#weight, {
        bias,
        stride,
        groups,
        timePadding,
        padSpace: [kh >> 1, kw >> 1],
        ...time,
        ...epilogue,
        residual: epilogue.residual?.(Math.floor((padded - kt) / stride[0]) + 1),
      })
    const nothing = () => void epilogue.residual?.(0)
    if (kt === 1) return x ? convolve(x, x.dim(1), {}) : nothing()

    const { frames: held, begun } = run.state(this)
    // Left of the first group stands a copy of frame 0, whatever `timePadding` says of the right.
    const before = mode === 'group_causal' && !begun && x ? x.slice(1, 0, 1) : held
    // The left edge is open until frames have been seen (causal) or given (noncausal).
    const ahead = mode === 'causal' ? 0 : 1
    const context = mode === 'group_causal' ? 1 : kt - 1
    const right = mode === 'group_causal' ? 1 : run.last ? ahead : 0
    const left = mode === 'noncausal' ? (begun ? 0 : 1) : context - (before?.dim(1) ?? 0)
    const frames = (before?.dim(1) ?? 0) + (x?.dim(1) ?? 0)
    if (left + frames + right < kt || (!x && right === 0)) {
      if (x) run.hold(this, before ? ops.concat([before, x], 1) : ops.slice(x, 1, 0, x.dim(1)))
      return nothing()
    }
    const input = x ?? before!
    const result = convolve(input, left + frames + right, {
      before: x && before,
      padTime: [left, right],
      groupCausal: mode === 'group_causal' ? { size: groupSize, first: begun ? 0 : 1 } : undefined,
    })
    run.hold(this, run.last ? undefined : lastFrames(before, input, context))
    run.state(this).begun = true
    return result
  }
}

/** A copy, so that two frames do not keep a chunk alive. */
function lastFrames(before: Tensor | undefined, x: Tensor, count: number): Tensor {
  const all = before && x.dim(1) < count ? ops.concat([before, x], 1) : x
  const total = all.dim(1)
  return ops.slice(all, 1, Math.max(0, total - count), total)
}
