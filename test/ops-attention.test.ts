/**
 * attention and linearAttention against their formulas, at sizes around and far from those of the kernels' blocks (32 queries,
 * 64 and 256 keys); and that a query's bits depend on nothing but the query.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'
import { bearable, openTestDevice } from './devices.js'
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

// ------------------------------------------------------------------------------------------------------------- attention

const attention = suite('attention')
attention.before(open)
attention.after(close)

interface AttentionCase {
  /** B, Nq, Nk, H, D */
  size: [number, number, number, number, number]
  dtype: DType
  bias?: boolean
  keyLengths?: number[]
  /** Of q, as a factor on what a network has. */
  strength?: number
  scale?: number
}

function makeAttention(c: AttentionCase, seed: number) {
  const [batch, nq, nk, heads, dim] = c.size
  const random = new Random(seed)
  const [qShape, kShape] = [
    [batch, nq, heads, dim],
    [batch, nk, heads, dim],
  ]
  const q = random.array(sizeOf(qShape), c.dtype, c.strength ?? 1)
  const k = random.array(sizeOf(kShape), c.dtype)
  const v = random.array(sizeOf(kShape), c.dtype)
  const bias = c.bias
    ? random.array(heads * nq * nk, 'f32', 2).map((b) => (b < -3 ? Number.NEGATIVE_INFINITY : b))
    : undefined
  const scale = f32(c.scale ?? 1 / Math.sqrt(dim))

  const reference = (r: Round): number[] => {
    // A plain implementation in bf16 keeps the probabilities in bf16 for their product with v.
    const kept = r === exact ? exact : roundingOf(c.dtype)
    const out: number[] = []
    for (let b = 0; b < batch; b++)
      for (let i = 0; i < nq; i++)
        for (let h = 0; h < heads; h++) {
          const keys = Math.min(Math.max(c.keyLengths?.[b] ?? nk, 0), nk)
          const at = (n: number, j: number) => ((b * n + j) * heads + h) * dim
          const scores = Array.from({ length: keys }, (_, j) => {
            const sum = r(addProducts(r, 0, dim, q, at(nq, i), k, at(nk, j)) * scale)
            return bias ? r(sum + bias[(h * nq + i) * nk + j]!) : sum
          })
          const highest = Math.max(...scores)
          const p = scores.map((s) => r(Math.exp(r(s - highest))))
          const total = p.reduce((sum, x) => r(sum + x), 0)
          const shares = p.map(kept)
          for (let d = 0; d < dim; d++) {
            const sum = addProducts(r, 0, keys, shares, 0, v, at(nk, 0) + d, { bStep: heads * dim })
            out.push(keys === 0 ? 0 : r(sum / total))
          }
        }
    return out
  }
  const tensors = [
    upload(device, q, qShape, c.dtype),
    upload(device, k, kShape, c.dtype),
    upload(device, v, kShape, c.dtype),
  ] as const
  const options = {
    scale,
    ...(bias && { bias: upload(device, bias, [heads, nq, nk]) }),
    ...(c.keyLengths && { keyLengths: device.tensor(Int32Array.from(c.keyLengths), [batch]) }),
  }
  return { shape: qShape, reference, tensors, options, run: () => ops.attention(...tensors, options) }
}

const judgeAttention = async (c: AttentionCase, seed = 1) => {
  const made = makeAttention(c, seed)
  await judge(made.run(), made.shape, made.reference, `[${c.size}]`)
}

for (const dtype of floats) {
  const sizes: AttentionCase['size'][] = [
    [1, 1, 1, 1, 1],
    [2, 5, 7, 2, 3],
    [1, 59, 256, 1, 32],
    [1, 30, 257, 2, 33],
    [2, 17, 70, 3, 80],
    [1, 65, 31, 2, 64],
    [1, 15, 300, 1, 128],
    [1, 3, 40, 1, 257],
    [1, 2, 1030, 1, 16],
    [1, 70, 1100, 1, 33], // several blocks of queries, more keys than one pass of the CPU takes
  ]
  for (const size of bearable(sizes, sizeOf, 1e6))
    attention(`${dtype} [${size}]`, () => judgeAttention({ size, dtype }))

  attention(`${dtype} with a bias, parts of it -infinity`, async () => {
    await judgeAttention({ size: [2, 20, 45, 2, 24], dtype, bias: true })
    await judgeAttention({ size: [1, 9, 300, 1, 16], dtype, bias: true })
  })

  attention(`${dtype} with key lengths, from none to more than there are`, () =>
    judgeAttention({ size: [5, 6, 290, 2, 16], dtype, keyLengths: [290, 0, 1, 257, 1000] }),
  )

  attention(`${dtype} with scores in the hundreds`, () =>
    judgeAttention({ size: [1, 16, 600, 1, 64], dtype, strength: 100 }),
  )

  attention(`${dtype} with a scale of 0 or below`, async () => {
    // Below -1 shares overflow unless they are counted from the lowest product.
    for (const scale of [0, -0.4, -30]) await judgeAttention({ size: [1, 35, 301, 1, 20], dtype, scale })
  })

  attention(`${dtype}: keys hidden by the bias do not count, and hiding all gives zeros`, async () => {
    const made = makeAttention({ size: [1, 3, 280, 1, 16], dtype }, 4)
    const hidden = (visible: (row: number, key: number) => boolean) =>
      ops.attention(...made.tensors, {
        ...made.options,
        bias: upload(
          device,
          Array.from({ length: 3 * 280 }, (_, i) =>
            visible(Math.floor(i / 280), i % 280) ? 0 : Number.NEGATIVE_INFINITY,
          ),
          [1, 3, 280],
        ),
      })
    // The first block of keys is wholly hidden: the running softmax begins with nothing.
    const last = await hidden((_, key) => key === 279).toFloat32()
    const values = await made.tensors[2].toFloat32()
    for (let row = 0; row < 3; row++)
      for (let d = 0; d < 16; d++) assert.is(last[row * 16 + d], values[279 * 16 + d])
    const none = await hidden(() => false).toFloat32()
    assert.ok(none.every((x) => x === 0))
  })

  attention(`${dtype}: a query's bits do not depend on the others, a sample's not on its batch`, async () => {
    const made = makeAttention({ size: [2, 100, 270, 2, 40], dtype, keyLengths: [270, 133] }, 7)
    const [q, k, v] = made.tensors
    const all = made.run()
    for (const [from, to] of [
      [0, 1],
      [61, 62],
      [20, 99],
    ] as const)
      await sameBits(
        ops.attention(q.slice(1, from, to), k, v, made.options),
        all.slice(1, from, to),
        `queries ${from} to ${to}`,
      )
    for (const b of [0, 1])
      await sameBits(
        ops.attention(q.slice(0, b, b + 1), k.slice(0, b, b + 1), v.slice(0, b, b + 1), {
          ...made.options,
          keyLengths: made.options.keyLengths!.slice(0, b, b + 1),
        }),
        all.slice(0, b, b + 1),
        `sample ${b}`,
      )
  })

  attention(`${dtype}: bits do not depend on the threads`, async () => {
    const results: Tensor[] = []
    for (const threads of [1, 2, 3]) {
      const previous = device
      device = await openTestDevice({ threads })
      results.push(makeAttention({ size: [1, 130, 300, 3, 48], dtype }, 8).run())
      device = previous
    }
    for (const y of results) await sameBits(y, results[0]!, 'threads')
    for (const y of results) y.device.dispose()
  })
}

attention('no keys at all give zeros, no queries nothing', async () => {
  const zeros = await makeAttention({ size: [1, 4, 0, 2, 8], dtype: 'f32' }, 1)
    .run()
    .toFloat32()
  assert.is(zeros.length, 64)
  assert.ok(zeros.every((x) => x === 0))
  assert.is(
    (
      await makeAttention({ size: [1, 0, 4, 2, 8], dtype: 'f32' }, 1)
        .run()
        .read()
    ).length,
    0,
  )
})

attention.run()

// ------------------------------------------------------------------------------------------------------- linearAttention

const linearAttention = suite('linearAttention')
linearAttention.before(open)
linearAttention.after(close)

function makeLinearAttention(shape: number[], headDim: number, dtype: DType, seed: number, shift = 0) {
  const tokens = shape.at(-2)!
  const channels = shape.at(-1)!
  const heads = channels / (3 * headDim)
  const frames = sizeOf(shape.slice(0, -2))
  const values = new Random(seed).array(sizeOf(shape), dtype, 1, shift)
  const eps = 1e-15
  const reference = (r: Round): number[] => {
    const y = new Array<number>(frames * tokens * heads * headDim)
    for (let f = 0; f < frames; f++)
      for (let h = 0; h < heads; h++) {
        const at = (n: number, part: number, i: number) =>
          values[(f * tokens + n) * channels + (h * 3 + part) * headDim + i]!
        const relu = (v: number) => Math.max(v, 0)
        const sums = Array.from({ length: headDim }, () => new Array<number>(headDim + 1).fill(0))
        for (let n = 0; n < tokens; n++)
          for (let i = 0; i < headDim; i++)
            for (let j = 0; j <= headDim; j++)
              sums[i]![j] = r(sums[i]![j]! + r(relu(at(n, 1, i)) * (j < headDim ? at(n, 2, j) : 1)))
        for (let n = 0; n < tokens; n++)
          for (let j = 0; j < headDim; j++) {
            let over = 0
            let under = 0
            for (let i = 0; i < headDim; i++) {
              over = r(over + r(relu(at(n, 0, i)) * sums[i]![j]!))
              under = r(under + r(relu(at(n, 0, i)) * sums[i]![headDim]!))
            }
            y[((f * tokens + n) * heads + h) * headDim + j] = r(over / r(under + eps))
          }
      }
    return y
  }
  const out = [...shape.slice(0, -1), channels / 3]
  return { values, reference, out, qkv: upload(device, values, shape, dtype) }
}

for (const dtype of floats)
  for (const [shape, headDim] of [
    [[1, 1, 3], 1],
    [[2, 5, 24], 8],
    [[1, 3, 70, 192], 32],
    [[2, 65, 3 * 2 * 17], 17],
    [[130, 3 * 64], 64],
    [[1, 2, 9, 3 * 96], 96],
  ] as [number[], number][])
    linearAttention(`${dtype} [${shape}], heads of ${headDim}`, async () => {
      const made = makeLinearAttention(shape, headDim, dtype, 20)
      await judge(ops.linearAttention(made.qkv, { headDim }), made.out, made.reference, `${shape}`)
    })

for (const dtype of floats) {
  linearAttention(`${dtype}: nothing positive in q or k gives zeros, not NaN`, async () => {
    const made = makeLinearAttention([1, 20, 96], 32, dtype, 21, -10)
    await judge(
      ops.linearAttention(made.qkv),
      made.out,
      (r) => made.reference(r).map((v) => v + 0),
      'negative',
    )
    await judge(ops.linearAttention(made.qkv), made.out, () => new Array<number>(20 * 32).fill(0), 'zeros')
  })

  linearAttention(`${dtype}: frames do not see each other, threads change nothing`, async () => {
    const made = makeLinearAttention([3, 70, 192], 32, dtype, 22)
    const all = ops.linearAttention(made.qkv)
    for (let f = 0; f < 3; f++)
      await sameBits(ops.linearAttention(made.qkv.slice(0, f, f + 1)), all.slice(0, f, f + 1), `frame ${f}`)
    const other = await openTestDevice({ threads: 3 })
    try {
      const y = ops.linearAttention(upload(other, made.values, [3, 70, 192], dtype))
      await sameBits(y, all, 'three threads')
    } finally {
      other.dispose()
    }
  })
}

linearAttention.run()
