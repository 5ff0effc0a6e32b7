/**
 * Norms, the rotary embedding, gates and pixel shuffles against their formulas, in f32 and bf16, at channel counts around and far
 * from the width of a vector register; and that a sample's bits depend neither on its batch nor on the threads.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { Tensor } from '../lib/tensor.js'
import { activate } from './activations.js'
import { openTestDevice } from './devices.js'
import { bf16, judge, judgeFp8, Random, type Round, sameBits, sizeOf, upload } from './numbers.js'

const floats = ['f32', 'bf16'] as const
const channelCounts = [1, 3, 16, 37, 130, 515]
const activations = ['none', 'silu', 'relu', 'gelu', 'gelu_tanh'] as const

/** `values` cut into rows of `size`. */
function rowsOf(values: readonly number[], size: number): number[][] {
  return Array.from({ length: values.length / size }, (_, i) => values.slice(i * size, (i + 1) * size))
}

function normed(row: readonly number[], rms: boolean, eps: number, r: Round): number[] {
  const mean = rms ? 0 : r(row.reduce((sum, x) => r(sum + x), 0) / row.length)
  const squares = row.reduce((sum, x) => r(sum + r(r(x - mean) * r(x - mean))), 0)
  const deviation = r(Math.sqrt(r(r(squares / row.length) + eps)))
  return row.map((x) => r(r(x - mean) / deviation))
}

const rows = suite('rows')
let device: Device
rows.before(async () => {
  device = await openTestDevice()
})
rows.after(() => device?.dispose())

for (const dtype of floats)
  for (const channels of channelCounts)
    for (const rms of [false, true])
      rows(`normModulate ${dtype} ${channels} ${rms ? 'rms' : 'layer norm'}`, async () => {
        const random = new Random(channels)
        const shape = [2, 5, channels]
        const x = random.array(sizeOf(shape), dtype, 2, 3)
        const [weight, bias] = [random.array(channels), random.array(channels)]
        const [scale, shift] = [random.array(2 * channels, 'f32', 0.3), random.array(2 * channels)]
        const reference = (full: boolean) => (r: Round) =>
          rowsOf(x, channels).flatMap((row, i) =>
            normed(row, rms, 1e-6, r).map((v, c) => {
              if (!full) return v
              const at = Math.floor(i / 5) * channels + c
              return r(r(r(r(v * weight[c]!) + bias[c]!) * r(1 + scale[at]!)) + shift[at]!)
            }),
          )
        const tensor = upload(device, x, shape, dtype)
        await judge(ops.normModulate(tensor, { rms }), shape, reference(false), 'plain')
        const options = {
          weight: upload(device, weight, [channels]),
          bias: upload(device, bias, [channels]),
          scale: upload(device, scale, [2, channels]),
          shift: upload(device, shift, [2, channels]),
          rms,
        }
        for (const out of floats)
          await judge(
            ops.normModulate(tensor, { ...options, dtype: out }),
            shape,
            reference(true),
            `to ${out}`,
          )
        await judgeFp8(ops.normModulateFp8(tensor, options), shape, reference(true), 'to fp8')
      })

rows('normModulate keeps a small spread around a large mean', async () => {
  const random = new Random(7)
  const x = random.array(3 * 700, 'f32', 1, 4096)
  const tensor = upload(device, x, [3, 1, 700])
  await judge(
    ops.normModulate(tensor),
    [3, 1, 700],
    (r) => rowsOf(x, 700).flatMap((row) => normed(row, false, 1e-6, r)),
    'large mean',
  )
})

for (const dtype of floats)
  for (const [heads, size] of [
    [1, 2],
    [3, 6],
    [2, 64],
    [5, 22],
    [40, 128],
  ] as const)
    rows(`qkNormRope ${dtype} ${heads} heads of ${size}`, async () => {
      const random = new Random(heads + size)
      const channels = heads * size
      const tokens = 3
      const x = random.array(2 * tokens * channels, dtype)
      const weight = random.array(channels)
      const angles = random.array((tokens * size) / 2, 'f32', 3)
      const rotations = angles.flatMap((a) => [Math.fround(Math.cos(a)), Math.fround(Math.sin(a))])
      const reference = (norm: boolean, rotate: boolean) => (r: Round) =>
        rowsOf(x, channels).flatMap((row, i) => {
          const v = norm ? normed(row, true, 1e-6, r).map((a, c) => r(a * weight[c]!)) : row
          if (!rotate) return v
          return v.map((_, c) => {
            const at = (i % tokens) * size + ((c % size) & ~1)
            const [cos, sin] = [rotations[at]!, rotations[at + 1]!]
            return c % 2 === 0
              ? r(r(v[c]! * cos) - r(v[c + 1]! * sin))
              : r(r(v[c - 1]! * sin) + r(v[c]! * cos))
          })
        })
      const tensor = upload(device, x, [2, tokens, channels], dtype)
      const shape = [2, tokens, heads, size]
      for (const norm of [false, true])
        for (const rotate of [false, true]) {
          const result = ops.qkNormRope(tensor, {
            heads,
            weight: norm ? upload(device, weight, [channels]) : undefined,
            rotations: rotate ? upload(device, rotations, [tokens, size / 2, 2]) : undefined,
          })
          await judge(result, shape, reference(norm, rotate), `norm ${norm}, rotations ${rotate}`)
        }
    })

for (const dtype of floats)
  for (const channels of channelCounts)
    rows(`pixelNorm ${dtype} ${channels}`, async () => {
      const random = new Random(channels + 1)
      const shape = [1, 2, 3, 2, channels]
      const x = random.array(sizeOf(shape), dtype, 0.5)
      const residual = random.array(sizeOf(shape), dtype)
      const [weight, bias] = [random.array(channels), random.array(channels)]
      const tensor = upload(device, x, shape, dtype)
      const plain = (r: Round) => rowsOf(x, channels).flatMap((row) => normed(row, true, 1e-8, r))
      await judge(ops.pixelNorm(tensor), shape, plain, 'plain')
      for (const activation of activations) {
        const result = ops.pixelNorm(tensor, {
          weight: upload(device, weight, [channels]),
          bias: upload(device, bias, [channels]),
          residual: upload(device, residual, shape, dtype),
          activation,
        })
        const reference = (r: Round) =>
          plain(r).map((v, i) => {
            const c = i % channels
            return activate(activation, r(r(r(v * weight[c]!) + bias[c]!) + residual[i]!), r)
          })
        await judge(result, shape, reference, activation)
      }
    })

for (const dtype of floats)
  for (const [shape, groups] of [
    [[1, 1], 1],
    [[2, 7, 6], 3],
    [[1, 3, 5, 7, 64], 32],
    [[2, 4, 9, 11, 48], 4],
    [[1, 3000, 20], 20],
    [[3, 40, 515], 5],
  ] as const)
    rows(`groupNorm ${dtype} ${JSON.stringify(shape)} in ${groups}`, async () => {
      const random = new Random(sizeOf(shape))
      const channels = shape.at(-1)!
      const x = random.array(sizeOf(shape), dtype, 1, 2)
      const residual = random.array(sizeOf(shape), dtype)
      const [weight, bias] = [random.array(channels), random.array(channels)]
      const sample = sizeOf(shape.slice(1))
      const width = channels / groups
      const plain = (r: Round) => {
        const y = new Array<number>(x.length)
        for (let b = 0; b < shape[0]; b++)
          for (let g = 0; g < groups; g++) {
            const members: number[] = []
            for (let i = 0; i < sample; i++)
              if (Math.floor((i % channels) / width) === g) members.push(b * sample + i)
            const v = normed(
              members.map((i) => x[i]!),
              false,
              1e-5,
              r,
            )
            members.forEach((i, k) => {
              y[i] = v[k]!
            })
          }
        return y
      }
      const tensor = upload(device, x, shape, dtype)
      await judge(ops.groupNorm(tensor, { groups }), shape, plain, 'plain')
      const options = {
        groups,
        weight: upload(device, weight, [channels]),
        bias: upload(device, bias, [channels]),
        residual: upload(device, residual, shape, dtype),
        activation: 'silu' as const,
      }
      const reference = (r: Round) =>
        plain(r).map((v, i) => {
          const c = i % channels
          return activate('silu', r(r(r(v * weight[c]!) + bias[c]!) + residual[i]!), r)
        })
      await judge(ops.groupNorm(tensor, options), shape, reference, 'with everything')
    })

for (const dtype of floats)
  for (const activation of activations)
    rows(`activate ${dtype} ${activation}`, async () => {
      const random = new Random(3)
      const near = Array.from({ length: 401 }, (_, i) => (i - 200) / 20)
      const round = dtype === 'bf16' ? bf16 : Math.fround
      const x = [...near, ...random.array(1000, dtype, 4), 0, -0, 30, -30, 100, -100, 1e-20].map(round)
      const result = ops.activate(upload(device, x, [x.length], dtype), activation)
      await judge(result, [x.length], (r) => x.map((v) => activate(activation, v, r)), activation)
    })

for (const dtype of floats)
  for (const channels of channelCounts) {
    rows(`glu ${dtype} ${channels}`, async () => {
      const random = new Random(channels + 2)
      const x = random.array(6 * channels, dtype, 2)
      const result = ops.glu(upload(device, x, [3, 2 * channels], dtype))
      const reference = (r: Round) =>
        rowsOf(x, 2 * channels).flatMap((row) =>
          row.slice(0, channels).map((v, c) => r(v * activate('silu', row[channels + c]!, r))),
        )
      await judge(result, [3, channels], reference, 'glu')
    })

    rows(`affine ${dtype} ${channels}`, async () => {
      const random = new Random(channels + 3)
      const x = random.array(4 * channels, dtype)
      const [scale, shift] = [random.array(channels), random.array(channels)]
      for (const out of floats) {
        const result = ops.affine(
          upload(device, x, [4, channels], dtype),
          upload(device, scale, [channels]),
          upload(device, shift, [channels]),
          { dtype: out },
        )
        const reference = (r: Round) => x.map((v, i) => r(r(v * scale[i % channels]!) + shift[i % channels]!))
        await judge(result, [4, channels], reference, `to ${out}`)
      }
    })
  }

/** Element (b, t, h, w, c) of a tensor [B, T, H, W, C]. */
const at = (shape: readonly number[], b: number, t: number, h: number, w: number, c: number): number =>
  (((b * shape[1]! + t) * shape[2]! + h) * shape[3]! + w) * shape[4]! + c

interface Shuffle {
  /** Of the side with many channels and few pixels. */
  shape: readonly [number, number, number, number, number]
  time: number
  space: number
  edge: number
}

const shuffles: Shuffle[] = [
  { shape: [1, 2, 3, 2, 8], time: 1, space: 2, edge: 0 },
  { shape: [2, 3, 2, 2, 48], time: 2, space: 2, edge: 1 },
  { shape: [1, 2, 2, 3, 108], time: 3, space: 3, edge: 2 },
  { shape: [1, 3, 1, 2, 6], time: 2, space: 1, edge: 0 },
  { shape: [1, 2, 2, 2, 7], time: 1, space: 1, edge: 0 },
  { shape: [1, 2, 1, 2, 296], time: 2, space: 2, edge: 1 },
]

for (const dtype of floats)
  for (const { shape, time, space, edge } of shuffles) {
    const [batch, frames, height, width, many] = shape
    const places = time * space * space
    const few = many / places
    const fine = [batch, frames * time - edge, height * space, width * space] as const

    /** Every element of the coarse side: index there, and on a fine side of `c` channels with its frame (before the edge is clamped). */
    function* pairs(channels: number): Generator<[coarse: number, fine: number, frame: number]> {
      for (let b = 0; b < batch; b++)
        for (let t = 0; t < frames; t++)
          for (let h = 0; h < height; h++)
            for (let w = 0; w < width; w++)
              for (let full = 0; full < channels * places; full++) {
                const place = full % places
                const frame = t * time + Math.floor(place / (space * space)) - edge
                const y = h * space + (Math.floor(place / space) % space)
                const x = w * space + (place % space)
                const pixel = [...fine, channels]
                yield [
                  at([...shape.slice(0, 4), channels * places], b, t, h, w, full),
                  at(pixel, b, Math.max(frame, 0), y, x, Math.floor(full / places)),
                  frame,
                ]
              }
    }

    rows(`unshuffle3d ${dtype} ${JSON.stringify({ shape, time, space, edge })}`, async () => {
      const random = new Random(many)
      const x = random.array(sizeOf(fine) * few, dtype)
      const tensor = upload(device, x, [...fine, few], dtype)
      const moved = (values: number[], channels: number, to: number) => (r: Round) => {
        const out = new Array<number>(batch * frames * height * width * to).fill(0)
        const averaged = (channels * places) / to
        for (const [coarse, from] of pairs(channels)) {
          const pixel = Math.floor(coarse / (channels * places))
          const k = pixel * to + Math.floor((coarse % (channels * places)) / averaged)
          out[k] = r(out[k]! + values[from]!)
        }
        return out.map((v) => r(v / averaged))
      }
      const options = { time, space, repeatFirst: edge }
      const whole = ops.unshuffle3d(tensor, options)
      await judge(whole, shape, moved(x, few, many), 'all channels')
      for (const to of [1, many / few, few].filter((c) => (few * places) % c === 0))
        await judge(
          ops.unshuffle3d(tensor, { ...options, channels: to }),
          [...shape.slice(0, 4), to],
          moved(x, few, to),
          `averaged to ${to}`,
        )
      const other = random.array(sizeOf(fine) * 2 * few, dtype)
      const shortcut = upload(device, other, [...fine, 2 * few], dtype)
      const sum = (r: Round) => {
        const added = moved(other, 2 * few, many)(r)
        return moved(x, few, many)(r).map((v, i) => r(v + added[i]!))
      }
      await judge(ops.unshuffle3d(tensor, { ...options, shortcut }), shape, sum, 'with shortcut')
    })

    rows(`shuffle3d ${dtype} ${JSON.stringify({ shape, time, space, edge })}`, async () => {
      const random = new Random(many + 1)
      const x = random.array(sizeOf(shape), dtype)
      const tensor = upload(device, x, shape, dtype)
      const moved = (values: number[], channels: number, to: number) => {
        const out = new Array<number>(sizeOf(fine) * to)
        const repeats = (to * places) / channels
        for (const [coarse, target, frame] of pairs(to)) {
          if (frame < 0) continue
          const pixel = Math.floor(coarse / (to * places))
          const channel = Math.floor((coarse % (to * places)) / repeats)
          out[target] = values[pixel * channels + channel]!
        }
        return out
      }
      const options = { time, space, dropFirst: edge }
      await judge(ops.shuffle3d(tensor, options), [...fine, few], () => moved(x, many, few), 'all channels')
      for (const to of [many, 2 * few, 3 * few])
        await judge(
          ops.shuffle3d(tensor, { ...options, channels: to }),
          [...fine, to],
          () => moved(x, many, to),
          `repeated to ${to}`,
        )
      const other = random.array(sizeOf(shape.slice(0, 4)) * few, dtype)
      const shortcut = upload(device, other, [...shape.slice(0, 4), few], dtype)
      const sum = (r: Round) => {
        const added = moved(other, few, few)
        return moved(x, many, few).map((v, i) => r(v + added[i]!))
      }
      await judge(ops.shuffle3d(tensor, { ...options, shortcut }), [...fine, few], sum, 'with shortcut')
    })
  }

rows('shuffle3d undoes unshuffle3d', async () => {
  const random = new Random(5)
  const x = upload(device, random.array(2 * 4 * 6 * 4 * 33, 'bf16'), [2, 4, 6, 4, 33], 'bf16')
  const there = ops.unshuffle3d(x, { time: 2, space: 2 })
  await sameBits(ops.shuffle3d(there, { time: 2, space: 2 }), x, 'round trip')
})

for (const dtype of floats)
  for (const granularity of ['map', 'scalar'] as const)
    for (const polarity of ['error', 'confidence'] as const)
      rows(`dynamicMask ${dtype} ${granularity} ${polarity}`, async () => {
        const random = new Random(11)
        const shape = [2, 1, 3, 5, 19]
        const a = random.array(sizeOf(shape), dtype)
        const b = random.array(sizeOf(shape), dtype)
        const frames = 3
        const channels = 4
        const reference = (r: Round) => {
          const out: number[] = []
          for (let sample = 0; sample < 2; sample++) {
            const errors = Array.from({ length: 15 }, (_, p) => {
              const first = (sample * 15 + p) * 19
              let sum = 0
              for (let c = 0; c < 19; c++) sum = r(sum + r(Math.abs(r(a[first + c]! - b[first + c]!))))
              return r(sum / 19)
            })
            const [least, most] = [Math.min(...errors), Math.max(...errors)]
            let map = errors.map((e) => r(0.1 + r(0.8 * r(r(e - least) / r(most - least)))))
            if (polarity === 'confidence') map = map.map((e) => r(1 - e))
            if (granularity === 'scalar') {
              const mean = r(map.reduce((sum, e) => r(sum + e), 0) / map.length)
              map = map.map(() => mean)
            }
            for (let f = 0; f < frames; f++)
              for (const m of map) for (let c = 0; c < channels; c++) out.push(f === 0 ? 1 : m)
          }
          return out
        }
        const options = { frames, channels, lo: 0.1, hi: 0.9, granularity, polarity, dtype }
        const result = ops.dynamicMask(
          upload(device, a, shape, dtype),
          upload(device, b, shape, dtype),
          options,
        )
        await judge(result, [2, frames, 3, 5, channels], reference, 'mask')
      })

rows('dynamicMask of equal pictures is lo', async () => {
  const x = upload(device, new Random(1).array(12), [1, 1, 2, 2, 3])
  const mask = await ops.dynamicMask(x, x, { frames: 2, channels: 1, lo: 0.25, hi: 0.5 }).toFloat32()
  assert.equal([...mask], [1, 1, 1, 1, 0.25, 0.25, 0.25, 0.25])
})

rows('empty tensors give empty results', () => {
  const empty = upload(device, [], [2, 0, 8])
  assert.equal([...ops.normModulate(empty).shape], [2, 0, 8])
  assert.equal([...ops.pixelNorm(empty).shape], [2, 0, 8])
  assert.equal([...ops.groupNorm(empty, { groups: 4 }).shape], [2, 0, 8])
  assert.equal([...ops.qkNormRope(empty, { heads: 2 }).shape], [2, 0, 2, 4])
  assert.equal([...ops.glu(empty).shape], [2, 0, 4])
  const video = upload(device, [], [1, 0, 4, 4, 8])
  assert.equal([...ops.unshuffle3d(video, { space: 2 }).shape], [1, 0, 2, 2, 32])
  assert.equal([...ops.shuffle3d(video, { space: 2 }).shape], [1, 0, 8, 8, 2])
})

/** Ops of one sample each, run on x [B, T, H, W, C] with vectors [B, C] and [C]. */
const deterministic: Record<string, (x: Tensor, vectors: Tensor, vector: Tensor) => Tensor> = {
  normModulate: (x, scale, weight) => ops.normModulate(x, { scale, shift: scale, weight }),
  pixelNorm: (x, _, weight) => ops.pixelNorm(x, { weight, activation: 'gelu' }),
  groupNorm: (x, _, weight) => ops.groupNorm(x, { groups: 8, weight, activation: 'silu' }),
  qkNormRope: (x, _, weight) => ops.qkNormRope(x.reshape(x.dim(0), -1, x.dim(4)), { heads: 4, weight }),
  affine: (x, _, weight) => ops.affine(x, weight, weight),
  unshuffle3d: (x) => ops.unshuffle3d(x, { time: 2, space: 2, channels: 64, shortcut: x }),
  shuffle3d: (x) => ops.shuffle3d(x, { time: 2, space: 2, channels: 24, dropFirst: 1, shortcut: x }),
  dynamicMask: (x) =>
    ops.dynamicMask(x.slice(1, 0, 1), x.slice(1, 1, 2), { frames: 2, channels: 4, granularity: 'scalar' }),
}

for (const [name, op] of Object.entries(deterministic))
  rows(`${name}: a sample's bits depend neither on its batch nor on the threads`, async () => {
    const random = new Random(21)
    const shape = [3, 4, 14, 10, 48]
    const sample = sizeOf(shape.slice(1))
    const x = random.array(3 * sample, 'bf16')
    const vectors = random.array(3 * 48)
    const run = (on: Device, first: number, count: number) =>
      op(
        upload(on, x.slice(first * sample, (first + count) * sample), [count, ...shape.slice(1)], 'bf16'),
        upload(on, vectors.slice(first * 48, (first + count) * 48), [count, 48]),
        upload(on, vectors.slice(0, 48), [48]),
      )
    const single = await openTestDevice({ threads: 1 })
    const many = await openTestDevice({ threads: 5 })
    try {
      const whole = run(single, 0, 3)
      await sameBits(run(many, 0, 3), whole, 'threads')
      for (let b = 0; b < 3; b++) await sameBits(run(many, b, 1), whole.slice(0, b, b + 1), `sample ${b}`)
    } finally {
      single.dispose()
      many.dispose()
    }
  })

rows.run()
