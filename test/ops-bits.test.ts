/**
 * What has the same bits on every device: random numbers, conversions between element types, and 8-bit pictures. The tested device
 * against the CPU.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'
import { openTestDevice } from './devices.js'
import { Random } from './numbers.js'

const bits = suite('bits')
let devices: [Device, Device]
bits.before(async () => {
  devices = [await openTestDevice(), await Device.open('cpu')]
})
bits.after(() => {
  for (const device of devices ?? []) device.dispose()
})

async function same(make: (device: Device) => Tensor, what: string): Promise<void> {
  const [ours, theirs] = await Promise.all(devices.map((device) => make(device).read()))
  assert.is(ours!.length, theirs!.length, what)
  for (let i = 0; i < ours!.length; i++)
    assert.ok(Object.is(ours![i], theirs![i]), `${what}, element ${i}: ${ours![i]}, not ${theirs![i]}`)
}

for (const dtype of ['f32', 'bf16'] as const)
  bits(`randn ${dtype}`, async () => {
    for (const [shape, stream, offset] of [
      [[3, 4099], 0n, 0],
      [[1, 20_000], 2n ** 40n + 1n, 2 ** 34],
      [[2, 8, 13], 7n, 4],
    ] as const) {
      const seeds = [11n, 2n ** 63n + 5n, 3n].slice(0, shape[0])
      await same((device) => ops.randn(device, shape, { seeds, stream, offset, dtype }), `${shape}`)
    }
  })

/** Floats of every exponent, finite, with infinities among them. */
function floats(size: number): Float32Array {
  const random = new Random(5)
  const words = Uint32Array.from({ length: size }, () => random.integer(2 ** 32))
  const values = new Float32Array(words.buffer)
  return values.map((v) => (Number.isNaN(v) ? Number.POSITIVE_INFINITY : v))
}

bits('cast between floating types', async () => {
  const values = floats(30_001)
  const near = values.map((_, i) => ((i % 4001) - 2000) / 37)
  for (const data of [values, near])
    for (const from of ['f32', 'bf16', 'f8e4m3'] as const)
      for (const to of ['f32', 'bf16', 'f8e4m3'] as const) {
        const cast = (device: Device) => {
          const x = device.tensor(data, [data.length], 'f32')
          return ops.cast(from === 'f32' ? x : ops.cast(x, from), to)
        }
        await same(cast, `${from} to ${to}`)
      }
})

bits('a short row has the same bits wherever it lies, in a vector of several rows too', async () => {
  const cpu = devices[1]
  const random = new Random(9)
  for (const channels of [4, 8, 12])
    for (const dtype of ['f32', 'bf16'] as const) {
      const rows = 20_011 // several ranges of the thread pool, and not a whole number of vectors
      const data = Float32Array.from({ length: rows * channels }, () => random.normal())
      const vector = () =>
        cpu.tensor(
          Float32Array.from({ length: channels }, () => random.normal()),
          [channels],
        )
      const [weight, bias] = [vector(), vector()]
      const norm = (x: Tensor) => ops.pixelNorm(x, { weight, bias, residual: x, activation: 'silu' }).read()
      const all = ops.cast(cpu.tensor(data, [rows, channels]), dtype)
      const whole = await norm(all)
      for (const [start, end] of [
        [0, 1],
        [1, 2],
        [7, 12],
        [8191, 8193],
        [rows - 3, rows],
      ] as const)
        assert.equal(
          await norm(ops.slice(all, 0, start, end)),
          whole.slice(start * channels, end * channels),
          `${channels} channels ${dtype}, rows from ${start}`,
        )
    }
})

bits('8-bit pictures', async () => {
  const all = Uint8Array.from({ length: 1003 }, (_, i) => i % 256)
  const values = floats(5000).map((v, i) => (i % 2 ? v : ((i % 999) - 499) / 400))
  for (const dtype of ['f32', 'bf16'] as const satisfies readonly DType[]) {
    await same((device) => ops.fromRgb8(device.tensor(all, [1003], 'u8'), dtype), `from, ${dtype}`)
    await same((device) => ops.toRgb8(ops.cast(device.tensor(values, [5000], 'f32'), dtype)), `to, ${dtype}`)
  }
})

bits.run()
