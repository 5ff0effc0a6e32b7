/** What `fsvideo bench` measures: that every op is among it, that each case can be asked for, by name and by group, and its parts on simulated cards. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { allCases, type Case, groups } from '../lib/bench/cases.js'
import { disposeOf, prepare } from '../lib/bench/inputs.js'
import { oneDnnCase } from '../lib/bench/peers.js'
import { sliceOf } from '../lib/bench/slices.js'
import { contractName, nameOf, nameWidth, plainOps, type Spec } from '../lib/bench/spec.js'
import { chooseCases, positive, roundsOf } from '../lib/cli/bench-options.js'
import { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import { refuses } from './refusals.js'

const test = suite('bench, cases')
let cases: Case[]
let meta: Device

test.before(async () => {
  cases = await allCases()
  meta = await Device.open('meta')
})
test.after(() => meta.dispose())

/** FLOPs and bytes of one call, by the contract; fails the test if the op was not called exactly once. */
function costOf(spec: Spec): { flops: number; bytes: number } {
  const { call, inputs } = prepare(meta, spec)
  meta.resetStats()
  disposeOf(call())
  disposeOf(inputs)
  const { calls, flops, bytes } = meta.stats()[contractName(spec.op)]!
  assert.is(calls, 1, nameOf(spec))
  return { flops, bytes }
}

test('every op of the library is measured, at real sizes and at sizes for a simulated card', () => {
  const exempt = new Set(['assign', 'packConv3d', 'layerMemoryWithWeights'])
  const all = Object.keys(ops).filter((name) => !exempt.has(name))
  const within = (group: string) =>
    new Set<string>(cases.filter((c) => (c.groups as string[]).includes(group)).map(({ spec }) => spec.op))
  for (const op of all) assert.ok(within('tiny').has(op), `${op} in tiny`)
  const large = new Set(['dit', 'standard', 'glue'].flatMap((group) => [...within(group)]))
  for (const op of all) assert.ok(large.has(op), `${op} at sizes of the 14B model`)
  for (const op of plainOps) assert.ok(Object.hasOwn(ops, op), op)
})

test('each case is one call, has a name that fits, and moves something', () => {
  for (const { name, spec } of cases) {
    assert.ok(name.length <= nameWidth, name)
    assert.ok(costOf(spec).bytes > 0, name)
  }
})

test('names tell specs apart: each size, type and epilogue is in them', () => {
  const changed = (spec: Spec): Spec[] =>
    Object.entries(spec).flatMap(([key, value]) => {
      if (typeof value === 'number') return [{ ...spec, [key]: value * 2 } as Spec]
      if (typeof value === 'boolean') return [{ ...spec, [key]: !value } as Spec]
      if (Array.isArray(value)) return [{ ...spec, [key]: value.map((n) => n + 2) } as Spec]
      if (key === 'epilogue') return [{ ...spec, epilogue: 'none' } as Spec]
      return key === 'dtype' ? [{ ...spec, dtype: spec.dtype === 'f32' ? 'bf16' : 'f32' } as Spec] : []
    })
  for (const { spec, name } of cases)
    for (const other of changed(spec)) {
      if (JSON.stringify(other) === JSON.stringify(spec)) continue
      // How a shuffle divides its factor is told by channels and out; its time and space alone are not.
      if (
        'space' in spec &&
        JSON.stringify({ ...other, time: 0, space: 0 }) === JSON.stringify({ ...spec, time: 0, space: 0 })
      )
        continue
      assert.is.not(nameOf(other), name)
    }
})

test('what the project has promised of the CPU is still held', () => {
  const held = cases.flatMap(({ name, goals }) =>
    goals.filter(({ on }) => on === 'cpu').map(({ against, atLeast }) => `${name}: ${atLeast} ${against}`),
  )
  assert.equal(held, [
    'matmul bf16 2048x4096x1024: 0.9 onednn',
    'matmul bf16 1860x13824x5120: 0.9 onednn',
    'conv3d bf16 128->128 8x32x32: 1 onednn',
    'conv3d bf16 16->16 17x128x128: 1 onednn',
    'conv3d bf16 32->32 9x64x64: 1 onednn',
    'conv3d bf16 64->64 5x32x32: 1 onednn',
    'attention bf16 1860x40x128: 1.5 torch',
    'layerMemory bf16 20x1860x5120: 0.6 copy',
  ])
})

test('and of a card: products, attention, memory, convolutions at the sizes of the 14B model', () => {
  const goals = new Map(cases.map((c) => [c.name, c.goals.filter(({ on }) => on === 'card')]))
  const held = (name: string, against: string) =>
    goals.get(name)?.find((goal) => goal.against === against)?.atLeast
  for (const m of [1860, 3720, 7440, 11904]) {
    assert.is(held(`linear bf16 ${m}x13824x5120 bias`, 'torch'), 1)
    assert.is(held(`linear bf16 ${m}x13824x5120 gelu`, 'torch'), 1.1)
    assert.is(held(`linear bf16 ${m}x5120x13824 gate`, 'torch'), 1.1)
    assert.is(held(`linear fp8 ${m}x5120x13824 bias`, 'bf16'), 1.6)
    assert.is(held(`layerMemory bf16 39x${m}x5120`, 'copy'), 0.85)
    assert.is(held(`layerMemory bf16 39x${m}x5120`, 'torch'), 5)
  }
  for (const name of ['2x1860x40x128', '7440x40x128', '11904x40x128'])
    assert.is(held(`attention bf16 ${name}`, 'torch'), 1)
  for (const name of ['512->512 4x192x320', '256->256 8x384x640', '128->128 16x768x1280']) {
    assert.is(held(`conv3d bf16 ${name}`, 'torch'), 1.5)
    assert.is(held(`conv3d bf16 ${name}`, 'gemm'), 0.55)
  }
})

test('the decoders end at the pixels of 768x1280', () => {
  for (const [group, frames, channels] of [
    ['standard', 16, 128],
    ['lite', 4, 64],
  ] as const) {
    const names = cases.filter((c) => c.groups.includes(group)).map(({ name }) => name)
    assert.ok(names.includes(`conv3d bf16 ${channels}->3 ${frames}x768x1280`), names.join('\n'))
  }
})

test('a slice is the same op in a size that a simulated card can bear, and is its own slice', () => {
  for (const { spec, name } of cases) {
    const slice = sliceOf(spec)
    assert.is(slice.op, spec.op)
    const { flops, bytes } = costOf(slice)
    assert.ok(flops < 1e9 && bytes < 5e7, `${name}: ${nameOf(slice)} has ${flops} FLOPs, ${bytes} bytes`)
    const whole = costOf(spec)
    assert.ok(flops <= whole.flops && bytes <= whole.bytes, name)
    assert.equal(sliceOf(slice), slice, name)
  }
})

test('oneDNN is asked for plain products and convolutions, and for no other', () => {
  const asked = cases.filter(({ spec }) => oneDnnCase(spec)).map(({ spec }) => spec)
  for (const spec of asked) {
    if (spec.op === 'conv3d') assert.ok(spec.groups === 1 && !spec.fused)
    else assert.ok(spec.op === 'linear' && spec.epilogue === 'none')
  }
  const conv = cases.find(({ name }) => name === 'conv3d bf16 64->64 5x32x32')!
  assert.is(oneDnnCase(conv.spec), 'conv:bf16:1x5x32x32x64:64x3x3x3')
})

test('groups and patterns choose; what chooses nothing is refused by name', async () => {
  const names = (
    given: { group?: string; filter?: string; goals?: true },
    kind: 'cpu' | 'cuda' | 'sim' = 'cpu',
  ) => {
    const { cases: chosen, requests } = chooseCases(cases, kind, given)
    return [...chosen, ...requests].map(({ name }) => name)
  }
  for (const group of Object.keys(groups)) assert.ok(names({ group }).length > 0, group)
  assert.equal(names({ group: 'basic', filter: 'layerMemory' }), ['layerMemory bf16 20x1860x5120'])
  assert.is(
    names({ group: 'lite,standard' }).length,
    new Set([...names({ group: 'lite' }), ...names({ group: 'standard' })]).size,
  )
  assert.not.ok(
    names({}).some((name) => name.includes('11904')),
    'minutes on a CPU',
  )
  assert.ok(names({}, 'cuda').some((name) => name.includes('11904')))
  const { cases: withGoals } = chooseCases(cases, 'cuda', { goals: true })
  assert.ok(withGoals.length > 50 && withGoals.every(({ goals }) => goals.some(({ on }) => on === 'card')))
  assert.equal(names({ group: 'requests' }), ['shapes bf16, Standard'])
  assert.equal(names({ group: 'requests', filter: 'fp8', goals: true }, 'cuda'), ['14B fp8, Standard'])
  assert.not.ok(
    names({}, 'sim').some((name) => name.startsWith('shapes')),
    'no request is predicted',
  )
  const bad = 'ERR_FSVIDEO_INVALID_ARGUMENT'
  await refuses(() => names({ group: 'requests' }, 'sim'), bad, '--group')
  await refuses(() => names({ goals: true, group: 'glue' }), bad, '--goals')
  const error = await refuses(() => names({ group: 'basics' }), bad, '--group')
  assert.match(error.message, /did you mean basic\?/)
  await refuses(() => names({ filter: '(' }), bad, '--filter')
  await refuses(() => names({ filter: 'no such case' }), bad, '--filter')
  for (const text of ['0', '-1', 'many', '', '1e9'])
    await refuses(() => positive('--seconds', text, 1, 600), bad, '--seconds', text)
  await refuses(() => roundsOf('1.5'), bad, '--rounds')
  assert.is(roundsOf(undefined), 5)
})

test.run()
