/**
 * Classifier-free guidance (arXiv 2207.12598): v = v_uncond + g (v_cond − v_uncond). Like a solver it is only
 * coefficients, and it joins the data prediction, so that guidance costs no pass over memory of its own.
 */

import { invalid } from '../errors.js'

const maxGuidanceScale = 100

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT unless `scale` is from 1 (no guidance) to 100. */
export function checkGuidanceScale(scale: unknown, field = 'guidanceScale'): asserts scale is number {
  if (typeof scale !== 'number' || !(scale >= 1 && scale <= maxGuidanceScale)) {
    throw invalid(field, scale, `a number from 1 (no guidance) to ${maxGuidanceScale}`)
  }
}

/** Whether the unconditional velocity is needed at all. */
export function isGuided(guidanceScale: number): boolean {
  return guidanceScale !== 1
}

/** Coefficients of [v_cond, v_uncond] in the guided velocity. */
export function guidanceCoefficients(guidanceScale: number): [number, number] {
  return [guidanceScale, 1 - guidanceScale]
}

/**
 * Coefficients of the data prediction m = x − σ v: of [x, v] without guidance, of [x, v_cond, v_uncond] with it.
 */
export function dataPrediction(sigma: number, guidanceScale = 1): number[] {
  if (!isGuided(guidanceScale)) return [1, -sigma]
  return [1, ...guidanceCoefficients(guidanceScale).map((coefficient) => -sigma * coefficient)]
}
