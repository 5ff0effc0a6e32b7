/**
 * Sampling: noise levels, solvers and guidance as plain numbers. Knows no model and no tensor; the denoise loop of
 * the pipeline reads a plan and does the arithmetic with the op `combine`. See solver.ts for that loop.
 */

import { invalid } from '../errors.js'
import { euler } from './euler.js'
import { renoise } from './renoise.js'
import type { Solver } from './solver.js'
import { unipc } from './unipc.js'

export { checkGuidanceScale, dataPrediction, guidanceCoefficients, isGuided } from './guidance.js'
export {
  checkShift,
  checkSigma,
  checkSteps,
  customSchedule,
  type Grid,
  type GridOptions,
  gridSchedule,
  type Schedule,
  shiftSigma,
} from './sigmas.js'
export type { KeptTensor, Solver, SolverStep, Term } from './solver.js'
export { unipc } from './unipc.js'

export const solverNames = ['unipc', 'euler', 'renoise'] as const
export type SolverName = (typeof solverNames)[number]

const solvers: Record<SolverName, Solver> = { unipc: unipc(), euler, renoise }

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT unless `name` is one of `solverNames`. */
export function checkSolverName(name: unknown, field = 'solver'): asserts name is SolverName {
  if (!(solverNames as readonly unknown[]).includes(name)) {
    throw invalid(field, name, `one of ${solverNames.map((known) => `'${known}'`).join(', ')}`)
  }
}

/**
 * The solver of that name.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT for `solver`.
 */
export function createSolver(name: SolverName): Solver {
  checkSolverName(name)
  return solvers[name]
}
