/** Random numbers for scenes: the same seed gives the same numbers for ever (mulberry32 from a mixed seed). */

export class Random {
  #state: number

  /** @param seed A whole number; neighbouring seeds have nothing in common. */
  constructor(seed: number) {
    const high = Math.floor(seed / 2 ** 32)
    this.#state = mix(mix(seed >>> 0) ^ (high + 0x9e3779b9))
  }

  /** In [low, high). */
  uniform(low = 0, high = 1): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return low + ((high - low) * ((t ^ (t >>> 14)) >>> 0)) / 2 ** 32
  }

  /** A whole number in [low, high). */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low))
  }

  choice<T>(list: readonly T[]): T {
    return list[this.integer(0, list.length)]!
  }

  /** `count` different ones of a list, in random order. */
  sample<T>(list: readonly T[], count: number): T[] {
    const left = [...list]
    return Array.from({ length: count }, () => left.splice(this.integer(0, left.length), 1)[0]!)
  }
}

/** Murmur3's finalizer. */
function mix(word: number): number {
  let h = word >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
