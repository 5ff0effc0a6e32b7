/** The report on a terminal of 80 columns. */
import type { Ratio, Report, Row } from './index.js'

const ratio = (r: Ratio | undefined): string =>
  r ? `${r.median.toFixed(2)} (${r.least.toFixed(2)}-${r.most.toFixed(2)})` : '-'

function goal({ goal: it }: Row): string {
  if (!it) return ''
  return `${it.met ? 'met ' : 'MISS'} ${it.atLeast}`
}

export function printReport(report: Report): void {
  const { machine, bandwidthGBs, rounds, rows, host, peers, absent, commit, date } = report
  const lines = [
    `${machine.cpu}, ${machine.device}, Node ${machine.node}`,
    `${date.slice(0, 10)}, commit ${commit}; copy bandwidth ${bandwidthGBs.toFixed(1)} GB/s, ${rounds} rounds`,
    ...Object.values(peers),
    ...absent.map((line) => `absent: ${line}`),
    '',
    `${'case'.padEnd(36)}${'ms'.padStart(9)}${'p10-p90'.padStart(15)}${'GFLOP/s'.padStart(9)}${'roof'.padStart(6)}`,
    ...rows.map(({ name, milliseconds: t, gflops, roofline }) =>
      [
        name.padEnd(36),
        t.median.toFixed(3).padStart(9),
        `${t.p10.toFixed(2)}-${t.p90.toFixed(2)}`.padStart(15),
        gflops.toFixed(0).padStart(9),
        `${(100 * roofline).toFixed(0)}%`.padStart(6),
      ].join(''),
    ),
    '',
    `${'ours / peer (least-most of rounds)'.padEnd(36)}${'oneDNN'.padEnd(18)}${'PyTorch'.padEnd(18)}goal`,
    ...rows
      .filter(({ goal: it }) => it?.peer !== 'bandwidth')
      .map(
        (row) =>
          `${row.name.padEnd(36)}${ratio(row.ratios.onednn).padEnd(18)}${ratio(row.ratios.torch).padEnd(18)}${goal(row)}`,
      ),
    '',
    `${'share of copy bandwidth'.padEnd(36)}${'ours'.padEnd(18)}${'ours / PyTorch'.padEnd(18)}goal`,
    ...rows
      .filter(({ goal: it, name }) => it?.peer === 'bandwidth' || name.startsWith('norm'))
      .map(
        (row) =>
          `${row.name.padEnd(36)}${ratio(row.ratios.bandwidth).padEnd(18)}${ratio(row.ratios.torch).padEnd(18)}${goal(row)}`,
      ),
    '',
    ...(host.length > 0 ? ['JavaScript thread, microseconds a call (margin of error)'] : []),
    ...host.map(
      ({ name, microseconds, margin }) =>
        `${name.padEnd(44)}${microseconds.toFixed(2).padStart(9)} (±${margin.toFixed(1)} %)`,
    ),
  ]
  console.log(lines.join('\n'))
}
