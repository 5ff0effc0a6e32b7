/** The report on a terminal of 80 columns: a score with its interval below it, and below that the ceiling. */
import type { Group } from './configurations.js'
import { outputSize } from './evaluation.js'
import type { Report } from './index.js'
import type { Estimate } from './intervals.js'
import type { AbsentRow, Row, ScoreName, Scores } from './results.js'

interface Column {
  title: string
  digits: number
}

const columns: { readonly [S in ScoreName]-?: Column } = {
  psnr: { title: 'PSNR dB', digits: 1 },
  maskPsnr: { title: 'mask dB', digits: 1 },
  firstPsnr: { title: '1st dB', digits: 1 },
  ssim: { title: 'SSIM', digits: 3 },
  direction: { title: 'direction', digits: 2 },
  colour: { title: 'colour', digits: 2 },
  shape: { title: 'shape', digits: 2 },
  obeyed: { title: 'obeyed', digits: 2 },
  position: { title: 'pixels', digits: 1 },
}

const autoencoder: readonly ScoreName[] = ['psnr', 'maskPsnr', 'ssim', 'firstPsnr']
const generation: readonly ScoreName[] = ['firstPsnr', 'direction', 'colour', 'shape', 'position']
const shown: { readonly [G in Group]: readonly ScoreName[] } = {
  autoencoder,
  generation,
  ablations: generation,
}

const nameWidth = 20
const width = 12

const number = (value: number, digits: number): string =>
  Number.isFinite(value) ? value.toFixed(digits) : Number.isNaN(value) ? '-' : 'lost'

const between = ({ low, high }: Estimate, digits: number): string =>
  `${number(low, digits)}-${number(high, digits)}`

function line(name: string, scores: Scores, names: readonly ScoreName[], text: typeof between): string {
  const cells = names.map((score) => {
    const estimate = scores[score]
    return (estimate ? text(estimate, columns[score].digits) : '-').padStart(width)
  })
  return name.padEnd(nameWidth) + cells.join('')
}

const value = ({ value }: Estimate, digits: number): string => number(value, digits)

const isAbsent = (row: Row | AbsentRow): row is AbsentRow => 'absent' in row

function rowLines(row: Row | AbsentRow): string[] {
  if (isAbsent(row)) return [`${row.name.padEnd(nameWidth)}  absent: ${row.absent}`]
  const { name, group, scores, ceiling } = row
  const names = shown[group]
  return [
    line(name, scores, names, value),
    line('  95 %', scores, names, between),
    ...(ceiling ? [line('  ceiling', ceiling, names, value)] : []),
  ]
}

/** A low direction under exchanged prompts may be obedience, or nothing that moves. */
function obedienceLines(rows: readonly Row[]): string[] {
  return rows.flatMap(({ name, scores: { obeyed } }) =>
    obeyed
      ? [`${name}: as the other prompt says in ${value(obeyed, 2)} (${between(obeyed, 2)}) of the clips.`]
      : [],
  )
}

function groupLines(group: Group, rows: readonly (Row | AbsentRow)[]): string[] {
  const own = rows.filter((row) => row.group === group)
  if (own.length === 0) return []
  const titles = shown[group].map((score) => columns[score].title.padStart(width))
  return ['', group.padEnd(nameWidth) + titles.join(''), ...own.flatMap(rowLines)]
}

function costLines(rows: readonly Row[]): string[] {
  if (rows.length === 0) return []
  const title = ['seconds a clip', 'p10-p90', 'MB on device'].map((text) => text.padStart(16)).join('')
  const cost = ({ name, group, seconds, peakBytes }: Row) =>
    [
      `${group}, ${name}`.padEnd(32),
      seconds.median.toFixed(2),
      `${seconds.p10.toFixed(2)}-${seconds.p90.toFixed(2)}`,
      (peakBytes / 1e6).toFixed(0),
    ]
      .map((text) => text.padStart(16))
      .join('')
  return ['', 'cost'.padEnd(32) + title, ...rows.map(cost)]
}

function thresholdLines(rows: readonly Row[]): string[] {
  const lines = rows.flatMap(({ name, group, scores, thresholds }) =>
    thresholds.map(({ threshold: { score, atLeast, atMost }, met }) => {
      const { title, digits } = columns[score]
      const estimate = scores[score]!
      const limit = atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`
      return [
        met ? 'met   ' : 'MISSED',
        ` ${group}, ${name}: ${title}`.padEnd(42),
        value(estimate, digits).padStart(7),
        ` (${between(estimate, digits)})`.padEnd(15),
        limit,
      ].join('')
    }),
  )
  return lines.length > 0 ? ['', 'thresholds', ...lines] : []
}

/** Lines of the report. */
export function tableOf(report: Report): string[] {
  const { date, commit, model, machine, rows, count, seed, peakBytes } = report
  const present = rows.filter((row): row is Row => !isAbsent(row))
  return [
    `${machine.cpu}, ${machine.device}, Node ${machine.node}`,
    `${date.slice(0, 10)}, commit ${commit}; ${model}, ${count} clips a row, seed ${seed}`,
    ...groupLines('autoencoder', rows),
    ...groupLines('generation', rows),
    ...groupLines('ablations', rows),
    '',
    'ceiling: the same scores of the true clips, encoded and decoded.',
    `pixels: median distance from where the shape should end, in pixels of ${outputSize}.`,
    ...obedienceLines(present),
    ...costLines(present),
    `the process at its largest: ${(peakBytes / 1e6).toFixed(0)} MB`,
    ...thresholdLines(present),
  ]
}
