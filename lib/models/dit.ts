/**
 * The diffusion transformer, one class for base and refiner: velocity of [noise | mask | condition] at a noise level. Wan2.1 I2V
 * with FSVideo's layer memory (2.3.1, eq. 6-8): keys and values of block i read a mixture of the states X_0 … X_i, which a
 * router chooses per token. Without memory and with patch (1, 2, 2) it is Wan, and has its tensor names.
 *
 * `prepare` computes once a request what does not change between steps, `forward` is one step and only queues ops.
 */
import type { Device } from '../device.js'
import { invalid } from '../errors.js'
import * as ops from '../ops.js'
import type { ComputeType, Parameters } from '../parameters.js'
import type { Tensor } from '../tensor.js'
import type { DITConfig } from './config.js'
import type { Triple } from './fields.js'
import { Linear, type Operand } from './linear.js'
import { rotations } from './rope.js'
import { requireShape } from './shapes.js'

/** Keys and values [B, n, H, D] of one block's cross-attention. */
interface Context {
  text: { key: Tensor; value: Tensor }
  image?: { key: Tensor; value: Tensor }
}

/** What a request means to every block at every step; from `dit.prepare`, disposed of by whoever asked for it. */
export class Conditioning {
  readonly batch: number
  /** Tokens in time, height and width. */
  readonly grid: Triple
  /** f32 [N, D / 2, 2] */
  readonly rotations: Tensor
  /** One a block. */
  readonly contexts: readonly Context[]

  /** @internal */
  constructor(batch: number, grid: Triple, rotations: Tensor, contexts: readonly Context[]) {
    this.batch = batch
    this.grid = grid
    this.rotations = rotations
    this.contexts = contexts
    for (const tensor of this.#tensors()) tensor.device.keep(tensor)
  }

  *#tensors(): Generator<Tensor> {
    yield this.rotations
    for (const { text, image } of this.contexts) {
      yield* [text.key, text.value]
      if (image) yield* [image.key, image.value]
    }
  }

  /** Idempotent. */
  dispose(): void {
    for (const tensor of this.#tensors()) tensor.dispose()
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** RMS-normalised queries or keys, and their heads. */
class HeadNorm {
  readonly #weight: Tensor
  readonly #heads: number
  readonly #eps: number

  constructor(parameters: Parameters, { dim, heads, eps }: DITConfig) {
    this.#weight = parameters.vector('weight', dim, 'ones')
    this.#heads = heads
    this.#eps = eps
  }

  /** [B, N, dim] → [B, N, H, D], turned by `rotations` where there are some. */
  forward(x: Tensor, rotations?: Tensor): Tensor {
    return ops.qkNormRope(x, { heads: this.#heads, weight: this.#weight, eps: this.#eps, rotations })
  }
}

const splitHeads = (x: Tensor, heads: number): Tensor => x.reshape(x.dim(0), x.dim(1), heads, -1)
const joinHeads = (x: Tensor): Tensor => x.reshape(x.dim(0), x.dim(1), -1)

class SelfAttention {
  readonly #heads: number
  readonly #q: Linear
  readonly #k: Linear
  readonly #v: Linear
  readonly #o: Linear
  readonly #normQ: HeadNorm
  readonly #normK: HeadNorm

  constructor(parameters: Parameters, config: DITConfig) {
    const { dim } = config
    this.#heads = config.heads
    this.#q = new Linear(parameters.at('q'), dim, dim, { fp8: true })
    this.#k = new Linear(parameters.at('k'), dim, dim, { fp8: true })
    this.#v = new Linear(parameters.at('v'), dim, dim, { fp8: true })
    this.#o = new Linear(parameters.at('o'), dim, dim, { fp8: true })
    this.#normQ = new HeadNorm(parameters.at('norm_q'), config)
    this.#normK = new HeadNorm(parameters.at('norm_k'), config)
  }

  /** residual + gate · attention, with queries from h, keys and values from m, all [B, N, dim]. */
  forward(h: Operand, m: Operand, rotations: Tensor, gate: Tensor, residual: Tensor): Tensor {
    const q = this.#normQ.forward(this.#q.forward(h), rotations)
    const k = this.#normK.forward(this.#k.forward(m), rotations)
    const v = splitHeads(this.#v.forward(m), this.#heads)
    return this.#o.forward(joinHeads(ops.attention(q, k, v)), { gate, residual })
  }
}

/** Attention to the text and, with the same queries, to the image; both summed before `o`. */
class CrossAttention {
  readonly #heads: number
  readonly #q: Linear
  readonly #k: Linear
  readonly #v: Linear
  readonly #o: Linear
  readonly #normQ: HeadNorm
  readonly #normK: HeadNorm
  readonly #image?: { k: Linear; v: Linear; normK: HeadNorm }

  constructor(parameters: Parameters, config: DITConfig) {
    const { dim } = config
    this.#heads = config.heads
    this.#q = new Linear(parameters.at('q'), dim, dim, { fp8: true })
    this.#k = new Linear(parameters.at('k'), dim, dim)
    this.#v = new Linear(parameters.at('v'), dim, dim)
    this.#o = new Linear(parameters.at('o'), dim, dim, { fp8: true })
    this.#normQ = new HeadNorm(parameters.at('norm_q'), config)
    this.#normK = new HeadNorm(parameters.at('norm_k'), config)
    if (config.imageDim !== null)
      this.#image = {
        k: new Linear(parameters.at('k_img'), dim, dim),
        v: new Linear(parameters.at('v_img'), dim, dim),
        normK: new HeadNorm(parameters.at('norm_k_img'), config),
      }
  }

  /** Keys and values of embedded text and image tokens [B, n, dim]. */
  prepare(text: Tensor, image?: Tensor): Context {
    const context: Context = {
      text: {
        key: this.#normK.forward(this.#k.forward(text)),
        value: splitHeads(this.#v.forward(text), this.#heads),
      },
    }
    if (this.#image && image)
      context.image = {
        key: this.#image.normK.forward(this.#image.k.forward(image)),
        value: splitHeads(this.#image.v.forward(image), this.#heads),
      }
    return context
  }

  /** residual + attention of x [B, N, dim] to the context. */
  forward(x: Operand, { text, image }: Context, residual: Tensor): Tensor {
    const q = this.#normQ.forward(this.#q.forward(x))
    let y = ops.attention(q, text.key, text.value)
    if (image) y = ops.combine([y, ops.attention(q, image.key, image.value)], [1, 1], { dtype: y.dtype })
    return this.#o.forward(joinHeads(y), { residual })
  }
}

/** Chooses per token among the states so far. Block 0 has none: there is only one state. */
interface Router {
  weight: Tensor
  bias?: Tensor
}

/** @internal One transformer block. */
export class Block {
  readonly #eps: number
  readonly #fp8: boolean
  readonly #norm: 'post_mix' | 'pre_mix'
  readonly #modulation: Tensor
  readonly #router?: Router
  readonly #selfAttention: SelfAttention
  readonly #norm3: { weight: Tensor; bias: Tensor }
  readonly #crossAttention: CrossAttention
  readonly #up: Linear
  readonly #down: Linear

  /** `index` counts from 0, so that the block sees index + 1 states. */
  constructor(parameters: Parameters, config: DITConfig, index: number) {
    const { dim, ffnDim, memory } = config
    this.#eps = config.eps
    this.#fp8 = parameters.fp8
    this.#norm = memory.norm
    this.#modulation = modulationTable(parameters, 6, dim)
    this.#selfAttention = new SelfAttention(parameters.at('self_attn'), config)
    if (memory.enabled && index > 0) {
      const router = parameters.at('self_attn.router')
      this.#router = { weight: router.matrix('weight', [index + 1, dim]) }
      if (memory.bias) this.#router.bias = router.vector('bias', index + 1)
    }
    this.#norm3 = {
      weight: parameters.vector('norm3.weight', dim, 'ones'),
      bias: parameters.vector('norm3.bias', dim),
    }
    this.#crossAttention = new CrossAttention(parameters.at('cross_attn'), config)
    this.#up = new Linear(parameters.at('ffn.0'), dim, ffnDim, { fp8: true })
    this.#down = new Linear(parameters.at('ffn.2'), ffnDim, dim, { fp8: true })
  }

  prepare(text: Tensor, image?: Tensor): Context {
    return this.#crossAttention.prepare(text, image)
  }

  /**
   * X_{index + 1}.
   * @param states X_0 … X_index, each [B, N, dim]; without memory the last is enough.
   * @param time The projected time embedding, f32 [B, 6 dim].
   */
  forward(states: readonly Tensor[], time: Tensor, context: Context, rotations: Tensor): Tensor {
    const device = time.device
    const eps = this.#eps
    let x = states.at(-1)!
    const [shift1, scale1, gate1, shift2, scale2, gate2] = rows(
      ops.modulation(this.#modulation.reshape(6, -1), time),
    )

    x = device.scope(() => {
      const modulation = { scale: scale1!, shift: shift1!, eps }
      if (!this.#router) {
        const h = this.#normed(x, modulation)
        return this.#selfAttention.forward(h, h, rotations, gate1!, x)
      }
      const h = ops.normModulate(x, modulation)
      const m = this.#remember(this.#router, states, h, modulation)
      return this.#selfAttention.forward(h, m, rotations, gate1!, x)
    })
    x = device.scope(() => {
      const h = this.#normed(x, { ...this.#norm3, eps })
      return this.#crossAttention.forward(h, context, x)
    })
    return device.scope(() => {
      const h = this.#normed(x, { scale: scale2, shift: shift2, eps })
      return this.#down.forward(this.#up.feed(h, 'gelu_tanh'), { gate: gate2, residual: x })
    })
  }

  /** What products of the block read. */
  #normed(x: Tensor, options: ops.NormOptions): Operand {
    return this.#fp8 ? ops.normModulateFp8(x, options) : ops.normModulate(x, options)
  }

  /** What keys and values are made of. */
  #remember(
    { weight, bias }: Router,
    states: readonly Tensor[],
    h: Tensor,
    modulation: { scale: Tensor; shift: Tensor; eps: number },
  ): Operand {
    const options = { ...modulation, routerBias: bias, norm: this.#norm }
    return this.#fp8
      ? ops.layerMemoryFp8(states, h, weight, options)
      : ops.layerMemory(states, h, weight, options)
  }
}

/** Image tokens of CLIP → width of the DIT. Its LayerNorms keep PyTorch's eps. */
class ImageProjection {
  readonly #normIn: { weight: Tensor; bias: Tensor; eps: number }
  readonly #hidden: Linear
  readonly #out: Linear
  readonly #normOut: { weight: Tensor; bias: Tensor; eps: number }

  constructor(parameters: Parameters, imageDim: number, dim: number) {
    const norm = (name: string, channels: number) => ({
      weight: parameters.vector(`${name}.weight`, channels, 'ones'),
      bias: parameters.vector(`${name}.bias`, channels),
      eps: 1e-5,
    })
    this.#normIn = norm('0', imageDim)
    this.#hidden = new Linear(parameters.at('1'), imageDim, imageDim)
    this.#out = new Linear(parameters.at('3'), imageDim, dim)
    this.#normOut = norm('4', dim)
  }

  forward(image: Tensor): Tensor {
    const h = this.#hidden.forward(ops.normModulate(image, this.#normIn), { activation: 'gelu' })
    return ops.normModulate(this.#out.forward(h), this.#normOut)
  }
}

/** What `prepare` takes. */
export interface DITInputs {
  /** Text embeddings [B, textLen, textDim], zeros behind each prompt's last token. */
  text: Tensor
  /** Image tokens [B, imageLen, imageDim]; exactly if the model has an image branch. */
  image?: Tensor
  /** Latent frames, height and width. */
  size: Triple
}

export class DIT {
  readonly config: DITConfig
  readonly #device: Device
  readonly #dtype: ComputeType
  readonly #patchEmbedding: Linear
  readonly #textEmbedding: [Linear, Linear]
  readonly #timeEmbedding: [Linear, Linear]
  readonly #timeProjection: Linear
  readonly #imageProjection?: ImageProjection
  readonly #blocks: Block[]
  readonly #headModulation: Tensor
  readonly #head: Linear

  constructor(config: DITConfig, parameters: Parameters) {
    const { dim, inChannels, outChannels, patchSize, textDim, imageDim, freqDim } = config
    const patch = patchSize[0] * patchSize[1] * patchSize[2]
    this.config = config
    this.#device = parameters.device
    this.#dtype = parameters.dtype
    this.#patchEmbedding = new Linear(parameters.at('patch_embedding'), inChannels * patch, dim, {
      stored: [dim, inChannels, ...patchSize],
    })
    this.#textEmbedding = [
      new Linear(parameters.at('text_embedding.0'), textDim, dim),
      new Linear(parameters.at('text_embedding.2'), dim, dim),
    ]
    this.#timeEmbedding = [
      new Linear(parameters.at('time_embedding.0'), freqDim, dim),
      new Linear(parameters.at('time_embedding.2'), dim, dim),
    ]
    this.#timeProjection = new Linear(parameters.at('time_projection.1'), dim, 6 * dim)
    if (imageDim !== null)
      this.#imageProjection = new ImageProjection(parameters.at('img_emb.proj'), imageDim, dim)
    this.#blocks = Array.from(
      { length: config.layers },
      (_, i) => new Block(parameters.at(`blocks.${i}`), config, i),
    )
    this.#headModulation = modulationTable(parameters.at('head'), 2, dim)
    this.#head = new Linear(parameters.at('head.head'), dim, outChannels * patch)
  }

  /**
   * Embeds text and image, and computes every block's keys and values of them, and the rotations. They outlive any scope.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT naming the tensor that does not fit, ERR_FSVIDEO_DISPOSED
   */
  prepare({ text, image, size }: DITInputs): Conditioning {
    const { config } = this
    requireShape('dit.text', text, ['B', config.textLen, config.textDim])
    if ((image === undefined) !== (this.#imageProjection === undefined))
      throw invalid('dit.image', image, image ? 'absent: this model has no image branch' : 'given')
    const batch = text.dim(0)
    if (image) requireShape('dit.image', image, [batch, config.imageLen!, config.imageDim!])
    const grid = size.map((n, axis) => n / config.patchSize[axis]!) as [number, number, number]
    if (!grid.every((n) => Number.isInteger(n) && n > 0))
      throw invalid('dit.size', size, `positive multiples of [${config.patchSize.join(', ')}]`)

    return this.#device.scope(() => {
      const [first, second] = this.#textEmbedding
      const [words, picture] = this.#device.range('embeddings', () => [
        second.forward(first.forward(this.#cast(text), { activation: 'gelu_tanh' })),
        image && this.#imageProjection?.forward(this.#cast(image)),
      ])
      const contexts = this.#blocks.map((block, i) =>
        this.#device.range(`block ${i}`, () => this.#device.scope(() => block.prepare(words, picture))),
      )
      const tokens = grid[0] * grid[1] * grid[2]
      const table = rotations(grid, config.rope, config.ropeTheta)
      const turns = this.#device.tensor(table, [tokens, table.length / tokens / 2, 2])
      return new Conditioning(batch, grid, turns, contexts)
    })
  }

  /**
   * One evaluation. Queues ops only, so it may be captured: latents and timestep may change between replays.
   *
   * @param latents [B, T, h, w, inChannels]: noise, mask and condition beside each other.
   * @param timestep `timestepFeatures` of 1000 sigma, f32 [B, freqDim].
   * @returns velocity f32 [B, T, h, w, outChannels], and flags i32 [layers + 1]: 1 where the result of block i, and at last the
   *   velocity, is finite.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT naming the tensor that does not fit, ERR_FSVIDEO_DISPOSED
   */
  forward(latents: Tensor, timestep: Tensor, conditioning: Conditioning): Tensor
  forward(
    latents: Tensor,
    timestep: Tensor,
    conditioning: Conditioning,
    options: { flags: true },
  ): { velocity: Tensor; flags: Tensor }
  forward(
    latents: Tensor,
    timestep: Tensor,
    conditioning: Conditioning,
    options: { flags?: boolean } = {},
  ): Tensor | { velocity: Tensor; flags: Tensor } {
    const { batch, grid, contexts, rotations } = conditioning
    const size = grid.map((n, axis) => n * this.config.patchSize[axis]!)
    requireShape('dit.latents', latents, [batch, ...size, this.config.inChannels])
    requireShape('dit.timestep', timestep, [batch, this.config.freqDim])

    return this.#device.scope(() => {
      const device = this.#device
      const [{ time, projected }, patches] = device.range('embeddings', () => [
        this.#embedTime(timestep),
        this.#embedPatches(latents),
      ])
      const memory: Tensor[] = [patches]
      const finite: Tensor[] = []
      for (const [i, block] of this.#blocks.entries()) {
        const x = device.range(`block ${i}`, () =>
          device.scope(() => block.forward(memory, projected, contexts[i]!, rotations)),
        )
        if (!this.config.memory.enabled) memory.pop()!.dispose()
        memory.push(x)
        if (options.flags) finite.push(ops.allFinite(x))
      }
      const velocity = device.range('head', () => this.#project(memory.at(-1)!, time, grid))
      if (!options.flags) return velocity
      return { velocity, flags: ops.concat([...finite, ops.allFinite(velocity)], 0) }
    })
  }

  /** The time embedding f32 [B, dim], and its projection f32 [B, 6 dim] to what modulates the blocks. */
  #embedTime(timestep: Tensor): { time: Tensor; projected: Tensor } {
    const [first, second] = this.#timeEmbedding
    const hidden = first.forward(this.#cast(timestep), { activation: 'silu' })
    const time = second.forward(hidden, { dtype: 'f32' })
    const activated = this.#cast(ops.activate(time, 'silu'))
    return { time, projected: this.#timeProjection.forward(activated, { dtype: 'f32' }) }
  }

  /** [B, T, h, w, in] → X_0 [B, N, dim] */
  #embedPatches(latents: Tensor): Tensor {
    const [time, space] = this.config.patchSize
    return this.#device.scope(() => {
      let x = this.#cast(latents)
      if (time * space > 1) x = ops.unshuffle3d(x, { time, space })
      return this.#patchEmbedding.forward(x.reshape(x.dim(0), -1, x.dim(-1)))
    })
  }

  /** The head: X_L [B, N, dim] → velocity f32 [B, T, h, w, out]. Rows are patches in the order t, h, w, channel. */
  #project(x: Tensor, time: Tensor, [t, h, w]: Triple): Tensor {
    const [shift, scale] = rows(
      ops.modulation(this.#headModulation.reshape(2, -1), ops.concat([time, time], 1)),
    )
    const y = this.#head.forward(ops.normModulate(x, { scale, shift, eps: this.config.eps }), {
      dtype: 'f32',
    })
    const { patchSize, outChannels } = this.config
    const [pt, ph, pw] = patchSize
    const pixels = [x.dim(0), t * pt, h * ph, w * pw, outChannels]
    if (pt * ph * pw === 1) return y.reshape(...pixels)
    const patches = y.reshape(x.dim(0), t, h, w, pt, ph, pw, outChannels)
    return ops.permute(patches, [0, 1, 4, 2, 5, 3, 6, 7]).reshape(...pixels)
  }

  #cast(x: Tensor): Tensor {
    return x.dtype === this.#dtype ? x : ops.cast(x, this.#dtype)
  }
}

/** `modulation`, stored as [1, K, dim]; starts with variance 1 / dim. */
function modulationTable(parameters: Parameters, count: number, dim: number): Tensor {
  return parameters.vector('modulation', [1, count, dim], 'normal', Math.sqrt(count))
}

/** The K tensors [B, C] of one [K, B, C], in the same memory. */
function rows(x: Tensor): Tensor[] {
  return Array.from({ length: x.dim(0) }, (_, i) => x.slice(0, i, i + 1).reshape(x.dim(1), x.dim(2)))
}
