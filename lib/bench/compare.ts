/**
 * What changed between two runs. The rule for two measurements: a case is faster or slower if each median lies outside the other's p10-p90,
 * and they differ by at least 2 %; else it is the same, for its spread explains the difference. A measurement against a prediction,
 * which has no spread: what it takes longer or shorter than predicted by more than a tenth. Two predictions differ where their
 * figures do, for counters are exact.
 */
import { lineWidth, wrap } from '../cli/format.js'
import type { Spread } from '../statistics.js'
import type { Measurement, Report } from './report.js'
import { nameWidth } from './spec.js'
import { digits } from './table.js'

export type Verdict = 'faster' | 'slower' | 'same'

export interface Change {
  name: string
  before: Spread
  after: Spread
  /** Before over after: above 1 is faster. */
  speedup: number
  verdict: Verdict
}

export interface Comparison {
  changes: Change[]
  /** Names that only one of both has. */
  onlyBefore: string[]
  onlyAfter: string[]
  /** Why the two should not be compared without a thought. */
  warnings: string[]
}

/** Less than this nobody acts upon. */
const leastChange = 0.02
/** What a prediction may be off. */
const tolerance = 0.1

const outside = (value: number, { p10, p90 }: Spread): boolean => value < p10 || value > p90

export function verdictOf(before: Spread, after: Spread): Verdict {
  const speedup = before.median / after.median
  const beyond = outside(after.median, before) && outside(before.median, after)
  if (!beyond || Math.abs(Math.log(speedup)) < Math.log1p(leastChange)) return 'same'
  return speedup > 1 ? 'faster' : 'slower'
}

function spreadOf(row: { milliseconds: Spread | number }): Spread {
  if (typeof row.milliseconds !== 'number') return row.milliseconds
  return { median: row.milliseconds, p10: row.milliseconds, p90: row.milliseconds, count: 0 }
}

function judge(before: Report, after: Report, a: Spread, b: Spread): Verdict {
  const predicted = [before, after].filter(({ kind }) => kind === 'prediction').length
  if (predicted === 0) return verdictOf(a, b)
  const speedup = a.median / b.median
  if (Math.abs(Math.log(speedup)) < (predicted === 1 ? Math.log1p(tolerance) : 1e-9)) return 'same'
  return speedup > 1 ? 'faster' : 'slower'
}

export function compare(before: Report, after: Report): Comparison {
  const byName = (report: Report) => {
    const requests = report.kind === 'measurement' ? report.requests : undefined
    return new Map([...report.rows, ...(requests ?? [])].map((row) => [row.name, row] as const))
  }
  const [old, fresh] = [byName(before), byName(after)]
  const changes: Change[] = []
  for (const [name, row] of fresh) {
    const other = old.get(name)
    if (!other) continue
    const [a, b] = [spreadOf(other), spreadOf(row)]
    const speedup = a.median / b.median
    changes.push({ name, before: a, after: b, speedup, verdict: judge(before, after, a, b) })
  }
  return {
    changes,
    onlyBefore: [...old.keys()].filter((name) => !fresh.has(name)),
    onlyAfter: [...fresh.keys()].filter((name) => !old.has(name)),
    warnings: before.kind === 'measurement' && after.kind === 'measurement' ? differences(before, after) : [],
  }
}

/** What else differs between two measurements: another machine, other clocks. */
function differences(before: Measurement, after: Measurement): string[] {
  const sides = [before.machine, after.machine]
  const facts: (readonly [what: string, (machine: Measurement['machine']) => unknown])[] = [
    ['device', ({ device }) => device],
    ['cpu', ({ cpu }) => cpu],
    ['threads', ({ threads }) => threads],
    ['driver', ({ gpu }) => gpu?.driver],
  ]
  const warnings = facts.flatMap(([what, of]) => {
    const [a, b] = sides.map(of)
    return a === b ? [] : [`another ${what}: ${a} and ${b}`]
  })
  const [a, b] = [before.machine.gpu?.smMHz, after.machine.gpu?.smMHz]
  if (a && b && Math.abs(a / b - 1) > leastChange) warnings.push(`other clocks under load: ${a} and ${b} MHz`)
  return warnings
}

export function comparisonTable(before: Report, after: Report): string {
  const { changes, onlyBefore, onlyAfter, warnings } = compare(before, after)
  const title = ({ kind, date, commit }: Report) =>
    `${kind} of ${date?.slice(0, 10) ?? 'an unknown day'}, commit ${commit ?? 'unknown'}`
  const cells = (name: string, a: string, b: string, speedup: string, verdict: string) =>
    name.padEnd(nameWidth) + a.padStart(11) + b.padStart(11) + speedup.padStart(9) + verdict.padStart(9)
  const order: Readonly<Record<Verdict, number>> = { slower: 0, faster: 1, same: 2 }
  const sorted = [...changes].sort(
    (a, b) => order[a.verdict] - order[b.verdict] || a.speedup - b.speedup || (a.name < b.name ? -1 : 1),
  )
  const count = (verdict: Verdict) => changes.filter((change) => change.verdict === verdict).length
  const list = (what: string, names: readonly string[]) =>
    names.length > 0 ? ['', ...wrap(`only in ${what}: ${names.join(', ')}`, lineWidth)] : []
  const lines = [
    ...wrap(`before: ${title(before)}`, lineWidth),
    ...wrap(`after:  ${title(after)}`, lineWidth),
    ...warnings.flatMap((text) => wrap(`warning: ${text}`, lineWidth)),
    '',
    cells('milliseconds', 'before', 'after', 'speed', ''),
    ...sorted.map(({ name, before, after, speedup, verdict }) =>
      cells(name, digits(before.median), digits(after.median), `${speedup.toFixed(2)}x`, verdict),
    ),
    ...list('the first', onlyBefore),
    ...list('the second', onlyAfter),
    '',
    ...wrap(
      `${count('faster')} faster, ${count('slower')} slower, ${count('same')} the same: ${ruleOf(before, after)}`,
      lineWidth,
    ),
  ]
  return `${lines.map((text) => text.trimEnd()).join('\n')}\n`
}

function ruleOf(before: Report, after: Report): string {
  const predicted = [before, after].filter(({ kind }) => kind === 'prediction').length
  if (predicted === 2) return 'predictions are exact, so any difference is one'
  if (predicted === 1) return 'within a tenth of what is predicted'
  return "each median within the other's p10-p90, or less than 2 % apart"
}
