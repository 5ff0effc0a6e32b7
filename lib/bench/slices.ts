/**
 * A part of a case that a simulated card can bear, of the same kernel: the same rows but fewer of them for what reads rows, a few tiles for
 * what multiplies tiles.
 */
import type { Conv3dSpec, PlainSpec, Spec } from './spec.js'

/** Elements that a simulated card moves in a second or so. */
const bearable = 2 ** 18
const few = (n: number, most: number): number => Math.min(n, most)

export function sliceOf(spec: Spec): Spec {
  switch (spec.op) {
    case 'linear':
    case 'linearFp8':
      return { ...spec, m: few(spec.m, 256), n: few(spec.n, 256), k: few(spec.k, 512) }
    case 'attention':
      return {
        ...spec,
        batch: 1,
        heads: 1,
        queries: few(spec.queries, 256),
        keys: few(spec.keys, 320),
      }
    case 'layerMemory':
    case 'layerMemoryFp8':
      return { ...spec, tokens: few(spec.tokens, 32) } // as many as a block weighs at once
    case 'qkNormRope':
      return { ...spec, tokens: few(spec.tokens, rowsOf(spec.heads * spec.headDim)) }
    case 'linearAttention':
      return { ...spec, frames: 1, tokens: few(spec.tokens, 256), heads: few(spec.heads, 4) }
    case 'conv3d':
      return sliceOfConv(spec)
    case 'shuffle3d':
    case 'unshuffle3d': {
      const frames = few(spec.frames, spec.op === 'unshuffle3d' ? spec.time : 1)
      const width = few(spec.width, 16)
      const height = few(spec.height, Math.max(spec.space, rowsOf(spec.channels * width * frames)))
      return { ...spec, frames, height: height - (height % spec.space), width }
    }
    default:
      return { ...spec, shape: shapeOf(spec) }
  }
}

const rowsOf = (channels: number): number => Math.max(8, Math.floor(bearable / channels))

function sliceOfConv(spec: Conv3dSpec): Conv3dSpec {
  const groups = spec.groups === spec.channels ? few(spec.groups, 64) : few(spec.groups, 4)
  const [inGroup, outGroup] = [spec.channels / spec.groups, spec.out / spec.groups]
  return {
    ...spec,
    frames: few(spec.frames, 2),
    height: few(spec.height, 16),
    width: few(spec.width, 16),
    groups,
    channels: spec.groups === 1 ? few(spec.channels, 128) : groups * inGroup,
    out: spec.groups === 1 ? few(spec.out, spec.norm ? 256 : 128) : groups * outGroup,
  }
}

function shapeOf({ op, shape }: PlainSpec): readonly number[] {
  const size = shape.reduce((product, n) => product * n, 1)
  if (size <= bearable) return shape
  const channels = shape.at(-1)!
  switch (op) {
    case 'permute': {
      const [, , heads, dim] = shape as [number, number, number, number]
      return [1, rowsOf(heads * dim), heads, dim]
    }
    case 'embedding':
    case 'packLinear':
      return [rowsOf(channels), channels]
    case 'groupNorm':
      return [1, 1, 16, 16, channels]
    case 'fromRgb8':
    case 'toRgb8':
      return [1, 1, 64, shape[3]!, 3]
    default:
      return [1, few(size / channels, rowsOf(channels)), channels]
  }
}
