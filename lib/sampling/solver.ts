/**
 * What a solver is. A solver knows no tensor and no network: it turns a schedule into a plan, a list of steps whose
 * coefficients the denoise loop hands to the op `combine`. Every solver here works on the data prediction
 *
 *     m_i = x_i − σ_i v_i          (flow matching: x_σ = (1−σ) x̂0 + σ ε, v = ε − x̂0)
 *
 * so that each update is a sum of tensors which the loop keeps anyway. One step of the loop, whatever the solver:
 *
 *     v    = network(x, step.timestep)
 *     m0   = combine([x, v], [1, −step.sigma])                      // see guidance.ts for the guided form
 *     if (step.corrector) x = combine(step.corrector)
 *     next = combine(step.predictor)
 *     lastX = x;  x = next;  m2 = m1;  m1 = m0
 *
 * After the last step x is the sample; its predictor is m0 itself. m0 is also what a preview of the step shows.
 */

import type { Grid, Schedule } from './sigmas.js'

/**
 * A tensor that the loop keeps, seen from step i:
 * - `x`: x_i; in a predictor the corrected x_i, where the step has a corrector;
 * - `lastX`: the x_{i−1} that the last predictor started from (corrected, where there was a corrector);
 * - `m0`, `m1`, `m2`: the data predictions m_i, m_{i−1}, m_{i−2};
 * - `noise`: standard normal numbers never used before.
 */
export type KeptTensor = 'x' | 'lastX' | 'm0' | 'm1' | 'm2' | 'noise'

/** One summand of a linear combination. */
export interface Term {
  readonly tensor: KeptTensor
  readonly coefficient: number
}

/** Step i of a plan. */
export interface SolverStep {
  /** σ_i, the noise level of x_i. */
  readonly sigma: number
  /** σ_{i+1}, the noise level that the predictor arrives at; 0 in the last step. */
  readonly nextSigma: number
  /** What the network is told: 1000 σ_i. */
  readonly timestep: number
  /** Where present: x_i is replaced by this sum once m_i is known. m_i is not evaluated again. */
  readonly corrector?: readonly Term[]
  /** x_{i+1} as a sum. */
  readonly predictor: readonly Term[]
}

export interface Solver {
  readonly name: string
  /** The grid that it is used with where the caller names no noise levels. */
  readonly grid: Grid
  /** The steps of `schedule`, one an element of `schedule.timesteps`. */
  plan(schedule: Schedule): SolverStep[]
}

/** The sum Σ coefficient·tensor without the summands that are nothing. */
export function sum(coefficients: Partial<Record<KeptTensor, number>>): Term[] {
  return (Object.entries(coefficients) as [KeptTensor, number][])
    .filter(([, coefficient]) => coefficient !== 0)
    .map(([tensor, coefficient]) => ({ tensor, coefficient }))
}
