/**
 * What a device promises, whatever runs on it: when memory comes back, what a graph replays, what a signal cancels, in which order
 * things happen, and how it ends.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device } from '../lib/device.js'
import type { FSVideoError } from '../lib/errors.js'
import * as ops from '../lib/ops.js'
import type { Tensor } from '../lib/tensor.js'
import { onCpu, openTestDevice, simulated } from './devices.js'
import { refusal } from './refusals.js'

const device = await openTestDevice({ threads: 2 })
const test = suite('device')
test.after(() => device.dispose())

const megabyte = 2 ** 20
const inUse = () => device.memory().inUse
const numbers = (length: number, at: (i: number) => number = (i) => i) =>
  device.tensor(
    Float32Array.from({ length }, (_, i) => at(i)),
    [length],
  )
const values = async (tensor: Tensor) => [...(await tensor.toFloat32())]

/** Queues work that takes a while: about a millisecond a round. */
function busy(rounds: number, on = device): void {
  on.scope(() => {
    const side = onCpu ? 192 : simulated ? 16 : 1024
    const matrix = ops.fill(on, [side, side], 1 / side)
    let x = ops.fill(on, [8 * side, side], 1)
    for (let i = 0; i < rounds; i++) {
      const next = ops.linear(x, matrix)
      x.dispose()
      x = next
    }
  })
}
/** Milliseconds in which a device stops. That a simulated one does is counted in simulated-cards.test.ts. */
const soon = simulated ? 5000 : 100

/** Every test gives back all the memory that it took. */
function check(name: string, body: (atStart: number) => void | Promise<void>): void {
  test(name, async () => {
    const atStart = inUse()
    await body(atStart)
    assert.is(inUse(), atStart, 'memory in use came back')
  })
}

check('a scope keeps what it returns and nothing else', async () => {
  let lost: Tensor | undefined
  const { kept, list } = device.scope(() => {
    lost = numbers(10)
    const kept = ops.combine([lost], [2])
    return { kept, list: [numbers(3), { not: 'a tensor' }] }
  })
  assert.ok(lost!.disposed)
  assert.equal(await values(kept), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
  kept.dispose()
  ;(list[0] as Tensor).dispose()
})

check('what an inner scope returns belongs to the outer one', () => {
  let inner: Tensor | undefined
  device.scope(() => {
    inner = device.scope(() => numbers(4))
    assert.not(inner.disposed)
  })
  assert.ok(inner!.disposed)
})

check('a scope that throws keeps nothing', () => {
  const made: Tensor[] = []
  assert.throws(
    () =>
      device.scope(() => {
        made.push(numbers(4), numbers(5))
        throw new Error('stop')
      }),
    'stop',
  )
  assert.ok(made.every((tensor) => tensor.disposed))
})

check('keep takes a tensor out of all scopes, release gives it to the current one', async () => {
  let tensor: Tensor | undefined
  device.scope(() => {
    device.scope(() => {
      tensor = device.keep(numbers(4))
    })
  })
  assert.equal(await values(tensor!), [0, 1, 2, 3])
  device.scope(() => {
    device.release(tensor!)
    assert.not(tensor!.disposed)
  })
  assert.ok(tensor!.disposed)
})

check('views and reshapes share memory that lives as long as one of them', async () => {
  const whole = numbers(12)
  const before = inUse()
  const rows = whole.reshape(3, -1)
  const last = rows.slice(0, 2)
  assert.is(inUse(), before)
  whole.dispose()
  rows.dispose()
  assert.is(inUse(), before)
  assert.equal(last.shape, [1, 4])
  assert.equal(await values(last), [8, 9, 10, 11])
  last.dispose()
})

check('a slice behind a longer axis is a copy', async () => {
  const rows = device.scope(() => numbers(6).reshape(2, 3))
  const column = rows.slice(1, 1, 2)
  rows.write(new Float32Array(6))
  assert.equal(await values(column), [1, 4])
  for (const tensor of [rows, column]) tensor.dispose()
})

check('reads, writes and assignments happen in the order of their calls', async () => {
  const [x, other] = [numbers(4), numbers(4, (i) => 10 * i)]
  const data = Float32Array.of(5, 6, 7, 8)
  busy(3)
  const first = x.read()
  x.write(data)
  data.fill(-1) // taken at the call
  const second = x.read()
  const doubled = ops.combine([x], [2])
  ops.assign(x, other)
  const third = x.read()
  other.write(new Float32Array(4))
  const fourth = x.read()
  const all = await Promise.all([first, second, third, fourth, doubled.read()])
  assert.equal(
    all.map((values) => [...values]),
    [
      [0, 1, 2, 3],
      [5, 6, 7, 8],
      [0, 10, 20, 30],
      [0, 10, 20, 30],
      [10, 12, 14, 16],
    ],
  )
  for (const tensor of [x, other, doubled]) tensor.dispose()
})

check('memory is used again at once although the device is still busy with it', async () => {
  busy(5)
  const results: Promise<number[]>[] = []
  const before = inUse()
  for (let i = 0; i < 50; i++) {
    const x = device.tensor(new Float32Array(1000).fill(i), [1000])
    results.push(x.read().then((data) => [data[0]!, data[999]!]))
    x.dispose()
  }
  assert.is(inUse(), before)
  for (const [i, result] of results.entries()) assert.equal(await result, [i, i])
})

check('a graph replays on what its inputs hold, and its outputs hold what came last', async () => {
  const x = numbers(3)
  const { graph, result } = device.capture(() => {
    const twice = ops.combine([x], [2])
    return { twice, sum: ops.combine([twice, x], [1, 1]) }
  })
  const reads: Promise<unknown>[] = []
  for (let i = 0; i < 4; i++) {
    x.write(Float32Array.of(i, i + 1, i + 2))
    graph.replay()
    reads.push(values(result.sum))
  }
  graph.dispose() // while replays are queued
  graph.dispose()
  for (let i = 0; i < 4; i++) assert.equal(await reads[i], [3 * i, 3 * i + 3, 3 * i + 6])
  assert.equal(await values(result.twice), [6, 8, 10])
  assert.is((await refusal(() => graph.replay())).code, 'ERR_FSVIDEO_DISPOSED')
  for (const tensor of [x, result.twice, result.sum]) tensor.dispose()
})

check('a graph that is disposed of keeps nothing, also while its replays are queued', async () => {
  const x = ops.fill(device, [256, 256], 1)
  const { graph, result } = device.capture(() => {
    let y = x
    for (let i = 0; i < 30; i++) y = ops.linear(y, x)
    return y
  })
  for (let i = 0; i < 20; i++) graph.replay()
  const before = inUse()
  result.dispose()
  graph.dispose()
  assert.ok(inUse() < before, 'at once, in stream order')
  // This memory was the graph's and is written behind its last replay.
  const after = numbers(1000)
  x.dispose()
  assert.equal((await values(after))[999], 999)
  after.dispose()
})

check('a graph uses the memory of what it has finished with again', () => {
  const x = ops.fill(device, [megabyte], 0)
  const before = inUse()
  const { graph, result } = device.capture(() => {
    let y = x
    for (let i = 0; i < 20; i++) {
      const next = ops.combine([y], [1])
      if (y !== x) y.dispose()
      y = next
    }
    return y
  })
  const bytes = inUse() - before
  assert.ok(bytes <= 3 * 4 * megabyte, `${bytes} bytes for a chain of twenty tensors of 4 MB`)
  for (const tensor of [result, x]) tensor.dispose()
  graph.dispose()
})

check('a graph keeps its inputs alive', async () => {
  const x = numbers(3)
  const { graph, result } = device.capture(() => ops.combine([x], [3]))
  x.dispose()
  const other = numbers(3, () => 7)
  graph.replay()
  assert.equal(await values(result), [0, 3, 6])
  for (const tensor of [result, other]) tensor.dispose()
  graph.dispose()
})

check('nothing waits inside a capture, and one that throws leaves none behind', async () => {
  const x = numbers(3)
  let inside: Promise<unknown> = Promise.resolve()
  const { graph } = device.capture(() => {
    inside = x.read().catch((error: unknown) => error)
  })
  graph.dispose()
  assert.is(((await inside) as FSVideoError).code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
  assert.throws(
    () =>
      device.capture(() => {
        ops.combine([x], [1])
        throw new Error('stop')
      }),
    'stop',
  )
  const nested = device.capture(() => refusal(() => device.capture(() => undefined)))
  assert.is((await nested.result).code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
  nested.graph.dispose()
  const y = ops.combine([x], [5])
  assert.equal(await values(y), [0, 5, 10])
  for (const tensor of [x, y]) tensor.dispose()
})

check('statistics count what runs, replays too', async () => {
  device.resetStats()
  const x = numbers(1000)
  const { graph, result } = device.capture(() => ops.combine([x], [2]))
  assert.is(device.stats().combine?.calls ?? 0, 0)
  for (let i = 0; i < 5; i++) graph.replay()
  await device.synchronize()
  const { calls, bytes, seconds } = device.stats().combine!
  assert.is(calls, 5)
  assert.is(bytes, 5 * 8000)
  assert.ok(seconds > 0)
  for (const tensor of [x, result]) tensor.dispose()
  graph.dispose()
})

check('an aborted signal skips queued work, of graphs too, and nobody else', async () => {
  const controller = new AbortController()
  const x = numbers(3, () => 1)
  const y = numbers(3, () => 1)
  const { graph } = device.capture(() => {
    for (let i = 0; i < 3; i++) ops.assign(y, ops.combine([y], [2]))
  })
  busy(onCpu ? 20 : 200) // far more than a card is given ahead
  device.withSignal(controller.signal, () => {
    x.write(Float32Array.of(9, 9, 9))
    // An inner signal does not lift the outer one.
    device.withSignal(new AbortController().signal, () => undefined)
    graph.replay()
  })
  const free = ops.combine([x], [3])
  controller.abort()
  assert.equal(await values(x), [1, 1, 1])
  assert.equal(await values(y), [1, 1, 1])
  assert.equal(await values(free), [3, 3, 3])
  // A signal that is aborted already cancels from the start.
  device.withSignal(AbortSignal.abort(), () => x.write(Float32Array.of(9, 9, 9)))
  assert.equal(await values(x), [1, 1, 1])
  graph.replay()
  assert.equal(await values(y), [8, 8, 8])
  for (const tensor of [x, y, free]) tensor.dispose()
  graph.dispose()
})

check('an abort stops a long queue soon', async () => {
  const controller = new AbortController()
  // In the queue, and inside a graph that has begun.
  const { graph } = device.capture(() => busy(1000))
  device.withSignal(controller.signal, () => {
    graph.replay()
    busy(1000)
  })
  await new Promise((resolve) => setTimeout(resolve, 20))
  const began = performance.now()
  controller.abort()
  await device.synchronize()
  assert.ok(performance.now() - began < soon)
  assert.is(device.depth, 0)
  graph.dispose()
})

check('whatever is disposed of says so by code', async () => {
  const gone = numbers(4)
  const shape = gone.shape
  gone.dispose()
  gone.dispose()
  assert.equal(gone.shape, shape)
  assert.is(gone.dtype, 'f32')
  const live = numbers(4)
  for (const [what, act] of Object.entries({
    read: () => gone.read(),
    toFloat32: () => gone.toFloat32(),
    write: () => gone.write(new Float32Array(4)),
    reshape: () => gone.reshape(2, 2),
    slice: () => gone.slice(0, 1),
    'an op': () => ops.combine([live, gone], [1, 1]),
    'assign to': () => ops.assign(gone, live),
    'assign from': () => ops.assign(live, gone),
    cast: () => ops.cast(gone, 'bf16'),
    copy: () => ops.slice(gone, 0, 0, 1),
  }))
    assert.is((await refusal(act)).code, 'ERR_FSVIDEO_DISPOSED', what)
  live.dispose()
})

check(
  'a device that is disposed of answers who waits, refuses the rest, and takes its memory along',
  async () => {
    const other = await openTestDevice({ threads: 1 })
    const tensor = other.tensor(new Float32Array(megabyte), [megabyte])
    const { graph, result } = other.capture(() => ops.combine([tensor], [2]))
    busy(2000, other)
    graph.replay()
    const waiting = [other.synchronize(), tensor.read(), result.read()].map((promise) =>
      promise.then(
        () => 'done',
        (error: FSVideoError) => error.code,
      ),
    )
    const began = performance.now()
    other.dispose()
    other.dispose()
    assert.ok(performance.now() - began < soon, 'what is queued is dropped')
    assert.equal(await Promise.all(waiting), new Array(3).fill('ERR_FSVIDEO_DISPOSED'))
    assert.ok(other.disposed)
    assert.is(other.depth, 0)
    for (const [what, act] of Object.entries({
      tensor: () => other.tensor(new Float32Array(1), [1]),
      fill: () => ops.fill(other, [1], 1),
      op: () => ops.cast(tensor, 'bf16'),
      read: () => tensor.read(),
      write: () => tensor.write(new Float32Array(megabyte)),
      capture: () => other.capture(() => undefined),
      replay: () => graph.replay(),
      synchronize: () => other.synchronize(),
    }))
      assert.is((await refusal(act)).code, 'ERR_FSVIDEO_DISPOSED', what)
    graph.dispose()
    tensor.dispose()
    result.dispose()
    const { inUse, reserved } = other.memory()
    assert.equal([inUse, reserved], [0, 0])
    const idle = await openTestDevice({ threads: 1 })
    ops.fill(idle, [megabyte], 1).dispose()
    assert.ok(idle.memory().reserved > 0)
    idle.dispose()
    assert.is(idle.memory().reserved, 0)
  },
)

check('a tensor of another device is refused by name', async () => {
  const other = await openTestDevice({ threads: 1 })
  const [here, there] = [numbers(4), other.tensor(new Float32Array(4), [4])]
  const error = await refusal(() => ops.combine([here, there], [1, 1]))
  assert.is(error.code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
  assert.is(error.field, 'combine.terms[1]')
  here.dispose()
  other.dispose()
})

check('a limit is kept, told in bytes, and survived', async () => {
  const limit = 64 * megabyte
  const small = await openTestDevice({ threads: 1, memoryLimit: limit })
  const first = ops.fill(small, [8 * megabyte], 1)
  const error = await refusal(() => ops.fill(small, [9 * megabyte], 1))
  assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
  assert.is(error.needed, 36 * megabyte)
  assert.is(error.available, limit - 32 * megabyte)
  const second = ops.fill(small, [7 * megabyte], 2)
  assert.is((await second.toFloat32())[0], 2)
  first.dispose()
  second.dispose()
  // What is free must not stand in the way: neither of a larger tensor nor of a graph.
  const whole = ops.fill(small, [16 * megabyte], 3)
  whole.dispose()
  const { graph, result } = small.capture(() => ops.fill(small, [16 * megabyte], 4))
  graph.replay()
  assert.is((await result.toFloat32())[5], 4)
  result.dispose()
  graph.dispose()
  assert.is(small.memory().inUse, 0)
  small.dispose()
})

check('a limit is used to its end', async () => {
  const tight = await openTestDevice({ threads: 1, memoryLimit: 5 * megabyte })
  const large = ops.fill(tight, [(2.5 * megabyte) / 4], 1)
  const small = ops.fill(tight, [10], 2)
  assert.equal(await values(small), new Array(10).fill(2))
  small.dispose()
  large.dispose()
  ops.fill(tight, [(5 * megabyte) / 4], 1).dispose()
  const after = ops.fill(tight, [10], 3)
  assert.equal(await values(after), new Array(10).fill(3))
  after.dispose()
  tight.dispose()
})

check('what is free is returned rather than kept beside what is new', () => {
  device.trim()
  const before = device.memory().reserved
  for (let i = 1; i <= 30; i++) ops.fill(device, [(i * megabyte) / 4], 1).dispose()
  assert.ok(device.memory().reserved <= before + 40 * megabyte)
})

check('the peak is the most that was in use, and trimming returns what is free', (atStart) => {
  device.resetPeak()
  const [a, b] = [ops.fill(device, [4 * megabyte], 1), ops.fill(device, [2 * megabyte], 1)]
  a.dispose()
  b.dispose()
  assert.is(device.memory().peak, atStart + 24 * megabyte)
  const reserved = device.memory().reserved
  // The same sizes again take nothing new.
  ops.fill(device, [4 * megabyte], 1).dispose()
  assert.is(device.memory().reserved, reserved)
  device.trim()
  assert.ok(device.memory().reserved <= reserved - 24 * megabyte)
  device.resetPeak()
  assert.is(device.memory().peak, atStart)
})

check('the planning device counts the same calls to the same bytes', async () => {
  const meta = await Device.open('meta', {}, device)
  const real = await openTestDevice({ threads: 1 })
  const peaks = []
  for (const on of [meta, real]) {
    let seed = 7
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
      return (seed >>> 8) % below
    }
    const live: Tensor[] = []
    const history = []
    for (let i = 0; i < 400; i++) {
      if (live.length > 12 || (live.length > 0 && random(3) === 0))
        live.splice(random(live.length), 1)[0]!.dispose()
      else live.push(ops.fill(on, [1 + random(random(2) === 0 ? 3000 : 900_000)], 1))
      if (i % 97 === 0) on.trim()
      history.push(on.memory().inUse)
    }
    const { result, graph } = on.capture(() => ops.combine([live[0]!, live[0]!], [1, 1]))
    graph.replay()
    history.push(on.memory().inUse, on.memory().peak)
    for (const tensor of [...live, result]) tensor.dispose()
    graph.dispose()
    history.push(on.memory().inUse)
    await on.synchronize()
    peaks.push(history)
    on.dispose()
  }
  assert.equal(peaks[0], peaks[1])
  assert.is(peaks[0]!.at(-1), 0)
})

check('devices are opened by name or refused', async () => {
  for (const [name, options, code] of [
    ['cuda:7', {}, 'ERR_FSVIDEO_NO_DEVICE'],
    ['', {}, 'ERR_FSVIDEO_NO_DEVICE'],
    ['cpu', { threads: 0 }, 'ERR_FSVIDEO_INVALID_ARGUMENT'],
    ['cpu', { threads: 1.5 }, 'ERR_FSVIDEO_INVALID_ARGUMENT'],
    ['cpu', { memoryLimit: -1 }, 'ERR_FSVIDEO_INVALID_ARGUMENT'],
    ['cpu', { memoryLimit: Number.NaN }, 'ERR_FSVIDEO_INVALID_ARGUMENT'],
    ['cpu', { isa: 'mmx' }, 'ERR_FSVIDEO_UNSUPPORTED_DEVICE'],
  ] as const)
    assert.is((await refusal(() => Device.open(name, options))).code, code, name)
  const auto = await Device.open()
  assert.is(auto.name, 'cpu')
  auto.dispose()
})

test.run()
