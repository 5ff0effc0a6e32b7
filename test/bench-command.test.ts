/**
 * `fsvideo bench` from outside: what it refuses, what it measures and writes, peers that answer, refuse and die; and on a simulated card
 * (FSVIDEO_TEST_DEVICE=sim) its predictions. What was measured is never judged by its time.
 */
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { allCases } from '../lib/bench/cases.js'
import { openTorch } from '../lib/bench/peers.js'
import { costOf, needsOfRows, predict, slowest } from '../lib/bench/predict.js'
import { processors, rates } from '../lib/bench/rates.js'
import type { Measurement, Prediction } from '../lib/bench/report.js'
import { measureRequests, type RequestCase } from '../lib/bench/requests.js'
import { Subject } from '../lib/bench/subject.js'
import { Device } from '../lib/device.js'
import { onCpu, openTestDevice, simulated, testDevice } from './devices.js'
import { inProcess } from './in-process.js'

const test = suite('bench, command')
let folder: string
const inside = (name: string) => join(folder, name)
test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-bench-'))
})
test.after(() => rm(folder, { recursive: true }))

const bench = (...words: string[]) => inProcess(['bench', ...words])

test('bad input is refused before anything is measured, by name', async () => {
  const a = 'bench/results/2026-11-22-cpu-zen4-2-threads.json'
  const bad: [words: string[], pattern: RegExp][] = [
    [['--rounds', '0'], /--rounds must be .*1000, got "0"/],
    [['--seconds', 'x'], /--seconds must be .*600, got "x"/],
    [['--filter', '('], /--filter must be a regular expression/],
    [['--group', 'ditt'], /--group .*did you mean dit\?/],
    [['--device', 'gpu'], /there is no device "gpu"/],
    [['--json', inside('none/a.json')], /--json: there is no folder/],
    [['--report', folder.concat('/x/y/z')], /--report: there is no folder/],
    [['--json', folder], /--json: .* is a folder/],
    [['--compare', a], /--compare must be two files/],
    [[a], /--compare must be two files/],
    [['--compare', a, a, '--rounds', '3'], /--rounds must be absent beside --compare/],
    [['--compare', a, inside('none.json')], /none\.json is missing/],
    [['--compare', a, 'package.json'], /--compare must be a file that fsvideo bench --json wrote/],
    [['--compare', a, a, a], /bench takes \[B\.json\]/],
    [['--device', 'cpu', '--peer'], /--peer is no option/],
  ]
  for (const [words, pattern] of bad) {
    const { code, stdout, stderr } = await bench(...words)
    assert.is(code, 2, `${words}: ${stderr}`)
    assert.is(stdout, '', `${words}`)
    assert.match(stderr, pattern, `${words}`)
  }
})

test('help and the list of cases fit 80 columns', async () => {
  for (const words of [['--help'], ['--list', '--device', 'cuda']]) {
    const { code, stdout } = await bench(...words)
    assert.is(code, 0)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line)
  }
  const { stdout } = await bench('--list', '--group', 'lite')
  assert.match(stdout, /^conv3d bf16 64->64 4x768x1280 +lite$/m)
})

if (!simulated)
  test('a run measures each case once, writes what it found, and can be compared with itself', async () => {
    const [json, page] = [inside('run.json'), inside('run.html')]
    const pattern = '^(matmul|linear bf16|glu|cast|fill|slice|shapes)'
    const { code, stdout, stderr } = await bench(
      ...['--device', testDevice, '--group', 'tiny,requests', '--filter', pattern],
      ...['--rounds', '2', '--seconds', '0.001', '--no-peers', '--json', json, '--report', page],
    )
    assert.is(code, 0, stderr)
    const report = JSON.parse(await readFile(json, 'utf8')) as Measurement
    assert.is(report.kind, 'measurement')
    assert.ok(report.machine.deviceName.startsWith(testDevice))
    assert.match(report.commit, /^[0-9a-f]{7,}\+?$/)
    const names = (await allCases())
      .filter(
        ({ groups, name }) => groups.includes('tiny') && /^(linear bf16|glu|cast|fill|slice)/.test(name),
      )
      .map(({ name }) => name)
    assert.equal(
      report.rows.map(({ name }) => name),
      names,
    )
    for (const { name, milliseconds: t, tflops, flops, gbs, bytes } of report.rows) {
      assert.ok(t.p10 > 0 && t.p10 <= t.median && t.median <= t.p90 && t.count >= 10, name)
      assert.ok(
        Math.abs(tflops - flops / t.median / 1e9) < 1e-9 && Math.abs(gbs - bytes / t.median / 1e6) < 1e-6,
      )
      assert.match(stdout, `\n${name} `)
    }
    assert.ok(report.ceilings.copyGBs > 0 && report.ceilings.gemm.bf16!.tflops > 0)
    assert.match(await readFile(page, 'utf8'), /<svg /)
    assert.equal(
      report.requests!.map(({ name }) => name),
      onCpu ? ['shapes bf16, Standard'] : [],
    )
    for (const { name, figures: f, goals } of report.requests!) {
      assert.match(stdout, new RegExp(`^${name} +\\d`, 'm'))
      assert.ok(f.base + f.refiner + f.decode < f.request && f.firstFrame < f.request, name)
      assert.ok(f.heavy > 0 && f.heavy < 1 && f.decodeBytes > 0 && f.decodeBytes < f.peakBytes, name)
      assert.equal(
        goals.map(({ figure }) => figure),
        ['heavy'],
      )
    }
    const compared = await bench('--compare', json, json)
    assert.is(compared.code, 0, compared.stderr)
    assert.match(
      compared.stdout,
      new RegExp(`\n0 faster, 0 slower, ${names.length + report.requests!.length} the same`),
    )
  })

test('requests share a pipeline, one that does not fit is told, and all memory comes back', async () => {
  const device = await openTestDevice({ threads: 1 })
  const before = device.memory().inUse
  const small = { prompt: 'a ball', width: 128, height: 128, frames: 1, steps: 1, refinerSteps: 1 }
  const common = { on: 'cpu', model: 'tiny', random: true, repeats: 1, goals: [] } as const
  const cases: RequestCase[] = [
    { ...common, name: 'a', dtype: 'bf16', request: small },
    { ...common, name: 'b', dtype: 'bf16', request: { ...small, maxMemory: 1 } },
    {
      ...common,
      name: 'c',
      dtype: 'fp8',
      request: small,
      goals: [{ figure: 'base', atLeast: 0, than: 'a' }],
    },
  ]
  const done: number[] = []
  const { rows, failed } = await measureRequests(device, cases, 1e12, { onCase: (index) => done.push(index) })
  assert.equal(
    rows.map(({ name, goals }) => [name, goals.length]),
    [
      ['a', 0],
      ['c', 1],
    ],
  )
  assert.equal(
    failed.map(({ name }) => name),
    ['b'],
  )
  assert.match(failed[0]!.why, /this generation needs/)
  assert.equal(done, [0, 1, 2])
  device.trim()
  assert.is(device.memory().inUse, before)
  const controller = new AbortController()
  controller.abort(new Error('enough'))
  const aborted = await measureRequests(device, cases, 1e12, { signal: controller.signal }).catch(
    (error: Error) => error.message,
  )
  assert.is(aborted, 'enough')
  device.dispose()
})

if (!simulated)
  test('what is timed is the op alone, on copies that fill what they shall, and all memory comes back', async () => {
    const device = await openTestDevice({ threads: 1 })
    const before = device.memory().inUse
    const spec = { op: 'affine', dtype: 'bf16', shape: [1, 64, 1024] } as const
    const bytes = 64 * 1024 * 2 * 2 + 2 * 1024 * 4
    const subject = await Subject.open(device, spec, 10 * bytes)
    assert.is(subject.flops, 2 * 64 * 1024)
    assert.is(subject.bytes, bytes)
    device.resetStats()
    const samples = await subject.sample(0.01)
    assert.ok(samples.length >= 5 && samples.every((ms) => ms > 0))
    const ran = Object.entries(device.stats()).filter(([, { calls }]) => calls > 0)
    assert.equal(
      ran.map(([op]) => op).filter((op) => onCpu || op !== 'fill'), // what a card is kept busy with meanwhile
      ['affine'],
    )
    const held = device.memory().inUse - before
    assert.ok(held > 9 * bytes && held < 12 * bytes, `${held / bytes} copies`)
    subject.dispose()
    await device.synchronize()
    assert.is(device.memory().inUse, before)
    device.dispose()
  })

test('rows take what the slowest unit needs: memory, L1 where they ask for much again, arithmetic, or the launch', () => {
  const counters = (moved: number, launches = 1) => ({
    launches,
    read: moved / 2,
    written: moved / 2,
    sectors: 0,
    leastSectors: 0,
    wavefronts: 0,
    leastWavefronts: 0,
  })
  const bytes = 41e9
  const bound = (flops: number, moved: number, times = 1) =>
    slowest(needsOfRows({ flops, bytes }, counters(moved), times))
  assert.equal(bound(0, bytes), ['memory', bytes / (rates.copy.value * 1e9)])
  assert.is(bound(0, 2 * bytes)[0], 'memory', 'L1 gives more than twice what memory does')
  assert.equal(bound(0, bytes, 20), ['L1', (20 * bytes) / (rates.l1.value * 1e9)])
  assert.equal(bound(rates.fma.value * 1e12, bytes), ['FMA units', 1])
  assert.equal(slowest(needsOfRows({ flops: 1, bytes: 1 }, counters(1, 3), 1)), ['launch', 9e-6])
})

/** A program that is started as Python would be, and does with lines what the script says. */
async function interpreter(name: string, script: string): Promise<string> {
  const path = inside(name)
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
  return path
}

if (!simulated)
  test('the ratio of the best rounds lies between those of the rounds', async () => {
    const answers = `while read -r line; do echo '{"medianMs": 1000}'; done`
    process.env.FSVIDEO_PYTHON = await interpreter('slow', `echo '{"version": "PyTorch 9"}'; ${answers}`)
    try {
      const json = inside('peers.json')
      const { code, stderr } = await bench(
        ...['--device', testDevice, '--group', 'tiny', '--filter', '^(glu|cast)'],
        ...['--rounds', '3', '--seconds', '0.001', '--json', json],
      )
      assert.is(code, 0, stderr)
      const report = JSON.parse(await readFile(json, 'utf8')) as Measurement
      for (const { name, peers } of report.rows) {
        const { ratio, best } = peers.torch!
        assert.ok(ratio.least > 1 && ratio.least <= best! && best! <= ratio.most, name)
      }
      assert.ok(report.rows.length > 0)
    } finally {
      delete process.env.FSVIDEO_PYTHON
    }
  })

test('a peer that answers, one that refuses, one that dies and one that is not there', async () => {
  const question = { spec: (await allCases())[0]!.spec, seconds: 0.01, rotate: 0 }
  const open = async (python: string) => {
    process.env.FSVIDEO_PYTHON = python
    try {
      return await openTorch('cpu', 1)
    } finally {
      delete process.env.FSVIDEO_PYTHON
    }
  }
  const whole = await open(
    await interpreter(
      'answers',
      `echo '{"version": "PyTorch 9"}'; read -r line; echo '{"medianMs": 2, "way": "best"}'; read -r line; echo '{"absent": "no such op"}'; read -r line; echo oh >&2; exit 3`,
    ),
  )
  assert.ok('peer' in whole)
  assert.is(whole.peer.version, 'PyTorch 9')
  assert.equal(await whole.peer.measure(question), { medianMs: 2, way: 'best' })
  assert.equal(await whole.peer.measure(question), { absent: 'no such op' })
  assert.equal(await whole.peer.measure(question), { absent: 'it ended: oh' })
  assert.equal(await whole.peer.measure(question), { absent: 'it ended: oh' }, 'and it stays absent')
  whole.peer.close()
  const refusals: [string, RegExp][] = [
    [await interpreter('refuses', `echo '{"absent": "PyTorch 9 finds no CUDA card"}'`), /finds no CUDA card/],
    [await interpreter('dies', 'echo no module >&2; exit 1'), /it ended: no module/],
    [inside('nowhere'), /ENOENT/],
  ]
  for (const [python, why] of refusals) {
    const absent = await open(python)
    assert.ok('absent' in absent)
    assert.match(absent.absent, why)
    assert.match(absent.absent, 'FSVIDEO_PYTHON')
  }
})

if (simulated) {
  test('a prediction counts on the simulated card, and is what --device sim writes', async () => {
    const json = inside('prediction.json')
    const { code, stderr, stdout } = await bench('--device', 'sim', '--group', 'tiny', '--json', json)
    assert.is(code, 0, stderr)
    const { kind, rows, failed } = JSON.parse(await readFile(json, 'utf8')) as Prediction
    assert.is(kind, 'prediction')
    assert.equal(failed, [])
    assert.is(rows.length, (await allCases()).filter(({ groups }) => groups.includes('tiny')).length)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line)
    for (const { name, counters, slice, bytes, milliseconds } of rows) {
      const least = slice?.bytes ?? bytes
      assert.ok(counters.launches >= 1 && milliseconds > 0, name)
      // Ops that leave out what nobody asked for (a table's rows, padding) move less than their operands hold.
      assert.ok(
        counters.read + counters.written > 0.3 * least,
        `${name}: ${counters.read + counters.written} of ${least}`,
      )
    }
    const copied = rows.find(({ name }) => name.startsWith('slice'))!
    assert.equal([copied.counters.read, copied.counters.written], [copied.bytes / 2, copied.bytes / 2])
    assert.is((await bench('--compare', json, json)).code, 0)
  })

  test('times are those of the slowest unit: products at the rate of their tiles, rows at the rate of memory', async () => {
    const device = await Device.open('sim')
    const meta = await Device.open('meta')
    const names = [
      'linear bf16 11904x13824x5120 bias',
      'attention bf16 7440x40x128',
      'pixelNorm bf16 16x768x1280x128',
    ]
    const cases = (await allCases()).filter(({ name }) => names.includes(name))
    const { rows } = await predict({ device, cases })
    const [product, attention, norm] = names.map((name) => rows.find((row) => row.name === name)!)
    assert.is(product!.bound, 'tensor cores')
    assert.ok(product!.tflops > 0.9 * rates.bf16.value && product!.tflops < 1.05 * rates.bf16.value)
    assert.is(product!.plan!.rounds, Math.ceil(product!.plan!.tiles / processors))
    assert.ok(
      attention!.tflops > 0.9 * rates.attention.value && attention!.tflops < 1.1 * rates.attention.value,
    )
    assert.is(norm!.bound, 'memory')
    assert.ok(Math.abs(norm!.gbs - rates.copy.value) < 1)
    assert.is(norm!.bytes, costOf(meta, norm!.spec).bytes)
    for (const dispose of [device, meta]) dispose.dispose()
  })

  test('what cannot be predicted is refused: a card that is no Hopper, a simulator that does not count', async () => {
    assert.match((await bench('--device', 'sim:2')).stderr, /--device must be sim or sim:1/)
    process.env.FSVIDEO_SIM = 'check=0'
    try {
      assert.match((await bench('--device', 'sim')).stderr, /FSVIDEO_SIM must be without check=0/)
    } finally {
      delete process.env.FSVIDEO_SIM
    }
  })
}

test.run()
