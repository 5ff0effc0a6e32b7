/**
 * FSAE, the autoencoder (FSVideo 2.2): 64×64×4 pixels to one latent of 128 channels. A causal encoder, and a decoder that is
 * non-causal (Standard) or group-causal (Lite) and looks at the encoder's features of the first frame.
 * Pixels are in [-1, 1]; latents here are in the autoencoder's own units (`Encoder.normalize` gives those of the DITs).
 */
import type { Device } from '../device.js'
import { invalid } from '../errors.js'
import * as ops from '../ops.js'
import type { Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import {
  AttentionBlock,
  type BlockContext,
  Downsample,
  FirstFrameAttention,
  OutputNorm,
  ResBlock,
  temporalConv,
  Upsample,
} from './autoencoder-blocks.js'
import type { DecoderConfig, EncoderConfig } from './config.js'
import { Delay, Run, type TemporalConv, type TemporalLayer } from './streaming.js'
import { layer } from './watch.js'

/** Stream numbers of the decoder's noise maps start here (models/FORMAT.md, random numbers). */
const NOISE_STREAM = 2 ** 32

/** Factors of the step between stage s and s + 1. */
function factors(config: EncoderConfig | DecoderConfig, stage: number): { time: number; space: number } {
  return { time: config.temporalStages.includes(stage) ? 2 : 1, space: 2 }
}

/** Pixels per latent: `time` frames (behind the first) and `space` × `space` pixels. */
export function compression(config: EncoderConfig | DecoderConfig): { time: number; space: number } {
  const steps = config.widths.length - 1
  return { time: 2 ** config.temporalStages.length, space: 2 ** steps }
}

function blockContext(config: EncoderConfig | DecoderConfig): BlockContext {
  return { ...config, mode: config.conv }
}

interface EncoderStage {
  blocks: TemporalLayer[]
  down?: Downsample
}

export interface Encoded {
  /** [B, 1 + k, H / 64, W / 64, 128] in the autoencoder's units. */
  latents: Tensor
  /** Per stage, the output for frame 0: [B, 1, h, w, C]. */
  features: Tensor[]
}

export class Encoder {
  readonly config: EncoderConfig
  readonly device: Device
  readonly #convIn: TemporalConv
  readonly #stages: EncoderStage[]
  readonly #convOut: TemporalConv
  readonly #scale?: { forward: Tensor; shift: Tensor; backward: Tensor; unshift: Tensor }

  constructor(config: EncoderConfig, parameters: Parameters) {
    const { widths, depths, inChannels, latentChannels } = config
    const context = blockContext(config)
    const last = widths.length - 1
    this.config = config
    this.device = parameters.device
    this.#convIn = temporalConv(parameters.at('conv_in'), context, inChannels, widths[0]!, [3, 3, 3])
    this.#stages = widths.map((width, s) => {
      const stage = parameters.at(`down_blocks.${s}`)
      const Block = s < config.attentionFromStage ? ResBlock : AttentionBlock
      const blocks = Array.from({ length: depths[s]! }, (_, b) => new Block(stage.at(`${b}`), context, width))
      if (s === last) return { blocks }
      const { time, space } = factors(config, s)
      const kernel = [time > 1 ? 3 : config.resampleTimeKernel, 3, 3] as const
      return {
        blocks,
        down: new Downsample(stage.at('downsample'), context, width, widths[s + 1]!, { kernel, time, space }),
      }
    })
    this.#convOut = temporalConv(parameters.at('conv_out'), context, widths[last]!, latentChannels, [
      config.latentTimeKernel,
      3,
      3,
    ])
    this.#scale = normalisation(config, parameters)
  }

  /**
   * video [B, 1 + 4k, H, W, 3], H and W multiples of 64 → latents and the first frame's features. Latent 0 depends on frame 0 alone,
   * so the picture of an image-to-video request is a video of one frame. Throws ERR_FSVIDEO_INVALID_ARGUMENT on other sizes.
   */
  encode(video: Tensor): Encoded {
    const { time, space } = compression(this.config)
    const [, frames = 0, height = 0, width = 0] = video.shape
    if (
      video.shape.length !== 5 ||
      frames % time !== 1 % time ||
      height % space ||
      width % space ||
      !height ||
      !width
    )
      throw invalid(
        'encode.video',
        video.shape,
        `[B, 1 + ${time}k, multiple of ${space}, multiple of ${space}, ${this.config.inChannels}]`,
      )
    const run = new Run(this.device)
    run.last = true
    const features: Tensor[] = []
    let x = this.device.scope(() => layer(this.device, 'conv_in', () => this.#convIn.push(video, run)!))
    const step = (name: string, forward: (input: Tensor) => Tensor) => {
      const input = x
      x = this.device.scope(() => layer(this.device, name, () => forward(input)))
      if (!features.includes(input)) input.dispose()
    }
    for (const [s, { blocks, down }] of this.#stages.entries()) {
      const stage = `down_blocks.${s}`
      for (const [b, block] of blocks.entries()) step(`${stage}.${b}`, (input) => block.push(input, run)!)
      if (down) step(`${stage}.downsample`, (input) => down.push(input, run))
      features.push(frames === 1 ? x : ops.slice(x, 1, 0, 1))
    }
    step('conv_out', (input) => {
      const conv = this.#convOut.push(input, run)!
      return ops.unshuffle3d(conv, { channels: this.config.latentChannels, shortcut: input })
    })
    return { latents: x, features }
  }

  /** Latents of the autoencoder → latents of the DITs, f32. */
  normalize(latents: Tensor): Tensor {
    return this.#scale
      ? ops.affine(latents, this.#scale.forward, this.#scale.shift, { dtype: 'f32' })
      : ops.cast(latents, 'f32')
  }

  /** The inverse of `normalize`, f32. */
  denormalize(latents: Tensor): Tensor {
    return this.#scale
      ? ops.affine(latents, this.#scale.backward, this.#scale.unshift, { dtype: 'f32' })
      : ops.cast(latents, 'f32')
  }
}

function normalisation(config: EncoderConfig, parameters: Parameters) {
  const { latentChannels: n, latentsMean, latentsStd, scalingFactor } = config
  if (!latentsMean && !latentsStd && scalingFactor === 1) return undefined
  const mean = latentsMean ?? new Array<number>(n).fill(0)
  const std = latentsStd ?? new Array<number>(n).fill(1)
  const vector = (f: (i: number) => number) => parameters.constant(std.map((_, i) => f(i)))
  return {
    forward: vector((i) => scalingFactor / std[i]!),
    shift: vector((i) => (-mean[i]! * scalingFactor) / std[i]!),
    backward: vector((i) => std[i]! / scalingFactor),
    unshift: vector((i) => mean[i]!),
  }
}

/** A part of the decoder through which frames go at once. */
interface DecoderSection {
  /** Frames that come in for a latent frame behind the first. */
  rate: number
  push(x: Tensor | undefined, pass: DecoderPass): Tensor | undefined
}

/** One decode. */
interface DecoderPass {
  run: Run
  chunk: number
  noise?: { seed: number | bigint; maps: Map<number, Tensor> }
  /** Keys and values of the first frame's features, a stage each. */
  firstFrame: Map<number, { k: Tensor; v: Tensor }>
}

export interface DecodeOptions {
  /** Seed of the noise maps; without one no noise is added. */
  seed?: number | bigint
  /** Latent frames a chunk. Default: all at once. */
  chunk?: number
}

export class Decoder {
  readonly config: DecoderConfig
  readonly device: Device
  readonly #crossAttention = new Map<number, FirstFrameAttention>()
  readonly #sections: DecoderSection[] = []
  #noise?: DecoderPass['noise']

  constructor(config: DecoderConfig, parameters: Parameters) {
    const { widths, encoderWidths, depths, latentChannels, outChannels } = config
    const context = blockContext(config)
    const last = widths.length - 1
    const latentKernel = [config.latentTimeKernel, 3, 3] as const
    let convolutions = 0
    let groupSize = 1
    this.config = config
    this.device = parameters.device
    const convIn = temporalConv(
      parameters.at('conv_in'),
      context,
      latentChannels,
      widths[last]!,
      latentKernel,
      { groupSize },
    )
    const shortcutIn = new Delay()
    this.#sections.push({
      rate: 1,
      push: (x, { run }) =>
        layer(this.device, 'conv_in', () => {
          const conv = convIn.push(x, run)
          const shortcut = shortcutIn.match(x, conv?.dim(1) ?? 0, run)
          return conv && ops.shuffle3d(conv, { channels: widths[last]!, shortcut })
        }),
    })
    for (let s = last; s >= 0; s--) {
      const stage = parameters.at(`up_blocks.${s}`)
      const below = Math.min(s + 1, last)
      const crossAttention = config.firstFrameAttentionStages.includes(s)
        ? new FirstFrameAttention(stage.at('cross_attn'), context, widths[below]!, encoderWidths[below]!, {
            headDim: config.crossHeadDim,
            normKv: config.crossNormKv,
          })
        : undefined
      if (crossAttention) this.#crossAttention.set(s, crossAttention)
      const rate = groupSize
      let up: Upsample | undefined
      if (s < last) {
        const { time, space } = factors(config, s)
        const kernel = [time > 1 ? 3 : config.resampleTimeKernel, 3, 3] as const
        const convGroup = context.resample === 'interpolate' ? groupSize * time : groupSize
        up = new Upsample(stage.at('upsample'), context, widths[s + 1]!, widths[s]!, {
          kernel,
          time,
          space,
          groupSize: convGroup,
        })
        groupSize *= time
      }
      const blocks = Array.from({ length: depths[s]! }, (_, b) => {
        if (s >= config.attentionFromStage)
          return new AttentionBlock(stage.at(`${b}`), context, widths[s]!, { groupSize })
        const noise = { source: this.#noiseMap.bind(this), index: convolutions }
        convolutions += 2
        return new ResBlock(stage.at(`${b}`), context, widths[s]!, { groupSize, noise })
      })
      type Layer = (x: Tensor | undefined, pass: DecoderPass) => Tensor | undefined
      const layers: [name: string, layer: Layer][] = []
      if (crossAttention)
        layers.push(['cross_attn', (x, { firstFrame }) => x && crossAttention.forward(x, firstFrame.get(s)!)])
      if (up) layers.push(['upsample', (x, { run }) => up.push(x, run)])
      for (const [b, block] of blocks.entries()) layers.push([`${b}`, (x, { run }) => block.push(x, run)])
      this.#sections.push({
        rate,
        push: (frames, pass) => {
          let x = frames
          for (const [name, forward] of layers) {
            const before = x
            x = this.device.scope(() =>
              layer(this.device, `up_blocks.${s}.${name}`, () => forward(before, pass)),
            )
            if (before !== x) before?.dispose()
          }
          return x
        },
      })
    }
    const normOut = new OutputNorm(parameters.at('norm_out'), context, widths[0]!)
    const convOut = temporalConv(parameters.at('conv_out'), context, widths[0]!, outChannels, [3, 3, 3], {
      groupSize,
    })
    const push: DecoderSection['push'] = (x, { run }) => {
      const normed = x && layer(this.device, 'norm_out', () => normOut.forward(x))
      return layer(this.device, 'conv_out', () => convOut.push(normed, run))
    }
    this.#sections.push({ rate: groupSize, push })
  }

  /**
   * latents [1, 1 + k, h, w, 128] and the encoder's features → frames [1, n, 64h, 64w, 3], chunk by chunk; the chunks joined are
   * the same bits whatever `chunk` is. The caller disposes of each. Only queues work, so pace the loop.
   */
  *decode(
    latents: Tensor,
    features: readonly Tensor[],
    options: DecodeOptions = {},
  ): Generator<Tensor, void, void> {
    const total = latents.dim(1)
    const { seed, chunk = total } = options
    if (
      latents.shape.length !== 5 ||
      latents.dim(0) !== 1 ||
      total < 1 ||
      latents.dim(-1) !== this.config.latentChannels
    )
      throw invalid('decode.latents', latents.shape, `[1, T, h, w, ${this.config.latentChannels}]`)
    if (!Number.isInteger(chunk) || chunk < 1) throw invalid('decode.chunk', chunk, 'a positive integer')
    const pass: DecoderPass = { run: new Run(this.device), chunk, firstFrame: new Map() }
    if (seed !== undefined && this.config.noiseWeight !== 0) pass.noise = { seed, maps: new Map() }
    try {
      for (const [stage, crossAttention] of this.#crossAttention) {
        const feature = features[stage]
        if (!feature) throw invalid('decode.features', features.length, `the features of stage ${stage}`)
        const kv = this.device.range(`up_blocks.${stage}.cross_attn`, () =>
          this.device.scope(() => crossAttention.prepare(feature)),
        )
        pass.firstFrame.set(stage, { k: this.device.keep(kv.k), v: this.device.keep(kv.v) })
      }
      yield* this.#flow(0, this.device.keep(latents.slice(1, 0, total)), true, pass)
    } finally {
      pass.run.dispose()
      for (const { k, v } of pass.firstFrame.values()) {
        k.dispose()
        v.dispose()
      }
      for (const map of pass.noise?.maps.values() ?? []) map.dispose()
    }
  }

  /**
   * Takes frames through the sections from `at` on and disposes of them. Convolutions that look ahead hold frames back until the video
   * ends, and then give many at once: so every section, not only the first, takes no more than `chunk` latent frames' worth at a time,
   * and they are taken through to the end before the next.
   */
  *#flow(at: number, x: Tensor | undefined, last: boolean, pass: DecoderPass): Generator<Tensor, void, void> {
    const section = this.#sections[at]
    if (!section) {
      if (x) yield x
      return
    }
    const total = x?.dim(1) ?? 0
    try {
      for (let start = 0, end = 0; start === 0 || start < total; start = end) {
        end = Math.min(start + pass.chunk * section.rate, total)
        const piece = { start, end, last: last && end === total }
        const out = this.#push(section, x, piece, pass)
        if (out || piece.last) yield* this.#flow(at + 1, out, piece.last, pass)
        if (end === total) return
      }
    } finally {
      x?.dispose()
    }
  }

  #push(
    section: DecoderSection,
    x: Tensor | undefined,
    piece: { start: number; end: number; last: boolean },
    pass: DecoderPass,
  ): Tensor | undefined {
    pass.run.last = piece.last
    this.#noise = pass.noise
    try {
      const out = this.device.scope(() => {
        const frames = x?.slice(1, piece.start, piece.end)
        if (piece.end === x?.dim(1)) x.dispose() // the view keeps what is left of it, until its first layer has run
        return section.push(frames, pass)
      })
      return out && this.device.keep(out)
    } finally {
      this.#noise = undefined
    }
  }

  #noiseMap(index: number, height: number, width: number) {
    if (!this.#noise) return undefined
    const { seed, maps } = this.#noise
    let noise = maps.get(index)
    if (!noise) {
      const stream = BigInt(NOISE_STREAM) + BigInt(index)
      noise = this.device.keep(
        ops.randn(this.device, [1, height, width], { seeds: [seed], stream }).reshape(height, width),
      )
      maps.set(index, noise)
    }
    return { noise, noiseWeight: this.config.noiseWeight }
  }
}
