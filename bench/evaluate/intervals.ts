/** Estimates with 95 % intervals: Wilson's for proportions, Student's for means, order statistics for medians. */

export interface Estimate {
  value: number
  low: number
  high: number
  /** Of clips. */
  count: number
}

/** The normal distribution's 97.5 % point. */
const z = 1.959964

/** Of the clips for which something holds. */
export function proportion(outcomes: readonly boolean[]): Estimate {
  const count = outcomes.length
  const p = outcomes.filter(Boolean).length / count
  const centre = (p + z ** 2 / (2 * count)) / (1 + z ** 2 / count)
  const half = (z / (1 + z ** 2 / count)) * Math.sqrt((p * (1 - p)) / count + z ** 2 / (4 * count ** 2))
  return { value: p, low: Math.max(0, centre - half), high: Math.min(1, centre + half), count }
}

export function mean(values: readonly number[]): Estimate {
  const count = values.length
  const value = values.reduce((sum, v) => sum + v, 0) / count
  const variance = values.reduce((sum, v) => sum + (v - value) ** 2, 0) / (count - 1)
  const half = count > 1 ? student(count - 1) * Math.sqrt(variance / count) : Infinity
  return { value, low: value - half, high: value + half, count }
}

/** The values may be infinite: a median bears it. */
export function median(values: readonly number[]): Estimate {
  const sorted = [...values].sort((a, b) => a - b)
  const count = sorted.length
  const half = (z * Math.sqrt(count)) / 2
  const at = (rank: number) => sorted[Math.min(count, Math.max(1, rank)) - 1] ?? Number.NaN
  const [a, b] = [at(Math.ceil(count / 2)), at(Math.floor(count / 2) + 1)]
  const value = a === b ? a : (a + b) / 2
  return { value, low: at(Math.floor(count / 2 - half)), high: at(Math.ceil(count / 2 + half) + 1), count }
}

const fewest = [12.7062, 4.30265, 3.18245]

/** Student's 97.5 % point, by Cornish and Fisher's expansion but for few degrees of freedom. */
export function student(freedom: number): number {
  const exact = fewest[freedom - 1]
  if (exact) return exact
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ]
  return terms.reduce((sum, term, i) => sum + term / freedom ** i, 0)
}
