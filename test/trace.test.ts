/**
 * What a trace tells of a device, whatever runs on it: every op that stats() counts, with its time, in order and in its ranges; the
 * memory in use; nothing of what did not run. On a card also of the steps inside recorded graphs.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chromeTrace } from '../lib/chrome-trace.js'
import * as ops from '../lib/ops.js'
import type { Tensor } from '../lib/tensor.js'
import type { Trace } from '../lib/trace.js'
import { onCpu, openTestDevice } from './devices.js'
import { refusal, refuses } from './refusals.js'
import { readTrace } from './trace-format.js'

const device = await openTestDevice({ threads: 2 })
const test = suite('trace')
test.after(() => device.dispose())

const numbers = (length: number) =>
  device.tensor(
    Float32Array.from({ length }, (_, i) => i),
    [length],
  )
const now = () => Number(process.hrtime.bigint()) / 1e6
const close = (a: number, b: number, what: string) =>
  assert.ok(Math.abs(a - b) <= 1e-6 * Math.max(Math.abs(a), Math.abs(b)), `${what}: ${a}, ${b}`)

/** Ops one by one, copies, and a graph that is replayed `replays` times, of which a card records the second. */
async function work(replays: number): Promise<void> {
  const [x, y] = device.scope(() => [numbers(64), numbers(64)]).map((t) => device.keep(t)) as [Tensor, Tensor]
  const { graph, result } = device.range('setup', () =>
    device.capture(() =>
      device.range('layer 0', () => {
        const sum = ops.combine([x, y], [1, 2])
        return device.range('inner', () => ops.linear(sum.reshape(8, 8), sum.reshape(8, 8)))
      }),
    ),
  )
  for (let i = 0; i < replays; i++)
    device.range('stage', () =>
      device.range(`step ${i}`, () => {
        graph.replay()
        device.scope(() => ops.assign(x, ops.combine([x, y], [0.5, 0.5])))
      }),
    )
  await device.range('stage', () => result.read())
  device.scope(() => ops.cast(x, 'bf16'))
  await device.synchronize()
  for (const tensor of [x, y, result]) tensor.dispose()
  graph.dispose()
}

/** That the trace is what stats() added up since they were reset. */
function agrees({ ops: all }: Trace): void {
  for (const [name, stats] of Object.entries(device.stats())) {
    if (stats.calls === 0) continue
    const own = all.filter((op) => op.name === name)
    const sum = (of: (op: (typeof own)[number]) => number) => own.reduce((total, op) => total + of(op), 0)
    assert.is(own.length, stats.calls, `calls of ${name}`)
    close(
      sum(({ flops }) => flops),
      stats.flops,
      `FLOPs of ${name}`,
    )
    close(
      sum(({ bytes }) => bytes),
      stats.bytes,
      `bytes of ${name}`,
    )
    const seconds = sum(({ beginMs, endMs }) => endMs - beginMs) / 1e3
    // A tenth of a nanosecond is what a double holds of a time since the machine was started.
    assert.ok(Math.abs(seconds - stats.seconds) < 1e-9 * own.length, `${name}: ${seconds} ${stats.seconds} s`)
  }
}

test('has every op once, with what stats() counts, in order and on the clock of the host', async () => {
  device.resetStats()
  const before = now()
  const { trace } = await device.trace(() => work(4))
  const after = now()
  agrees(trace)
  assert.not.ok(trace.ops.some(({ name }) => name === 'graph'))
  assert.is(device.stats().graph?.calls ?? 0, 0)
  const names = trace.ops.map(({ name }) => name)
  assert.equal(names, [
    ...['write', 'write'],
    ...Array.from({ length: 4 }, () => ['combine', 'linear', 'combine', 'assign']).flat(),
    ...['read', 'cast'],
  ])
  let end = before
  for (const { name, beginMs, endMs, memoryBytes } of trace.ops) {
    assert.ok(beginMs >= end - 1e-6, `${name} begins ${end - beginMs} ms before the op ahead of it ends`)
    assert.ok(endMs >= beginMs, name)
    assert.ok(memoryBytes > 0, name)
    end = endMs
  }
  assert.ok(end <= after + (onCpu ? 0 : 5), `${end - after} ms behind the end`) // a card's clock was read a moment late
})

test('has the ops of graphs that are launched in parts, and of more ops than a card is let ahead', async () => {
  const x = numbers(16)
  const { graph, result } = device.capture(() => {
    let y = x
    for (let i = 0; i < 100; i++) y = device.range(`layer ${i}`, () => ops.combine([y], [1]))
    return y
  })
  device.resetStats()
  const { trace } = await device.trace(() => {
    for (let i = 0; i < 3; i++) graph.replay()
    for (let i = 0; i < 100; i++) device.scope(() => void ops.fill(device, [16], i))
  })
  agrees(trace)
  assert.ok(
    trace.ops.every(({ path }) => path.length === 0),
    'captured without a trace, it has no ranges',
  )
  for (const [i, { beginMs, endMs }] of trace.ops.entries())
    assert.ok(endMs >= beginMs && (i === 0 || beginMs >= trace.ops[i - 1]!.endMs - 1e-6), `op ${i}`)
  assert.ok(
    trace.ops.slice(0, 300).every(({ name }) => name === 'combine'),
    'in their order',
  )
  graph.dispose()
  for (const tensor of [x, result]) tensor.dispose()
})

test('tells operands and result', async () => {
  const { trace } = await device.trace(() =>
    device.scope(() => {
      const x = ops.fill(device, [2, 3, 8], 1, 'bf16')
      const states = [x, x, x]
      const [router, weight] = [ops.fill(device, [3, 8], 1, 'bf16'), ops.fill(device, [16, 8], 0, 'bf16')]
      ops.linear(ops.layerMemory(states, x, router), weight, { dtype: 'f32' })
      ops.attention(...([x, x, x].map((t) => t.reshape(2, 3, 1, 8)) as [Tensor, Tensor, Tensor]))
    }),
  )
  assert.equal(
    trace.ops.map(({ shapes }) => shapes),
    [
      '[2, 3, 8] bf16',
      '[3, 8] bf16',
      '[16, 8] bf16',
      '3 [2, 3, 8] bf16 -> [2, 3, 8] bf16',
      '[2, 3, 8] bf16 x [16, 8] bf16 -> [2, 3, 16] f32',
      '[2, 3, 1, 8] bf16 x [2, 3, 1, 8] bf16 -> [2, 3, 1, 8] bf16',
    ],
  )
})

test('ranges nest, those of a capture in those of each replay, and parts of one name are one', async () => {
  const { trace } = await device.trace(() => work(3))
  const paths = trace.ops.map(({ name, path }) => [...path, name].join(' / '))
  const step = (i: number) => [
    `stage / step ${i} / layer 0 / combine`,
    `stage / step ${i} / layer 0 / inner / linear`,
    `stage / step ${i} / combine`,
    `stage / step ${i} / assign`,
  ]
  assert.equal(paths, ['write', 'write', ...step(0), ...step(1), ...step(2), 'stage / read', 'cast'])
  const ranges = trace.ranges()
  assert.equal(
    ranges.map(({ name, depth }) => `${'.'.repeat(depth)}${name}`),
    ['stage', ...[0, 1, 2].flatMap((i) => [`.step ${i}`, '..layer 0', '...inner'])],
  )
  for (const range of ranges) {
    const own = trace.ops.filter(({ path }) => path[range.depth] === range.name)
    const inside = own.filter(({ beginMs }) => beginMs >= range.beginMs && beginMs < range.endMs + 1e-9)
    assert.is(range.beginMs, inside[0]!.beginMs)
    assert.is(range.endMs, inside.at(-1)!.endMs)
  }
})

test('a range gives what its function gives, traced or not, and ends when that throws', async () => {
  assert.is(
    device.range('untraced', () => 5),
    5,
  )
  const { trace, result } = await device.trace(() => {
    assert.throws(() =>
      device.range('outer', () =>
        device.range('broken', () => {
          throw new Error('inside')
        }),
      ),
    )
    device.scope(() => ops.fill(device, [4], 1))
    return device.range('whole', () => 7)
  })
  assert.is(result, 7)
  assert.equal(trace.ops[0]!.path, [])
})

test('with whole graphs a replay is one op, and on a card the graph that it is without a trace', async () => {
  device.resetStats()
  const { trace } = await device.trace(() => work(4), { graphs: 'whole' })
  const replays = trace.ops.filter(({ name }) => name === 'graph')
  assert.equal(
    replays.map(({ path }) => path.join(' / ')),
    [0, 1, 2, 3].map((i) => `stage / step ${i}`),
  )
  for (const { flops, endMs, beginMs } of replays) {
    assert.is(flops, 2 * 64 * 8 + 4 * 64)
    assert.ok(endMs > beginMs)
  }
  const stats = device.stats()
  if (onCpu) return
  assert.is(stats.graph!.calls, 4)
  // The first replay of a graph runs its steps one by one.
  const recorded = replays.slice(1).reduce((sum, { beginMs, endMs }) => sum + endMs - beginMs, 0) / 1e3
  assert.ok(Math.abs(recorded - stats.graph!.seconds) < 1e-8, `${recorded} ${stats.graph!.seconds}`)
})

test('traced, untraced and whole replays of one graph give the same', async () => {
  const x = numbers(64)
  const { graph, result } = device.capture(() => ops.combine([x], [3]))
  const run = async () => {
    graph.replay()
    return (await result.toFloat32())[63]
  }
  for (let i = 0; i < 3; i++) {
    assert.is(await run(), 189)
    assert.is((await device.trace(run)).result, 189)
    const { trace, result } = await device.trace(run, { graphs: 'whole' })
    assert.is(result, 189)
    assert.is(trace.ops[0]!.name, 'graph')
  }
  for (const tensor of [x, result]) tensor.dispose()
  graph.dispose()
})

test('memory in use goes with the stream, and its peak is that of the device', async () => {
  const atStart = device.memory().inUse
  device.resetPeak()
  const megabyte = 2 ** 20
  const { trace } = await device.trace(() => {
    device.scope(() => {
      const big = ops.fill(device, [megabyte], 1)
      device.scope(() => ops.slice(big, 0, 0, megabyte / 2).dispose())
      device.scope(() => ops.combine([big, big], [1, 1]))
    })
    device.scope(() => ops.fill(device, [16], 1))
  })
  const inUse = trace.ops.map(({ memoryBytes }) => Math.round((memoryBytes - atStart) / megabyte))
  assert.equal(inUse, [4, 6, 8, 0])
  assert.is(Math.max(...trace.ops.map(({ memoryBytes }) => memoryBytes)), device.memory().peak)
})

test('what was cancelled is not in it', async () => {
  const { trace } = await device.trace(() =>
    device.withSignal(AbortSignal.abort(), () => device.scope(() => void ops.fill(device, [4], 1))),
  )
  assert.is(trace.ops.length, 0)
})

test('one at a time, and over when it fails', async () => {
  const inside = () => device.trace(() => {})
  await device.trace(() => refuses(inside, 'ERR_FSVIDEO_INVALID_ARGUMENT', 'trace'))
  await refuses(
    () => device.trace(() => {}, { graphs: 'some' as 'whole' }),
    'ERR_FSVIDEO_INVALID_ARGUMENT',
    'trace.graphs',
  )
  const broken = new Error('of the work')
  try {
    await device.trace(async () => {
      await device.synchronize()
      throw broken
    })
    assert.unreachable()
  } catch (error) {
    assert.is(error, broken)
  }
  assert.is((await device.trace(() => device.scope(() => void ops.fill(device, [4], 1)))).trace.ops.length, 1)
  const other = await openTestDevice({ threads: 1 })
  other.dispose()
  assert.is((await refusal(() => other.trace(() => {}))).code, 'ERR_FSVIDEO_DISPOSED')
})

test('as a file it is a Chrome trace with nested slices, a host track and the memory', async () => {
  const beginMs = now()
  const { trace } = await device.trace(() => work(3))
  const spans = [{ name: 'request', beginMs, endMs: now() }]
  const about = { model: 'none' }
  const file = chromeTrace(trace, { device: device.name, spans, about })
  assert.equal(file.otherData, about)
  const { tracks, counters } = readTrace(JSON.stringify(file))
  assert.equal([...tracks.keys()], ['host', device.name])
  assert.is(tracks.get('host')![0]!.name, 'request')
  const slices = tracks.get(device.name)!
  const traced = slices.filter(({ cat }) => cat === 'op')
  assert.is(traced.length, trace.ops.length)
  for (const [i, { name, inside, dur, args }] of traced.entries()) {
    const op = trace.ops[i]!
    assert.is(name, op.name)
    assert.equal(inside, op.path)
    assert.ok(Math.abs(dur - 1e3 * (op.endMs - op.beginMs)) < 2e-3)
    assert.is(args.flops, op.flops)
  }
  const memory = counters.get('memory in use')!
  assert.is(Math.max(...memory.map(({ value }) => value)), Math.max(...trace.ops.map((op) => op.memoryBytes)))
})

test.run()
