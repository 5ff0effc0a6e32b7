/**
 * What the CUDA backend does around its kernels, on simulated cards that can be made to fail: the list of devices, memory that runs
 * out, a kernel that takes its card with it, graphs, aborts, several cards. Runs with the addon that FSV_SIMULATOR builds.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Addon, addon } from '../lib/addon.js'
import { Device, devices } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { Tensor } from '../lib/tensor.js'
import { FileWeights, writeSafetensors } from '../lib/weights.js'
import { refusal } from './refusals.js'

interface Simulated extends Addon {
  /** Lets the n-th from now fail, once; 0 for none. `slow`: microseconds that a kernel takes at least. Gives the number of kernels so far. */
  simulate(what: {
    allocation?: number
    launch?: number
    capture?: number
    driver?: boolean
    memory?: number
    slow?: number
    revive?: boolean
  }): number
}
const simulate: Simulated['simulate'] = (what) => (addon() as Simulated).simulate(what)

const test = suite('simulated cards')
const megabyte = 2 ** 20
const total = 64 * 2 ** 30
const numbers = (device: Device, length: number) =>
  device.tensor(
    Float32Array.from({ length }, (_, i) => i % 1000),
    [length],
  )
const values = async (tensor: Tensor) => [...(await tensor.toFloat32())]

/** A test with cards as they are at first; it gives back all their memory. */
function check(name: string, body: () => Promise<void>): void {
  test(name, async () => {
    try {
      await body()
    } finally {
      simulate({ allocation: 0, launch: 0, capture: 0, driver: true, memory: total, slow: 0, revive: true })
    }
    for (const { name, freeBytes, totalBytes } of await devices())
      if (name !== 'cpu') assert.is(freeBytes, totalBytes, `memory of ${name} came back`)
  })
}

/** Opens a card, and lets go of whatever was made on it. */
async function using(name: string, body: (device: Device) => Promise<void>): Promise<void> {
  const device = await Device.open(name)
  const made = new Set<Tensor>()
  device.track = (tensor) => made.add(tensor)
  try {
    await body(device)
  } finally {
    for (const tensor of made) tensor.dispose()
    device.dispose()
  }
}

check('are listed with what one must know of them, the CPU last', async () => {
  const list = await devices()
  assert.equal(
    list
      .map(({ name, description, computeCapability }) => [name, description, computeCapability])
      .slice(0, 3),
    [
      ['sim:0', 'simulated sm_90', '9.0'],
      ['sim:1', 'simulated sm_90', '9.0'],
      ['sim:2', 'simulated sm_80', '8.0'],
    ],
  )
  for (const { totalBytes, freeBytes, driver } of list.slice(0, 3))
    assert.equal([totalBytes, freeBytes, driver], [total, total, '13.0'])
  assert.is(list.at(-1)!.name, 'cpu')
  assert.ok(list.at(-1)!.freeBytes > 0)
})

check('are opened by name, or refused and never replaced', async () => {
  await using('sim', async (device) => {
    assert.is(device.name, 'sim:0')
    assert.match(device.description, /^simulated sm_90, compute capability 9\.0, 65536 MiB$/)
  })
  for (const [name, message] of [
    ['sim:3', /there is no device cuda:3 here: they are cuda:0 to cuda:2/],
    ['sim:x', /there is no device "sim:x"/],
    ['cuda', /there is no device "cuda:0" here/],
  ] as const) {
    const error = await refusal(() => Device.open(name))
    assert.is(error.code, 'ERR_FSVIDEO_NO_DEVICE', name)
    assert.match(error.message, message)
  }
})

check('without a driver are none, and auto says once that it takes the CPU', async () => {
  simulate({ driver: false })
  assert.equal(
    (await devices()).map(({ name }) => name),
    ['cpu'],
  )
  const error = await refusal(() => Device.open('sim'))
  assert.is(error.code, 'ERR_FSVIDEO_NO_DEVICE')
  assert.match(error.message, 'there is no NVIDIA driver')

  const written: string[] = []
  const write = process.stderr.write
  process.stderr.write = ((text: string) => written.push(text) > 0) as typeof write
  try {
    for (let i = 0; i < 2; i++) {
      const device = await Device.open('auto')
      assert.is(device.name, 'cpu')
      device.dispose()
    }
  } finally {
    process.stderr.write = write
  }
  assert.equal(written, ['fsvideo: running on the CPU: there is no NVIDIA driver\n'])
})

check('take and give more than a staging buffer holds', async () =>
  using('sim', async (device) => {
    const data = Float32Array.from({ length: 10 * megabyte + 3 }, (_, i) => i)
    const tensor = device.tensor(data, [data.length])
    const [first, second] = await Promise.all([tensor.read(), tensor.read()])
    assert.ok(Buffer.from(first.buffer).equals(Buffer.from(data.buffer)))
    assert.ok(Buffer.from(second.buffer).equals(Buffer.from(data.buffer)))
  }),
)

check('that have no memory left say how much was needed and is free, and go on', async () =>
  using('sim', async (device) => {
    simulate({ memory: 128 * megabyte })
    const first = numbers(device, 8 * megabyte)
    const before = device.memory()
    const error = await refusal(() => numbers(device, 25 * megabyte))
    assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
    assert.is(error.needed, 100 * megabyte)
    assert.is(error.available, 96 * megabyte)
    assert.equal(device.memory().inUse, before.inUse)
    const doubled = ops.combine([first], [2])
    assert.is((await doubled.toFloat32())[7], 14)
    // What was just let go of is there, though the card is busy with it.
    simulate({ slow: 20_000 })
    for (let i = 0; i < 3; i++) ops.combine([first], [2]).dispose()
    first.dispose()
    doubled.dispose()
    const large = numbers(device, 30 * megabyte)
    assert.is((await large.toFloat32())[999], 999)
  }),
)

check('whose memory fails once are asked again', async () =>
  using('sim', async (device) => {
    simulate({ allocation: 1 })
    assert.equal(await values(numbers(device, 3)), [0, 1, 2])
    simulate({ allocation: 1, memory: megabyte })
    assert.is((await refusal(() => numbers(device, megabyte))).code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
  }),
)

check('that a kernel takes with it name the op, refuse the rest, and leave other cards alone', async () => {
  await using('sim:1', async (other) => {
    await using('sim', async (device) => {
      const matrix = device.tensor(new Float32Array(64).fill(1), [8, 8])
      const product = ops.linear(matrix, matrix)
      await device.synchronize()
      simulate({ launch: 3 })
      ops.combine([product], [1])
      ops.combine([product], [1])
      const after = ops.linear(product, matrix)
      ops.combine([after], [1])
      const error = await refusal(() => device.synchronize())
      assert.is(error.code, 'ERR_FSVIDEO_DEVICE_LOST')
      assert.is(error.field, 'linear')
      assert.match(
        error.message,
        /^linear: CUDA error 700, an illegal memory access .* simulated sm_90 \(0\)/,
      )
      for (const [what, act] of Object.entries({
        op: () => ops.combine([matrix], [1]),
        tensor: () => numbers(device, 4),
        read: () => matrix.read(),
        synchronize: () => device.synchronize(),
        capture: () => device.capture(() => undefined),
      }))
        assert.is((await refusal(act)).code, 'ERR_FSVIDEO_DEVICE_LOST', what)
      assert.is((await refusal(() => Device.open('sim'))).code, 'ERR_FSVIDEO_DEVICE_LOST')
    })
    assert.equal(await values(ops.combine([numbers(other, 3)], [2])), [0, 2, 4])
  })
  simulate({ revive: true })
  await using('sim', async (device) => assert.equal(await values(numbers(device, 2)), [0, 1]))
})

check('a fault inside a graph is the graph, or its op where each is waited for', async () => {
  for (const [sync, culprit] of [
    ['0', 'graph'],
    ['1', 'linear'],
  ] as const) {
    process.env.FSVIDEO_CUDA_SYNC = sync
    try {
      await using('sim', async (device) => {
        const matrix = device.tensor(new Float32Array(64).fill(1), [8, 8])
        const { graph, result } = device.capture(() => ops.linear(ops.combine([matrix], [1]), matrix))
        for (let i = 0; i < 3; i++) graph.replay()
        assert.equal((await values(result))[0], 8)
        simulate({ launch: 2 })
        graph.replay()
        assert.is((await refusal(() => device.synchronize())).field, culprit)
        graph.dispose()
      })
    } finally {
      delete process.env.FSVIDEO_CUDA_SYNC
      simulate({ revive: true })
    }
  }
})

check('replay graphs to the bits of the ops one by one, with what is written in them', async () =>
  using('sim', async (device) => {
    const x = numbers(device, 500)
    const step = () => ops.combine([ops.combine([x], [0.3]), numbers(device, 500)], [0.7, 1])
    const { graph, result } = device.capture(step)
    for (let round = 1; round <= 4; round++) {
      x.write(new Float32Array(500).fill(round))
      graph.replay()
      assert.equal(await values(result), await values(step()))
    }
    const { graph: row, combine } = device.stats()
    assert.is(row!.calls, 4)
    assert.ok(row!.seconds > 0)
    assert.is(combine!.calls, 4 * 2 + 4 * 2)
    graph.dispose()
  }),
)

check('a graph that cannot be recorded names the op, and can be later', async () =>
  using('sim', async (device) => {
    const x = numbers(device, 4)
    const { graph, result } = device.capture(() => ops.combine([ops.combine([x], [2])], [2]))
    graph.replay()
    simulate({ capture: 2 })
    graph.replay()
    const error = await refusal(() => device.synchronize())
    assert.is(error.code, 'ERR_FSVIDEO_INTERNAL')
    assert.match(error.message, /combine cannot be recorded: .*CUDA error 900/)
    graph.replay()
    assert.equal(await values(result), [0, 4, 8, 12])
    graph.dispose()
  }),
)

check('stop soon after an abort, in the queue and between the parts of a graph', async () =>
  using('sim', async (device) => {
    const x = numbers(device, 100)
    const { graph } = device.capture(() => {
      for (let i = 0; i < 200; i++) ops.combine([x], [1])
    })
    for (let i = 0; i < 2; i++) graph.replay()
    await device.synchronize()
    simulate({ slow: 1000 })
    for (const work of [
      () => graph.replay(),
      () => Array.from({ length: 200 }, () => ops.combine([x], [1])),
    ]) {
      const controller = new AbortController()
      device.withSignal(controller.signal, work)
      await new Promise((resolve) => setTimeout(resolve, 30))
      const before = simulate({})
      controller.abort()
      await device.synchronize()
      // Cards run at most 30 ms ahead, and a kernel counts for one here.
      assert.ok(simulate({}) - before <= 40, `${simulate({}) - before} of 200 kernels after the abort`)
    }
    graph.dispose()
  }),
)

check('what an abort leaves undefined may be read', async () =>
  using('sim', async (device) => {
    const x = numbers(device, 100)
    const y = device.withSignal(AbortSignal.abort(), () => ops.combine([x], [2]))
    assert.is((await values(ops.combine([y], [1]))).length, 100)
  }),
)

check('compute the same bits, side by side', async () => {
  await using('sim:0', (first) =>
    using('sim:1', async (second) => {
      const results = [first, second].map((card) => {
        let x = numbers(card, 1000)
        for (let i = 0; i < 10; i++) x = ops.combine([x, numbers(card, 1000)], [0.9, 0.1])
        return values(x)
      })
      assert.equal(await results[0], await results[1])
    }),
  )
})

check('hold weights in their own memory, as much as was planned', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fsvideo-cards-'))
  try {
    const data = Float32Array.from({ length: 3 * megabyte }, (_, i) => i)
    const shape = [3, megabyte]
    const entry = { name: 'weight', dtype: 'f32' as const, shape, data: () => data }
    await writeSafetensors(join(folder, 'model.safetensors'), [entry])
    await using('sim', async (device) => {
      const meta = await Device.open('meta', {}, device)
      const used = []
      for (const on of [device, meta]) {
        const weights = await FileWeights.open(folder, on)
        const weight = weights.get({ name: 'weight', shape, init: 'normal', gain: 1 })
        const packed = ops.packLinear(weight)
        used.push(on.memory())
        if (on === device) assert.equal(await weight.read(), data)
        weight.dispose()
        packed.dispose()
      }
      assert.equal(used[0], used[1])
      assert.is(used[0]!.mapped, 0)
      meta.dispose()
    })
  } finally {
    await rm(folder, { recursive: true })
  }
})

// Any other addon has no such cards.
if ('simulate' in addon()) test.run()
