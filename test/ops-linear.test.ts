/**
 * linear and the packing of its weights against their formulas, at sizes around and far from those of the kernels' blocks (14 x 32,
 * 32 x 32, 6 x 16, 4 x 8); and that a row's bits depend on nothing but the row: not on how many there are, nor on the threads, nor
 * on whether the weight was packed before.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'
import { activate } from './activations.js'
import { openTestDevice } from './devices.js'
import {
  addProducts,
  bf16,
  exact,
  f32,
  fp8Value,
  judge,
  judgeFp8,
  Random,
  type Round,
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
        let sum = addProducts(r, 0, depth, a, row * depth, w, n * depth)
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
