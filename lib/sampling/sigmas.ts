/**
 * Noise levels: which σ the sampler visits, from noise (σ near 1) to data (σ = 0), and the timestep that the network
 * is told at each. Either a grid of N equal steps, shifted towards noise, or a list given by the caller.
 *
 * Sources: the shift is that of SD3, HunyuanVideo and Wan; the `wan` grid is what Wan's UniPC scheduler visits; the
 * `linear` grid is the usual one of Euler samplers and, unshifted, the grid 1, (N−1)/N, …, 1/N of the SiD family.
 */

import { invalid } from '../errors.js'

/** The network's clock: timestep = 1000 σ, not rounded, on every grid (Wan's own scheduler rounds down). */
const timestepsPerSigma = 1000

/** Wan's scheduler holds the levels 0.999, 0.998, …, 0 and starts from the first. */
const wanSigmaStart = 0.999

/** What a request may ask for: as many steps as a network has timesteps, and no shift that squeezes them into one spot. */
const maxSteps = 1000
const minShift = 0.01
const maxShift = 100

/** Levels closer than this, to one another or to 0, are one level to a float32 sample and to what UniPC divides by. */
const minGap = 1e-6

export type Grid = 'wan' | 'linear'

export interface Schedule {
  /** σ_0 > σ_1 > … > σ_N = 0; N+1 numbers in [0, 1]. */
  readonly sigmas: readonly number[]
  /** N numbers; `timesteps[i]` belongs to `sigmas[i]`. */
  readonly timesteps: readonly number[]
}

export interface GridOptions {
  /** Number of steps N, 1 to 1000. */
  steps: number
  /** s, 0.01 to 100; 1 leaves the grid as it is, larger spends more steps near noise. */
  shift: number
  /** `linear`: from σ = 1. `wan`: from 0.999, before the shift. */
  grid: Grid
  /** Begin at this share of the grid, before the shift, to continue from a sample noised to `sigmas[0]`; 1e-6 to 1. */
  sigmaStart?: number
}

/** σ' = s σ / (1 + (s−1) σ), with the denominator written so that rounding never leads out of [0, 1]. */
export function shiftSigma(sigma: number, shift: number): number {
  return (shift * sigma) / (shift * sigma + (1 - sigma))
}

/**
 * N steps, evenly spaced before the shift.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT for `steps`, `shift`, `grid` or `sigmaStart`.
 */
export function gridSchedule({ steps, shift, grid, sigmaStart = 1 }: GridOptions): Schedule {
  checkSteps(steps)
  checkShift(shift)
  if (grid !== 'wan' && grid !== 'linear') throw invalid('grid', grid, "'wan' or 'linear'")
  checkSigma(sigmaStart, 'sigmaStart')
  const start = grid === 'wan' ? wanSigmaStart * sigmaStart : sigmaStart
  const sigmas = Array.from({ length: steps }, (_, i) => shiftSigma(start * (1 - i / steps), shift))
  return { sigmas: [...sigmas, 0], timesteps: sigmas.map((sigma) => timestepsPerSigma * sigma) }
}

/**
 * The noise levels that the caller names, used as they are: no shift, timestep = 1000 σ. The closing 0 may be left out.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT for `field`, or its element `field[i]` that is out of range or order.
 */
export function customSchedule(sigmas: readonly number[], field = 'sigmas'): Schedule {
  if (!Array.isArray(sigmas)) throw invalid(field, sigmas, 'a list of numbers')
  const levels: number[] = sigmas.at(-1) === 0 ? sigmas.slice(0, -1) : [...sigmas]
  if (levels.length < 1 || levels.length > maxSteps) {
    throw invalid(field, sigmas, `a list of 1 to ${maxSteps} noise levels above 0`)
  }
  for (const [i, sigma] of levels.entries()) {
    checkSigma(sigma, `${field}[${i}]`)
    const previous = levels[i - 1]
    if (previous !== undefined && !(sigma <= previous - minGap)) {
      throw invalid(`${field}[${i}]`, sigma, `at least ${minGap} less than the one before it (${previous})`)
    }
  }
  return { sigmas: [...levels, 0], timesteps: levels.map((sigma) => timestepsPerSigma * sigma) }
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT unless `steps` is a whole number from 1 to 1000. */
export function checkSteps(steps: unknown, field = 'steps'): asserts steps is number {
  if (!Number.isInteger(steps) || (steps as number) < 1 || (steps as number) > maxSteps) {
    throw invalid(field, steps, `a whole number from 1 to ${maxSteps}`)
  }
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT unless `shift` is from 0.01 to 100. */
export function checkShift(shift: unknown, field = 'shift'): asserts shift is number {
  if (typeof shift !== 'number' || !(shift >= minShift && shift <= maxShift)) {
    throw invalid(field, shift, `a number from ${minShift} to ${maxShift}`)
  }
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT unless `sigma` is from 1e-6 to 1. */
export function checkSigma(sigma: unknown, field: string): asserts sigma is number {
  if (typeof sigma !== 'number' || !(sigma >= minGap && sigma <= 1)) {
    throw invalid(field, sigma, `a number from ${minGap} to 1`)
  }
}
