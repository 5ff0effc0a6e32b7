/** What `fsvideo bench` writes as JSON: a measurement, or on a simulated card a prediction. Both are read by `--compare`. */

import { invalid } from '../errors.js'
import { readJson } from '../json-file.js'
import type { Ratio, Spread } from '../statistics.js'
import type { Goal } from './builders.js'
import type { Failure } from './failures.js'
import type { HostRow } from './host.js'
import type { Machine } from './machine.js'
import type { RequestRow } from './requests.js'
import type { Spec } from './spec.js'
import type { Sum } from './sums.js'

export type PeerName = 'onednn' | 'torch'
export const peerTitles: Readonly<Record<PeerName, string>> = { onednn: 'oneDNN', torch: 'PyTorch' }

/** The highest rates that this run has seen; the roofline is made of them. */
export interface Ceilings {
  /** Of a large copy, read and written. */
  copyGBs: number
  /** Of a large product, by type. */
  gemm: Partial<Record<Spec['dtype'], { tflops: number; by: string }>>
}

export interface PeerResult {
  milliseconds: number
  /** Theirs over ours, so above 1 we are faster. */
  ratio: Ratio
  /** The same of each side's quickest round: what both reach when nobody else is on the machine. Older reports lack it. */
  best?: number
  /** Which of the peer's ways was the fastest: "flash", "cuDNN channels_last_3d". */
  way?: string
  /** Ways of it that do not work here, and why. */
  refused?: string[]
}

export interface GoalResult extends Goal {
  reached: number
  met: boolean
}

export interface Row {
  name: string
  groups: readonly string[]
  spec: Spec
  milliseconds: Spread
  flops: number
  bytes: number
  tflops: number
  gbs: number
  /** Share of what the roofline of this run allows, and which side of it binds. */
  roofline: number
  bound: 'compute' | 'memory'
  peers: Partial<Record<PeerName, PeerResult>>
  /** Why a peer has no result here. */
  absent: Partial<Record<PeerName, string>>
  goals: GoalResult[]
}

export interface Measurement {
  kind: 'measurement'
  date: string
  commit: string
  machine: Machine
  /** With their versions. */
  peers: Partial<Record<PeerName, string>>
  absent: string[]
  ceilings: Ceilings
  rounds: number
  seconds: number
  /** Inputs are rotated through so many bytes. */
  rotatedBytes: number
  rows: Row[]
  /** Of networks whose every call was measured. */
  sums: Sum[]
  /** Absent in files of before there were any. */
  requests?: RequestRow[]
  /** Cases that could not be measured, and why. */
  failed: Failure[]
  host: HostRow[]
}

/** What kernels did on the simulated card. */
export interface Counters {
  launches: number
  read: number
  written: number
  sectors: number
  leastSectors: number
  wavefronts: number
  leastWavefronts: number
}

/** How a card would cut a result into tiles. */
export interface TilePlan {
  kernel: string
  rows: number
  columns: number
  /** Of the tiles that come last, where they are narrower. */
  lastColumns?: number
  cluster: number
  tiles: number
  rounds: number
}

export interface PredictedRow {
  name: string
  groups: readonly string[]
  spec: Spec
  flops: number
  /** The contract's least. */
  bytes: number
  milliseconds: number
  tflops: number
  gbs: number
  /** What takes that long. */
  bound: 'tensor cores' | 'FMA units' | 'memory' | 'L1' | 'launch'
  /** Where the time comes from: counters of the whole case, of a slice of it, or the plan of its tiles. */
  how: 'simulated' | 'slice' | 'plan'
  /** Of the whole case, or of `slice`. */
  counters: Counters
  /** What was simulated where it was not all: how many of it make the case, and the contract's bytes of it. */
  slice?: { name: string; times: number; bytes: number }
  plan?: TilePlan
}

export interface Prediction {
  kind: 'prediction'
  date: string
  commit: string
  machine: Machine
  /** What the times rest on. */
  rates: { name: string; value: number; unit: string; source: string }[]
  rows: PredictedRow[]
  sums: Sum[]
  failed: Failure[]
}

export type Report = Measurement | Prediction

/** As JSON with a line a row, so that reports can be read and differences seen. */
export function textOf(report: Report): string {
  const fields = Object.entries(report).map(([name, value]) => {
    const text = Array.isArray(value)
      ? `[${value.map((row) => `\n    ${JSON.stringify(row)}`).join(',')}${value.length > 0 ? '\n  ' : ''}]`
      : JSON.stringify(value)
    return `  ${JSON.stringify(name)}: ${text}`
  })
  return `{\n${fields.join(',\n')}\n}\n`
}

/**
 * A report that `--json` wrote, or one of before they said what they are.
 * @throws ERR_FSVIDEO_MODEL_FILE for a file that is missing or no JSON, ERR_FSVIDEO_INVALID_ARGUMENT for one that is no report.
 */
export async function readReport(path: string): Promise<Report> {
  const json = (await readJson(path, 64 * 2 ** 20)) as Partial<Report> | null
  const list = (value: unknown) => (Array.isArray(value) ? value : [])
  const { rows: cases, requests } = (json ?? {}) as Partial<Measurement>
  const rows: readonly Partial<Row | PredictedRow>[] = [...list(cases), ...list(requests)]
  const kind = json?.kind ?? 'measurement'
  const whole = rows.every(({ name, milliseconds }) => {
    if (typeof name !== 'string') return false
    return typeof (kind === 'prediction' ? milliseconds : (milliseconds as Spread)?.median) === 'number'
  })
  if (rows.length === 0 || !whole || !['measurement', 'prediction'].includes(kind))
    throw invalid('--compare', path, 'a file that fsvideo bench --json wrote')
  return { ...json, rows: list(cases), kind } as Report
}
