/**
 * What a DIT knows of time and place, computed on the host in float64: the sinusoid of the timestep and the rotations of its 3D
 * rotary embedding (RoFormer, arXiv 2104.09864, split over three axes as in Wan2.1).
 */
import type { Triple } from './fields.js'

/**
 * [cos | sin] of each timestep at `freqDim` / 2 frequencies 10000^(-k / (freqDim / 2)).
 * @param timesteps 1000 sigma, one a sample.
 * @returns [B, freqDim]
 */
export function timestepFeatures(timesteps: readonly number[], freqDim: number): Float32Array {
  const half = freqDim / 2
  const features = new Float32Array(timesteps.length * freqDim)
  timesteps.forEach((timestep, b) => {
    for (let k = 0; k < half; k++) {
      const angle = timestep * 10000 ** (-k / half)
      features[b * freqDim + k] = Math.cos(angle)
      features[b * freqDim + half + k] = Math.sin(angle)
    }
  })
  return features
}

/**
 * (cos, sin) for every token of a grid, w fastest, and every pair of channels of a head. The pairs go to t, h and w as `split`
 * counts channels; frequency j of an axis with d channels is theta^(-2j / d).
 * @returns [T·h·w, D / 2, 2]
 */
export function rotations(grid: Triple, split: Triple, theta: number): Float32Array {
  const [time, height, width] = [0, 1, 2].map((axis) => axisRotations(grid[axis]!, split[axis]!, theta)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ]
  const [t, h, w] = split
  const table = new Float32Array(grid[0] * grid[1] * grid[2] * (t + h + w))
  let at = 0
  const put = (axis: Float32Array, position: number, channels: number) => {
    table.set(axis.subarray(position * channels, (position + 1) * channels), at)
    at += channels
  }
  for (let i = 0; i < grid[0]; i++)
    for (let j = 0; j < grid[1]; j++)
      for (let k = 0; k < grid[2]; k++) {
        put(time, i, t)
        put(height, j, h)
        put(width, k, w)
      }
  return table
}

/** (cos, sin) for positions 0 .. size - 1 of one axis: [size, channels / 2, 2]. */
function axisRotations(size: number, channels: number, theta: number): Float32Array {
  const table = new Float32Array(size * channels)
  for (let position = 0; position < size; position++)
    for (let j = 0; j < channels / 2; j++) {
      const angle = position * theta ** ((-2 * j) / channels)
      table[position * channels + 2 * j] = Math.cos(angle)
      table[position * channels + 2 * j + 1] = Math.sin(angle)
    }
  return table
}
