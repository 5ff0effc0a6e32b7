/** A report as one HTML file that needs nothing else: charts for light and dark, and all tables. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawLadder, drawRoofline, type Theme } from './charts.js'
import type { Measurement, PeerName, Prediction, Report } from './report.js'
import { peerTitles } from './report.js'
import type { RequestRow } from './requests.js'
import type { Sum } from './sums.js'
import { counted, digits, goalText, peerText, percent, requestGoalText } from './table.js'

export { requireCharts } from './charts.js'

const escaped = (text: unknown): string =>
  String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)

/** Columns of text to the left of `numbers`. */
function table(head: readonly string[], rows: readonly (readonly string[])[], left = 1): string {
  if (rows.length === 0) return ''
  const row = (cells: readonly string[], tag: 'td' | 'th') =>
    `<tr>${cells.map((text, i) => `<${tag}${i < left ? ' class="l"' : ''}>${escaped(text)}</${tag}>`).join('')}</tr>`
  const body = rows.map((cells) => row(cells, 'td')).join('\n')
  return `<div class="t"><table><thead>${row(head, 'th')}</thead><tbody>\n${body}\n</tbody></table></div>`
}

const section = (title: string, body: string): string => (body ? `<h2>${escaped(title)}</h2>\n${body}\n` : '')

function about({ machine, date, commit }: Report): string {
  const { cpu, device, node, gpu, cuda } = machine
  const rows: [string, string][] = [
    ['device', device],
    ['host', `${cpu}, Node ${node}`],
    ['commit', `${commit}, ${date.slice(0, 10)}`],
  ]
  if (gpu) {
    rows.push(['driver', `${gpu.driver}${cuda ? `, CUDA ${cuda}` : ''}`])
    const clocks = `SM ${gpu.smMHz} of ${gpu.mostSmMHz} MHz, memory ${gpu.memoryMHz} MHz`
    rows.push(['under load', `${clocks}, ${gpu.watts} of ${gpu.mostWatts} W, ${gpu.celsius} °C`])
  }
  return table(['', ''], rows, 2)
}

function measurementBody(report: Measurement): string {
  const { rows, requests = [], ceilings, peers, absent, host, failed, rounds, rotatedBytes } = report
  const names = Object.keys(peers) as PeerName[]
  const products = Object.entries(ceilings.gemm).map(
    ([dtype, { tflops, by }]) => [`GEMM ${dtype}`, `${digits(tflops)} TFLOP/s (${by})`] as const,
  )
  const goals = [
    ...rows.flatMap(({ name, goals }) => goals.map((goal) => [name, goalText(goal)])),
    ...requests.flatMap(({ name, goals }) => goals.map((goal) => [name, requestGoalText(goal)])),
  ]
  return [
    section(
      'Roofline of this run',
      table(['', ''], [['copy', `${digits(ceilings.copyGBs)} GB/s`], ...products], 2),
    ),
    section('Goals', table(['case', ''], goals, 2)),
    section(
      'Cases',
      `<p>Medians of ${rounds} rounds (least to most of them), then the ratio of each side's best round; inputs rotate through ${digits(rotatedBytes / 2 ** 20)} MiB.</p>` +
        table(
          ['case', 'ms', 'p10-p90', 'TFLOP/s', 'GB/s', 'roofline', ...names.map((name) => peerTitles[name])],
          rows.map(({ name, milliseconds: t, tflops, gbs, roofline, bound, peers }) => [
            name,
            digits(t.median),
            `${digits(t.p10)}-${digits(t.p90)}`,
            digits(tflops),
            digits(gbs),
            `${percent(roofline)} ${bound}`,
            ...names.map((peer) => {
              const result = peers[peer]
              return `${peerText(result)}${result?.way ? ` ${result.way}` : ''}`
            }),
          ]),
        ),
    ),
    sumTable(report.sums),
    requestTable(requests),
    section(
      'Host',
      table(
        ['', 'µs', 'margin'],
        host.map(({ name, microseconds, margin }) => [name, digits(microseconds), `±${digits(margin)} %`]),
      ),
    ),
    section('Absent', table(['', ''], [...absent.map((why) => [why, '']), ...refusals(report)], 2)),
    section(
      'Not measured',
      table(
        ['case', 'why'],
        failed.map(({ name, why }) => [name, why]),
        2,
      ),
    ),
  ].join('\n')
}

/** Sums of kernels, with the ops that make them up. */
function sumTable(sums: readonly Sum[] = []): string {
  const rows = sums.map(({ name, milliseconds, flops, parts }) => [
    name,
    digits(milliseconds),
    digits(flops / milliseconds / 1e9),
    Object.entries(parts)
      .map(([op, ms]) => `${op} ${digits(ms)}`)
      .join(', '),
  ])
  return section('Networks, as sums of their kernels', table(['', 'ms', 'TFLOP/s', 'ms of'], rows))
}

function requestTable(requests: readonly RequestRow[]): string {
  const rows = requests.map(({ name, figures: f }) => [
    name,
    ...[f.request, f.firstFrame, f.base, f.refiner, f.decode].map(digits),
    digits(f.peakBytes / 1e9),
    digits(f.decodeBytes / 1e9),
    percent(f.heavy),
  ])
  const head = [
    'request',
    'ms',
    'first frame',
    'base',
    'refiner',
    'decoder',
    'GB',
    'of it decoding',
    'in kernels',
  ]
  return section('Whole requests', table(head, rows))
}

function refusals({ rows }: Measurement): string[][] {
  return rows.flatMap(({ name, absent, peers }) => {
    const ways = Object.values(peers).flatMap(({ refused }) => refused ?? [])
    return [...Object.values(absent), ...ways].map((why) => [name, why])
  })
}

function predictionBody({ rows, rates, sums, failed }: Prediction): string {
  return [
    '<p>No time was measured. Kernels ran on a simulated card, which counts; plans say how tiles fill a real one; and times are what the slowest unit needs at these rates.</p>',
    table(
      ['rate', '', 'from'],
      rates.map(({ name, value, unit, source }) => [name, `${value} ${unit}`, source]),
      3,
    ),
    section(
      'Cases',
      table(
        ['case', 'ms', 'TFLOP/s', 'GB/s', 'bound', 'from', 'kernel', 'tile', 'rounds'],
        rows.map(({ name, milliseconds, tflops, gbs, bound, how, plan }) => [
          name,
          digits(milliseconds),
          digits(tflops),
          digits(gbs),
          bound,
          how,
          plan?.kernel ?? '',
          plan?.rounds ? `${plan.rows}x${[plan.columns, plan.lastColumns].filter(Boolean).join('|')}` : '',
          plan?.rounds ? String(plan.rounds) : '',
        ]),
      ),
    ),
    sumTable(sums),
    section(
      'Counted on the simulated card',
      table(
        [
          'simulated',
          'launches',
          'MB read',
          'MB written',
          'moved / least',
          'sectors / least',
          'wavefronts / least',
        ],
        counted(rows).map(([name, { counters: c, bytes, slice }]) => [
          name,
          String(c.launches),
          digits(c.read / 1e6),
          digits(c.written / 1e6),
          digits((c.read + c.written) / (slice?.bytes ?? bytes)),
          digits(c.sectors / c.leastSectors),
          digits(c.wavefronts / c.leastWavefronts),
        ]),
      ),
    ),
    section(
      'Failed',
      table(
        ['case', 'why'],
        failed.map(({ name, why }) => [name, why]),
        2,
      ),
    ),
  ].join('\n')
}

const style = `
:root { color-scheme: light dark; --ink: #24292f; --ground: #fff; --faint: #d8dee4; --band: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --ink: #d7dde3; --ground: #15191e; --faint: #343b43; --band: #1c2229 } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.t, .c { overflow-x: auto } .c { margin-top: 1.5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .75rem .15rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--faint) }
.l { text-align: left } tbody tr:nth-child(even) { background: var(--band) }
.dark { display: none }
@media (prefers-color-scheme: dark) { .dark { display: block } .light { display: none } }`

export interface Chart {
  name: string
  svg: Readonly<Record<Theme, string>>
}

export async function chartsOf(report: Report): Promise<Chart[]> {
  const both = async (name: string, draw: typeof drawRoofline): Promise<Chart> => ({
    name,
    svg: { light: await draw(report, 'light'), dark: await draw(report, 'dark') },
  })
  return [await both('roofline', drawRoofline), await both('ladder', drawLadder)]
}

export function pageOf(report: Report, charts: readonly Chart[]): string {
  const title = `fsvideo bench: ${report.machine.gpu?.name ?? report.machine.device}`
  const drawn = charts.map(({ svg }) =>
    (['light', 'dark'] as const).map((theme) => `<div class="c ${theme}">${svg[theme]}</div>`).join('\n'),
  )
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${style}
</style>
</head>
<body>
<h1>${escaped(title)}${report.kind === 'prediction' ? ', a prediction' : ''}</h1>
${about(report)}
${drawn.join('\n')}
${report.kind === 'prediction' ? predictionBody(report) : measurementBody(report)}
</body>
</html>
`
}

/** Writes `path`, an HTML file, or a folder with report.html, roofline.svg and ladder.svg. Gives the paths of what was written. */
export async function writePage(report: Report, path: string): Promise<string[]> {
  const charts = await chartsOf(report)
  const page = pageOf(report, charts)
  if (path.endsWith('.html')) {
    await writeFile(path, page)
    return [path]
  }
  await mkdir(path, { recursive: true })
  const files = [
    ['report.html', page] as const,
    ...charts.map(({ name, svg }) => [`${name}.svg`, svg.light] as const),
  ]
  for (const [name, text] of files) await writeFile(join(path, name), text)
  return files.map(([name]) => join(path, name))
}
