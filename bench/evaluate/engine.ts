/** The engine as the evaluation asks it: clips through the autoencoder, and pictures with prompts through the pipeline. */
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Device, FSVideoPipeline, type GenerateRequest, type Tensor } from '../../lib/index.js'
import { ops } from '../../lib/kernels.js'
import { loadTokenizer } from '../../lib/model-folder.js'
import type { Precision } from '../../lib/parameters.js'
import { preparePicture } from '../../lib/picture.js'
import { resolveRequest } from '../../lib/requests.js'
import type { Tokenizer } from '../../lib/tokenizer.js'
import type { DecoderName } from './configurations.js'
import type { Clip } from './render.js'

/** A clip and what it took. */
export interface Made {
  clip: Clip
  seconds: number
  /** On the device, weights and all. */
  peakBytes: number
}

/** One sample with everything in it that must be there. */
export type Request = GenerateRequest & { width: number; decoder: DecoderName; seed: number }

/** Latent frames that are decoded at a time. */
const chunk = 4

export class Engine {
  readonly pipeline: FSVideoPipeline
  readonly #device: Device
  readonly #tokenizer: Tokenizer
  readonly #mixed?: string

  private constructor(pipeline: FSVideoPipeline, tokenizer: Tokenizer, mixed?: string) {
    this.pipeline = pipeline
    this.#tokenizer = tokenizer
    this.#mixed = mixed
    this.#device = pipeline.device
  }

  /** Loads a model folder, with the transformer of the folder `plain` in place of its own if that is given. */
  static async open(folder: string, device: Device, dtype: Precision, plain?: string): Promise<Engine> {
    if (plain === undefined) return Engine.#load(folder, device, dtype)
    const mixed = await mkdtemp(join(tmpdir(), 'fsvideo-evaluate-'))
    try {
      for (const entry of await readdir(folder)) {
        const source = entry === 'transformer' ? plain : join(folder, entry)
        await symlink(resolve(source), join(mixed, entry))
      }
      return await Engine.#load(mixed, device, dtype, mixed)
    } catch (error) {
      await rm(mixed, { recursive: true })
      throw error
    }
  }

  static async #load(folder: string, device: Device, dtype: Precision, mixed?: string): Promise<Engine> {
    const pipeline = await FSVideoPipeline.fromPretrained(folder, { device, dtype })
    return new Engine(pipeline, await loadTokenizer(pipeline.model), mixed)
  }

  has(decoder: DecoderName): boolean {
    return this.pipeline.model.networks.has(decoder === 'lite' ? 'decoder_lite' : 'decoder')
  }

  /** A clip encoded and decoded, without the decoder's noise. */
  async reconstruct({ size, frames, pixels }: Clip, decoder: DecoderName): Promise<Made> {
    return this.#measured(size, async () => {
      const { encoder, dtype } = this.pipeline.stages.networks
      const { latents, features } = this.#device.scope(() => {
        const video = this.#device.tensor(pixels, [1, frames, size, size, 3])
        const { latents, features } = encoder.encode(ops.fromRgb8(video, dtype))
        return { latents: encoder.normalize(latents), features }
      })
      return this.#decode(latents, features, { decoder, size })
    })
  }

  /** A picture and a prompt as a user gives them, and the frames as a user gets them. */
  async generate(request: Request): Promise<Made> {
    return this.#measured(request.width, async () => {
      const { frames } = await this.pipeline.generate(request)
      return frames
    })
  }

  /** What the base alone makes of the same request with the same noise: half the size, decoded. */
  async generateBase(request: Request): Promise<Made> {
    const { stages, model } = this.pipeline
    const size = request.width / model.latentUpsampler.scale
    return this.#measured(size, async () => {
      const resolved = await resolveRequest(request, model, this.#tokenizer)
      const { low } = await preparePicture(resolved.images[0]!, resolved, model)
      const text = (input: typeof resolved.negativeText) =>
        input && 'tokens' in input ? stages.encodeText(input.tokens) : undefined
      const conditions = this.#device.scope(() => {
        const pixels = this.#device.tensor(low.data, [1, 1, size, size, 3])
        const picture = stages.encodePicture(pixels, pixels, resolved.latentFrames)
        return { ...picture, text: text(resolved.text)!, negative: text(resolved.negativeText) }
      })
      const { features, ...rest } = conditions
      try {
        const sampling = { ...resolved.base, seeds: resolved.seeds, frames: resolved.latentFrames }
        const steps = stages.denoise(conditions, sampling)
        let step = await steps.next()
        while (!step.done) step = await steps.next()
        return await this.#decode(step.value, features, { ...request, size })
      } finally {
        for (const tensor of Object.values(rest)) tensor?.dispose()
      }
    })
  }

  /** Decodes and disposes of its tensors. */
  async #decode(
    latents: Tensor,
    features: readonly Tensor[],
    { decoder, size, seed }: { decoder: DecoderName; size: number; seed?: number },
  ): Promise<Uint8Array[]> {
    try {
      const parts: Uint8Array[] = []
      const options = { decoder, width: size, height: size, chunk, seed }
      for await (const { frames } of this.pipeline.stages.decode(latents, features, options))
        parts.push(frames)
      return parts
    } finally {
      for (const tensor of [latents, ...features]) tensor.dispose()
    }
  }

  async #measured(size: number, work: () => Promise<readonly Uint8Array[]>): Promise<Made> {
    this.#device.resetPeak()
    const began = performance.now()
    const parts = await work()
    const seconds = (performance.now() - began) / 1e3
    const pixels = Buffer.concat(parts)
    const clip = { size, frames: pixels.length / (size * size * 3), pixels }
    return { clip, seconds, peakBytes: this.#device.memory().peak }
  }

  async close(): Promise<void> {
    await this.pipeline.dispose()
    this.#device.trim()
    if (this.#mixed) await rm(this.#mixed, { recursive: true })
  }
}
