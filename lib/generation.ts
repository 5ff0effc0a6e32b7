/**
 * One generation from prepared pictures to pixels: the stages one after the other, with the tensors that pass between them. Knows
 * nothing of files, turns and plans; on the planning device the same code shows what memory a request will need.
 */
import type { DenoiseStep } from './denoise.js'
import type { Device } from './device.js'
import { FSVideoError } from './errors.js'
import type { FrameEvent, ProgressEvent } from './events.js'
import type { ModelFolder } from './model-folder.js'
import { firstNotFinite } from './models/watch.js'
import * as ops from './ops.js'
import type { ComputeType } from './parameters.js'
import type { Picture } from './picture.js'
import type { HostTensor, ResolvedRequest, TextInput } from './requests.js'
import { type Conditions, notFinite, type Stage, type Stages } from './stages.js'
import { Tensor } from './tensor.js'

export class Generation {
  readonly device: Device
  readonly stages: Stages
  readonly model: ModelFolder

  constructor(stages: Stages, model: ModelFolder) {
    this.device = stages.device
    this.stages = stages
    this.model = model
  }

  /** The stages one after the other. Tensors go as soon as the last stage that needs them has been queued. */
  async *run(
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
      await this.#requireFinite('upsample', upsampled, () => stages.upsample(low), signal)
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
    for (const [tensor, input] of [
      [text, request.text],
      [negative, request.negativeText],
    ] as const)
      if (tensor && input)
        await this.#requireFinite(
          'encode',
          tensor,
          () => ('tokens' in input ? stages.encodeText(input.tokens) : undefined),
          signal,
        )
    yield progress(1)

    const image = hold(await this.#encodeImage(request, pictures))
    if (image) await this.#requireFinite('encode', image, () => this.#encodeClip(request, pictures), signal)
    yield progress(2)

    const scale = this.model.latentUpsampler.scale
    const [height, width] = [workSize.height, workSize.width]
    const encodePicture = () =>
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
      })
    const picture = device.withSignal(signal, encodePicture)
    for (const tensor of [picture.high, picture.low, picture.lowVideo, ...picture.features]) hold(tensor)
    await this.#requireFinite('encode', picture.high, encodePicture, signal)
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
    const { dtype } = this.stages.networks
    if (request.imageEmbeds) return this.#upload(request.imageEmbeds, request.batch, 3, dtype)
    return this.device.withSignal(request.signal, () => this.#encodeClip(request, pictures))
  }

  #encodeClip({ imageEmbeds }: ResolvedRequest, pictures: readonly Picture[]): Tensor | undefined {
    const { device, stages, model } = this
    if (!model.imageEncoder || imageEmbeds) return undefined
    const side = model.imageEncoder.imageSize
    return device.scope(() => {
      const pixels = joined(
        device,
        pictures.map(({ clip }) => clip!.data),
        [1, side, side, 3],
      )
      return stages.encodeClip(pixels)
    })
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

  /** `again` makes `tensor` once more, to find the layer where it went wrong. */
  async #requireFinite(
    stage: Stage,
    tensor: Tensor,
    again: () => unknown,
    signal?: AbortSignal,
  ): Promise<void> {
    const { device } = this
    const flag = device.range(stage, () => device.scope(() => ops.allFinite(tensor).read()))
    const [finite] = (await flag) as Int32Array
    signal?.throwIfAborted()
    if (finite === 0 && !device.dry) {
      const layer = await firstNotFinite(() => device.scope(() => void again()))
      throw notFinite(stage, layer)
    }
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

/** One tensor u8 [B, ...shape] of B pictures. */
function joined(device: Device, pictures: readonly Uint8Array[], shape: readonly number[]): Tensor {
  const join = () => {
    const parts = pictures.map((data) => device.tensor(data, [1, ...shape]))
    return parts.length === 1 ? parts[0]! : ops.concat(parts, 0)
  }
  return device.range('encode', () => device.range('upload', join))
}
