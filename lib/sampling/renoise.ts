/**
 * The few-step sampler of the SiD family (arXiv 2509.25127): jump to the data prediction, then put fresh noise on it.
 *
 *     x_{i+1} = (1 − σ_{i+1}) m_i + σ_{i+1} ε_new
 *
 * For networks distilled to jump; the sample is random at every step, not only in where it starts.
 */

import { type Solver, sum } from './solver.js'

export const renoise: Solver = {
  name: 'renoise',
  grid: 'linear',
  plan: ({ sigmas, timesteps }) =>
    timesteps.map((timestep, i) => {
      const nextSigma = sigmas[i + 1]!
      return {
        sigma: sigmas[i]!,
        nextSigma,
        timestep,
        predictor: sum({ m0: 1 - nextSigma, noise: nextSigma }),
      }
    }),
}
