/**
 * linear, attention and the packing of linear weights against their formulas, at sizes around and far from those of the kernels'
 * blocks (14 x 32, 32 x 32, 6 x 16, 4 x 8; 256 keys); and that a row's bits depend on nothing but the row: not on how many there
 * are, nor on the threads, nor on whether the weight was packed before.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'
import { activate } from './activations.js'
import { openTestDevice } from './devices.js'
import {
  bf16,
  exact,
  f32,
  fp8Value,
  judge,
  judgeFp8,
  Random,
  type Round,
  roundingOf,
  sameBits,
  sizeOf,
  upload,
} from './numbers.js'

const floats = ['f32', 'bf16'] as const
const activations = ['none', 'silu', 'relu', 'gelu', 'gelu_tanh'] as const

let device: Device
const open = async () => {
  device = await openTestDevice()
}
const close = () => device.dispose()

// ---------------------------------------------------------------------------------------------------------------- linear

const linear = suite('linear')
linear.before(open)
linear.after(close)

interface LinearCase {
  /** [B, N, K] of x */
  x: [number, number, number]
  outputs: number
  dtype?: DType
  resultDtype?: DType
  activation?: ops.Activation
  bias?: boolean
  gate?: 'sample' | 'element'
  residual?: boolean
  /** The weight as fp8 codes with row scales, or x too, with scales of rows or of groups. */
  fp8?: 'weight' | 'rows' | 'groups'
}

/** A case with its tensors and its reference. */
function makeLinear(c: LinearCase, seed: number) {
  const [batch, tokens, depth] = c.x
  const { outputs, dtype = 'f32', activation = 'none' } = c
  const resultDtype = c.resultDtype ?? dtype
  const random = new Random(seed)
  const shape = [batch, tokens, outputs]
  const spread = 1 / Math.sqrt(Math.max(depth, 1))
  const fp8Codes = (size: number) =>
    Array.from({ length: size }, () => random.integer(127) + 128 * random.integer(2))
  const xCodes = c.fp8 === 'rows' || c.fp8 === 'groups' ? fp8Codes(sizeOf(c.x)) : undefined
  const span = c.fp8 === 'groups' ? 128 : depth // of x under one scale
  const xScales = random.array(batch * tokens * Math.ceil(depth / span), 'f32', 0.01)
  const x = xCodes?.map(fp8Value) ?? random.array(sizeOf(c.x), dtype)
  const codes = fp8Codes(outputs * depth)
  const scales = random.array(outputs, 'f32', 0.01 * spread)
  const weight = c.fp8 ? codes.map(fp8Value) : random.array(outputs * depth, dtype, spread)
  const bias = c.bias ? random.array(outputs) : undefined
  const gateSize = c.gate === 'sample' ? batch * outputs : sizeOf(shape)
  const gate = c.gate ? random.array(gateSize, c.gate === 'sample' ? 'f32' : resultDtype) : undefined
  const residual = c.residual ? random.array(sizeOf(shape), resultDtype) : undefined

  const reference = (r: Round): number[] => {
    // fp8 operands are multiplied as bf16 numbers: for the truth they are what they stand for.
    const rounded = r === exact ? exact : (v: number) => bf16(f32(v))
    const scaled = (values: readonly number[], by: readonly number[], span: number) =>
      values.map((v, i) => {
        const row = Math.floor(i / depth)
        return rounded(v * by[row * Math.ceil(depth / span) + Math.floor((i % depth) / span)]!)
      })
    const a = xCodes ? scaled(x, xScales, span) : x
    const w = c.fp8 ? scaled(weight, scales, depth) : weight
    const y: number[] = []
    for (let row = 0; row < batch * tokens; row++)
      for (let n = 0; n < outputs; n++) {
        let sum = 0
        for (let k = 0; k < depth; k++) sum = r(sum + r(a[row * depth + k]! * w[n * depth + k]!))
        if (bias) sum = r(sum + bias[n]!)
        sum = activate(activation, sum, r)
        const at = row * outputs + n
        if (gate) sum = r(sum * gate[c.gate === 'sample' ? Math.floor(row / tokens) * outputs + n : at]!)
        y.push(residual ? r(sum + residual[at]!) : sum)
      }
    return y
  }
  const options = {
    ...(bias && { bias: upload(device, bias, [outputs]) }),
    ...(gate && {
      gate:
        c.gate === 'sample'
          ? upload(device, gate, [batch, outputs])
          : upload(device, gate, shape, resultDtype),
    }),
    ...(residual && { residual: upload(device, residual, shape, resultDtype) }),
    activation,
    dtype: resultDtype,
  }
  const plain = c.fp8
    ? device.tensor(Uint8Array.from(codes), [outputs, depth], 'f8e4m3')
    : upload(device, weight, [outputs, depth], dtype)
  const weightScale = c.fp8 ? upload(device, scales, [outputs]) : undefined
  return {
    shape,
    reference,
    x: xCodes ? device.tensor(Uint8Array.from(xCodes), c.x, 'f8e4m3') : upload(device, x, c.x, dtype),
    xScale:
      xCodes &&
      upload(device, xScales, c.fp8 === 'rows' ? [batch, tokens] : [batch, tokens, Math.ceil(depth / 128)]),
    withPlain: (x: Tensor, xScale?: Tensor) =>
      ops.linear(x, plain, { ...options, ...(weightScale && { weightScale }), ...(xScale && { xScale }) }),
    withPacked: (x: Tensor) => ops.linear(x, ops.packLinear(plain, weightScale), options),
    plain,
    options,
    fp8Options: {
      activation,
      bias: options.bias,
      weightScale,
      xScale:
        xCodes &&
        upload(device, xScales, [batch, tokens, ...(c.fp8 === 'rows' ? [] : [Math.ceil(depth / 128)])]),
    },
  }
}

async function judgeLinear(c: LinearCase, seed = 1): Promise<void> {
  const made = makeLinear(c, seed)
  const y = made.withPacked(made.x)
  assert.is(y.dtype, c.resultDtype ?? c.dtype ?? 'f32')
  await judge(y, made.shape, made.reference, 'packed')
  await sameBits(made.withPlain(made.x), y, 'plain against packed')
}

const sizes: [x: [number, number, number], outputs: number][] = [
  [[1, 1, 1], 1],
  [[1, 1, 7], 33],
  [[2, 3, 64], 5],
  [[1, 17, 33], 32],
  [[3, 14, 129], 70],
  [[2, 29, 31], 97],
  [[1, 101, 257], 65],
  [[1, 33, 2048], 16],
  [[1, 3, 4099], 40],
  [[1, 45, 3333], 600],
]
for (const dtype of floats)
  for (const [x, outputs] of sizes)
    linear(`${dtype} [${x}] to ${outputs}`, () => judgeLinear({ x, outputs, dtype }))

for (const dtype of floats)
  for (const activation of activations)
    for (const gate of [undefined, 'sample', 'element'] as const)
      linear(`${dtype} ${activation}, gate of ${gate ?? 'nothing'}`, () =>
        judgeLinear({
          x: [2, 19, 48],
          outputs: 45,
          dtype,
          activation,
          bias: true,
          residual: true,
          ...(gate && { gate }),
        }),
      )

linear('each part of the epilogue alone', async () => {
  const base = { x: [2, 15, 20] as [number, number, number], outputs: 37 }
  await judgeLinear({ ...base, bias: true })
  await judgeLinear({ ...base, residual: true, dtype: 'bf16' })
  await judgeLinear({ ...base, gate: 'sample', dtype: 'bf16' })
  await judgeLinear({ ...base, gate: 'element' })
})

linear('a result of another dtype than x', async () => {
  const base = { x: [1, 30, 66] as [number, number, number], outputs: 50, bias: true, residual: true }
  await judgeLinear({ ...base, dtype: 'bf16', resultDtype: 'f32', gate: 'element' })
  await judgeLinear({ ...base, dtype: 'f32', resultDtype: 'bf16', gate: 'element' })
})

linear('fp8 weights with row scales', async () => {
  await judgeLinear({ x: [1, 20, 70], outputs: 45, dtype: 'bf16', fp8: 'weight', bias: true })
  await judgeLinear({ x: [2, 1, 33], outputs: 3, dtype: 'bf16', resultDtype: 'f32', fp8: 'weight' })
})

const fp8Sizes: [x: [number, number, number], outputs: number][] = [
  [[2, 10, 70], 45],
  [[1, 3, 33], 3],
  [[2, 67, 400], 48],
  [[1, 130, 128], 272],
]
for (const fp8 of ['rows', 'groups'] as const)
  for (const [x, outputs] of fp8Sizes) {
    linear(`fp8 [${x}] to ${outputs} with scales of ${fp8}`, async () => {
      for (const resultDtype of floats) {
        const made = makeLinear(
          { x, outputs, dtype: 'bf16', resultDtype, fp8, bias: true, activation: 'silu', residual: true },
          4,
        )
        await judge(made.withPlain(made.x, made.xScale), made.shape, made.reference, resultDtype)
      }
    })
    linear(`fp8 [${x}] to fp8 ${outputs} with scales of ${fp8}`, async () => {
      for (const activation of ['none', 'gelu_tanh'] as const) {
        const made = makeLinear({ x, outputs, dtype: 'bf16', fp8, bias: true, activation }, 5)
        const result = ops.linearFp8(made.x, made.plain, made.fp8Options)
        await judgeFp8(result, made.shape, made.reference, activation)
        const rowAlone = ops.linearFp8(made.x.slice(1, 1, 2), made.plain, {
          ...made.fp8Options,
          xScale: made.xScale!.slice(1, 1, 2),
        })
        await sameBits(rowAlone.values, result.values.slice(1, 1, 2), 'values of row 1 alone')
        await sameBits(rowAlone.scales, result.scales.slice(1, 1, 2), 'scales of row 1 alone')
      }
    })
  }

linear('a result of fp8 from an x that is not', async () => {
  for (const dtype of floats)
    for (const [x, outputs] of [...fp8Sizes, [[1, 4, 16], 1], [[1, 0, 16], 16]] as typeof fp8Sizes) {
      const made = makeLinear({ x, outputs, dtype, bias: true, activation: 'gelu_tanh' }, 7)
      const { bias, activation } = made.options
      await judgeFp8(
        ops.linearFp8(made.x, made.plain, { bias, activation }),
        made.shape,
        made.reference,
        `${dtype} [${x}]`,
      )
    }
})

linear('x quantised on the device, and a row of it alone', async () => {
  const made = makeLinear({ x: [1, 70, 272], outputs: 24, dtype: 'bf16', fp8: 'weight', bias: true }, 6)
  const { values, scales } = ops.quantizeFp8(made.x)
  const y = made.withPlain(values, scales)
  assert.is(y.dtype, 'bf16')
  // Three mantissa bits: 6 % at most an element, of random sign.
  const [actual, exactly] = [await y.toFloat32(), await made.withPlain(made.x).toFloat32()]
  const square = (list: ArrayLike<number>) => Array.from(list).reduce((sum, v) => sum + v * v, 0)
  assert.ok(square(actual.map((v, i) => v - exactly[i]!)) < 0.04 ** 2 * square(exactly))
  await sameBits(
    made.withPlain(values.slice(1, 5, 6), scales.slice(1, 5, 6)),
    y.slice(1, 5, 6),
    'row 5 alone',
  )
})

linear('a depth of zero leaves the epilogue', async () => {
  for (const dtype of floats)
    await judgeLinear({ x: [1, 5, 0], outputs: 3, dtype, bias: true, activation: 'silu', residual: true })
})

linear('nothing in, nothing out', async () => {
  for (const [x, outputs] of [
    [[1, 0, 5], 5],
    [[2, 4, 3], 0],
  ] as [[number, number, number], number][])
    assert.is(
      (
        await makeLinear({ x, outputs }, 1)
          .withPacked(upload(device, new Array(sizeOf(x)).fill(0), x))
          .read()
      ).length,
      0,
    )
})

linear('leading dimensions are one', async () => {
  const made = makeLinear({ x: [3, 4, 21], outputs: 10 }, 5)
  const flat = made.withPacked(made.x.reshape(12, 21))
  const deep = made.withPacked(made.x.reshape(3, 2, 2, 21))
  assert.equal([...deep.shape], [3, 2, 2, 10])
  await sameBits(flat.reshape(3, 2, 2, 10), deep, 'rank 4 against rank 2')
})

/** The same elements in a view that begins one element behind a block of memory. */
async function shifted(tensor: Tensor): Promise<Tensor> {
  const data = await tensor.read()
  const longer = new (data.constructor as Uint16ArrayConstructor)(data.length + 1)
  longer.set(data, 1)
  return device
    .tensor(longer, [longer.length], tensor.dtype)
    .slice(0, 1)
    .reshape(...tensor.shape)
}

for (const dtype of floats)
  linear(`${dtype}: views that begin anywhere`, async () => {
    for (const [x, outputs, gate] of [
      [[2, 9, 64], 24, 'sample'],
      [[1, 5, 21], 30, 'element'],
    ] as const) {
      const made = makeLinear(
        { x: [...x], outputs, dtype, activation: 'silu', bias: true, gate, residual: true },
        7,
      )
      const options = {
        ...made.options,
        bias: await shifted(made.options.bias!),
        gate: await shifted(made.options.gate!),
        residual: await shifted(made.options.residual!),
      }
      await sameBits(
        ops.linear(await shifted(made.x), await shifted(made.plain), options),
        made.withPlain(made.x),
        `[${x}]`,
      )
    }
  })

for (const dtype of floats)
  linear(`${dtype}: a row's bits do not depend on the other rows`, async () => {
    for (const [depth, outputs] of [
      [77, 50],
      [2048, 33],
    ] as const) {
      const made = makeLinear({ x: [1, 100, depth], outputs, dtype, activation: 'gelu', bias: true }, 3)
      const all = made.withPacked(made.x)
      for (const [from, to] of [
        [0, 1],
        [57, 58],
        [99, 100],
        [3, 40],
      ] as const)
        await sameBits(
          made.withPacked(made.x.slice(1, from, to)),
          all.slice(1, from, to),
          `rows ${from} to ${to} of depth ${depth}`,
        )
    }
  })

for (const dtype of floats)
  linear(`${dtype}: bits do not depend on the threads`, async () => {
    const results: Tensor[] = []
    for (const threads of [1, 2, 3]) {
      const other = await openTestDevice({ threads })
      const previous = device
      device = other
      try {
        const made = makeLinear({ x: [2, 67, 130], outputs: 300, dtype, gate: 'sample', residual: true }, 9)
        const y = made.withPacked(made.x)
        await sameBits(made.withPlain(made.x), y, `plain with ${threads} threads`)
        results.push(y)
      } finally {
        device = previous
      }
    }
    for (const y of results) await sameBits(y, results[0]!, 'threads')
    for (const y of results) y.device.dispose()
  })

linear('infinities and NaN stay in their rows', async () => {
  for (const [dtype, k] of floats.flatMap((d) => [33, 35].map((n) => [d, n] as const))) {
    const x = new Random(2).array(20 * k, dtype)
    x[3 * k + k - 1] = Number.POSITIVE_INFINITY
    x[7 * k] = Number.NaN
    const w = new Random(3).array(40 * k, dtype, 1, 4) // all positive
    const y = await ops
      .linear(upload(device, x, [20, k], dtype), upload(device, w.map(Math.abs), [40, k], dtype))
      .toFloat32()
    for (let row = 0; row < 20; row++)
      for (let n = 0; n < 40; n++) {
        const value = y[row * 40 + n]!
        if (row === 3) assert.is(value, Number.POSITIVE_INFINITY)
        else if (row === 7) assert.ok(Number.isNaN(value))
        else assert.ok(Number.isFinite(value), `row ${row}`)
      }
  }
})

linear.run()

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
            let sum = 0
            for (let d = 0; d < dim; d++) sum = r(sum + r(q[at(nq, i) + d]! * k[at(nk, j) + d]!))
            sum = r(sum * scale)
            return bias ? r(sum + bias[(h * nq + i) * nk + j]!) : sum
          })
          const highest = Math.max(...scores)
          const p = scores.map((s) => r(Math.exp(r(s - highest))))
          const total = p.reduce((sum, x) => r(sum + x), 0)
          for (let d = 0; d < dim; d++) {
            const sum = p.reduce((sum, x, j) => r(sum + r(kept(x) * v[at(nk, j) + d]!)), 0)
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
  for (const size of [
    [1, 1, 1, 1, 1],
    [2, 5, 7, 2, 3],
    [1, 59, 256, 1, 32],
    [1, 30, 257, 2, 33],
    [2, 17, 70, 3, 80],
    [1, 65, 31, 2, 64],
    [1, 15, 300, 1, 128],
    [1, 3, 40, 1, 257],
    [1, 2, 1030, 1, 16],
    [1, 70, 1100, 1, 33], // several blocks of queries, more keys than one pass takes
  ] as AttentionCase['size'][])
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
    for (const scale of [0, -0.4]) await judgeAttention({ size: [1, 35, 301, 1, 20], dtype, scale })
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
