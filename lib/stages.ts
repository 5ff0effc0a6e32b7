/**
 * The dataflow from picture to frames (fsvideo-spec 4.4) as five stages over loaded networks. Every stage is callable alone and
 * takes and gives tensors of the networks' device; the caller disposes of what it is given. No file, no picture format and no
 * request is known here: that is pipeline.ts.
 *
 * Letters: B samples, T latent frames, h and w latent height and width at the high resolution, C latent channels.
 */
import { type DenoiseStep, denoise } from './denoise.js'
import type { Device } from './device.js'
import { FSVideoError, invalid } from './errors.js'
import { compression, type Encoded } from './models/autoencoder.js'
import type { SchedulerConfig } from './models/config.js'
import type { DIT } from './models/dit.js'
import { firstNotFinite } from './models/watch.js'
import type { Networks } from './networks.js'
import * as ops from './ops.js'
import { createSolver, isGuided, type Schedule, type SolverName } from './sampling/index.js'
import type { Tensor } from './tensor.js'

export type Stage = 'encode' | 'denoise' | 'upsample' | 'refine' | 'decode'

/** Streams of a request's random numbers (models/FORMAT.md). */
const streams = { base: 0n, refiner: 1n, baseRenoise: 2n, refinerRenoise: 1n << 16n }

/** Of OpenAI's CLIP, per channel of sRGB in [0, 1]. */
const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] }

/** What the picture and the prompts are to the later stages. */
export interface Conditions {
  /** First-frame latents in the autoencoder's units, f32 [B, 1, h / 2, w / 2, C] and [B, 1, h, w, C]. */
  low: Tensor
  high: Tensor
  /** Encoder features of the high-resolution picture, a stage each: for the decoder. */
  features: Tensor[]
  /** With `condition: "zero_pixels"`: latents of the low-resolution picture with zero pixels behind it, f32 [B, T, h / 2, w / 2, C]. */
  lowVideo?: Tensor
  /** Text embeddings [B, textLen, textDim], and those of the negative prompt where guidance is used. */
  text: Tensor
  negative?: Tensor
  /** Image tokens [B, imageLen, imageDim] of CLIP. */
  image?: Tensor
}

export interface SamplingOptions {
  solver: SolverName
  schedule: Schedule
  /** 1 for none. */
  guidanceScale: number
  /** One a sample. */
  seeds: readonly (number | bigint)[]
  signal?: AbortSignal
}

export class Stages {
  readonly networks: Networks
  readonly device: Device
  readonly scheduler: SchedulerConfig

  constructor(networks: Networks, scheduler: SchedulerConfig) {
    this.networks = networks
    this.device = networks.device
    this.scheduler = scheduler
  }

  /**
   * Pixels u8 [B, 1, H, W, 3] at the high and at half that resolution → first-frame latents and features, for `frames` latent frames.
   * H and W are multiples of twice the autoencoder's factor.
   */
  encodePicture(
    high: Tensor,
    low: Tensor,
    frames: number,
  ): Pick<Conditions, 'high' | 'low' | 'features' | 'lowVideo'> {
    const { device } = this
    const { encoder, dtype } = this.networks
    const encode = (pixels: Tensor): Encoded => device.scope(() => encoder.encode(pixels))
    return this.#part('encode', 'picture', () => {
      const { latents, features } = encode(ops.fromRgb8(high, dtype))
      const lowPixels = ops.fromRgb8(low, dtype)
      const picture = {
        high: ops.cast(latents, 'f32'),
        low: ops.cast(encode(lowPixels).latents, 'f32'),
        features,
      }
      if (this.scheduler.condition === 'zero_latents' || frames === 1) return picture
      const [batch = 1, , ...size] = lowPixels.shape
      const behind = (frames - 1) * compression(encoder.config).time
      const video = ops.concat([lowPixels, ops.fill(device, [batch, behind, ...size], 0, dtype)], 1)
      return { ...picture, lowVideo: ops.cast(encode(video).latents, 'f32') }
    })
  }

  /** Token ids, a list a sample → text embeddings [B, textLen, textDim], zeros behind each prompt. */
  encodeText(ids: readonly Int32Array[]): Tensor {
    const { textEncoder, transformer } = this.networks
    return this.#part('encode', 'text', () =>
      textEncoder.embed(
        ids.map((list) => [...list]),
        transformer.config.textLen,
      ),
    )
  }

  /** Pixels u8 [B, 1, S, S, 3] of the whole picture → image tokens [B, imageLen, imageDim]. */
  encodeClip(pixels: Tensor): Tensor {
    const { imageEncoder, dtype } = this.networks
    if (!imageEncoder) throw invalid('pixels', pixels.shape, 'absent: this model has no image encoder')
    return this.#part('encode', 'clip', () => {
      const vector = (f: (c: number) => number) => this.device.tensor(Float32Array.from([0, 1, 2], f), [3])
      // (p - mean) / std of p in [0, 1], from x = 2 p - 1
      const scale = vector((c) => 0.5 / clip.std[c]!)
      const shift = vector((c) => (0.5 - clip.mean[c]!) / clip.std[c]!)
      return imageEncoder.forward(ops.affine(ops.fromRgb8(pixels, 'f32'), scale, shift, { dtype }))
    })
  }

  /** Base: noise → latents f32 [B, T, h / 2, w / 2, C], normalised, T = `frames`. `latents`, if given, are the noise to start from. */
  async *denoise(
    conditions: Conditions,
    options: SamplingOptions & { frames: number; latents?: Tensor },
  ): AsyncGenerator<DenoiseStep, Tensor, void> {
    const { device } = this
    const { transformer, dtype } = this.networks
    const { frames, seeds, latents } = options
    const [batch = 1, , height = 1, width = 1, channels = 1] = conditions.low.shape
    const shape = [batch, frames, height, width, channels]
    if (latents && latents.shape.join() !== shape.join())
      throw invalid('latents', latents.shape, `[${shape.join(', ')}]`)
    const own = this.#part('denoise', 'prepare', () => {
      const start = latents
        ? ops.cast(latents, 'f32')
        : ops.randn(device, shape, { seeds, stream: streams.base })
      const grid = (count: number, value: number) =>
        ops.fill(device, [batch, count, height, width, transformer.config.maskChannels], value, dtype)
      const mask = frames > 1 ? ops.concat([grid(1, 1), grid(frames - 1, 0)], 1) : grid(1, 1)
      return { start, mask, condition: this.#baseCondition(conditions, frames) }
    })
    return yield* this.#sample('denoise', transformer, conditions, own, options, streams.baseRenoise)
  }

  /** Frame 0 is the picture; behind it stand zero latents, or the latents of zero pixels. */
  #baseCondition({ low, lowVideo }: Conditions, frames: number): Tensor {
    const { encoder, dtype } = this.networks
    if (lowVideo) return ops.cast(encoder.normalize(lowVideo), dtype)
    const first = ops.cast(encoder.normalize(low), dtype)
    if (frames === 1) return first
    const [batch = 1, , ...rest] = low.shape
    return ops.concat([first, ops.fill(this.device, [batch, frames - 1, ...rest], 0, dtype)], 1)
  }

  /** Doubles height and width of latents in the DITs' units: [B, T, h / 2, w / 2, C] → [B, T, h, w, C], f32, the autoencoder's units. */
  upsample(latents: Tensor): Tensor {
    const { encoder } = this.networks
    return this.device.range('upsample', () =>
      this.device.scope(() => this.#double(encoder.denormalize(latents))),
    )
  }

  /** A scope that is a part of a stage in traces. */
  #part<T>(stage: Stage, name: string, fn: () => T): T {
    const { device } = this
    return device.range(stage, () => device.range(name, () => device.scope(fn)))
  }

  #double(raw: Tensor): Tensor {
    const { latentUpsampler, dtype } = this.networks
    return this.device.scope(() => ops.cast(latentUpsampler.forward(ops.cast(raw, dtype)), 'f32'))
  }

  /**
   * Refiner: upsampled latents (the autoencoder's units) → latents f32 [B, T, h, w, C], normalised. It starts from noise, or with
   * `fromNoise: false` from the upsampled latents noised to the first level.
   */
  async *refine(
    upsampled: Tensor,
    conditions: Conditions,
    options: SamplingOptions & { fromNoise: boolean },
  ): AsyncGenerator<DenoiseStep, Tensor, void> {
    const { device } = this
    const { encoder, refiner, dtype } = this.networks
    const { seeds, fromNoise, schedule } = options
    const own = this.#part('refine', 'prepare', () => {
      const noise = ops.randn(device, upsampled.shape, { seeds, stream: streams.refiner })
      const normalised = encoder.normalize(upsampled)
      const sigma = schedule.sigmas[0]!
      const start = fromNoise ? noise : ops.combine([normalised, noise], [1 - sigma, sigma])
      const frames = upsampled.dim(1)
      const first = encoder.normalize(conditions.high)
      const rest = frames > 1 ? [ops.slice(normalised, 1, 1, frames)] : []
      const condition = ops.cast(ops.concat([first, ...rest], 1), dtype)
      const mask = ops.dynamicMask(conditions.high, this.#double(conditions.low), {
        ...this.scheduler.mask,
        frames,
        channels: refiner.config.maskChannels,
        dtype,
      })
      return { start, mask, condition }
    })
    return yield* this.#sample('refine', refiner, conditions, own, options, streams.refinerRenoise)
  }

  async *#sample(
    stage: Stage,
    dit: DIT,
    conditions: Conditions,
    own: { start: Tensor; mask: Tensor; condition: Tensor },
    options: SamplingOptions,
    renoiseStream: bigint,
  ): AsyncGenerator<DenoiseStep, Tensor, void> {
    const { device } = this
    const { guidanceScale, schedule, seeds, signal, solver } = options
    const { start } = own
    const guided = isGuided(guidanceScale)
    const prepare = () => {
      const { text, negative, image } = conditions
      if (guided && !negative)
        throw invalid('conditions.negative', negative, 'text embeddings, for guidance is used')
      const size = [start.dim(1), start.dim(2), start.dim(3)] as const
      if (!guided) return dit.prepare({ text, image, size })
      const both = ops.concat([text, negative!], 0)
      const images = image && ops.concat([image, image], 0)
      const prepared = dit.prepare({ text: both, image: images, size })
      both.dispose()
      images?.dispose()
      return prepared
    }
    const conditioning = device.withSignal(signal, () =>
      device.range(stage, () => device.range('prepare', prepare)),
    )
    try {
      return yield* denoise({
        ...own,
        dit,
        plan: createSolver(solver).plan(schedule),
        conditioning,
        guidanceScale,
        noise: (step) => ops.randn(device, start.shape, { seeds, stream: renoiseStream + BigInt(step) }),
        signal,
        stage,
      })
    } finally {
      conditioning.dispose()
      for (const tensor of Object.values(own)) tensor.dispose()
    }
  }

  /**
   * Decoder of one sample: latents f32 [1, T, h, w, C], normalised, and the features → pixels u8 [n, height, width, 3] a chunk,
   * cropped to the size given, read back while the next chunk is computed.
   */
  async *decode(
    latents: Tensor,
    features: readonly Tensor[],
    options: {
      decoder: 'standard' | 'lite'
      width: number
      height: number
      /** Latent frames a chunk. */
      chunk: number
      seed?: number | bigint
      signal?: AbortSignal
    },
  ): AsyncGenerator<{ frames: Uint8Array; count: number }, void, void> {
    const { device } = this
    const { encoder, dtype } = this.networks
    const { width, height, chunk, seed, signal } = options
    const network = this.networks.decoderFor(options.decoder)
    const raw = device.withSignal(signal, () =>
      this.#part('decode', 'prepare', () => ops.cast(encoder.denormalize(latents), dtype)),
    )
    const chunks = network.decode(raw, features, { seed, chunk })
    let decoded = 0
    let count = 0
    /** The next chunk, and its way back; undefined behind the last. */
    const queue = () => {
      const { value: frames } = chunks.next()
      if (!frames) return undefined
      return device.scope(() => {
        const finite = ops.allFinite(frames).read()
        const rgb = ops.toRgb8(frames)
        const pixels = ops.slice(ops.slice(rgb, 2, 0, height), 3, 0, width).read()
        frames.dispose()
        return { pixels, finite, count: frames.dim(1) }
      })
    }
    try {
      let pending: { pixels: Promise<unknown>; finite: Promise<unknown>; count: number } | undefined
      for (;;) {
        signal?.throwIfAborted()
        const next = device.withSignal(signal, () =>
          device.range('decode', () => device.range(`chunk ${++count}`, queue)),
        )
        next?.pixels.catch(() => {})
        next?.finite.catch(() => {})
        if (pending) {
          const [finite, pixels] = await Promise.all([pending.finite, pending.pixels])
          signal?.throwIfAborted()
          if ((finite as Int32Array)[0] === 0 && !device.dry) {
            const again = () => {
              for (const frames of network.decode(raw, features, { seed, chunk })) frames.dispose()
            }
            throw notFinite('decode', await firstNotFinite(again), decoded)
          }
          decoded += pending.count
          yield { frames: pixels as Uint8Array, count: pending.count }
        }
        if (!next) return
        pending = next
      }
    } finally {
      chunks.return()
      raw.dispose()
    }
  }
}

/** `layer` by its name in the weights, `frame` the first of those in which the value is. */
export function notFinite(stage: Stage, layer?: string, frame?: number): FSVideoError {
  const where = layer === undefined ? '' : `, layer ${layer}`
  const when = frame === undefined ? '' : `, in the frames from ${frame}`
  const message = `a value that is not finite in stage ${stage}${where}${when}`
  return new FSVideoError('ERR_FSVIDEO_NON_FINITE', message, { stage, layer, step: frame })
}
