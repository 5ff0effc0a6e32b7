/**
 * conv3d and the packing of its weights against their formulas. The convolutions are chosen around what the CPU does differently:
 * products over panels of 32 outputs, few outputs, one channel a group, groups merged to fill a panel, few channels with the rows of
 * a window folded into them, 1x1 without a copy; and around the edges of its tiles.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'
import { activate } from './activations.js'
import { onCpu, openTestDevice } from './devices.js'
import {
  addProducts,
  exact,
  f32,
  judge,
  Random,
  type Round,
  roundingOf,
  sameBits,
  sizeOf,
  upload,
} from './numbers.js'

const floats = ['f32', 'bf16'] as const

let device: Device
const open = async () => {
  device = await openTestDevice()
}
const close = () => device.dispose()

const conv = suite('conv3d')
conv.before(open)
conv.after(close)

type Three = [number, number, number]

interface ConvCase {
  /** [B, T, H, W, C] of x */
  x: [number, number, number, number, number]
  outputs: number
  kernel?: Three
  stride?: Three
  padTime?: [number, number]
  padSpace?: [number, number]
  before?: number
  groups?: number
  groupCausal?: { size: number; first: number }
  timePadding?: 'replicate' | 'zeros'
  activation?: ops.Activation
  bias?: boolean
  noise?: boolean
  norm?: { weight?: boolean; bias?: boolean; eps?: number }
  residual?: boolean
}

function makeConv(c: ConvCase, dtype: DType, seed: number) {
  const [batch, frames, height, width, channels] = c.x
  const { outputs, kernel = [3, 3, 3], stride = [1, 1, 1], padTime = [1, 1], padSpace = [1, 1] } = c
  const { before = 0, groups = 1, timePadding = 'replicate', activation = 'none', groupCausal } = c
  const [kt, kh, kw] = kernel
  const inOfGroup = channels / groups
  const outOfGroup = outputs / groups
  const random = new Random(seed)
  const taps = inOfGroup * kt * kh * kw
  const ofChannel = { bStep: kt * kh * kw } // from channel to channel in the weight
  const total = before + frames
  const shape = [
    batch,
    Math.floor((padTime[0] + total + padTime[1] - kt) / stride[0]) + 1,
    Math.floor((height + 2 * padSpace[0] - kh) / stride[1]) + 1,
    Math.floor((width + 2 * padSpace[1] - kw) / stride[2]) + 1,
    outputs,
  ] as const
  const [, outFrames, outHeight, outWidth] = shape
  const pixels = height * width * channels
  /** All frames that are there, [B, before + T, H, W, C]. */
  const clip = random.array(batch * total * pixels, dtype)
  const weight = random.array(outputs * taps, dtype, 1 / Math.sqrt(taps))
  const bias = c.bias ? random.array(outputs) : undefined
  const noise = c.noise ? random.array(outHeight * outWidth) : undefined
  const noiseWeight = 0.25
  const residual = c.residual ? random.array(sizeOf(shape), dtype) : undefined
  const normWeight = c.norm?.weight ? random.array(outputs) : undefined
  const normBias = c.norm?.bias ? random.array(outputs) : undefined
  const eps = f32(c.norm?.eps ?? 1e-8)

  /** The frame under tap `k` of output frame `t`, or nothing. */
  const frameOf = (t: number, k: number): number | undefined => {
    const frame = t * stride[0] + k - padTime[0]
    if (groupCausal && k === 2) {
      const { size, first } = groupCausal
      if (t < first || (t - first) % size === size - 1)
        return timePadding === 'zeros' ? undefined : before + t
    }
    if (frame >= 0 && frame < total) return frame
    return timePadding === 'zeros' ? undefined : Math.min(Math.max(frame, 0), total - 1)
  }

  /** What follows the sums of a pixel. A plain implementation, a norm being an op of its own, stores them in between. */
  const finished = (sums: number[], first: number, r: Round): number[] => {
    const after = (sum: number, i: number) => {
      const y = activate(activation, sum, r)
      return residual ? r(y + residual[first + i]!) : y
    }
    if (!c.norm) return sums.map(after)
    const x = r === exact ? sums : sums.map(roundingOf(dtype))
    const squares = x.reduce((total, v) => r(total + r(v * v)), 0)
    const root = r(Math.sqrt(r(r(squares / outputs) + eps)))
    return x.map((v, i) => {
      const scaled = r(r(v / root) * (normWeight?.[i] ?? 1))
      return after(r(scaled + (normBias?.[i] ?? 0)), i)
    })
  }

  const reference = (r: Round): number[] => {
    const y: number[] = []
    for (let b = 0; b < batch; b++)
      for (let t = 0; t < outFrames; t++)
        for (let h = 0; h < outHeight; h++)
          for (let w = 0; w < outWidth; w++) {
            const sums: number[] = []
            for (let o = 0; o < outputs; o++) {
              let sum = 0
              for (let k = 0; k < kt; k++) {
                const frame = frameOf(t, k)
                if (frame === undefined) continue
                for (let i = 0; i < kh; i++)
                  for (let j = 0; j < kw; j++) {
                    const row = h * stride[1] + i - padSpace[0]
                    const col = w * stride[2] + j - padSpace[1]
                    if (row < 0 || row >= height || col < 0 || col >= width) continue
                    const from = (((b * total + frame) * height + row) * width + col) * channels
                    const group = Math.floor(o / outOfGroup) * inOfGroup
                    const tap = ((o * inOfGroup * kt + k) * kh + i) * kw + j
                    sum = addProducts(r, sum, inOfGroup, clip, from + group, weight, tap, ofChannel)
                  }
              }
              if (bias) sum = r(sum + bias[o]!)
              if (noise) sum = r(sum + r(noiseWeight * noise[h * outWidth + w]!))
              sums.push(sum)
            }
            y.push(...finished(sums, y.length, r))
          }
    return y
  }

  const framesOf = (from: number, to: number): number[] => {
    const out: number[] = []
    for (let b = 0; b < batch; b++)
      out.push(...clip.slice((b * total + from) * pixels, (b * total + to) * pixels))
    return out
  }
  const options: ops.Conv3dOptions = {
    stride,
    padTime,
    padSpace,
    groups,
    timePadding,
    activation,
    noiseWeight,
    ...(groupCausal && { groupCausal }),
    ...(bias && { bias: upload(device, bias, [outputs]) }),
    ...(noise && { noise: upload(device, noise, [outHeight, outWidth]) }),
    ...(residual && { residual: upload(device, residual, shape, dtype) }),
    ...(c.norm && {
      norm: {
        ...(normWeight && { weight: upload(device, normWeight, [outputs]) }),
        ...(normBias && { bias: upload(device, normBias, [outputs]) }),
        eps,
      },
    }),
    ...(before > 0 && {
      before: upload(device, framesOf(0, before), [batch, before, height, width, channels], dtype),
    }),
  }
  const plain = upload(device, weight, [outputs, inOfGroup, kt, kh, kw], dtype)
  return {
    shape,
    reference,
    options,
    plain,
    packed: ops.packConv3d(plain, groups),
    x: upload(device, framesOf(before, total), c.x, dtype),
    /** x of some samples or frames only. */
    clip: upload(device, clip, [batch, total, height, width, channels], dtype),
  }
}

const one: Three = [1, 1, 1]
const unpadded = { padTime: [0, 0], padSpace: [0, 0] } satisfies Partial<ConvCase>

const cases: Record<string, ConvCase> = {
  'a single number': { x: [1, 1, 1, 1, 1], outputs: 1, kernel: one, ...unpadded },
  'channels of a panel': { x: [1, 2, 3, 5, 32], outputs: 32, bias: true },
  'half a panel, wider than a block': {
    x: [1, 2, 3, 33, 16],
    outputs: 16,
    bias: true,
    noise: true,
    residual: true,
    activation: 'silu',
  },
  'odd channels, primes': { x: [2, 2, 3, 7, 7], outputs: 37, bias: true, activation: 'gelu' },
  'several panels and an odd rest': { x: [1, 1, 2, 3, 37], outputs: 67, activation: 'gelu_tanh' },
  'a picture comes in': { x: [1, 3, 6, 40, 3], outputs: 16, bias: true, activation: 'silu' },
  'a picture goes out': { x: [1, 2, 3, 131, 16], outputs: 3, bias: true, residual: true, activation: 'silu' },
  'one output of odd channels': { x: [2, 2, 3, 17, 5], outputs: 1, noise: true },
  'four outputs with strides': {
    x: [1, 2, 5, 37, 7],
    outputs: 4,
    stride: [1, 2, 2],
    residual: true,
    activation: 'relu',
  },
  'two outputs, stride 3, wide kernel': {
    x: [1, 1, 3, 50, 6],
    outputs: 2,
    kernel: [1, 3, 5],
    stride: [1, 1, 3],
    padTime: [0, 0],
    padSpace: [1, 2],
  },
  'one channel': { x: [1, 2, 4, 9, 1], outputs: 5 },
  'two channels with strides': { x: [1, 3, 7, 9, 2], outputs: 35, stride: [2, 2, 2] },
  'causal copies': { x: [1, 4, 3, 4, 8], outputs: 8, padTime: [2, 0] },
  'zeros in time': { x: [1, 1, 3, 4, 8], outputs: 8, timePadding: 'zeros', bias: true },
  'zeros in time, few outputs': { x: [1, 1, 3, 4, 3], outputs: 3, timePadding: 'zeros' },
  'strided down-sampling': { x: [1, 5, 6, 6, 8], outputs: 12, stride: [2, 2, 2], padTime: [2, 0] },
  'frames from before': { x: [2, 3, 3, 4, 8], outputs: 8, padTime: [0, 0], before: 2, bias: true },
  'padding wider than the input': {
    x: [1, 1, 2, 2, 8],
    outputs: 8,
    padTime: [3, 4],
    padSpace: [3, 5],
    bias: true,
  },
  'one pixel after another': {
    x: [1, 2, 5, 10, 17],
    outputs: 40,
    kernel: one,
    noise: true,
    residual: true,
    ...unpadded,
  },
  'one pixel of four': { x: [1, 3, 4, 6, 16], outputs: 33, kernel: one, stride: [2, 2, 2], ...unpadded },
  patches: {
    x: [1, 1, 8, 12, 3],
    outputs: 33,
    kernel: [1, 4, 4],
    stride: [1, 4, 4],
    bias: true,
    ...unpadded,
  },
  'a frame of more than 1024 pixels': {
    x: [1, 2, 33, 34, 8],
    outputs: 5,
    bias: true,
    noise: true,
    residual: true,
    activation: 'silu',
  },
  'more than 1024 pixels in two columns, windows wider than they': {
    x: [1, 1, 530, 2, 4],
    outputs: 5,
    kernel: [1, 3, 7],
    padTime: [0, 0],
    padSpace: [2, 4],
    noise: true,
  },
  'more than 1024 pixels with strides': {
    x: [1, 1, 65, 67, 4],
    outputs: 5,
    kernel: [1, 4, 5],
    stride: [1, 2, 2],
    padTime: [0, 0],
    padSpace: [2, 2],
    noise: true,
  },
  'half a panel, blocks over the ends of rows': { x: [1, 2, 35, 34, 8], outputs: 16, bias: true },
  'a panel and a half, blocks over the ends of rows': { x: [1, 2, 27, 40, 6], outputs: 48, bias: true },
  'whole panels, odd rows': { x: [1, 1, 35, 33, 8], outputs: 32 },
  'no padding': { x: [1, 3, 4, 9, 12], outputs: 20, stride: [1, 1, 2], ...unpadded },
  'wider than a tile': { x: [1, 1, 2, 300, 24], outputs: 8, kernel: [1, 3, 3], padTime: [0, 0] },
  'groups of 32': { x: [1, 2, 3, 4, 96], outputs: 96, groups: 3, kernel: one, ...unpadded },
  'groups of 8, merged': {
    x: [1, 2, 3, 4, 48],
    outputs: 48,
    groups: 6,
    kernel: one,
    bias: true,
    ...unpadded,
  },
  'groups with a window': { x: [1, 2, 3, 4, 24], outputs: 36, groups: 3 },
  'groups of one channel, two outputs': { x: [1, 2, 3, 4, 6], outputs: 12, groups: 6 },
  'depth-wise': {
    x: [2, 3, 3, 18, 70],
    outputs: 70,
    groups: 70,
    bias: true,
    noise: true,
    residual: true,
    activation: 'silu',
  },
  'depth-wise, long rows': { x: [1, 1, 2, 50, 40], outputs: 40, groups: 40 },
  'depth-wise 5x5': {
    x: [1, 2, 6, 9, 33],
    outputs: 33,
    groups: 33,
    kernel: [1, 5, 5],
    padTime: [0, 0],
    padSpace: [2, 2],
  },
  'depth-wise with strides': {
    x: [1, 4, 5, 7, 7],
    outputs: 7,
    groups: 7,
    stride: [2, 2, 2],
    timePadding: 'zeros',
  },
}
for (const size of [1, 2, 3, 4])
  for (const first of [0, 1, 2])
    cases[`group-causal ${size} from ${first}`] = {
      x: [1, 5, 2, 3, 4],
      outputs: 8,
      groupCausal: { size, first },
      ...(first === 1 ? { before: 1, padTime: [0, 1] } : {}),
      timePadding: size % 2 ? 'replicate' : 'zeros',
    }

const affine = { weight: true, bias: true }

/** Around what a kernel has of a row of channels: one, a part of a vector, of a panel, of a tile, and more than each. */
const norms: Record<string, ConvCase> = {
  'one channel, which leaves its sign': { x: [1, 2, 3, 5, 3], outputs: 1, norm: {} },
  'a picture, everything': {
    x: [1, 2, 3, 37, 16],
    outputs: 3,
    bias: true,
    noise: true,
    norm: affine,
    residual: true,
  },
  'four channels, a short row': { x: [1, 3, 5, 7, 16], outputs: 4, noise: true, norm: { weight: true } },
  'eight channels': { x: [2, 1, 3, 7, 24], outputs: 8, norm: { bias: true }, activation: 'silu' },
  '16 channels': { x: [2, 2, 5, 9, 16], outputs: 16, bias: true, norm: {}, residual: true },
  '17 channels of zeros in time': {
    x: [1, 2, 3, 5, 16],
    outputs: 17,
    noise: true,
    norm: affine,
    activation: 'relu',
    timePadding: 'zeros',
  },
  '37 channels': { x: [1, 2, 3, 7, 7], outputs: 37, norm: affine, activation: 'gelu' },
  '67 channels': { x: [1, 1, 4, 9, 16], outputs: 67, noise: true, norm: { weight: true }, residual: true },
  '128 channels, eps counts': {
    x: [1, 2, 5, 9, 32],
    outputs: 128,
    bias: true,
    norm: { ...affine, eps: 0.5 },
    residual: true,
  },
  '129 channels': { x: [1, 1, 3, 4, 16], outputs: 129, bias: true, noise: true, norm: affine },
  '300 channels': { x: [1, 1, 2, 3, 16], outputs: 300, norm: affine, residual: true },
  'a wide frame, with its sides apart': {
    x: [1, 2, 33, 34, 8],
    outputs: 24,
    noise: true,
    norm: affine,
    residual: true,
  },
  'frames from before': {
    x: [2, 3, 3, 4, 16],
    outputs: 24,
    padTime: [0, 0],
    before: 2,
    norm: affine,
    residual: true,
  },
  'nothing but frames from before': {
    x: [1, 0, 3, 4, 16],
    outputs: 8,
    padTime: [0, 1],
    before: 3,
    norm: {},
    activation: 'silu',
  },
  'group-causal': {
    x: [1, 5, 2, 3, 16],
    outputs: 8,
    groupCausal: { size: 4, first: 1 },
    noise: true,
    norm: {},
    residual: true,
  },
  'strides, one pixel after another': {
    x: [1, 3, 4, 6, 16],
    outputs: 33,
    kernel: one,
    stride: [2, 2, 2],
    norm: affine,
    ...unpadded,
  },
  'groups, all of whose channels are one row': { x: [1, 2, 3, 4, 48], outputs: 36, groups: 3, norm: affine },
  'depth-wise': { x: [1, 2, 3, 9, 40], outputs: 40, groups: 40, bias: true, norm: affine, residual: true },
  'depth-wise, more channels than a block of them': {
    x: [1, 1, 3, 9, 70],
    outputs: 70,
    groups: 70,
    norm: {},
    activation: 'silu',
  },
}
for (const [name, c] of Object.entries(norms)) cases[`norm: ${name}`] = c

let seed = 100
for (const dtype of floats)
  for (const [name, c] of Object.entries(cases))
    conv(`${dtype}: ${name}`, async () => {
      const made = makeConv(c, dtype, seed++)
      const y = ops.conv3d(made.x, made.packed, made.options)
      await judge(y, made.shape, made.reference, name)
      await sameBits(ops.conv3d(made.x, made.plain, made.options), y, `${name}: a plain weight`)
    })

for (const dtype of floats)
  conv(`${dtype}: denormal numbers are numbers`, async () => {
    const bias = Float32Array.from({ length: 32 }, (_, i) =>
      i % 3 ? 1e-40 * (i - 16) : i % 2 ? 0.5 : -2e-38,
    )
    const x = ops.fill(device, [1, 1, 33, 34, 8], 1, dtype)
    const weight = ops.packConv3d(ops.fill(device, [32, 8, 1, 3, 3], 0, dtype))
    const y = ops.conv3d(x, weight, { bias: device.tensor(bias, [32]), padSpace: [1, 1] })
    const rows = ops.cast(device.tensor(bias, [32]), dtype)
    const expected = ops.cast(rows, 'f32').reshape(1, 1, 1, 1, 32)
    const all = ops.cast(y, 'f32')
    const pixel = (h: number, w: number) => ops.slice(ops.slice(all, 2, h, h + 1), 3, w, w + 1)
    await sameBits(pixel(0, 0), expected, 'in a corner')
    await sameBits(pixel(16, 17), expected, 'inside')
  })

for (const dtype of floats)
  for (const [name, c] of Object.entries(norms))
    conv(`${dtype}: norm: ${name}: the ops one after the other`, async () => {
      const made = makeConv(c, dtype, seed++)
      const { norm, residual, activation, ...sums } = made.options
      const after = { ...norm!, residual, activation }
      const fused = ops.conv3d(made.x, made.packed, made.options)
      const apart = ops.pixelNorm(ops.conv3d(made.x, made.packed, sums), after)
      // A card may norm sums of f32 where these are bf16.
      if (onCpu || dtype === 'f32') await sameBits(fused, apart, name)
      else {
        const [a, b] = [await fused.toFloat32(), await apart.toFloat32()]
        for (let i = 0; i < a.length; i++)
          assert.ok(
            Math.abs(a[i]! - b[i]!) <= 2 ** -6 * (4 + Math.abs(b[i]!)),
            `${name} ${i}: ${a[i]}, ${b[i]}`,
          )
      }
    })

/** Kinds of convolution whose bits must not depend on how the work is cut. */
const kinds: Record<string, ConvCase> = {
  'without copies': { x: [2, 4, 31, 34, 8], outputs: 34, noise: true },
  product: { x: [3, 4, 9, 20, 24], outputs: 40, bias: true },
  folded: { x: [3, 4, 9, 20, 3], outputs: 24 },
  narrow: { x: [3, 4, 9, 20, 16], outputs: 3 },
  'depth-wise': { x: [3, 4, 9, 20, 80], outputs: 80, groups: 80 },
  'norm of a tile': { x: [3, 4, 9, 20, 16], outputs: 16, noise: true, norm: affine },
  'norm of several tiles': { x: [2, 4, 7, 11, 16], outputs: 140, norm: affine },
}

for (const dtype of floats)
  for (const [name, c] of Object.entries(kinds)) {
    conv(`${dtype} ${name}: a sample's bits do not depend on the batch`, async () => {
      const made = makeConv(c, dtype, 7)
      const all = ops.conv3d(made.x, made.packed, made.options)
      for (let b = 0; b < c.x[0]; b++)
        await sameBits(
          ops.conv3d(made.x.slice(0, b, b + 1), made.packed, made.options),
          all.slice(0, b, b + 1),
          `sample ${b}`,
        )
    })

    conv(`${dtype} ${name}: bits do not depend on the threads`, async () => {
      const results: Tensor[] = []
      for (const threads of [1, 2, 3, 7]) {
        const main = device
        device = await openTestDevice({ threads })
        const made = makeConv(c, dtype, 8)
        results.push(
          upload(main, [...(await ops.conv3d(made.x, made.packed, made.options).toFloat32())], made.shape),
        )
        device.dispose()
        device = main
      }
      for (const y of results) await sameBits(y, results[0]!, 'threads')
    })

    conv(`${dtype} ${name}: a clip in chunks with the frames before is the whole clip`, async () => {
      const [batch, , ...rest] = c.x
      const made = makeConv({ ...c, x: [batch, 7, ...rest], padTime: [2, 0] }, dtype, 9)
      const whole = ops.conv3d(made.x, made.packed, made.options)
      let from = 0
      for (const count of [1, 3, 1, 2]) {
        const before = Math.min(from, 2)
        const y = ops.conv3d(made.x.slice(1, from, from + count), made.packed, {
          ...made.options,
          padTime: [2 - before, 0],
          ...(before > 0 && { before: made.x.slice(1, from - before, from) }),
        })
        await sameBits(y, whole.slice(1, from, from + count), `frames from ${from}`)
        from += count
      }
    })
  }

conv('group-causal time in chunks of whole groups is the whole clip', async () => {
  const made = makeConv({ x: [2, 9, 3, 4, 8], outputs: 16, groupCausal: { size: 4, first: 1 } }, 'bf16', 10)
  const whole = ops.conv3d(made.x, made.packed, made.options)
  await sameBits(
    ops.conv3d(made.x.slice(1, 0, 1), made.packed, made.options),
    whole.slice(1, 0, 1),
    'the first frame',
  )
  for (const from of [1, 5])
    await sameBits(
      ops.conv3d(made.x.slice(1, from, from + 4), made.packed, {
        ...made.options,
        padTime: [0, 1],
        before: made.x.slice(1, from - 1, from),
        groupCausal: { size: 4, first: 0 },
      }),
      whole.slice(1, from, from + 4),
      `frames from ${from}`,
    )
})

conv('empty tensors give empty tensors', async () => {
  const made = makeConv({ x: [1, 2, 3, 4, 8], outputs: 8 }, 'f32', 11)
  const none = ops.conv3d(made.x.slice(0, 0, 0), made.packed, made.options)
  await judge(none, [0, 2, 3, 4, 8], () => [], 'no samples')
  const normed = ops.conv3d(made.x.slice(0, 0, 0), made.packed, { ...made.options, norm: {} })
  await judge(normed, [0, 2, 3, 4, 8], () => [], 'no samples, norm')
})

conv.run()
