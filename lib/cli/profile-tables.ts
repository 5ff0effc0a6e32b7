/** What `fsvideo profile` prints: tables of 80 columns at most, or one JSON document. */
import { relative } from 'node:path'
import type { FSVideoPipeline } from '../pipeline.js'
import type { Profile } from '../profile/profile.js'
import type { Work } from '../profile/summary.js'
import type { ResolvedRequest } from '../requests.js'
import type { Percentiles } from '../statistics.js'
import { bytes, columns, duration } from './format.js'

export interface Profiled {
  folder: string
  /** Weights were made, not read. */
  random: boolean
  resolved: ResolvedRequest
  pipe: FSVideoPipeline
  repeats: number
  profile: Profile
  /** Where the trace was written. */
  file?: string
}

/** Three digits: "0.45", "12.3", "989". */
export function digits(n: number): string {
  if (!Number.isFinite(n)) return '-'
  if (n === 0) return '0'
  if (n >= 99.95) return n.toFixed(0)
  return n.toFixed(n >= 9.995 ? 1 : n >= 0.0995 ? 2 : 3)
}

/** "0.412 ms", "12.3 ms", "4.56 s" */
export function time(ms: number): string {
  return ms < 999.5 ? `${digits(ms)} ms` : duration(ms)
}

const percent = (share: number): string =>
  share > 0 && share < 0.0995 ? `${(100 * share).toFixed(1)} %` : `${(100 * share).toFixed(0)} %`
const signed = (share: number, digits = 1): string =>
  `${share < 0 ? '-' : '+'}${Math.abs(100 * share).toFixed(digits)} %`

/** The first column to the left, the others to the right; each line ends with a newline. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  const cell = (text: string, i: number) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))
  return rows.map((row) => `${row.map(cell).join('  ')}\n`).join('')
}

function latencies({ total, firstFrame, stages }: Profile['latency']): string {
  const row = (name: string, { p50, p95, p99 }: Percentiles) => [name, ...[p50, p95, p99].map(time)]
  return table([
    ['latency', 'p50', 'p95', 'p99'],
    ...Object.entries(stages).map(([stage, one]) => row(stage, one)),
    row('first frame', firstFrame),
    row('request', total),
  ])
}

/** Rates of cards are told in TFLOP/s, of CPUs in GFLOP/s. */
interface Rate {
  unit: string
  of: number
}

const rateFor = (flops: number): Rate =>
  flops < 1e13 ? { unit: 'GFLOP/s', of: 1e9 } : { unit: 'TFLOP/s', of: 1e12 }

function works(title: string, rows: readonly Work[], rate: Rate, memory: boolean): string {
  return table([
    [title, 'time', 'share', 'calls', rate.unit, 'GB/s', 'roof', ...(memory ? ['memory'] : [])],
    ...rows.map((row) => [
      row.name,
      time(row.ms),
      percent(row.share),
      `${Math.round(row.calls)}`,
      digits(row.flopsPerSecond / rate.of),
      digits(row.bytesPerSecond / 1e9),
      percent(row.rooflineShare),
      ...(memory ? [bytes(row.memoryBytes)] : []),
    ]),
  ])
}

export function tables({ folder, random, resolved, pipe, repeats, profile, file }: Profiled): string {
  const { roofline, latency, stages, ops, busy, heavy, overhead, memory, trace } = profile
  const { size, frames, base, refiner } = resolved
  const { precision } = pipe.stages.networks
  const rate = rateFor(roofline.flops)
  const off = memory.peak / memory.planned - 1
  const planned =
    memory.peak === memory.planned ? 'as planned' : `planned ${bytes(memory.planned)}, ${signed(off)}`
  const traced = `${trace.ops.length} ops of the median request`
  return [
    columns([
      ['model', `${relative('', folder) || folder}, ${precision}${random ? ', random weights' : ''}`],
      [
        'request',
        `${size.width}x${size.height}, ${frames} frames, ${base.schedule.timesteps.length} + ${refiner.schedule.timesteps.length} steps, guidance ${base.guidanceScale}, ${repeats} times`,
      ],
      ['device', `${pipe.device.name}: ${pipe.device.description}`],
      [
        'roofline',
        `${digits(roofline.flops / rate.of)} ${rate.unit} of a large product, ${digits(roofline.bytes / 1e9)} GB/s of a large copy`,
      ],
    ]),
    latencies(latency),
    works('on the device', stages, rate, true),
    works('by op', ops, rate, false),
    columns([
      [
        'busy',
        `the device ${percent(busy)} of the requests' time; products, conv3d and attention ${percent(heavy)} of it, ${percent(heavy / busy)} of the device's`,
      ],
      ['memory', `peak ${bytes(memory.peak)}, ${planned}`],
      [
        'tracing',
        `${signed(overhead.time)} time, ${signed(overhead.cpu)} CPU time by lower quartiles; pairs ${signed(overhead.pairs.least, 0)} to ${signed(overhead.pairs.most, 0)}`,
      ],
      ...(file ? [['trace', `${file}: ${traced}; open it in ui.perfetto.dev`] as const] : []),
    ]),
  ].join('\n')
}

export function document({ folder, random, resolved, pipe, repeats, profile, file }: Profiled): object {
  const { trace: _, spans: __, ...rest } = profile
  const { size, frames, base, refiner, decoder } = resolved
  return {
    model: folder,
    randomWeights: random,
    dtype: pipe.stages.networks.precision,
    request: {
      ...size,
      frames,
      steps: base.schedule.timesteps.length,
      refinerSteps: refiner.schedule.timesteps.length,
      guidanceScale: base.guidanceScale,
      decoder,
    },
    repeats,
    device: { name: pipe.device.name, description: pipe.device.description },
    ...rest,
    trace: file,
  }
}
