/**
 * The blocks of FSAE: residual, attention, resampling, first-frame cross-attention. Structure and names are DC-AE's, with convolutions
 * over time (FSVideo 2.2.1); the contract of names and options is models/FORMAT.md. Activations are channels-last [B, T, H, W, C].
 */
import * as ops from '../ops.js'
import type { Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import { Delay, type Run, TemporalConv, type TemporalLayer, type TimeMode } from './streaming.js'

/** What all blocks of one coder share. */
export interface BlockContext {
  mode: TimeMode
  timePadding: 'replicate' | 'zeros'
  normAffine: boolean
  normEps: number
  headDim: number
  qkvScales: readonly number[]
  gluExpand: number
  linearAttentionEps: number
  resample: 'shuffle' | 'strided' | 'interpolate'
}

/** [kt, kh, kw] */
export type Kernel = readonly [number, number, number]

/** Gives the noise map of the convolution with a running number; none in the encoder. */
export type NoiseSource = (
  index: number,
  height: number,
  width: number,
) => { noise: Tensor; noiseWeight: number } | undefined

/** A convolution with its place in time; `groupSize` frames a group where convolutions are group-causal. */
export function temporalConv(
  parameters: Parameters,
  context: BlockContext,
  inChannels: number,
  outChannels: number,
  kernel: Kernel,
  options: { bias?: boolean; groups?: number; stride?: Kernel; groupSize?: number; gain?: number } = {},
): TemporalConv {
  const { bias = true, groups = 1, stride, groupSize, gain } = options
  const weight = parameters.conv3d('weight', [outChannels, inChannels / groups, ...kernel], { groups, gain })
  return new TemporalConv(weight, {
    mode: context.mode,
    timePadding: context.timePadding,
    groupSize,
    stride,
    groups,
    bias: bias ? parameters.vector('bias', outChannels) : undefined,
  })
}

class PixelNorm {
  readonly #weight?: Tensor
  readonly #bias?: Tensor
  readonly #eps: number

  constructor(parameters: Parameters, context: BlockContext, channels: number) {
    this.#eps = context.normEps
    if (!context.normAffine) return
    this.#weight = parameters.vector('weight', channels, 'ones')
    this.#bias = parameters.vector('bias', channels)
  }

  /** As a convolution fuses it. */
  get fused() {
    return { weight: this.#weight, bias: this.#bias, eps: this.#eps }
  }

  forward(x: Tensor, options: { residual?: Tensor; activation?: ops.Activation } = {}): Tensor {
    return ops.pixelNorm(x, { ...this.fused, ...options })
  }
}

/** The norm before the decoder's last convolution, with its activation. */
export class OutputNorm {
  readonly #norm: PixelNorm
  constructor(parameters: Parameters, context: BlockContext, channels: number) {
    this.#norm = new PixelNorm(parameters, context, channels)
  }
  forward(x: Tensor): Tensor {
    return this.#norm.forward(x, { activation: 'relu' })
  }
}

/** x + norm(conv2(silu(conv1(x)))), in the decoder with noise behind each convolution. */
export class ResBlock implements TemporalLayer {
  readonly #conv1: TemporalConv
  readonly #conv2: TemporalConv
  readonly #norm: PixelNorm
  readonly #shortcut = new Delay()
  readonly #noise?: { source: NoiseSource; index: number }

  constructor(
    parameters: Parameters,
    context: BlockContext,
    channels: number,
    options: { groupSize?: number; noise?: { source: NoiseSource; index: number } } = {},
  ) {
    const { groupSize, noise } = options
    this.#conv1 = temporalConv(parameters.at('conv1'), context, channels, channels, [3, 3, 3], { groupSize })
    this.#conv2 = temporalConv(parameters.at('conv2'), context, channels, channels, [3, 3, 3], {
      groupSize,
      bias: false,
    })
    this.#norm = new PixelNorm(parameters.at('norm'), context, channels)
    this.#noise = noise
  }

  push(x: Tensor | undefined, run: Run): Tensor | undefined {
    const hidden = this.#conv1.push(x, run, { activation: 'silu', ...this.#map(0, x) })
    return this.#conv2.push(hidden, run, {
      ...this.#map(1, hidden),
      norm: this.#norm.fused,
      residual: (frames) => this.#shortcut.match(x, frames, run),
    })
  }

  #map(which: 0 | 1, like: Tensor | undefined) {
    if (!this.#noise || !like) return undefined
    return this.#noise.source(this.#noise.index + which, like.dim(2), like.dim(3))
  }
}

/** Per-frame ReLU linear attention with multi-scale branches, then the gated local part (GLU-MBConv). */
export class AttentionBlock implements TemporalLayer {
  readonly #context: BlockContext
  readonly #qkv: Tensor
  readonly #branches: { depthwise: Tensor; grouped: Tensor; kernel: number }[]
  readonly #toOut: Tensor
  readonly #normOut: PixelNorm
  readonly #inverted: Tensor
  readonly #invertedBias: Tensor
  readonly #depth: TemporalConv
  readonly #point: Tensor
  readonly #norm: PixelNorm
  readonly #shortcut = new Delay()

  constructor(
    parameters: Parameters,
    context: BlockContext,
    channels: number,
    options: { groupSize?: number } = {},
  ) {
    const { headDim, qkvScales, gluExpand } = context
    const [attn, glu] = [parameters.at('attn'), parameters.at('conv_out')]
    const hidden = 2 * gluExpand * channels
    this.#context = context
    this.#qkv = attn.linear('to_qkv.weight', [3 * channels, channels])
    this.#branches = qkvScales.map((kernel, i) => {
      const branch = attn.at(`to_qkv_multiscale.${i}`)
      return {
        kernel,
        depthwise: branch.conv3d('proj_in.weight', [3 * channels, 1, 1, kernel, kernel], {
          groups: 3 * channels,
        }),
        grouped: branch.conv3d('proj_out.weight', [3 * channels, headDim, 1, 1, 1], {
          groups: (3 * channels) / headDim,
        }),
      }
    })
    this.#toOut = attn.linear('to_out.weight', [channels, (1 + qkvScales.length) * channels])
    this.#normOut = new PixelNorm(attn.at('norm_out'), context, channels)
    this.#inverted = glu.linear('conv_inverted.weight', [hidden, channels])
    this.#invertedBias = glu.vector('conv_inverted.bias', hidden)
    this.#depth = temporalConv(glu.at('conv_depth'), context, hidden, hidden, [3, 3, 3], {
      groups: hidden,
      groupSize: options.groupSize,
    })
    this.#point = glu.linear('conv_point.weight', [channels, hidden / 2])
    this.#norm = new PixelNorm(glu.at('norm'), context, channels)
  }

  push(x: Tensor | undefined, run: Run): Tensor | undefined {
    const attended = x && this.#attend(x)
    const hidden =
      attended && ops.linear(attended, this.#inverted, { bias: this.#invertedBias, activation: 'silu' })
    const local = this.#depth.push(hidden, run)
    const residual = this.#shortcut.match(attended, local?.dim(1) ?? 0, run)
    return local && this.#norm.forward(ops.linear(ops.glu(local), this.#point), { residual })
  }

  #attend(x: Tensor): Tensor {
    const [batch, frames, height, width] = x.shape as [number, number, number, number]
    const { headDim, linearAttentionEps: eps } = this.#context
    const qkv = ops.linear(x, this.#qkv)
    const scales = this.#branches.map(({ depthwise, grouped, kernel }) => {
      const local = ops.conv3d(qkv, depthwise, { padSpace: [kernel >> 1, kernel >> 1], groups: qkv.dim(-1) })
      return ops.conv3d(local, grouped, { groups: qkv.dim(-1) / headDim })
    })
    const all = scales.length > 0 ? ops.concat([qkv, ...scales], -1) : qkv
    const tokens = all.reshape(batch, frames, height * width, all.dim(-1))
    const mixed = ops.linearAttention(tokens, { headDim, eps })
    const out = ops.linear(mixed, this.#toOut).reshape(...x.shape)
    return this.#normOut.forward(out, { residual: x })
  }
}

export interface ResampleOptions {
  kernel: Kernel
  /** Factors of time and space. */
  time: number
  space: number
  groupSize?: number
}

/** To the next stage of the encoder: convolution with unshuffle or stride, plus the averaging shortcut. For whole videos. */
export class Downsample implements TemporalLayer {
  readonly #conv: TemporalConv
  readonly #options: ResampleOptions
  readonly #strided: boolean
  readonly #channels: number

  constructor(
    parameters: Parameters,
    context: BlockContext,
    inChannels: number,
    outChannels: number,
    options: ResampleOptions,
  ) {
    const { kernel, time, space } = options
    this.#options = options
    this.#channels = outChannels
    this.#strided = context.resample === 'strided'
    this.#conv = this.#strided
      ? temporalConv(parameters.at('conv'), context, inChannels, outChannels, kernel, {
          stride: [time, space, space],
        })
      : temporalConv(parameters.at('conv'), context, inChannels, outChannels / (time * space * space), kernel)
  }

  push(x: Tensor, run: Run): Tensor {
    const { time, space } = this.#options
    // 1 + 2k frames become 2 (1 + k): frame 0 stands for the frame before it.
    const repeatFirst = (time - (x.dim(1) % time)) % time
    if (!this.#strided)
      return ops.unshuffle3d(this.#conv.push(x, run)!, {
        time,
        space,
        repeatFirst,
        channels: this.#channels,
        shortcut: x,
      })
    const residual = () => ops.unshuffle3d(x, { time, space, repeatFirst, channels: this.#channels })
    return this.#conv.push(x, run, { residual })!
  }
}

/** To the next stage of the decoder: convolution with shuffle, or nearest neighbour with convolution, plus the duplicating shortcut. */
export class Upsample implements TemporalLayer {
  readonly #conv: TemporalConv
  readonly #options: ResampleOptions
  readonly #interpolate: boolean
  readonly #channels: number
  readonly #shortcut = new Delay()

  constructor(
    parameters: Parameters,
    context: BlockContext,
    inChannels: number,
    outChannels: number,
    options: ResampleOptions,
  ) {
    const { kernel, time, space, groupSize } = options
    this.#options = options
    this.#channels = outChannels
    this.#interpolate = context.resample === 'interpolate'
    this.#conv = this.#interpolate
      ? temporalConv(parameters.at('conv'), context, inChannels, outChannels, kernel, { groupSize })
      : temporalConv(parameters.at('conv'), context, inChannels, outChannels * time * space * space, kernel, {
          groupSize,
        })
  }

  push(x: Tensor | undefined, run: Run): Tensor | undefined {
    const { time, space } = this.#options
    const channels = this.#channels
    // The frame that the encoder put before frame 0 is dropped where the video starts.
    const state = run.state(this)
    const dropFirst = state.begun ? 0 : time - 1
    if (!this.#interpolate) {
      const main = this.#conv.push(x, run)
      const shortcut = this.#shortcut.match(x, main?.dim(1) ?? 0, run)
      if (!main) return undefined
      state.begun = true
      return ops.shuffle3d(main, { time, space, channels, dropFirst, shortcut })
    }
    const nearest = x && ops.shuffle3d(x, { time, space, channels: x.dim(-1), dropFirst })
    const main = this.#conv.push(nearest, run)
    const duplicated = x && ops.shuffle3d(x, { time, space, channels, dropFirst })
    if (x) state.begun = true
    const residual = this.#shortcut.match(duplicated, main?.dim(1) ?? 0, run)
    return main && ops.combine([main, residual!], [1, 1], { dtype: main.dtype })
  }
}

/** x + attention of every token of x to the tokens of the first frame's encoder features. */
export class FirstFrameAttention {
  readonly #context: BlockContext
  readonly #heads: number
  readonly #normKv: boolean
  readonly #toQ: Tensor
  readonly #toK: Tensor
  readonly #toV: Tensor
  readonly #toOut: Tensor
  readonly #outBias: Tensor

  constructor(
    parameters: Parameters,
    context: BlockContext,
    channels: number,
    featureChannels: number,
    options: { headDim: number; normKv: boolean },
  ) {
    this.#context = context
    this.#heads = channels / options.headDim
    this.#normKv = options.normKv
    this.#toQ = parameters.linear('to_q.weight', [channels, channels])
    this.#toK = parameters.linear('to_k.weight', [channels, featureChannels])
    this.#toV = parameters.linear('to_v.weight', [channels, featureChannels])
    this.#toOut = parameters.linear('to_out.weight', [channels, channels])
    this.#outBias = parameters.vector('to_out.bias', channels)
  }

  /** Keys and values [B, H·W, heads, D] of features [B, 1, H, W, F]: once a video. */
  prepare(features: Tensor): { k: Tensor; v: Tensor } {
    const [batch, , height, width, channels] = features.shape as [number, number, number, number, number]
    const eps = this.#context.normEps
    const tokens = (this.#normKv ? ops.pixelNorm(features, { eps }) : features).reshape(
      batch,
      height * width,
      channels,
    )
    const heads = (t: Tensor) => t.reshape(batch, height * width, this.#heads, -1)
    return { k: heads(ops.linear(tokens, this.#toK)), v: heads(ops.linear(tokens, this.#toV)) }
  }

  forward(x: Tensor, { k, v }: { k: Tensor; v: Tensor }): Tensor {
    const [batch, frames, height, width] = x.shape as [number, number, number, number]
    const q = ops.linear(ops.pixelNorm(x, { eps: this.#context.normEps }), this.#toQ)
    const attended = ops.attention(q.reshape(batch, frames * height * width, this.#heads, -1), k, v)
    return ops.linear(attended.reshape(...x.shape), this.#toOut, { bias: this.#outBias, residual: x })
  }
}
