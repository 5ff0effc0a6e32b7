/**
 * The latent upsampler: latents of the base's size → latents of `scale` times the height and width (FSVideo 2.4.1). Projection,
 * pixel shuffle, residual blocks, in the order of the paper's figure 8; the blocks are LTX-Video's. Stands between base and
 * refiner, and works in the autoencoder's own units.
 */
import * as ops from '../ops.js'
import type { ComputeType, Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import type { LatentUpsamplerConfig } from './config.js'
import { requireShape } from './shapes.js'
import { layer } from './watch.js'

/** A convolution 3x3x3 that keeps the size: it sees one frame to each side. */
class Convolution {
  readonly #weight: Tensor
  readonly #bias: Tensor
  readonly #timePadding: 'replicate' | 'zeros'

  constructor(parameters: Parameters, inputs: number, outputs: number, timePadding: 'replicate' | 'zeros') {
    this.#weight = parameters.conv3d('weight', [outputs, inputs, 3, 3, 3])
    this.#bias = parameters.vector('bias', outputs)
    this.#timePadding = timePadding
  }

  forward(x: Tensor): Tensor {
    return ops.conv3d(x, this.#weight, {
      bias: this.#bias,
      padTime: [1, 1],
      padSpace: [1, 1],
      timePadding: this.#timePadding,
    })
  }
}

/** silu(x + norm2(conv2(silu(norm1(conv1(x)))))) */
class ResidualBlock {
  readonly #conv1: Convolution
  readonly #conv2: Convolution
  readonly #norm1: { weight: Tensor; bias: Tensor; groups: number; eps: number }
  readonly #norm2: { weight: Tensor; bias: Tensor; groups: number; eps: number }

  constructor(parameters: Parameters, config: LatentUpsamplerConfig) {
    const { midChannels, timePadding, normGroups: groups, normEps: eps } = config
    const norm = (name: string) => ({
      weight: parameters.vector(`${name}.weight`, midChannels, 'ones'),
      bias: parameters.vector(`${name}.bias`, midChannels),
      groups,
      eps,
    })
    this.#conv1 = new Convolution(parameters.at('conv1'), midChannels, midChannels, timePadding)
    this.#norm1 = norm('norm1')
    this.#conv2 = new Convolution(parameters.at('conv2'), midChannels, midChannels, timePadding)
    this.#norm2 = norm('norm2')
  }

  forward(x: Tensor): Tensor {
    const h = ops.groupNorm(this.#conv1.forward(x), { ...this.#norm1, activation: 'silu' })
    return ops.groupNorm(this.#conv2.forward(h), { ...this.#norm2, residual: x, activation: 'silu' })
  }
}

export class LatentUpsampler {
  readonly config: LatentUpsamplerConfig
  readonly #dtype: ComputeType
  readonly #initial: Convolution
  readonly #blocks: ResidualBlock[]
  readonly #final: Convolution

  constructor(config: LatentUpsamplerConfig, parameters: Parameters) {
    const { inChannels, midChannels, scale, timePadding } = config
    this.config = config
    this.#dtype = parameters.dtype
    this.#initial = new Convolution(
      parameters.at('initial_conv'),
      inChannels,
      midChannels * scale ** 2,
      timePadding,
    )
    this.#blocks = Array.from(
      { length: config.blocks },
      (_, i) => new ResidualBlock(parameters.at(`res_blocks.${i}`), config),
    )
    this.#final = new Convolution(parameters.at('final_conv'), midChannels, inChannels, timePadding)
  }

  /**
   * Latents [B, T, h, w, C] → [B, T, scale·h, scale·w, C], in the compute type.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT, ERR_FSVIDEO_DISPOSED for `latentUpsampler.latents`
   */
  forward(latents: Tensor): Tensor {
    requireShape('latentUpsampler.latents', latents, ['B', 'T', 'h', 'w', this.config.inChannels])
    const { device } = latents
    return device.scope(() => {
      const input = latents.dtype === this.#dtype ? latents : ops.cast(latents, this.#dtype)
      let x = layer(device, 'initial_conv', () =>
        ops.shuffle3d(this.#initial.forward(input), { space: this.config.scale }),
      )
      for (const [i, block] of this.#blocks.entries()) {
        const y = device.scope(() => layer(device, `res_blocks.${i}`, () => block.forward(x)))
        x.dispose()
        x = y
      }
      return layer(device, 'final_conv', () => this.#final.forward(x))
    })
  }
}
