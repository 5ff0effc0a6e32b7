/** Specs and goals in few words. */
import type { Float, PlainOp, Spec } from './spec.js'

/** What a case is held to: ours / peer, the share of the copy or GEMM rate of the run, or ours / the same in bf16. */
export interface Goal {
  against: 'onednn' | 'torch' | 'copy' | 'gemm' | 'bf16'
  atLeast: number
  on: 'cpu' | 'card'
}

export const onCpu = (against: Goal['against'], atLeast: number): Goal => ({ against, atLeast, on: 'cpu' })
export const onCard = (against: Goal['against'], atLeast: number): Goal => ({ against, atLeast, on: 'card' })

export const matmulOf = (dtype: Float, m: number, n: number, k: number): Spec => ({
  op: 'linear',
  dtype,
  m,
  n,
  k,
  epilogue: 'none',
})
export const attentionOf = (
  dtype: Float,
  tokens: number,
  heads: number,
  headDim: number,
  batch = 1,
): Spec => ({
  op: 'attention',
  dtype,
  batch,
  queries: tokens,
  keys: tokens,
  heads,
  headDim,
})
export const convOf = (
  dtype: Float,
  [frames, height, width]: readonly [number, number, number],
  channels: number,
  out: number,
  options: Partial<Extract<Spec, { op: 'conv3d' }>> = {},
): Spec => ({
  op: 'conv3d',
  dtype,
  frames,
  height,
  width,
  channels,
  out,
  kernel: [3, 3, 3],
  groups: 1,
  fused: false,
  ...options,
})
export const plainOf = (op: PlainOp, dtype: Float, ...shape: number[]): Spec => ({ op, dtype, shape })
