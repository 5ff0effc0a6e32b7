/**
 * Ops on elements: conversions (every code of the small types), sums, random numbers, 8-bit pictures and row-scaled fp8.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import { openTestDevice } from './devices.js'
import {
  bf16Bits,
  bf16FromBits,
  fp8Code,
  fp8Finite,
  fp8Groups,
  fp8Value,
  judge,
  Random,
  type Round,
  roundingOf,
  sameBits,
  upload,
} from './numbers.js'

const floats = ['f32', 'bf16'] as const

const elements = suite('elements')
let device: Device
elements.before(async () => {
  device = await openTestDevice()
})
elements.after(() => device?.dispose())

const fp8Codes = Array.from({ length: 256 }, (_, code) => code)
/** Numbers at and around everything that rounding to a type with these values must get right. */
function hard(values: readonly number[]): number[] {
  const list = [
    0,
    -0,
    1e-45,
    -1e-45,
    1e-38,
    3.4e38,
    -3.4e38,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ]
  const step = new Float32Array(1)
  const word = new Uint32Array(step.buffer)
  values.forEach((v, i) => {
    const middle = (v + (values[i + 1] ?? v)) / 2
    for (const x of [v, middle]) {
      step[0] = x
      list.push(step[0]!, -step[0]!)
      for (const offset of [1, -1]) {
        step[0] = x
        if (word[0]! + offset >= 0) word[0]! += offset
        list.push(step[0]!, -step[0]!)
      }
    }
  })
  return list
}

elements('cast bf16 to f32 is exact for every code', async () => {
  const codes = Uint16Array.from({ length: 65536 }, (_, code) => code)
  const wide = (await ops.cast(device.tensor(codes, [65536], 'bf16'), 'f32').read()) as Float32Array
  for (let code = 0; code < 65536; code++)
    assert.ok(Object.is(wide[code], bf16FromBits(code)), `code ${code}`)
})

elements('cast f32 to bf16 rounds to nearest even', async () => {
  const random = new Random(1)
  const some = Array.from({ length: 300 }, () => random.integer(0x7f80)).sort((a, b) => a - b)
  const values = [...hard([0, ...some.map(bf16FromBits)]), Number.NaN, ...random.array(2001)]
  const codes = await ops.cast(upload(device, values, [values.length]), 'bf16').read()
  values.forEach((v, i) => {
    if (Number.isNaN(v)) assert.ok(Number.isNaN(bf16FromBits(codes[i]!)))
    else assert.is(codes[i], bf16Bits(v), `${v}`)
  })
})

elements('cast f8e4m3 to f32 and bf16 is exact for every code', async () => {
  const tensor = device.tensor(Uint8Array.from(fp8Codes), [256], 'f8e4m3')
  for (const dtype of floats) {
    const wide = await ops.cast(tensor, dtype).toFloat32()
    for (const code of fp8Codes) assert.ok(Object.is(wide[code], fp8Value(code)), `${dtype} code ${code}`)
  }
})

elements('cast to f8e4m3 rounds to nearest even and saturates', async () => {
  const values = [...hard(fp8Finite), ...new Random(2).array(999, 'f32', 30)]
  const codes = await ops.cast(upload(device, values, [values.length]), 'f8e4m3').read()
  values.forEach((v, i) => {
    assert.is(codes[i], fp8Code(Math.fround(v)), `${v}`)
  })
  const nan = await ops.cast(upload(device, [Number.NaN], [1]), 'f8e4m3').read()
  assert.is(nan[0]! & 0x7f, 0x7f)
  const narrow = values.map(roundingOf('bf16'))
  const again = await ops.cast(upload(device, narrow, [narrow.length], 'bf16'), 'f8e4m3').read()
  narrow.forEach((v, i) => {
    assert.is(again[i], fp8Code(v), `bf16 ${v}`)
  })
})

elements('cast i32 to f32 and back', async () => {
  const whole = Int32Array.of(0, 1, -1, 16777217, 2147483647, -2147483648, 12345)
  const wide = await ops.cast(device.tensor(whole, [7], 'i32'), 'f32').read()
  assert.equal([...wide], [...whole].map(Math.fround))
  const values = [0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, 3e9, -3e9, 2147483520, Number.NaN]
  const back = await ops.cast(upload(device, values, [10]), 'i32').read()
  assert.equal([...back], [0, 2, 2, 0, -2, 2, 2147483647, -2147483648, 2147483520, 0])
})

elements('cast to the same type copies, and of nothing gives nothing', async () => {
  const x = upload(device, new Random(3).array(37, 'bf16'), [37], 'bf16')
  await sameBits(ops.cast(x, 'bf16'), x, 'copy')
  assert.equal([...ops.cast(upload(device, [], [0, 3]), 'bf16').shape], [0, 3])
})

for (const count of [1, 2, 3, 8])
  for (const dtype of floats)
    elements(`combine ${count} terms to ${dtype}`, async () => {
      const random = new Random(count)
      const dtypes = Array.from({ length: count }, (_, i) => floats[i % 2]!)
      const values = dtypes.map((d) => random.array(5 * 7, d))
      const coefficients = random.array(count)
      const terms = values.map((v, i) => upload(device, v, [5, 7], dtypes[i]!))
      const reference = (r: Round) =>
        values[0]!.map((_, k) => values.reduce((sum, v, i) => r(sum + r(coefficients[i]! * v[k]!)), 0))
      const result = ops.combine(terms, coefficients, { dtype })
      await judge(result, [5, 7], reference, 'coefficients')
      const factors = ops.combine(terms, upload(device, coefficients, [count]), { dtype })
      await sameBits(factors, result, 'factors')
    })

elements('combine reads its factors when it runs', async () => {
  const x = upload(device, [1, 2, 3], [3])
  const factors = upload(device, [1], [1])
  const { graph, result } = device.capture(() => ops.combine([x], factors))
  factors.write(Float32Array.of(10))
  graph.replay()
  assert.equal([...(await result.toFloat32())], [10, 20, 30])
  graph.dispose()
})

/** Philox 4x32-10 and Box-Muller as models/FORMAT.md says, in fp64. */
function normals(seed: bigint, stream: bigint, first: number, count: number): number[] {
  const mask = 0xffffffffn
  const out: number[] = []
  for (let group = first / 4; out.length < count; group++) {
    let c = [BigInt(group) & mask, BigInt(group) >> 32n, stream & mask, stream >> 32n]
    let [k0, k1] = [seed & mask, seed >> 32n]
    for (let round = 0; round < 10; round++) {
      const p0 = 0xd2511f53n * c[0]!
      const p1 = 0xcd9e8d57n * c[2]!
      c = [(p1 >> 32n) ^ c[1]! ^ k0, p1 & mask, (p0 >> 32n) ^ c[3]! ^ k1, p0 & mask]
      k0 = (k0 + 0x9e3779b9n) & mask
      k1 = (k1 + 0xbb67ae85n) & mask
    }
    const u = c.map(Number)
    for (const [a, b] of [
      [u[0]!, u[1]!],
      [u[2]!, u[3]!],
    ] as const) {
      const radius = Math.sqrt(-2 * Math.log((a + 0.5) / 2 ** 32))
      const angle = (2 * Math.PI * b) / 2 ** 32
      out.push(radius * Math.cos(angle), radius * Math.sin(angle))
    }
  }
  return out.slice(0, count)
}

elements('randn is Philox and Box-Muller of seed, stream and offset', async () => {
  const seeds = [7n, 2n ** 64n - 3n]
  for (const [shape, stream, offset] of [
    [[2, 5], 0n, 0],
    [[2, 3, 37], 2n ** 32n + 5n, 0],
    [[2, 1000], 1n, 2 ** 35],
    [[2, 300], 9n, 12],
  ] as const) {
    const count = shape.slice(1).reduce((n, d) => n * d, 1)
    const result = await ops.randn(device, shape, { seeds, stream, offset }).read()
    const truth = seeds.flatMap((seed) => normals(seed, stream, offset, count))
    truth.forEach((t, i) => {
      assert.ok(Math.abs(result[i]! - t) < 1e-6, `element ${i}: ${result[i]}, not ${t}`)
    })
  }
})

elements('randn in bf16 is randn in f32 rounded, and no batch changes it', async () => {
  const seeds = [1, 2, 3]
  const wide = ops.randn(device, [3, 70001], { seeds, stream: 4 })
  await sameBits(
    ops.randn(device, [3, 70001], { seeds, stream: 4, dtype: 'bf16' }),
    ops.cast(wide, 'bf16'),
    'bf16',
  )
  const alone = ops.randn(device, [1, 70001], { seeds: [2], stream: 4 })
  await sameBits(alone, wide.slice(0, 1, 2), 'alone')
  const tail = ops.randn(device, [1, 69001], { seeds: [2], stream: 4, offset: 1000 })
  await sameBits(tail, alone.slice(1, 1000), 'tail')
})

elements('randn has the moments of normal numbers', async () => {
  const n = 1 << 20
  const x = (await ops.randn(device, [1, n], { seeds: [99] }).read()) as Float32Array
  const moment = (power: number) => x.reduce((sum, v) => sum + v ** power, 0) / n
  assert.ok(Math.abs(moment(1)) < 5e-3)
  assert.ok(Math.abs(moment(2) - 1) < 7e-3)
  assert.ok(Math.abs(moment(3)) < 2e-2)
  assert.ok(Math.abs(moment(4) - 3) < 5e-2)
})

elements('fill writes one value of any type', async () => {
  assert.equal([...(await ops.fill(device, [3, 7], 1.5).read())], Array(21).fill(1.5))
  assert.equal([...(await ops.fill(device, [5], 1.003, 'bf16').read())], Array(5).fill(bf16Bits(1.003)))
  assert.equal([...(await ops.fill(device, [5], -500, 'f8e4m3').read())], Array(5).fill(0xfe))
  assert.equal([...(await ops.fill(device, [5], -7, 'i32').read())], Array(5).fill(-7))
  assert.equal([...(await ops.fill(device, [70000], 200, 'u8').read())], Array(70000).fill(200))
  assert.equal([...(await ops.fill(device, [0, 4], 1).read())], [])
})

for (const dtype of floats) {
  elements(`fromRgb8 to ${dtype}`, async () => {
    const x = device.tensor(Uint8Array.from(fp8Codes), [4, 64], 'u8')
    await judge(ops.fromRgb8(x, dtype), [4, 64], (r) => fp8Codes.map((v) => r(r(v / 127.5) - 1)), dtype)
  })

  elements(`toRgb8 from ${dtype}: ties to even, clamped, NaN is 0`, async () => {
    const edges = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      1.1,
      -1.1,
      1e30,
      -1e30,
      0,
      -0,
      1,
      -1,
    ]
    const steps = fp8Codes.map((v) => (v + 0.5) / 127.5 - 1)
    const values = [...edges, ...steps, ...new Random(4).array(500)].map(roundingOf(dtype))
    const pixels = await ops.toRgb8(upload(device, values, [values.length], dtype)).read()
    values.forEach((v, i) => {
      const scaled = Math.fround(Math.fround(v + 1) * 127.5)
      const floor = Math.floor(scaled)
      const half = scaled - floor
      const nearest = half > 0.5 || (half === 0.5 && floor % 2 === 1) ? floor + 1 : floor
      assert.is(pixels[i], Number.isNaN(v) ? 0 : Math.min(Math.max(nearest, 0), 255), `${v}`)
    })
  })

  elements(`toRgb8 undoes fromRgb8 in ${dtype}`, async () => {
    const x = device.tensor(Uint8Array.from(fp8Codes), [256], 'u8')
    if (dtype === 'f32') await sameBits(ops.toRgb8(ops.fromRgb8(x, dtype)), x, 'round trip')
    const back = await ops.toRgb8(ops.fromRgb8(x, dtype)).read()
    fp8Codes.forEach((v, i) => {
      assert.ok(Math.abs(back[i]! - v) <= (dtype === 'f32' ? 0 : 1), `${v}`)
    })
  })

  for (const channels of [1, 83, 128, 300])
    for (const groups of [false, true])
      elements(
        `quantizeFp8 of ${dtype} by ${groups ? 'groups' : 'rows'} of ${channels}, and back`,
        async () => {
          const random = new Random(6)
          const x = [
            ...random.array(channels, dtype, 3),
            ...new Array<number>(channels).fill(0),
            ...random.array(channels, dtype, 1e-6),
            ...random.array(channels, dtype, 1e6),
          ]
          const { values, scales } = ops.quantizeFp8(upload(device, x, [2, 2, channels], dtype), { groups })
          assert.is(values.dtype, 'f8e4m3')
          assert.equal([...scales.shape], groups ? [2, 2, Math.ceil(channels / 128)] : [2, 2])
          const scale = await scales.read()
          const codes = await values.read()
          const spans = groups
            ? fp8Groups(x.length, channels)
            : [0, 1, 2, 3].map((row) => [row * channels, (row + 1) * channels] as [number, number])
          const scaleOf: number[] = []
          spans.forEach(([first, end], i) => {
            const part = x.slice(first, end)
            const largest = part.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
            assert.is(scale[i], largest === 0 ? 1 : Math.fround(largest / 448))
            part.forEach((v, c) => {
              assert.is(codes[first + c], fp8Code(Math.fround(v / scale[i]!)), `${first + c}: ${v}`)
              scaleOf.push(scale[i]!)
            })
          })
          const expand = (r: Round) => [...codes].map((code, i) => r(fp8Value(code) * scaleOf[i]!))
          await judge(ops.dequantizeFp8(values, scales, dtype), [2, 2, channels], expand, 'back')
        },
      )

  elements(`allFinite finds one infinity or NaN among many in ${dtype}`, async () => {
    const clean = new Random(8).array(100_003, dtype, 1e30)
    const check = async (values: number[]) =>
      (await ops.allFinite(upload(device, values, [values.length], dtype)).read())[0]
    assert.is(await check(clean), 1)
    assert.is(await check([]), 1)
    assert.is(await check([-3.38e38, 3.38e38, 1e-45, -0]), 1)
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      for (const place of [0, 17, 65536, 100_002])
        assert.is(await check(clean.with(place, bad)), 0, `${bad} at ${place}`)
  })
}

elements.run()
