/**
 * What can be measured, as data: an op, its type and its sizes. A spec is all that ours, the peers and the prediction are told, and it
 * goes into results as it is. Its name is what results are compared by, so names do not change.
 */

export type Float = 'f32' | 'bf16'

/** What follows the product of a linear layer: residual + gate · act(x Wᵀ + bias). */
export type LinearEpilogue = 'none' | 'bias' | 'gelu' | 'gate'

/**
 * x [m, k], weight [n, k]; f8e4m3 with row scales on both sides and a bf16 result. `linearFp8`: an f8e4m3 result, x with a scale for every
 * 128 channels, as ops that quantise their result give them.
 */
export interface LinearSpec {
  op: 'linear' | 'linearFp8'
  dtype: Float | 'f8e4m3'
  m: number
  n: number
  k: number
  epilogue: LinearEpilogue
}

/** q [batch, queries, heads, headDim]; k, v [batch, keys, heads, headDim]. */
export interface AttentionSpec {
  op: 'attention'
  dtype: Float
  batch: number
  queries: number
  keys: number
  heads: number
  headDim: number
}

/** `states` tensors [1, tokens, dim]. */
export interface LayerMemorySpec {
  op: 'layerMemory' | 'layerMemoryFp8'
  dtype: Float
  states: number
  tokens: number
  dim: number
}

/** x [1, tokens, heads · headDim]. */
export interface QkNormRopeSpec {
  op: 'qkNormRope'
  dtype: Float
  tokens: number
  heads: number
  headDim: number
}

/** qkv [frames, tokens, heads · 3 · headDim]. */
export interface LinearAttentionSpec {
  op: 'linearAttention'
  dtype: Float
  frames: number
  tokens: number
  heads: number
  headDim: number
}

/** x [1, frames, height, width, channels] → `out` channels. */
interface VideoSpec {
  dtype: Float
  frames: number
  height: number
  width: number
  channels: number
  out: number
}

/** Zeros around x as many as keep its size; with `fused`, bias, noise and SiLU; with `norm`, noise, a norm and a residual. */
export interface Conv3dSpec extends VideoSpec {
  op: 'conv3d'
  kernel: readonly [number, number, number]
  groups: number
  fused: boolean
  norm?: boolean
}

export interface ShuffleSpec extends VideoSpec {
  op: 'shuffle3d' | 'unshuffle3d'
  time: number
  space: number
}

/** Ops of one tensor: `shape` is that of the largest argument; what else they take follows from it (inputs.ts). */
export interface PlainSpec {
  op: PlainOp
  dtype: Float
  shape: readonly number[]
}

export const plainOps = [
  'normModulate',
  'normModulateFp8',
  'pixelNorm',
  'groupNorm',
  'combine',
  'randn',
  'fill',
  'cast',
  'concat',
  'slice',
  'permute',
  'embedding',
  'modulation',
  'affine',
  'activate',
  'glu',
  'fromRgb8',
  'toRgb8',
  'quantizeFp8',
  'dequantizeFp8',
  'allFinite',
  'dynamicMask',
  'packLinear',
] as const
export type PlainOp = (typeof plainOps)[number]

export type Spec =
  | LinearSpec
  | AttentionSpec
  | LayerMemorySpec
  | QkNormRopeSpec
  | LinearAttentionSpec
  | Conv3dSpec
  | ShuffleSpec
  | PlainSpec

/** Columns that a name may have in a table. */
export const nameWidth = 34

/** A name of at most `nameWidth` characters; equal specs and only they have equal names. */
export function nameOf(spec: Spec): string {
  const type = spec.dtype === 'f8e4m3' ? 'fp8' : spec.dtype
  switch (spec.op) {
    case 'linear':
    case 'linearFp8': {
      const what = spec.op === 'linear' && spec.epilogue === 'none' ? 'matmul' : spec.op
      const of = spec.op === 'linearFp8' && type === 'fp8' ? what : `${what} ${type}`
      const end = spec.epilogue === 'none' ? '' : ` ${spec.epilogue}`
      return `${of} ${spec.m}x${spec.n}x${spec.k}${end}`
    }
    case 'attention': {
      const batch = spec.batch === 1 ? '' : `${spec.batch}x`
      const keys = spec.keys === spec.queries ? '' : `:${spec.keys}`
      return `attention ${type} ${batch}${spec.queries}x${spec.heads}x${spec.headDim}${keys}`
    }
    case 'layerMemory':
    case 'layerMemoryFp8':
      return `${spec.op} ${type} ${spec.states}x${spec.tokens}x${spec.dim}`
    case 'qkNormRope':
      return `qkNormRope ${type} ${spec.tokens}x${spec.heads}x${spec.headDim}`
    case 'linearAttention':
      return `linearAttention ${type} ${spec.frames}x${spec.tokens}x${spec.heads}x${spec.headDim}`
    case 'conv3d': {
      const { channels, out, groups, kernel } = spec
      const cube = kernel.every((n) => n === 3) ? '' : ` k${kernel.join('')}`
      const grouped = groups === 1 ? '' : groups === channels ? ' dw' : ` g${groups}`
      const end = `${cube}${grouped}${spec.fused ? ' silu' : ''}${spec.norm ? ' norm' : ''}`
      const through = channels === out && end !== '' ? `${channels}` : `${channels}->${out}`
      return `conv3d ${type} ${through} ${spec.frames}x${spec.height}x${spec.width}${end}`
    }
    case 'shuffle3d':
    case 'unshuffle3d':
      return `${spec.op} ${type} ${spec.frames}x${spec.height}x${spec.width}x${spec.channels}->${spec.out}`
    default:
      return `${spec.op} ${type} ${spec.shape.slice(spec.shape.findIndex((n) => n > 1)).join('x')}`
  }
}

/** What the device's statistics and the contract (csrc/ops/ops.h) call the op. */
export function contractName(op: Spec['op']): string {
  if (op === 'packLinear') return 'pack'
  const own = op === 'quantizeFp8' || op === 'dequantizeFp8' ? op : op.replace('Fp8', '')
  return own.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
