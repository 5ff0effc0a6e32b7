/** What must hold for every shape: inverses, streaming, independence of the batch. Shapes are drawn by fast-check, seeded. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device, ops, type Tensor } from '../lib/kernels.js'
import { Run, TemporalConv } from '../lib/models/streaming.js'
import { gridSchedule } from '../lib/sampling/index.js'

const test = suite('properties')
const device = await Device.open('cpu', { threads: 2 })
test.after(() => device.dispose())

const seeded = { seed: 20261122, numRuns: 40 }
const size = fc.integer({ min: 1, max: 6 })
const dtypes = fc.constantFrom('f32' as const, 'bf16' as const)

const noise = (shape: readonly number[], dtype: 'f32' | 'bf16', stream = 0): Tensor =>
  ops.cast(ops.randn(device, [1, ...shape], { seeds: [5], stream }).reshape(...shape), dtype)

/** Runs a property in scopes, so that failures and successes leave nothing. */
async function same(make: () => [Tensor, Tensor]): Promise<void> {
  const [a, b] = device.scope(make)
  try {
    assert.equal(a.shape, b.shape)
    assert.equal(await a.read(), await b.read())
  } finally {
    a.dispose()
    b.dispose()
  }
}

test('shuffle3d undoes unshuffle3d', async () => {
  const shape = fc.tuple(
    size,
    size,
    size,
    size,
    size,
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: 3 }),
  )
  await fc.assert(
    fc.asyncProperty(shape, dtypes, ([b, t, h, w, c, time, space], dtype) =>
      same(() => {
        const x = noise([b, t * time, h * space, w * space, c], dtype)
        return [x, ops.shuffle3d(ops.unshuffle3d(x, { time, space }), { time, space })]
      }),
    ),
    seeded,
  )
})

test('a permutation is undone by its inverse, slices by concat', async () => {
  const order = fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(fc.tuple(size, size, size, size), order, dtypes, (shape, axes, dtype) =>
      same(() => {
        const x = noise(shape, dtype)
        const inverse = axes.map((_, i) => axes.indexOf(i))
        return [x, ops.permute(ops.permute(x, axes), inverse)]
      }),
    ),
    seeded,
  )
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(size, size, size),
      fc.integer({ min: 0, max: 2 }),
      fc.nat(),
      (shape, axis, at) =>
        same(() => {
          const x = noise(shape, 'f32')
          const cut = at % (shape[axis]! + 1)
          return [x, ops.concat([x.slice(axis, 0, cut), x.slice(axis, cut)], axis)]
        }),
    ),
    seeded,
  )
})

test('a convolution over chunks is the convolution over the whole, whatever it sees of time', async () => {
  const mode = fc.constantFrom('causal' as const, 'noncausal' as const, 'group_causal' as const)
  const chunks = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 5 })
  const groups = fc.constantFrom(1, 2, 4)
  const padding = fc.constantFrom('replicate' as const, 'zeros' as const)
  await fc.assert(
    fc.asyncProperty(mode, chunks, groups, padding, dtypes, (mode, lengths, groupSize, timePadding, dtype) =>
      same(() => {
        // Group-causal chunks are whole groups behind frame 0.
        const counts =
          mode === 'group_causal' ? lengths.map((n, i) => n * groupSize + (i === 0 ? 1 : 0)) : lengths
        const total = counts.reduce((n, count) => n + count, 0)
        const x = noise([1, total, 3, 4, 5], dtype)
        const conv = new TemporalConv(ops.packConv3d(noise([7, 5, 3, 3, 3], dtype, 1)), {
          mode,
          timePadding,
          groupSize,
        })
        const whole = new Run(device)
        whole.last = true
        const run = new Run(device)
        const parts: Tensor[] = []
        let start = 0
        for (const [i, count] of counts.entries()) {
          run.last = i === counts.length - 1
          const part = conv.push(x.slice(1, start, start + count), run)
          if (part) parts.push(part)
          start += count
        }
        return [conv.push(x, whole)!, ops.concat(parts, 1)]
      }),
    ),
    seeded,
  )
})

test('a sample does not know what else is in its batch', async () => {
  const shape = fc.tuple(
    fc.integer({ min: 2, max: 4 }),
    fc.integer({ min: 1, max: 70 }),
    fc.integer({ min: 1, max: 40 }),
  )
  await fc.assert(
    fc.asyncProperty(shape, fc.nat(), dtypes, ([batch, tokens, channels], pick, dtype) =>
      same(() => {
        const x = noise([batch, tokens, channels], dtype)
        const weight = ops.packLinear(noise([33, channels], dtype, 1))
        const layer = (input: Tensor) =>
          ops.linear(ops.normModulate(input), weight, { activation: 'gelu_tanh' })
        const sample = pick % batch
        return [layer(x).slice(0, sample, sample + 1), layer(x.slice(0, sample, sample + 1))]
      }),
    ),
    seeded,
  )
})

test('noise levels fall from at most 1 to 0', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.double({ min: 0.1, max: 20, noNaN: true }),
      fc.constantFrom('wan' as const, 'linear' as const),
      (steps, shift, grid) => {
        const { sigmas, timesteps } = gridSchedule({ steps, shift, grid })
        assert.is(sigmas.length, steps + 1)
        assert.is(timesteps.length, steps)
        assert.ok(sigmas[0]! <= 1 && sigmas.at(-1) === 0)
        for (let i = 0; i < steps; i++) assert.ok(sigmas[i]! > sigmas[i + 1]!, `sigma ${i}`)
      },
    ),
    seeded,
  )
})

test('nothing is left behind', async () => {
  await device.synchronize()
  assert.is(device.memory().inUse, 0)
})

test.run()
