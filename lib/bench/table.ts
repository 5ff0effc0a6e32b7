/** Reports on a terminal of 80 columns. */
import { bytes as byteText, duration, lineWidth, wrap } from '../cli/format.js'
import type { Ratio } from '../statistics.js'
import type { Failure } from './failures.js'
import {
  type GoalResult,
  type Measurement,
  type PeerName,
  type PeerResult,
  type PredictedRow,
  type Prediction,
  peerTitles,
} from './report.js'
import type { Figure, RequestGoalResult, RequestRow } from './requests.js'
import { nameWidth } from './spec.js'
import type { Sum } from './sums.js'

/** Three digits, or all before the point. */
export function digits(n: number): string {
  if (!Number.isFinite(n)) return '-'
  const size = Math.abs(n)
  if (size > 0 && size < 0.0009995) return n.toExponential(0)
  return n.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.09995 || n === 0 ? 2 : 4)
}
export const percent = (share: number): string => `${(100 * share).toFixed(0)}%`
const ratioText = (r: Ratio | undefined): string =>
  r ? `${digits(r.median)} (${digits(r.least)}-${digits(r.most)})` : '-'
/** "1.32 (1.19-2.37) 1.62": of the rounds, and of each side's best. */
export const peerText = (result: PeerResult | undefined): string =>
  result?.best === undefined ? ratioText(result?.ratio) : `${ratioText(result.ratio)} ${digits(result.best)}`

export function goalText({ against, atLeast, reached, met }: GoalResult): string {
  const share = against === 'copy' || against === 'gemm'
  const show = (n: number) => (share ? percent(n) : digits(n))
  return `${met ? 'met ' : 'MISS'} ${show(atLeast)} of ${goalBase[against]}: ${show(reached)}`
}
const goalBase: Readonly<Record<GoalResult['against'], string>> = {
  onednn: peerTitles.onednn,
  torch: peerTitles.torch,
  copy: 'copy',
  gemm: 'GEMM rate',
  bf16: 'our bf16',
}

type Cell = readonly [text: string, width: number]
/** The first cell to the left, the others to the right, a space between. */
function line(first: string, ...cells: readonly Cell[]): string {
  return first.padEnd(nameWidth) + cells.map(([text, width]) => text.padStart(width)).join('')
}
const section = (title: string, lines: readonly string[]): string[] =>
  lines.length > 0 ? ['', title, ...lines] : []

function head({ machine, date, commit }: Measurement | Prediction): string[] {
  const { cpu, device, node, gpu, cuda } = machine
  const card = gpu && `${gpu.name}, driver ${gpu.driver}${cuda ? ` (CUDA ${cuda})` : ''}, `
  const clocks = gpu && `SM ${gpu.smMHz} of ${gpu.mostSmMHz} MHz, memory ${gpu.memoryMHz} MHz, ${gpu.watts} W`
  return [
    `${cpu}, ${device}, Node ${node}`,
    ...(gpu ? [`${card}under load ${clocks}`] : []),
    `${date.slice(0, 10)}, commit ${commit}`,
  ]
}

function ceilingLines({ ceilings, rounds }: Measurement): string[] {
  const products = Object.entries(ceilings.gemm).map(
    ([dtype, { tflops, by }]) => `${dtype} ${digits(tflops)} TFLOP/s (${by})`,
  )
  return [
    `roofline of this run: copy ${digits(ceilings.copyGBs)} GB/s, GEMM ${products.join(', ')}; ${rounds} rounds`,
  ]
}

export function measurementTable(report: Measurement): string {
  const { rows, requests = [], peers, absent, host, failed } = report
  const names = Object.keys(peers) as PeerName[]
  const compared = rows.filter((row) => names.some((name) => row.peers[name]))
  const goals = [
    ...rows.flatMap(({ name, goals }) => goals.map((goal) => [name, goalText(goal)] as const)),
    ...requests.flatMap(({ name, goals }) => goals.map((goal) => [name, requestGoalText(goal)] as const)),
  ]
  const prose = [
    ...head(report),
    ...ceilingLines(report),
    ...Object.values(peers),
    ...absent.map((why) => `absent: ${why}`),
  ]
  const lines = [
    ...prose.flatMap((text) => wrap(text, lineWidth)),
    ...section(
      line('case', ['ms', 9], ['p10-p90', 16], ['TFLOP/s', 8], ['GB/s', 7], ['roof', 6]),
      rows.map(({ name, milliseconds: t, tflops, gbs, roofline }) =>
        line(
          name,
          [digits(t.median), 9],
          [`${digits(t.p10)}-${digits(t.p90)}`, 16],
          [digits(tflops), 8],
          [digits(gbs), 7],
          [percent(roofline), 6],
        ),
      ),
    ),
    ...section(
      line('ours / peer (rounds), best of each', ...names.map((name): Cell => [peerTitles[name], 23])),
      compared.map((row) => line(row.name, ...names.map((name): Cell => [peerText(row.peers[name]), 23]))),
    ),
    ...section(
      'goals',
      goals.map(([name, text]) => `${name.padEnd(nameWidth + 2)}${text}`),
    ),
    ...sumLines(report.sums),
    ...requestLines(report.requests),
    ...section(
      'host, microseconds (margin of error)',
      host.map(
        ({ name, microseconds, margin }) =>
          `${name.padEnd(46)}${microseconds.toFixed(2).padStart(9)} (±${margin.toFixed(1)} %)`,
      ),
    ),
    ...failures(failed),
  ]
  return `${lines.map((text) => text.trimEnd()).join('\n')}\n`
}

function sumLines(sums: readonly Sum[] = []): string[] {
  const title = line('sums of kernels', ['ms', 9], ['TFLOP/s', 8])
  return section(
    `${title}  of which`,
    sums.map(({ name, milliseconds, flops, parts }) => {
      const cells = line(name, [digits(milliseconds), 9], [digits(flops / milliseconds / 1e9), 8])
      const shares = Object.entries(parts).map(([op, ms]) => `${op} ${percent(ms / milliseconds)}`)
      const fitting = shares.findIndex(
        (_, i) => `${cells}  ${shares.slice(0, i + 1).join(', ')}`.length > lineWidth,
      )
      return `${cells}  ${shares.slice(0, fitting < 0 ? shares.length : fitting).join(', ')}`
    }),
  )
}

function requestLines(requests: readonly RequestRow[] = []): string[] {
  const cells = (name: string, ...texts: readonly string[]) =>
    name.padEnd(requestNameWidth) + texts.map((text) => text.padStart(10)).join('')
  return section(
    cells('requests', 'whole', '1st frame', 'base', 'refiner', 'decoder', 'memory'),
    requests.map(({ name, figures: { request, firstFrame, base, refiner, decode, peakBytes } }) =>
      cells(name, ...[request, firstFrame, base, refiner, decode].map(milliseconds), byteText(peakBytes)),
    ),
  )
}
const requestNameWidth = 20
/** "12.3 ms", "4.56 s" */
const milliseconds = (ms: number): string => (ms < 999.5 ? `${digits(ms)} ms` : duration(ms))

export function requestGoalText({ figure, atMost, atLeast, than, reached, met }: RequestGoalResult): string {
  const show = (n: number) => {
    if (than !== undefined) return `${digits(n)}x`
    if (figure.endsWith('Bytes')) return byteText(n)
    return shares.has(figure) ? percent(n) : milliseconds(n)
  }
  const bound = atMost === undefined ? `at least ${show(atLeast!)}` : `at most ${show(atMost)}`
  return `${met ? 'met ' : 'MISS'} ${figureNames[figure]} ${bound}: ${show(reached)}`
}
const shares: ReadonlySet<Figure> = new Set<Figure>(['decodeBegins', 'baseRate', 'refinerRate', 'heavy'])
const figureNames: Readonly<Record<Figure, string>> = {
  request: 'whole',
  firstFrame: 'first frame',
  base: 'base',
  refiner: 'refiner',
  decode: 'decoder',
  forwards: 'all forwards',
  decodeBegins: '1st frames',
  decodeBytes: 'decoder',
  peakBytes: 'memory',
  baseRate: 'base, of GEMM',
  refinerRate: 'refiner, of GEMM',
  heavy: 'in kernels',
}

function failures(failed: readonly Failure[]): string[] {
  return section(
    'not measured',
    failed.flatMap(({ name, why }) => wrap(`${name}: ${why}`, lineWidth)),
  )
}

export function predictionTable(report: Prediction): string {
  const prose = [
    ...head(report),
    'a prediction: counters of the simulated card, plans and costs at rates measured elsewhere; no time was measured',
    ...report.rates.map(({ name, value, unit, source }) => `${name}: ${value} ${unit} (${source})`),
  ]
  const lines = [
    ...prose.flatMap((text) => wrap(text, lineWidth)),
    ...section(
      line('case', ['ms', 8], ['TFLOP/s', 8], ['GB/s', 7], ['bound', 13], ['how', 10]),
      report.rows.map(({ name, milliseconds, tflops, gbs, bound, how }) =>
        line(name, [digits(milliseconds), 8], [digits(tflops), 8], [digits(gbs), 7], [bound, 13], [how, 10]),
      ),
    ),
    ...sumLines(report.sums),
    ...section(
      line('counted', ['moved', 9], ['/ least', 8], ['sectors', 8], ['wavefronts', 11], ['launches', 10]),
      counted(report.rows).map(([name, row]) => countersLine(name, row)),
    ),
    ...failures(report.failed),
  ]
  return `${lines.map((text) => text.trimEnd()).join('\n')}\n`
}

/** Each simulated piece once, by the name of what was simulated. */
export function counted(rows: readonly PredictedRow[]): [name: string, row: PredictedRow][] {
  const pieces = new Map<string, PredictedRow>()
  for (const row of rows) {
    const name = row.slice?.name ?? row.name
    if (!pieces.has(name)) pieces.set(name, row)
  }
  return [...pieces]
}

/** Bytes moved, over the least of the contract; sectors and wavefronts over the fewest that could carry the bytes. */
export function countersLine(name: string, { counters: c, bytes, slice }: PredictedRow): string {
  const moved = c.read + c.written
  const over = (units: number, least: number) => (least > 0 ? (units / least).toFixed(2) : '-')
  return line(
    name,
    [byteText(moved), 9],
    [over(moved, slice?.bytes ?? bytes), 8],
    [over(c.sectors, c.leastSectors), 8],
    [over(c.wavefronts, c.leastWavefronts), 11],
    [`${c.launches}`, 10],
  )
}
