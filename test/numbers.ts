/**
 * Numbers for op tests: seeded random data, the roundings of f32 and bf16, and the rule by which an op is judged. A reference is
 * written once with a rounding `r` around every operation: with `exact` it is the truth in fp64, with `f32` it is what a plain
 * implementation in f32 would give. An op passes when its error is at most twice that of the plain one.
 */
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import type { Quantized } from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'

export type Round = (value: number) => number

export const exact: Round = (value) => value
export const f32: Round = Math.fround

const bits = new Uint32Array(1)
const float = new Float32Array(bits.buffer)

/** Bits of the bfloat16 nearest to `value`, ties to even. */
export function bf16Bits(value: number): number {
  float[0] = value
  const word = bits[0]!
  if (Number.isNaN(value)) return (word >>> 16) | 0x40
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
}

export function bf16FromBits(code: number): number {
  bits[0] = code << 16
  return float[0]!
}

export const bf16: Round = (value) => bf16FromBits(bf16Bits(value))

/** Value of an fp8 E4M3FN code: sign, 4 bits of exponent with bias 7, 3 of mantissa; 0x7f and 0xff are NaN. */
export function fp8Value(code: number): number {
  const sign = code & 0x80 ? -1 : 1
  const exponent = (code >> 3) & 15
  const mantissa = code & 7
  if ((code & 0x7f) === 0x7f) return Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10))
}

export const fp8Finite = Array.from({ length: 127 }, (_, code) => fp8Value(code))

/** Nearest code by search: ties to the even code, everything beyond 448 is 448. */
export function fp8Code(value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x80 : 0
  if (Number.isNaN(value)) return 0x7f
  const magnitude = Math.min(Math.abs(value), 448)
  let best = 0
  for (let code = 1; code < 127; code++) {
    const d = Math.abs(fp8Finite[code]! - magnitude) - Math.abs(fp8Finite[best]! - magnitude)
    if (d < 0 || (d === 0 && code % 2 === 0)) best = code
  }
  return best | sign
}

/** For rows of `channels`: [first, end) of every group of 128 channels, which have a scale in fp8. */
export function fp8Groups(size: number, channels: number): [number, number][] {
  const groups: [number, number][] = []
  for (let row = 0; row < size; row += channels)
    for (let c = 0; c < channels; c += 128) groups.push([row + c, row + Math.min(c + 128, channels)])
  return groups
}

export const roundingOf = (dtype: DType): Round => (dtype === 'bf16' ? bf16 : f32)

/**
 * `sum` and `count` products a[aFrom + i * aStep] * b[bFrom + i * bStep], one after the other, each operation rounded by `r`, which is
 * `exact` or `f32`. Both are written out: calling `r` for each operation would take ten times as long.
 */
export function addProducts(
  r: Round,
  sum: number,
  count: number,
  a: readonly number[],
  aFrom: number,
  b: readonly number[],
  bFrom: number,
  { aStep = 1, bStep = 1 } = {},
): number {
  if (r === exact) for (let i = 0; i < count; i++) sum += a[aFrom + i * aStep]! * b[bFrom + i * bStep]!
  else if (r === f32)
    for (let i = 0; i < count; i++)
      sum = Math.fround(sum + Math.fround(a[aFrom + i * aStep]! * b[bFrom + i * bStep]!))
  else throw new RangeError('products are added exactly or in f32')
  return sum
}

/** Seeded random numbers (mulberry32; normal ones by Box and Muller). */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** In (0, 1). */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32
  }

  integer(below: number): number {
    return Math.floor(this.uniform() * below)
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform())
  }

  /** `size` normal numbers times `scale` plus `shift`, as they are in `dtype`. */
  array(size: number, dtype: DType = 'f32', scale = 1, shift = 0): number[] {
    const round = roundingOf(dtype)
    return Array.from({ length: size }, () => round(this.normal() * scale + shift))
  }
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1)

/** A tensor of numbers that `dtype` (f32 or bf16) has exactly. */
export function upload(
  device: Device,
  values: readonly number[],
  shape: readonly number[],
  dtype: DType = 'f32',
): Tensor {
  const data = dtype === 'bf16' ? Uint16Array.from(values, bf16Bits) : Float32Array.from(values)
  return device.tensor(data, shape, dtype)
}

/** Largest and root-mean-square distance. A NaN counts as infinitely far from anything but a NaN. */
function distance(actual: ArrayLike<number>, truth: ArrayLike<number>): { largest: number; mean: number } {
  let largest = 0
  let squares = 0
  for (let i = 0; i < truth.length; i++) {
    const a = actual[i]!
    const t = truth[i]!
    const d = Object.is(a, t) || (Number.isNaN(a) && Number.isNaN(t)) ? 0 : Math.abs(a - t)
    const counted = Number.isNaN(d) ? Number.POSITIVE_INFINITY : d
    largest = Math.max(largest, counted)
    squares += counted * counted
  }
  return { largest, mean: Math.sqrt(squares / Math.max(truth.length, 1)) }
}

/**
 * Fails unless `actual` is at most twice as far from `truth` as `plain` is, at the worst element and on the whole. One unit of f32 at
 * the largest value is granted: a plain implementation may be right by luck.
 */
export function accurate(
  actual: ArrayLike<number>,
  truth: ArrayLike<number>,
  plain: ArrayLike<number>,
  what: string,
): void {
  assert.is(actual.length, truth.length, `${what}: elements`)
  const ours = distance(actual, truth)
  const theirs = distance(plain, truth)
  let magnitude = 0
  for (let i = 0; i < truth.length; i++) magnitude = Math.max(magnitude, Math.abs(truth[i]!))
  const unit = magnitude * 2 ** -23
  const say = `${what}: error ${ours.largest} (rms ${ours.mean}), plain ${theirs.largest} (rms ${theirs.mean})`
  assert.ok(ours.largest <= 2 * theirs.largest + unit, say)
  assert.ok(ours.mean <= 2 * theirs.mean + unit, say)
}

/**
 * `accurate` for an op with a result of f32 or bf16: reads it and compares it with `reference(exact)`; the plain implementation is
 * `reference(f32)`, rounded to the result's dtype.
 */
export async function judge(
  result: Tensor,
  shape: readonly number[],
  reference: (r: Round) => number[],
  what: string,
): Promise<void> {
  assert.equal([...result.shape], [...shape], `${what}: shape`)
  const actual = await result.toFloat32()
  accurate(actual, reference(exact), reference(f32).map(roundingOf(result.dtype)), what)
}

/** `judge` for a result of fp8 with scales of groups; the plain implementation quantises `reference(f32)`. */
export async function judgeFp8(
  { values, scales }: Quantized,
  shape: readonly number[],
  reference: (r: Round) => number[],
  what: string,
): Promise<void> {
  const channels = shape.at(-1)!
  assert.is(values.dtype, 'f8e4m3')
  assert.equal([...values.shape], [...shape], `${what}: shape`)
  assert.equal([...scales.shape], [...shape.slice(0, -1), Math.ceil(channels / 128)], `${what}: scales`)
  const [codes, scale] = [await values.read(), await scales.read()]
  const actual = Array.from(codes, fp8Value)
  const plain = reference(f32)
  fp8Groups(plain.length, channels).forEach(([first, end], group) => {
    const largest = plain.slice(first, end).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
    const fitting = largest === 0 ? 1 : f32(largest / 448)
    // What is quantised may have been bf16 before.
    assert.ok(
      Math.abs(scale[group]! / fitting - 1) < 2 ** -7,
      `${what}: scale ${scale[group]}, not ${fitting}`,
    )
    for (let i = first; i < end; i++) {
      actual[i]! *= scale[group]!
      plain[i] = fp8Value(fp8Code(plain[i]! / fitting)) * fitting
    }
  })
  accurate(actual, reference(exact), plain, what)
}

/** Fails unless the elements are the same bits. */
export async function sameBits(actual: Tensor, expected: Tensor, what: string): Promise<void> {
  assert.equal([...actual.shape], [...expected.shape], `${what}: shape`)
  assert.is(actual.dtype, expected.dtype, `${what}: dtype`)
  const a = await actual.read()
  const b = await expected.read()
  assert.ok(
    Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(
      Buffer.from(b.buffer, b.byteOffset, b.byteLength),
    ),
    `${what}: bits`,
  )
}
