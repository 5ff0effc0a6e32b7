/**
 * Ops that only move elements: concat, slice, permute, embedding, modulation; exact, for every element type.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor, TensorData } from '../lib/tensor.js'
import { openTestDevice } from './devices.js'
import { bf16FromBits, Random, sizeOf, upload } from './numbers.js'

const dtypes = ['f32', 'bf16', 'f8e4m3', 'i32', 'u8'] as const

const move = suite('moves')
let device: Device
move.before(async () => {
  device = await openTestDevice()
})
move.after(() => device?.dispose())

/** Random elements as they are stored. */
function data(dtype: DType, size: number, seed: number): TensorData {
  const random = new Random(seed)
  const make = <T extends TensorData>(array: T, below: number): T => {
    for (let i = 0; i < size; i++) array[i] = random.integer(below)
    return array
  }
  switch (dtype) {
    case 'f32':
      return make(new Float32Array(size), 1 << 20)
    case 'bf16':
      return make(new Uint16Array(size), 0x7f80)
    case 'i32':
      return make(new Int32Array(size), 2 ** 31)
    default:
      return make(new Uint8Array(size), 127)
  }
}

async function equals(
  result: Tensor,
  shape: readonly number[],
  values: number[],
  what: string,
): Promise<void> {
  assert.equal([...result.shape], [...shape], `${what}: shape`)
  const actual = await result.read()
  assert.is(actual.length, values.length)
  for (let i = 0; i < values.length; i++) assert.is(actual[i], values[i], `${what}: element ${i}`)
}

/** Strides of a contiguous tensor. */
const steps = (shape: readonly number[]): number[] => shape.map((_, i) => sizeOf(shape.slice(i + 1)))

for (const dtype of dtypes) {
  for (const [shape, axis, sizes] of [
    [[3], 0, [1, 0, 5]],
    [[2, 3, 4], 0, [2, 1]],
    [[2, 3, 4], 1, [3, 1, 2, 7]],
    [[5, 2, 3], 2, [3, 1]],
    [[2, 1, 40_000], 1, [3, 2]],
  ] as const)
    move(`concat ${dtype} ${JSON.stringify(sizes)} on axis ${axis} of ${JSON.stringify(shape)}`, async () => {
      const parts = sizes.map((size, i) => {
        const s = shape.map((d, a) => (a === axis ? size : d))
        return { shape: s, values: data(dtype, sizeOf(s), i) }
      })
      const expected: number[] = []
      for (let outer = 0; outer < sizeOf(shape.slice(0, axis)); outer++)
        for (const part of parts) {
          const block = sizeOf(part.shape.slice(axis))
          expected.push(...part.values.slice(outer * block, (outer + 1) * block))
        }
      const tensors = parts.map((part) => device.tensor(part.values, part.shape, dtype))
      const whole = shape.map((d, a) => (a === axis ? sizes.reduce<number>((n, size) => n + size, 0) : d))
      await equals(ops.concat(tensors, axis), whole, expected, 'concat')
      await equals(ops.concat(tensors, axis - shape.length), whole, expected, 'from the end')
    })

  for (const [shape, axis, start, end] of [
    [[9], 0, 2, 7],
    [[2, 5, 3], 1, 1, 4],
    [[2, 5, 3], 2, 0, 1],
    [[3, 4, 5], 0, 3, 3],
    [[2, 70_000, 1], 1, 5, 69_999],
  ] as const)
    move(`slice ${dtype} ${start}..${end} on axis ${axis} of ${JSON.stringify(shape)}`, async () => {
      const values = data(dtype, sizeOf(shape), axis)
      const inner = sizeOf(shape.slice(axis + 1))
      const expected = [...values].filter((_, i) => {
        const at = Math.floor(i / inner) % shape[axis]!
        return at >= start && at < end
      })
      const result = ops.slice(device.tensor(values, shape, dtype), axis, start, end)
      await equals(
        result,
        shape.map((d, a) => (a === axis ? end - start : d)),
        expected,
        'slice',
      )
    })

  for (const [shape, order] of [
    [[], []],
    [[7], [0]],
    [
      [5, 9],
      [1, 0],
    ],
    [
      [130, 67],
      [1, 0],
    ],
    [
      [3, 4, 5],
      [2, 0, 1],
    ],
    [
      [2, 33, 4, 35],
      [0, 2, 3, 1],
    ],
    [
      [2, 3, 1, 4, 5],
      [3, 4, 2, 1, 0],
    ],
    [
      [1, 2, 3, 2, 1, 3, 2, 2],
      [7, 3, 5, 1, 0, 2, 6, 4],
    ],
    [
      [4, 0, 3],
      [1, 2, 0],
    ],
  ] as const)
    move(`permute ${dtype} ${JSON.stringify(shape)} to ${JSON.stringify(order)}`, async () => {
      const values = data(dtype, sizeOf(shape), 3)
      const to = order.map((axis) => shape[axis]!)
      const from = steps(shape)
      const out = steps(to)
      const expected = Array.from({ length: values.length }, (_, i) => {
        const at = order.reduce<number>(
          (sum, axis, a) => sum + (Math.floor(i / out[a]!) % to[a]!) * from[axis]!,
          0,
        )
        return values[at]!
      })
      await equals(ops.permute(device.tensor(values, shape, dtype), order), to, expected, 'permute')
    })
}

for (const dtype of ['f32', 'bf16'] as const)
  move(`embedding ${dtype}: ids outside the table give NaN`, async () => {
    const table = data(dtype, 11 * 13, 5)
    const ids = Int32Array.of(0, 10, 3, -1, 11, 2 ** 31 - 1)
    const result = ops.embedding(device.tensor(table, [11, 13], dtype), device.tensor(ids, [2, 3], 'i32'))
    assert.equal([...result.shape], [2, 3, 13])
    const wide = await result.toFloat32()
    ids.forEach((id, i) => {
      for (let c = 0; c < 13; c++) {
        const code = table[id * 13 + c]
        const expected = code === undefined ? Number.NaN : dtype === 'bf16' ? bf16FromBits(code) : code
        assert.ok(Object.is(wide[i * 13 + c], expected), `id ${id}, channel ${c}`)
      }
    })
  })

move('modulation adds the table and puts vectors first', async () => {
  const random = new Random(2)
  const [vectors, batch, channels] = [6, 3, 17]
  const table = random.array(vectors * channels)
  const embedded = random.array(batch * vectors * channels)
  const expected: number[] = []
  for (let k = 0; k < vectors; k++)
    for (let b = 0; b < batch; b++)
      for (let c = 0; c < channels; c++)
        expected.push(Math.fround(table[k * channels + c]! + embedded[(b * vectors + k) * channels + c]!))
  const result = ops.modulation(
    upload(device, table, [vectors, channels]),
    upload(device, embedded, [batch, vectors * channels]),
  )
  await equals(result, [vectors, batch, channels], expected, 'modulation')
})

move.run()
