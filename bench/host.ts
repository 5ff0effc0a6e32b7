/** What a call costs the JavaScript thread: tiny ops, so that only checking, allocating and queueing is left. */
import Benchmark from 'benchmark'
import { Device, ops } from '../lib/kernels.js'

export interface HostRow {
  name: string
  microseconds: number
  /** Relative margin of error, per cent. */
  margin: number
}

export async function measureHost(): Promise<HostRow[]> {
  const device = await Device.open('meta')
  const rows: HostRow[] = []
  const x = ops.fill(device, [1, 4, 8], 0)
  const weight = ops.packLinear(ops.fill(device, [8, 8], 0))
  const { graph } = device.capture(() => {
    let y = x
    for (let i = 0; i < 100; i++) y = ops.linear(y, weight)
    return y
  })
  const suite = new Benchmark.Suite()
  suite.add('one op: check, allocate, queue, dispose', () =>
    ops.linear(x, weight, { activation: 'silu' }).dispose(),
  )
  suite.add('a scope of ten ops', () => {
    device.scope(() => {
      for (let i = 0; i < 10; i++) ops.linear(x, weight)
    })
  })
  suite.add('replay of a graph of 100 ops', () => graph.replay())
  suite.on('cycle', ({ target }: { target: Benchmark }) => {
    rows.push({ name: target.name!, microseconds: 1e6 * target.stats!.mean, margin: target.stats!.rme })
  })
  suite.run()
  device.dispose()
  return rows
}
