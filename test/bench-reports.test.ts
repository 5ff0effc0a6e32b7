/** What becomes of measurements: statistics, the rule of `--compare`, goals, tables of 80 columns, and the page. No time is measured. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import sharp from 'sharp'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { allCases, type Case } from '../lib/bench/cases.js'
import { compare, comparisonTable, verdictOf } from '../lib/bench/compare.js'
import { parseGpu } from '../lib/bench/machine.js'
import { chartsOf, pageOf, writePage } from '../lib/bench/page.js'
import { type Measurement, type Prediction, type Row, readReport, textOf } from '../lib/bench/report.js'
import { figuresOf, judgeRequest, requestCases } from '../lib/bench/requests.js'
import { judge } from '../lib/bench/run.js'
import { digits, measurementTable, predictionTable } from '../lib/bench/table.js'
import type { Profile } from '../lib/profile/profile.js'
import { median, quantile, ratioOf, type Spread, spread } from '../lib/statistics.js'
import { refuses } from './refusals.js'

const test = suite('bench, reports')
let folder: string
let cases: Case[]
test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-bench-'))
  cases = await allCases()
})
test.after(() => rm(folder, { recursive: true }))

const flat = (value: number): Spread => ({ median: value, p10: value, p90: value, count: 9 })
const around = (value: number, share: number): Spread => ({
  median: value,
  p10: value * (1 - share),
  p90: value * (1 + share),
  count: 9,
})

/** Of a request of 13 seconds: 6 of them the base, 2 the refiner, 4 the decoder, whose first frames are out after 1. */
const profiled = {
  latency: {
    total: { p50: 13_000 },
    firstFrame: { p50: 10_000 },
    stages: { denoise: { p50: 6000 }, refine: { p50: 2000 }, decode: { p50: 4000 } },
  },
  stages: [
    { name: 'denoise', ms: 5000, flopsPerSecond: 702e12, memoryBytes: 81e9 },
    { name: 'refine', ms: 2000, flopsPerSecond: 390e12, memoryBytes: 83e9 },
    { name: 'decode', ms: 4000, flopsPerSecond: 300e12, memoryBytes: 110e9 },
  ],
  memory: { weights: 80e9, planned: 110e9, peak: 110e9 },
  heavy: 0.9,
} as unknown as Profile

/** Rows of all cases with times that follow from their names. */
function measured(change: (row: Row, index: number) => Partial<Row> = () => ({})): Measurement {
  const rows = cases.map(({ name, groups, spec }, index): Row => {
    const row: Row = {
      name,
      groups,
      spec,
      milliseconds: around(10 ** ((index % 9) - 4), 0.03),
      flops: 1e9 * (index + 1),
      bytes: 1e6 * (index + 1),
      tflops: 123.4,
      gbs: 4321,
      roofline: 0.5,
      bound: 'memory',
      peers: {
        onednn: { milliseconds: 1, ratio: { median: 0.98765, least: 0.9, most: 123.456 } },
        torch: {
          milliseconds: 1,
          ratio: { median: 24.4, least: 22.35, most: 26.54 },
          best: 23.45,
          way: 'flash <fast>',
        },
      },
      absent: {},
      goals: [{ against: 'onednn', atLeast: 0.9, on: 'cpu', reached: 0.98765, met: true }],
    }
    return { ...row, ...change(row, index) }
  })
  return {
    kind: 'measurement',
    date: '2026-11-23T01:02:03Z',
    commit: 'abcdef0+',
    machine: {
      cpu: 'Some Processor of a Name That Takes Room 9999X 64-Core',
      threads: 64,
      deviceName: 'cuda:0',
      device: 'NVIDIA H200, compute capability 9.0, 143771 MiB',
      node: 'v20.19.0',
      cuda: '13.0',
      gpu: parseGpu('NVIDIA H200, 580.65.06, 1755, 3201, 1980, 512.33, 700.00, 51')!,
    },
    peers: { onednn: 'oneDNN 2.6.3', torch: 'PyTorch 2.9.0+cu130, cuDNN 91300' },
    absent: [`something: ${'very '.repeat(30)}absent`],
    ceilings: {
      copyGBs: 4100,
      gemm: { bf16: { tflops: 780, by: 'cuBLAS' }, f8e4m3: { tflops: 1300, by: 'fsvideo' } },
    },
    rounds: 5,
    seconds: 0.1,
    rotatedBytes: 2 ** 28,
    rows,
    sums: [
      {
        name: '14B DIT forward bf16, 2x1860 tokens',
        milliseconds: 12345,
        flops: 1e15,
        parts: { linearAttention: 12000, layerMemory: 345 },
      },
    ],
    requests: [
      {
        name: '14B bf16, Standard',
        milliseconds: around(13_000, 0.01),
        figures: figuresOf(profiled, 780e12),
        goals: judgeRequest(figuresOf(profiled, 780e12), requestCases[0]!.goals, []),
      },
    ],
    failed: [{ name: 'conv3d bf16 512->512 4x192x320', why: 'out of memory: 30 GB are needed, 20 GB free' }],
    host: [{ name: 'one op: check, allocate, queue, dispose', microseconds: 2.51, margin: 5.3 }],
  }
}

function predicted(factor = 1): Prediction {
  const { date, commit, machine } = measured()
  return {
    kind: 'prediction',
    date,
    commit,
    machine,
    rates: [{ name: 'copy', value: 4100, unit: 'GB/s', source: 'somewhere' }],
    failed: [],
    sums: [],
    rows: cases.map(({ name, groups, spec }, index) => ({
      name,
      groups,
      spec,
      flops: 1e9,
      bytes: 1e6,
      milliseconds: factor * 10 ** ((index % 9) - 4),
      tflops: 0.0000123,
      gbs: 4100,
      bound: 'tensor cores',
      how: 'simulated',
      counters: {
        launches: 1,
        read: 1e6,
        written: 2e9,
        sectors: 3,
        leastSectors: 2,
        wavefronts: 0,
        leastWavefronts: 0,
      },
    })),
  }
}

const narrow = (text: string) => {
  for (const line of text.split('\n')) assert.ok(line.length <= 80, `${line.length} columns: ${line}`)
}

test('order statistics', () => {
  assert.equal(spread([3, 1, 2, 5, 4]), { median: 3, p10: 1.4, p90: 4.6, count: 5 })
  assert.is(median([4, 1]), 2.5)
  assert.is(quantile([7], 0.9), 7)
  assert.equal(ratioOf([2, 1, 9]), { median: 2, least: 1, most: 9 })
  const samples = [5, 1, 4]
  spread(samples)
  assert.equal(samples, [5, 1, 4], 'its argument is left as it is')
  fc.assert(
    fc.property(fc.array(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), { minLength: 1 }), (values) => {
      const { p10, median: middle, p90 } = spread(values)
      return Math.min(...values) <= p10 && p10 <= middle && middle <= p90 && p90 <= Math.max(...values)
    }),
  )
})

test('a change is one if it is beyond both spreads, and of at least 2 %', () => {
  assert.is(verdictOf(around(10, 0.05), around(8, 0.05)), 'faster')
  assert.is(verdictOf(around(8, 0.05), around(10, 0.05)), 'slower')
  assert.is(verdictOf(around(10, 0.05), around(9.6, 0.05)), 'same', 'inside both')
  assert.is(verdictOf(around(10, 0.01), around(9.2, 0.2)), 'same', 'the second run is too noisy to say so')
  assert.is(verdictOf(around(10, 0.2), around(9.2, 0.01)), 'same', 'the first was')
  assert.is(verdictOf(flat(10), flat(9.85)), 'same', 'less than 2 %')
  assert.is(verdictOf(flat(10), flat(9.7)), 'faster')
  assert.is(verdictOf(flat(10), flat(10)), 'same')
  const time = fc.double({ min: 1e-3, max: 1e3, noNaN: true })
  const opposite = { faster: 'slower', slower: 'faster', same: 'same' }
  fc.assert(
    fc.property(time, time, fc.double({ min: 0, max: 0.3, noNaN: true }), (a, b, share) => {
      const [x, y] = [around(a, share), around(b, share)]
      return opposite[verdictOf(x, y)] === verdictOf(y, x)
    }),
  )
})

test('two runs are compared by name, and what only one has is named', () => {
  const before = measured()
  const after = measured((row, index) => {
    if (index === 1) return { milliseconds: around(row.milliseconds.median / 2, 0.03) }
    return index === 2 ? { milliseconds: around(row.milliseconds.median * 1.5, 0.03) } : {}
  })
  before.rows.push({ ...before.rows[0]!, name: 'gone' })
  after.rows.push({ ...before.rows[0]!, name: 'new' })
  after.requests![0]!.milliseconds = around(9000, 0.01)
  const { changes, onlyBefore, onlyAfter, warnings } = compare(before, after)
  assert.equal(
    changes.filter(({ verdict }) => verdict !== 'same').map(({ name, verdict }) => [name, verdict]),
    [
      [cases[1]!.name, 'faster'],
      [cases[2]!.name, 'slower'],
      ['14B bf16, Standard', 'faster'],
    ],
  )
  assert.equal([onlyBefore, onlyAfter, warnings], [['gone'], ['new'], []])
  after.machine.gpu!.smMHz = 1200
  after.machine.device = 'another card'
  assert.is(compare(before, after).warnings.length, 2)
  const table = comparisonTable(before, after)
  narrow(table)
  assert.match(table, /2 faster, 1 slower/)
  const lines = table.split('\n')
  const first = lines[lines.findIndex((line) => line.startsWith('milliseconds')) + 1]!
  assert.match(first, / 0\.67x {3}slower$/, 'what is slower comes first')
})

test('ratios are told with the spread of the rounds and, where a report has it, of each side’s best', () => {
  const lines = measurementTable(measured()).split('\n')
  const row = lines[lines.findIndex((line) => line.startsWith('ours / peer')) + 1]!
  assert.match(row, / 0\.99 \(0\.90-123\) +24\.4 \(22\.4-26\.5\) 23\.4$/)
})

test('a measurement is held against a prediction with a tenth of tolerance; two predictions to the digit', () => {
  const run = measured((_, index) => ({ milliseconds: around(1.08 * 10 ** ((index % 9) - 4), 0.01) }))
  assert.is(compare(predicted(), run).changes.filter(({ verdict }) => verdict !== 'same').length, 0)
  assert.ok(compare(predicted(0.9), run).changes.every(({ verdict }) => verdict === 'slower'))
  assert.ok(compare(predicted(1.3), run).changes.every(({ verdict }) => verdict === 'faster'))
  assert.ok(compare(predicted(), predicted()).changes.every(({ verdict }) => verdict === 'same'))
  assert.ok(compare(predicted(), predicted(0.999)).changes.every(({ verdict }) => verdict === 'faster'))
  narrow(comparisonTable(predicted(), run))
})

test('files that hold no report are refused; those of before they said what they are, are read', async () => {
  const file = async (name: string, content: unknown) => {
    const path = join(folder, name)
    await writeFile(path, JSON.stringify(content))
    return path
  }
  const report = measured()
  assert.equal(await readReport(await file('a.json', report)), JSON.parse(JSON.stringify(report)))
  const lines = textOf({ ...report, failed: [] })
  assert.equal(JSON.parse(lines), JSON.parse(JSON.stringify({ ...report, failed: [] })))
  assert.is(lines.split('\n').filter((line) => line.startsWith('    {')).length, report.rows.length + 3)
  const lonely = { ...report, rows: [] }
  assert.is((await readReport(await file('c.json', lonely))).rows.length, 0, 'requests alone are a report')
  assert.is((await readReport('bench/results/2026-11-22-cpu-zen4-2-threads.json')).kind, 'measurement')
  for (const content of [
    null,
    [],
    {},
    { rows: [] },
    { rows: [{ name: 'a' }] },
    { kind: 'else', rows: report.rows },
  ])
    await refuses(
      async () => readReport(await file('b.json', content)),
      'ERR_FSVIDEO_INVALID_ARGUMENT',
      '--compare',
    )
  await refuses(() => readReport(join(folder, 'none.json')), 'ERR_FSVIDEO_MODEL_FILE')
})

test('goals are those of the kind of device; shares are of the rates of the run', () => {
  const spec = cases.find(({ name }) => name === 'layerMemory bf16 20x1860x5120')!
  const wide = cases.find(({ name }) => name === 'linear bf16 7440x13824x5120 bias')!
  const fp8 = cases.find(({ name }) => name === 'linear fp8 7440x13824x5120 bias')!
  const chosen = [spec, wide, fp8]
  const { ceilings, rows: all } = measured()
  const row = ({ name, spec, groups }: Case, ms: number, gbs: number): Row => ({
    ...all[0]!,
    name,
    spec,
    groups,
    milliseconds: flat(ms),
    flops: 780e9 * ms * 0.5,
    bytes: gbs * 1e6 * ms,
    tflops: 390,
    gbs,
  })
  const rows = [row(spec, 1, 3690), row(wide, 3, 10), row(fp8, 2, 10)]
  judge(rows, ceilings, chosen, { name: 'cuda:0' })
  const [memory, product, narrowed] = rows
  assert.equal(
    memory!.goals.map(({ against, reached, met }) => [against, reached, met]),
    [['copy', 0.9, true]],
  )
  assert.is(memory!.bound, 'memory')
  assert.ok(Math.abs(memory!.roofline - 0.9) < 1e-12)
  assert.is(product!.bound, 'compute')
  assert.ok(Math.abs(product!.roofline - 0.5) < 1e-12)
  const against = Object.fromEntries(narrowed!.goals.map((goal) => [goal.against, goal]))
  assert.is(against.bf16!.reached, 1.5)
  assert.not.ok(against.bf16!.met, '1.6 are asked for')
  assert.ok(against.torch!.met)
  judge(rows, ceilings, chosen, { name: 'cpu' })
  assert.equal(
    memory!.goals.map(({ atLeast }) => atLeast),
    [0.6],
    'another figure on a CPU',
  )
  const lonely = { ...row(fp8, 2, 10), peers: {} }
  judge([lonely], ceilings, chosen, { name: 'cuda:0' })
  assert.equal(lonely.goals, [], 'nothing is said of a peer that was not there')
})

test('figures of a request are its waits, its rate against large products, and what the decoder adds to the weights', () => {
  const figures = figuresOf(profiled, 780e12)
  assert.equal(
    { ...figures, baseRate: figures.baseRate.toFixed(6), refinerRate: figures.refinerRate.toFixed(6) },
    {
      ...{ request: 13_000, firstFrame: 10_000, base: 6000, refiner: 2000, decode: 4000, forwards: 8000 },
      ...{ decodeBegins: 0.25, decodeBytes: 30e9, peakBytes: 110e9, heavy: 0.9 },
      ...{ baseRate: '0.750000', refinerRate: '0.500000' }, // by the clock, not by the device's busy time
    },
  )
  const [bf16, , fp8] = requestCases
  const judged = judgeRequest(figures, bf16!.goals, [])
  assert.equal(
    judged.filter(({ met }) => met).map(({ figure }) => figure),
    ['forwards', 'decodeBytes', 'request'],
    'at the bound is met',
  )
  const faster = { ...figures, base: 4000, refiner: 1500, forwards: 5500 }
  assert.equal(
    judgeRequest(faster, fp8!.goals, [
      { name: bf16!.name, milliseconds: flat(1), figures, goals: judged },
    ]).map(({ figure, reached, met }) => [figure, reached, met]),
    [
      ['base', 1.5, true],
      ['refiner', 2000 / 1500, false],
      ['forwards', 5500, true],
    ],
  )
  const alone = judgeRequest(faster, fp8!.goals, []).map(({ figure }) => figure)
  assert.equal(alone, ['forwards'], 'nothing is said of a request that was not measured')
  assert.match(
    measurementTable(measured()),
    /^14B bf16, Standard +13\.0 s +10\.0 s +6\.00 s +2\.00 s +4\.00 s +110 GB$/m,
  )
})

test('nvidia-smi: a line is read, anything else is no card', () => {
  assert.equal(parseGpu('NVIDIA H200, 580.65.06, 1755, 3201, 1980, 512.33, 700.00, 51\n'), {
    name: 'NVIDIA H200',
    driver: '580.65.06',
    smMHz: 1755,
    memoryMHz: 3201,
    mostSmMHz: 1980,
    watts: 512.33,
    mostWatts: 700,
    celsius: 51,
  })
  assert.is(parseGpu('No devices were found'), undefined)
  assert.is(parseGpu(''), undefined)
})

test('tables fit 80 columns whatever is in them, and columns never touch', () => {
  for (const table of [measurementTable(measured()), predictionTable(predicted())]) {
    narrow(table)
    for (const { name } of cases) assert.ok(table.includes(`\n${name} `), name)
  }
  const huge = measured((row) => ({
    milliseconds: { ...row.milliseconds, median: 123456, p10: 1e5, p90: 2e5 },
  }))
  narrow(measurementTable(huge))
  assert.equal([0.000012, 0.0012, 0.5, 12.34, 123.4, 12345, 0].map(digits), [
    '1e-5',
    '0.0012',
    '0.50',
    '12.3',
    '123',
    '12345',
    '0.00',
  ])
})

test('the page needs nothing else: charts for both themes, every case, all that was read escaped', async () => {
  const report = measured()
  const page = pageOf(report, await chartsOf(report))
  assert.is(page.match(/<svg /g)?.length, 4)
  assert.not.match(page, /<(script|link|img)|url\(/)
  for (const address of page.match(/https?:\/\/[^"\s]+/g) ?? []) assert.match(address, /w3\.org/)
  for (const { name } of [...cases, ...report.requests!])
    assert.ok(page.includes(`>${name.replaceAll('>', '&gt;')}<`), name)
  assert.ok(page.includes('flash &lt;fast&gt;') && !page.includes('<fast>'))
  const empty = { ...measured(), rows: [], peers: {} }
  assert.match(pageOf(empty, await chartsOf(empty)), /No peer was there/)
})

test('charts are pictures; a folder gets page and charts, a file the page', async () => {
  const paths = await writePage(predicted(), join(folder, 'prediction'))
  assert.equal(
    paths.map((path) => path.split('/').at(-1)),
    ['report.html', 'roofline.svg', 'ladder.svg'],
  )
  for (const path of paths.slice(1)) {
    const { width, height } = await sharp(await readFile(path)).metadata()
    assert.ok(width! > 500 && height! > 200, `${path}: ${width} x ${height}`)
    const { channels } = await sharp(await readFile(path)).stats()
    assert.ok(
      channels.some(({ stdev }) => stdev > 5),
      'something is drawn',
    )
  }
  const file = join(folder, 'page.html')
  assert.equal(await writePage(measured(), file), [file])
  assert.match(await readFile(file, 'utf8'), /^<!doctype html>/)
})

test.run()
