/**
 * Euler's method on the probability flow dx/dσ = v. Written with m_i = x_i − σ_i v_i in place of v_i:
 *
 *     x_{i+1} = x_i + (σ_{i+1} − σ_i) v_i = (σ_{i+1}/σ_i) x_i + (1 − σ_{i+1}/σ_i) m_i
 *
 * First order. The refiner's default: its step distillation is for exactly these eight steps.
 */

import { type Solver, sum } from './solver.js'

export const euler: Solver = {
  name: 'euler',
  grid: 'linear',
  plan: ({ sigmas, timesteps }) =>
    timesteps.map((timestep, i) => {
      const sigma = sigmas[i]!
      const nextSigma = sigmas[i + 1]!
      const kept = nextSigma / sigma
      return { sigma, nextSigma, timestep, predictor: sum({ x: kept, m0: 1 - kept }) }
    }),
}
