/**
 * UMT5 encoder: token ids of a prompt → the text embeddings of the DITs. A T5 encoder (arXiv 1910.10683, gated GELU) in which
 * every block has a table of relative position biases of its own; attention is not scaled. Hugging Face's tensor names.
 */
import type { Device } from '../device.js'
import { invalid } from '../errors.js'
import * as ops from '../ops.js'
import type { ComputeType, Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import type { UMT5Config } from './config.js'
import { Linear } from './linear.js'
import { layer } from './watch.js'

/** Root mean square norm, the only one in T5. */
interface Norm {
  weight: Tensor
  rms: true
  eps: number
}

function norm(parameters: Parameters, name: string, { dModel, layerNormEpsilon: eps }: UMT5Config): Norm {
  return { weight: parameters.vector(`${name}.weight`, dModel, 'ones'), rms: true, eps }
}

class SelfAttention {
  readonly #config: UMT5Config
  readonly #norm: Norm
  readonly #q: Linear
  readonly #k: Linear
  readonly #v: Linear
  readonly #o: Linear
  readonly #bias: Tensor

  constructor(parameters: Parameters, config: UMT5Config) {
    const { dModel, numHeads, dKv, relativeAttentionNumBuckets: buckets } = config
    const inner = numHeads * dKv
    const attention = parameters.at('SelfAttention')
    this.#config = config
    this.#norm = norm(parameters, 'layer_norm', config)
    // The gain makes up for the missing scale.
    this.#q = new Linear(attention.at('q'), dModel, inner, { bias: false, gain: 1 / Math.sqrt(dKv) })
    this.#k = new Linear(attention.at('k'), dModel, inner, { bias: false })
    this.#v = new Linear(attention.at('v'), dModel, inner, { bias: false })
    this.#o = new Linear(attention.at('o'), inner, dModel, { bias: false })
    this.#bias = attention.vector('relative_attention_bias.weight', [buckets, numHeads], 'normal')
  }

  /** x + attention; `buckets` i32 [N, N] of every query and key. */
  forward(x: Tensor, buckets: Tensor): Tensor {
    const h = ops.normModulate(x, this.#norm)
    const [q, k, v] = [this.#q, this.#k, this.#v].map((map) =>
      map.forward(h).reshape(x.dim(0), x.dim(1), this.#config.numHeads, this.#config.dKv),
    ) as [Tensor, Tensor, Tensor]
    const bias = ops.permute(ops.embedding(this.#bias, buckets), [2, 0, 1])
    const y = ops.attention(q, k, v, { scale: 1, bias })
    return this.#o.forward(y.reshape(x.dim(0), x.dim(1), -1), { residual: x })
  }
}

class FeedForward {
  readonly #norm: Norm
  readonly #gate: Linear
  readonly #up: Linear
  readonly #down: Linear

  constructor(parameters: Parameters, config: UMT5Config) {
    const { dModel, dFf } = config
    const dense = parameters.at('DenseReluDense')
    this.#norm = norm(parameters, 'layer_norm', config)
    this.#gate = new Linear(dense.at('wi_0'), dModel, dFf, { bias: false })
    this.#up = new Linear(dense.at('wi_1'), dModel, dFf, { bias: false })
    this.#down = new Linear(dense.at('wo'), dFf, dModel, { bias: false })
  }

  /** x + wo(gelu(wi_0) · wi_1) */
  forward(x: Tensor): Tensor {
    const h = ops.normModulate(x, this.#norm)
    const gate = this.#gate.forward(h, { activation: 'gelu_tanh' })
    return this.#down.forward(this.#up.forward(h, { gate }), { residual: x })
  }
}

export class UMT5Encoder {
  readonly config: UMT5Config
  readonly #device: Device
  readonly #dtype: ComputeType
  readonly #embedding: Tensor
  readonly #blocks: [SelfAttention, FeedForward][]
  readonly #norm: Norm

  constructor(config: UMT5Config, parameters: Parameters) {
    const { vocabSize, dModel } = config
    this.config = config
    this.#device = parameters.device
    this.#dtype = parameters.dtype
    this.#embedding = parameters.matrix('shared.weight', [vocabSize, dModel], { gain: Math.sqrt(dModel) })
    this.#blocks = Array.from({ length: config.numLayers }, (_, i) => {
      const layer = parameters.at(`encoder.block.${i}.layer`)
      return [new SelfAttention(layer.at('0'), config), new FeedForward(layer.at('1'), config)]
    })
    this.#norm = norm(parameters, 'encoder.final_layer_norm', config)
  }

  /**
   * Embeddings [1, N, dModel] of N token ids, in the compute type.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT for `ids` that are empty or outside the vocabulary.
   */
  forward(ids: readonly number[]): Tensor {
    const { vocabSize, relativeAttentionNumBuckets, relativeAttentionMaxDistance } = this.config
    if (ids.length === 0) throw invalid('ids', ids, 'at least one token')
    for (const [i, id] of ids.entries())
      if (!(Number.isInteger(id) && id >= 0 && id < vocabSize))
        throw invalid(`ids[${i}]`, id, `an integer from 0 to ${vocabSize - 1}`)

    const device = this.#device
    return device.scope(() => {
      const n = ids.length
      const relative = positionBuckets(n, relativeAttentionNumBuckets, relativeAttentionMaxDistance)
      const buckets = device.tensor(relative, [n, n])
      let x = layer(device, 'shared', () =>
        ops.embedding(this.#embedding, device.tensor(Int32Array.from(ids), [1, n])),
      )
      for (const [i, [attention, feedForward]] of this.#blocks.entries()) {
        const before = x
        const between = device.scope(() =>
          layer(device, `encoder.block.${i}.layer.0`, () => attention.forward(before, buckets)),
        )
        before.dispose()
        x = device.scope(() =>
          layer(device, `encoder.block.${i}.layer.1`, () => feedForward.forward(between)),
        )
        between.dispose()
      }
      return layer(device, 'encoder.final_layer_norm', () => ops.normModulate(x, this.#norm))
    })
  }

  /**
   * Embeddings [B, textLen, dModel] of B prompts, each run by itself; zeros behind its last token.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT for a prompt of no or more than `textLen` tokens.
   */
  embed(prompts: readonly (readonly number[])[], textLen: number): Tensor {
    for (const [b, ids] of prompts.entries())
      if (ids.length > textLen) throw invalid(`prompts[${b}]`, ids, `at most ${textLen} tokens`)
    return this.#device.scope(() => {
      const padded = prompts.map((ids) => {
        const x = this.forward(ids)
        if (ids.length === textLen) return x
        const zeros = ops.fill(this.#device, [1, textLen - ids.length, this.config.dModel], 0, this.#dtype)
        return ops.concat([x, zeros], 1)
      })
      return padded.length === 1 ? padded[0]! : ops.concat(padded, 0)
    })
  }
}

/**
 * T5's bidirectional buckets [query, key] of the distance key - query: one each up to a quarter of them, then logarithmically
 * wider ones up to `maxDistance`; the upper half is for keys behind the query.
 */
export function positionBuckets(length: number, buckets: number, maxDistance: number): Int32Array {
  const half = buckets / 2
  const exact = buckets / 4
  const bucketOf = (distance: number): number => {
    if (distance < exact) return distance
    // In f32 as everywhere else: where the logarithm should be whole, the rounding decides.
    const depth = Math.fround(
      Math.fround(Math.log(Math.fround(distance / exact))) / Math.fround(Math.log(maxDistance / exact)),
    )
    return Math.min(exact + Math.trunc(depth * (half - exact)), half - 1)
  }
  const byDistance = Array.from({ length }, (_, distance) => bucketOf(distance))
  const table = new Int32Array(length * length)
  for (let query = 0; query < length; query++)
    for (let key = 0; key < length; key++)
      table[query * length + key] = (key > query ? half : 0) + byDistance[Math.abs(key - query)]!
  return table
}
