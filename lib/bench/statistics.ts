/** Order statistics of timings: medians and spreads, for means are moved by whatever else the machine does. */

export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q
  const low = Math.floor(at)
  const [a = Number.NaN, b = a] = [sorted[low], sorted[Math.min(low + 1, sorted.length - 1)]]
  return a + (b - a) * (at - low)
}

export const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  )

export interface Spread {
  median: number
  p10: number
  p90: number
  count: number
}

export function spread(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b)
  return {
    median: quantile(sorted, 0.5),
    p10: quantile(sorted, 0.1),
    p90: quantile(sorted, 0.9),
    count: sorted.length,
  }
}

/** Over the rounds of a run. */
export interface Ratio {
  median: number
  least: number
  most: number
}

export function ratioOf(values: readonly number[]): Ratio {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) }
}
