/**
 * What a call costs the host, with tiny ops so that nothing else is left: the JavaScript thread's share on the planning device, and on the
 * real device how fast calls and replays of a graph follow each other when someone waits for the last.
 */
import type Benchmark from 'benchmark'
import { Device, ops } from '../kernels.js'

export interface HostRow {
  name: string
  microseconds: number
  /** Relative margin of error, per cent. */
  margin: number
}

/** Ops of the graph, and calls between two waits. */
const many = 100

/** Gives nothing, and says why in `absent`, where the package `benchmark` is not installed. */
export async function measureHost(device: Device): Promise<{ rows: HostRow[]; absent?: string }> {
  let suite: Benchmark.Suite
  try {
    const { default: benchmark } = await import('benchmark')
    suite = new benchmark.Suite()
  } catch {
    return { rows: [], absent: 'host overhead: needs the package benchmark (npm install benchmark)' }
  }
  const meta = await Device.open('meta')
  const thread = scene(meta)
  suite.add('one op: check, allocate, queue, dispose', thread.call)
  suite.add('a scope of ten ops', () =>
    meta.scope(() => {
      for (let i = 0; i < 10; i++) ops.linear(thread.x, thread.weight)
    }),
  )
  suite.add(`replay of a graph of ${many} ops`, () => thread.graph.replay())

  const real = scene(device)
  const waited = (work: () => void) => ({
    defer: true,
    fn: (deferred: { resolve(): void }) => {
      for (let i = 0; i < many; i++) work()
      void device.synchronize().then(() => deferred.resolve())
    },
  })
  const perCall = new Map([
    [`one op on ${device.name}, of ${many} in a row`, many],
    [`one op of a graph of ${many} on ${device.name}`, many * many],
  ])
  const [calls, replays] = [...perCall.keys()] as [string, string]
  suite.add(calls, waited(real.call))
  suite.add(
    replays,
    waited(() => real.graph.replay()),
  )

  const rows: HostRow[] = []
  suite.on('cycle', ({ target }: { target: Benchmark }) => {
    const { mean, rme } = target.stats!
    const name = target.name!
    rows.push({ name, microseconds: (1e6 * mean) / (perCall.get(name) ?? 1), margin: rme })
  })
  await new Promise((resolve) => suite.on('complete', resolve).run({ async: true }))
  real.dispose()
  meta.dispose()
  return { rows }
}

function scene(device: Device) {
  const x = ops.fill(device, [1, 4, 8], 0)
  const weight = ops.packLinear(ops.fill(device, [8, 8], 0))
  const { graph } = device.capture(() => {
    let y = x
    for (let i = 0; i < many; i++) y = ops.linear(y, weight)
    return y
  })
  return {
    x,
    weight,
    graph,
    call: () => ops.linear(x, weight, { activation: 'silu' }).dispose(),
    dispose() {
      graph.dispose()
      x.dispose()
      weight.dispose()
    },
  }
}
