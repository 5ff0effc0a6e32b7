/**
 * UniPC (arXiv 2302.04867), variant B₂(h) = e^h − 1, in the data-prediction form of Wan's scheduler. The base model's default.
 *
 * With α = 1−σ and λ = ln(α/σ), going from s to t over h = λ_t − λ_s:
 *
 *     x_t = (σ_t/σ_s) x_s + α_t (1 − e^{−h}) M
 *
 * where M stands for the data prediction between s and t. Predictor and corrector differ in how they estimate it:
 *
 *     predictor i → i+1    M = m_i + ½ D          D = (m_{i−1} − m_i)/r         order 1: D = 0
 *     corrector i−1 → i    M = m_{i−1} + ρ₁ D + ρ₂ (m_i − m_{i−1})              order 1: D = 0, ρ₂ = ½
 *                                                 D = (m_{i−2} − m_{i−1})/r
 *
 * r is the place of the older prediction, as (λ_older − λ_s)/h < 0, and ρ solves ρ₁ + ρ₂ = b₁, r ρ₁ + ρ₂ = b₂.
 * The first and the last step are of order 1; the corrector has the order of the predictor that it corrects.
 * At σ_N = 0 the predictor is m itself, so that correcting x_{N−1} would change nothing and is left out.
 * At σ_0 = 1, λ_0 is −∞: all formulae stay right as limits, the next step being of order 1 too.
 */

import type { Schedule } from './sigmas.js'
import { type Solver, type SolverStep, sum, type Term } from './solver.js'

/** UniPC of the given order; Wan uses 2. */
export function unipc(order: 1 | 2 = 2): Solver {
  return { name: 'unipc', grid: 'wan', plan: (schedule) => plan(schedule, order) }
}

function plan({ sigmas, timesteps }: Schedule, order: 1 | 2): SolverStep[] {
  const points = sigmas.map((sigma) => ({ sigma, lambda: Math.log((1 - sigma) / sigma) }))
  const last = timesteps.length - 1
  return timesteps.map((timestep, i) => {
    const [oldest, older, here, next] = [points[i - 2], points[i - 1], points[i]!, points[i + 1]!]
    const step = { sigma: here.sigma, nextSigma: next.sigma, timestep }
    const predictor = predict(here, next, order === 2 && i < last ? older : undefined)
    if (older === undefined || i === last) return { ...step, predictor }
    return { ...step, corrector: correct(older, here, order === 2 ? oldest : undefined), predictor }
  })
}

interface Point {
  sigma: number
  lambda: number
}

/** From `s` = i to `t` = i+1; of order 2 where the place of m1 is given. */
function predict(s: Point, t: Point, older?: Point): Term[] {
  const { h, kept, gain } = stride(s, t)
  const slope = older ? 0.5 / ((older.lambda - s.lambda) / h) : 0
  return sum({ x: kept, m0: gain * (1 - slope), m1: gain * slope })
}

/** From `s` = i−1 to `t` = i once more, now that m_i is known; of order 2 where the place of m2 is given. */
function correct(s: Point, t: Point, oldest?: Point): Term[] {
  const { h, kept, gain } = stride(s, t)
  if (!oldest) return sum({ lastX: kept, m0: gain / 2, m1: gain / 2 })
  const r = (oldest.lambda - s.lambda) / h
  const [b1, b2] = weights(h)
  const rho1 = (b1 - b2) / (1 - r)
  const rho2 = b1 - rho1
  const slope = rho1 / r
  return sum({ lastX: kept, m0: gain * rho2, m1: gain * (1 - slope - rho2), m2: gain * slope })
}

function stride(s: Point, t: Point): { h: number; kept: number; gain: number } {
  const h = t.lambda - s.lambda
  return { h, kept: t.sigma / s.sigma, gain: -(1 - t.sigma) * Math.expm1(-h) }
}

/**
 * b₁ = (φ/(−h) − 1)/φ and b₂ = 2((φ/(−h) − 1)/(−h) − ½)/φ with φ = e^{−h} − 1, brought to u = 1/(1 − e^{−h}).
 * Both are differences of nearly equal numbers when h is small; there, the first terms of their series are exact enough.
 */
function weights(h: number): [b1: number, b2: number] {
  if (h < 0.02) return [1 / 2 + h / 12 - h ** 3 / 720, 1 / 3 + h / 12 + h ** 2 / 360 - h ** 3 / 720]
  const u = -1 / Math.expm1(-h)
  const b1 = u - 1 / h
  return [b1, u - (2 * b1) / h]
}
