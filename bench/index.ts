/**
 * `npm run bench`: every case of cases.ts on this machine beside its peers, in alternating rounds of one run, so that what the machine
 * does meanwhile meets both. Ratios are ours to the peer's speed, above 1 is faster. The roofline is measured in the same run.
 *
 *   npm run bench -- [--filter REGEX] [--rounds N] [--seconds S] [--json FILE] [--no-peers]
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { Device } from '../lib/kernels.js'
import { type Case, cases, copy } from './cases.js'
import { measureHost } from './host.js'
import { openOneDnn, openTorch, type Peer } from './peers.js'
import { quantile, type Spread, spread } from './statistics.js'
import { printReport } from './table.js'

export interface Ratio {
  median: number
  least: number
  most: number
}

export interface Row {
  name: string
  milliseconds: Spread
  gflops: number
  gbs: number
  /** Share of what the roofline of this run allows. */
  roofline: number
  ratios: Partial<Record<'onednn' | 'torch' | 'bandwidth', Ratio>>
  goal?: Case['goal'] & { met: boolean }
}

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '0.5' },
    json: { type: 'string' },
    'no-peers': { type: 'boolean', default: false },
  },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)
const wanted = new RegExp(options.filter)

const device = await Device.open('cpu')
const threads = Number(/(\d+) threads?/.exec(device.description)?.[1] ?? 1)
const peers: Partial<Record<'onednn' | 'torch', Peer>> = {}
const absent: string[] = []
if (!options['no-peers']) {
  for (const [name, result] of [
    ['onednn', openOneDnn(threads)],
    ['torch', await openTorch(threads)],
  ] as const) {
    if ('peer' in result) peers[name] = result.peer
    else absent.push(result.absent)
  }
}

/** Queued behind one another, as in a network and as the peers are timed, so that no thread falls asleep in between. */
const queued = 8

/** Times calls of a case for about `time` seconds, by the clock of the executor thread; a sample is the mean of `queued` calls. */
async function timeOurs(it: Case, prepared: ReturnType<Case['prepare']>, time: number) {
  const before = () => device.stats()[it.op]?.seconds ?? 0
  const samples: number[] = []
  const end = performance.now() + 1e3 * time
  let calls = 1
  while (performance.now() < end || samples.length < 5) {
    const start = before()
    for (let i = 0; i < calls; i++) prepared.call().dispose()
    await device.synchronize()
    const milliseconds = (1e3 * (before() - start)) / calls
    samples.push(milliseconds)
    calls = milliseconds < 50 ? queued : 1
  }
  return samples
}

async function costOf(it: Case, prepared: ReturnType<Case['prepare']>) {
  device.resetStats()
  prepared.call().dispose()
  await device.synchronize()
  const { flops, bytes } = device.stats()[it.op]!
  return { flops, bytes }
}

async function measureBandwidth(): Promise<number> {
  const it = copy(256 * 2 ** 20)
  const prepared = it.prepare(device)
  const { bytes } = await costOf(it, prepared)
  const { median } = spread(await timeOurs(it, prepared, 2 * seconds))
  prepared.dispose()
  device.trim()
  return bytes / median / 1e6
}

const ratioOf = (values: number[]): Ratio => ({
  median: quantile(
    values.sort((a, b) => a - b),
    0.5,
  ),
  least: values[0]!,
  most: values.at(-1)!,
})

const rows: Row[] = []
const bandwidths = [await measureBandwidth()]
for (const it of cases.filter(({ name }) => wanted.test(name))) {
  const prepared = it.prepare(device)
  const { flops, bytes } = await costOf(it, prepared)
  await timeOurs(it, prepared, 0.2)
  const all: number[] = []
  const ratios: Record<'onednn' | 'torch', number[]> = { onednn: [], torch: [] }
  for (let round = 0; round < rounds; round++) {
    const samples = await timeOurs(it, prepared, seconds)
    all.push(...samples)
    const ours = spread(samples).median
    for (const name of ['onednn', 'torch'] as const) {
      const question = it[name]
      if (question && peers[name])
        ratios[name].push((await peers[name].measure(question, seconds)).medianMs / ours)
    }
  }
  prepared.dispose()
  device.trim()
  bandwidths.push(await measureBandwidth())
  const milliseconds = spread(all)
  const gbs = bytes / milliseconds.median / 1e6
  const row: Row = {
    name: it.name,
    milliseconds,
    gflops: flops / milliseconds.median / 1e6,
    gbs,
    roofline: 0,
    ratios: {},
  }
  for (const name of ['onednn', 'torch'] as const)
    if (ratios[name].length > 0) row.ratios[name] = ratioOf(ratios[name])
  const share = gbs / bandwidths.at(-1)!
  row.ratios.bandwidth = {
    median: share,
    least: bytes / milliseconds.p90 / 1e6 / bandwidths.at(-1)!,
    most: bytes / milliseconds.p10 / 1e6 / bandwidths.at(-1)!,
  }
  const reached = it.goal && row.ratios[it.goal.peer]
  if (it.goal && reached) row.goal = { ...it.goal, met: reached.median >= it.goal.atLeast }
  rows.push(row)
  process.stderr.write(`${it.name}: ${milliseconds.median.toFixed(3)} ms\n`)
}
for (const peer of Object.values(peers)) peer.close()

const bandwidth = quantile(
  bandwidths.sort((a, b) => a - b),
  0.5,
)
for (const type of ['bf16', 'f32']) {
  const own = rows.filter(({ name }) => name.includes(type))
  const peak = Math.max(...own.map(({ gflops }) => gflops)) // the fastest row stands for what the machine can
  for (const row of own) row.roofline = row.gflops / Math.min(peak, (row.gflops / row.gbs) * bandwidth)
}

const report = {
  date: new Date().toISOString(),
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
  machine: {
    cpu: os.cpus()[0]?.model ?? 'unknown',
    threads,
    device: device.description,
    node: process.version,
  },
  peers: Object.fromEntries(Object.entries(peers).map(([name, peer]) => [name, peer.version])),
  absent,
  bandwidthGBs: bandwidth,
  rounds,
  rows,
  host: wanted.test('host') || options.filter === '' ? await measureHost() : [],
}
device.dispose()
printReport(report)
if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)

export type Report = typeof report
