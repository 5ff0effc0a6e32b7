/**
 * The activations of the ops as references: with rounding `exact` to fp64, with `f32` as a plain implementation has them.
 */
import type { Activation } from '../lib/ops.js'
import type { Round } from './numbers.js'

/** Phi by the series of the error function, in the tails by its continued fraction; to fp64. */
function normalCdf(x: number): number {
  const z = Math.abs(x)
  let tail: number
  if (z < 3) {
    let term = z
    let sum = z
    for (let n = 1; Math.abs(term) > 1e-18 * sum; n++) sum += term *= (z * z) / (2 * n + 1)
    tail = 0.5 - (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI)
  } else {
    let fraction = z
    for (let n = 60; n > 0; n--) fraction = z + n / fraction
    tail = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) / fraction
  }
  return x < 0 ? tail : 1 - tail
}

/** act(x) with every operation rounded by `r`. */
export function activate(kind: Activation, x: number, r: Round): number {
  switch (kind) {
    case 'none':
      return x
    case 'relu':
      return Math.max(x, 0)
    case 'silu':
      return r(x / r(1 + r(Math.exp(-x))))
    case 'gelu':
      return r(x * r(normalCdf(x)))
    case 'gelu_tanh': {
      const inner = r(r(Math.sqrt(2 / Math.PI)) * r(x + r(r(0.044715) * r(x * r(x * x)))))
      return r(r(0.5 * x) * r(1 + r(Math.tanh(inner))))
    }
  }
}
