/** Order statistics of timings: medians, quantiles and spreads, for means are moved by whatever else the machine does. */

/** Of samples in any order, between two of them in proportion; NaN of none. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const [low = Number.NaN, high = low] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]]
  return low + (high - low) * (at - Math.floor(at))
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5)

export interface Spread {
  median: number
  p10: number
  p90: number
  count: number
}

export function spread(samples: readonly number[]): Spread {
  return {
    median: median(samples),
    p10: quantile(samples, 0.1),
    p90: quantile(samples, 0.9),
    count: samples.length,
  }
}

export interface Percentiles {
  p10: number
  p50: number
  p90: number
  p95: number
  p99: number
  samples: number
}

/** With few samples the upper ones are near the longest of them. */
export function percentiles(samples: readonly number[]): Percentiles {
  return {
    p10: quantile(samples, 0.1),
    p50: median(samples),
    p90: quantile(samples, 0.9),
    p95: quantile(samples, 0.95),
    p99: quantile(samples, 0.99),
    samples: samples.length,
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
