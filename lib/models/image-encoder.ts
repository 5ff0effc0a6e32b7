/**
 * CLIP's vision transformer (arXiv 2103.00020): the input image → the image tokens of the DITs. Only the blocks up to the hidden
 * state that is asked for are built. Hugging Face's tensor names.
 */
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { ComputeType, Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import type { CLIPVisionConfig } from './config.js'
import { Linear } from './linear.js'
import { requireShape } from './shapes.js'
import { layer } from './watch.js'

interface Norm {
  weight: Tensor
  bias: Tensor
  eps: number
}

function norm(
  parameters: Parameters,
  name: string,
  { hiddenSize, layerNormEps: eps }: CLIPVisionConfig,
): Norm {
  return {
    weight: parameters.vector(`${name}.weight`, hiddenSize, 'ones'),
    bias: parameters.vector(`${name}.bias`, hiddenSize),
    eps,
  }
}

/** Pre-norm transformer block. */
class Layer {
  readonly #heads: number
  readonly #norm1: Norm
  readonly #q: Linear
  readonly #k: Linear
  readonly #v: Linear
  readonly #out: Linear
  readonly #norm2: Norm
  readonly #up: Linear
  readonly #down: Linear

  constructor(parameters: Parameters, config: CLIPVisionConfig) {
    const { hiddenSize, intermediateSize } = config
    const square = (name: string) => new Linear(parameters.at(`self_attn.${name}`), hiddenSize, hiddenSize)
    this.#heads = config.numAttentionHeads
    this.#norm1 = norm(parameters, 'layer_norm1', config)
    this.#q = square('q_proj')
    this.#k = square('k_proj')
    this.#v = square('v_proj')
    this.#out = square('out_proj')
    this.#norm2 = norm(parameters, 'layer_norm2', config)
    this.#up = new Linear(parameters.at('mlp.fc1'), hiddenSize, intermediateSize)
    this.#down = new Linear(parameters.at('mlp.fc2'), intermediateSize, hiddenSize)
  }

  /** [B, N, C] → [B, N, C] */
  forward(x: Tensor): Tensor {
    const h = ops.normModulate(x, this.#norm1)
    const [q, k, v] = [this.#q, this.#k, this.#v].map((map) =>
      map.forward(h).reshape(x.dim(0), x.dim(1), this.#heads, -1),
    ) as [Tensor, Tensor, Tensor]
    const y = this.#out.forward(ops.attention(q, k, v).reshape(...x.shape), { residual: x })
    const wide = this.#up.forward(ops.normModulate(y, this.#norm2), { activation: 'gelu' })
    return this.#down.forward(wide, { residual: y })
  }
}

export class CLIPVision {
  readonly config: CLIPVisionConfig
  readonly #device: Device
  readonly #dtype: ComputeType
  readonly #patches: Linear
  readonly #classToken: Tensor
  readonly #positions: Tensor
  readonly #normIn: Norm
  readonly #layers: Layer[]

  constructor(config: CLIPVisionConfig, parameters: Parameters) {
    const { hiddenSize, imageSize, patchSize, numHiddenLayers, outputLayer } = config
    const model = parameters.at('vision_model')
    const embeddings = model.at('embeddings')
    const tokens = (imageSize / patchSize) ** 2 + 1
    this.config = config
    this.#device = parameters.device
    this.#dtype = parameters.dtype
    this.#classToken = embeddings.vector('class_embedding', hiddenSize, 'normal', 0.5)
    this.#patches = new Linear(embeddings.at('patch_embedding'), 3 * patchSize ** 2, hiddenSize, {
      bias: false,
      stored: [hiddenSize, 3, 1, patchSize, patchSize],
    })
    this.#positions = embeddings.vector('position_embedding.weight', [tokens, hiddenSize], 'normal')
    this.#normIn = norm(model, 'pre_layrnorm', config)
    this.#layers = Array.from(
      { length: numHiddenLayers + 1 + outputLayer },
      (_, i) => new Layer(model.at(`encoder.layers.${i}`), config),
    )
  }

  /**
   * Pixels [B, 1, S, S, 3], normalised with CLIP's mean and deviation → hidden state [B, (S / patch)² + 1, C], in the compute type.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT, ERR_FSVIDEO_DISPOSED for `clip.pixels`
   */
  forward(pixels: Tensor): Tensor {
    const { imageSize } = this.config
    requireShape('clip.pixels', pixels, ['B', 1, imageSize, imageSize, 3])
    return this.#device.scope(() => {
      const device = this.#device
      let x = device.scope(() =>
        layer(device, 'embeddings', () => ops.normModulate(this.#embed(pixels), this.#normIn)),
      )
      for (const [i, block] of this.#layers.entries()) {
        const y = device.scope(() => layer(device, `encoder.layers.${i}`, () => block.forward(x)))
        x.dispose()
        x = y
      }
      return x
    })
  }

  /** A class token before the patches, and learned positions. */
  #embed(pixels: Tensor): Tensor {
    const { patchSize, hiddenSize } = this.config
    const batch = pixels.dim(0)
    const input = pixels.dtype === this.#dtype ? pixels : ops.cast(pixels, this.#dtype)
    const patches = this.#patches.forward(ops.unshuffle3d(input, { space: patchSize }), { dtype: 'f32' })
    const repeat = (x: Tensor) => ops.concat(Array<Tensor>(batch).fill(x.reshape(1, -1, hiddenSize)), 0)
    const tokens = ops.concat([repeat(this.#classToken), patches.reshape(batch, -1, hiddenSize)], 1)
    return ops.combine([tokens, repeat(this.#positions)], [1, 1], { dtype: this.#dtype })
  }
}
