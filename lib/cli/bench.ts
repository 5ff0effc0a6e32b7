/** `fsvideo bench`: kernels beside their peers and the roofline; on a simulated card what is to be expected; or two runs compared. */
import { writeFile } from 'node:fs/promises'
import { allCases, type Case, groups } from '../bench/cases.js'
import { comparisonTable } from '../bench/compare.js'
import { type Measurement, type Prediction, type Report, readReport, textOf } from '../bench/report.js'
import { measurementTable, predictionTable } from '../bench/table.js'
import { Device } from '../device.js'
import { invalid } from '../errors.js'
import { type Chosen, checkPlace, chooseCases, type Kind, positive, roundsOf } from './bench-options.js'
import { command, type Given } from './command.js'
import { columns } from './format.js'
import { Progress } from './progress.js'

const options = {
  device: {
    value: 'D',
    help: 'auto (when left out), cpu, cuda, cuda:1; or sim: counts instead of times, a prediction',
  },
  group: {
    value: 'G,G',
    help: `of ${Object.keys(groups).join(', ')}; when left out what the device can bear in minutes`,
  },
  filter: { value: 'REGEX', help: 'only cases whose names match' },
  goals: { help: 'only cases that have a figure to reach on this kind of device' },
  list: { help: 'print the cases, and measure none' },
  rounds: { value: 'N', help: 'alternations with the peers; 5 when left out' },
  seconds: {
    value: 'S',
    help: 'that each side spends on a case in a round; when left out 0.2, on a card 0.1',
  },
  'no-peers': { help: 'measure without oneDNN and PyTorch' },
  json: { value: 'FILE', help: 'write everything that was measured' },
  report: {
    value: 'PATH',
    help: 'write charts and tables: FILE.html, or a folder that gets it and the SVGs',
  },
  compare: {
    value: 'A.json',
    help: 'measure nothing: tell what is faster and slower in B.json, given behind it, than in A.json',
  },
} as const

export const bench = command({
  name: 'bench',
  about:
    'Measures the kernels beside oneDNN and PyTorch, where they are installed, and beside the roofline of the same run. Prints tables; progress goes to stderr.',
  positionals: ['[B.json]'],
  options,
  otherNames: { only: 'filter', out: 'json', html: 'report', shapes: 'group', peers: 'no-peers' },
  notes:
    'PyTorch runs in a process of its own: FSVIDEO_PYTHON names an interpreter that has it. --json keeps machine, driver, clocks and commit beside the figures.',
  async run(given, [second], { signal }) {
    if (given.compare !== undefined || second !== undefined) {
      process.stdout.write(await comparison(given, second))
      return undefined
    }
    const rounds = roundsOf(given.rounds)
    const seconds = positive('--seconds', given.seconds, 0.2, 600)
    await checkPlace('--json', given.json, 'file')
    await checkPlace('--report', given.report, given.report?.endsWith('.html') ? 'file' : 'folder')
    const report = given.report === undefined ? undefined : await import('../bench/page.js')
    await report?.requireCharts()

    const cases = await allCases()
    if (given.list) {
      const { cases: listed, requests } = chooseCases(cases, kindOf(given.device ?? 'cpu'), given)
      process.stdout.write(
        listOf([...listed, ...requests.map(({ name }) => ({ name, groups: ['requests'] }))]),
      )
      return undefined
    }
    const device = await Device.open(given.device)
    const progress = new Progress()
    try {
      const kind = kindOf(device.name)
      const chosen = chooseCases(cases, kind, given)
      const count = chosen.cases.length + chosen.requests.length
      progress.begin(kind === 'sim' ? 'predict' : 'bench', count, 'cases')
      const result =
        kind === 'sim'
          ? await predicted(device, chosen.cases, progress, signal)
          : await measured(device, chosen, progress, signal, {
              rounds,
              seconds: given.seconds === undefined && kind === 'cuda' ? 0.1 : seconds,
              peers: !given['no-peers'],
              host: given.filter === undefined,
            })
      progress.end()
      process.stdout.write(result.kind === 'prediction' ? predictionTable(result) : measurementTable(result))
      if (given.json) await writeFile(given.json, textOf(result))
      if (report) process.stdout.write(`\n${(await report.writePage(result, given.report!)).join('\n')}\n`)
      return undefined
    } finally {
      progress.close()
      device.dispose()
    }
  },
})

async function comparison(given: Given<typeof options>, second: string | undefined): Promise<string> {
  const paths = [given.compare, second]
  if (paths.includes(undefined))
    throw invalid(
      '--compare',
      paths.filter((path) => path !== undefined).join(' '),
      'two files: A.json B.json',
    )
  const other = Object.keys(given).find((name) => name !== 'compare')
  if (other) throw invalid(`--${other}`, 'given', 'absent beside --compare')
  const [before, after] = (await Promise.all(paths.map((path) => readReport(path!)))) as [Report, Report]
  return comparisonTable(before, after)
}

function kindOf(name: string): Kind {
  if (name.startsWith('cuda')) return 'cuda'
  return name.startsWith('sim') ? 'sim' : 'cpu'
}

async function measured(
  device: Device,
  chosen: Chosen,
  progress: Progress,
  signal: AbortSignal,
  how: { rounds: number; seconds: number; peers: boolean; host: boolean },
): Promise<Measurement> {
  const { measure } = await import('../bench/run.js')
  return measure({ device, ...chosen, signal, ...how, onCase: (done) => progress.step(done) })
}

async function predicted(
  device: Device,
  cases: readonly Case[],
  progress: Progress,
  signal: AbortSignal,
): Promise<Prediction> {
  const { predict } = await import('../bench/predict.js')
  return predict({ device, cases, signal, onCase: (index) => progress.step(index + 1) })
}

function listOf(cases: readonly { name: string; groups: readonly string[] }[]): string {
  return columns(cases.map(({ name, groups }) => [name, groups.join(', ')] as const))
}
