/** Where the time of a request goes: sums and percentiles, a profile of the tiny pipeline on the test device, and `fsvideo profile`. */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { digits, type Profiled, table, tables, time } from '../lib/cli/profile-tables.js'
import { run } from '../lib/cli/run.js'
import { FSVideoPipeline } from '../lib/pipeline.js'
import { profile } from '../lib/profile/profile.js'
import { measureRoofline } from '../lib/profile/roofline.js'
import { summarize } from '../lib/profile/summary.js'
import { percentiles, quantile } from '../lib/statistics.js'
import type { TracedOp } from '../lib/trace.js'
import { openTestDevice, simulated, testDevice } from './devices.js'
import { picture, temporaryFolder } from './pipeline-model.js'
import { refuses } from './refusals.js'
import { readTrace } from './trace-format.js'

const test = suite('profile')
const folder = temporaryFolder('profile')
const stages = ['encode', 'denoise', 'upsample', 'refine', 'decode']
const close = (a: number, b: number, what: string) =>
  assert.ok(Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b)), `${what}: ${a}, ${b}`)

test('percentiles lie between samples in proportion, whatever their order', () => {
  const hundred = Array.from({ length: 101 }, (_, i) => (i * 37) % 101)
  assert.equal(percentiles(hundred), { p10: 10, p50: 50, p90: 90, p95: 95, p99: 99, samples: 101 })
  assert.equal(percentiles([3, 1]), { p10: 1.2, p50: 2, p90: 2.8, p95: 2.9, p99: 2.98, samples: 2 })
  assert.equal(percentiles([7]), { p10: 7, p50: 7, p90: 7, p95: 7, p99: 7, samples: 1 })
  assert.ok(Number.isNaN(quantile([], 0.5)))
})

test('sums are of time, work and the least time that the roofline allows', () => {
  const op = (name: string, beginMs: number, ms: number, flops: number, bytes: number): TracedOp => ({
    ...{ name, shapes: '', path: [], flops, bytes, memoryBytes: 100 + ms },
    ...{ beginMs, endMs: beginMs + ms },
  })
  const ops = [op('a', 0, 2, 1e6, 10), op('b', 2, 6, 0, 3e6), op('a', 8, 4, 2e6, 3e6), op('b', 12, 4, 0, 0)]
  const rows = summarize(ops, ({ name }) => name, { flops: 1e9, bytes: 1e9 }, 2)
  assert.equal(
    rows.map(({ name, calls, ms, memoryBytes }) => ({ name, calls, ms, memoryBytes })),
    [
      { name: 'b', calls: 1, ms: 5, memoryBytes: 106 },
      { name: 'a', calls: 1, ms: 3, memoryBytes: 104 },
    ],
  )
  const [b, a] = rows
  close(b!.share, 10 / 16, 'share')
  close(a!.flopsPerSecond, 3e6 / 6e-3, 'FLOP/s')
  close(b!.bytesPerSecond, 3e6 / 10e-3, 'bytes/s')
  close(a!.rooflineShare, (1 + 3) / 6, 'each call by its own bound')
  close(b!.rooflineShare, 3 / 10, 'bound by bytes')
  assert.equal(
    summarize([], ({ name }) => name, { flops: 1, bytes: 1 }),
    [],
  )
})

test('the roofline is above what ops of the same device reach', async () => {
  const device = await openTestDevice({ threads: 2 })
  const before = device.memory().inUse
  const { flops, bytes } = await measureRoofline(device, 'bf16')
  assert.ok(flops > (simulated ? 1e3 : 1e9) && flops < 1e16, `${flops} FLOP/s`)
  assert.ok(bytes > (simulated ? 1e3 : 1e8) && bytes < 1e14, `${bytes} bytes/s`)
  assert.is(device.memory().inUse, before)
  device.dispose()
})

const [width, height] = [128, 128]
const short = simulated ? { frames: 1, steps: 2, refinerSteps: 1 } : { frames: 5, steps: 3, refinerSteps: 2 }
const request = { image: picture(1), prompt: 'a red ball', width, height, ...short }

test('a profile holds every stage, and its parts add up', async () => {
  const pipe = await FSVideoPipeline.fromConfig(join(packageRoot, 'models/tiny'), {
    device: testDevice,
    seed: 1,
  })
  const before = pipe.device.memory().inUse
  const done: number[] = []
  const found = await profile(pipe, request, { repeats: 2, onRequest: (n) => done.push(n) })
  assert.equal(done, [1, 2, 3, 4, 5])
  assert.equal(
    found.stages.map(({ name }) => name),
    stages,
    'no op is outside of the stages',
  )
  assert.equal(Object.keys(found.latency.stages), stages)
  for (const { samples, p50, p95, p99 } of [found.latency.total, ...Object.values(found.latency.stages)]) {
    assert.is(samples, 2)
    assert.ok(p50 > 0 && p50 <= p95 && p95 <= p99)
  }
  const sum = (rows: readonly { ms: number }[]) => rows.reduce((total, { ms }) => total + ms, 0)
  close(sum(found.stages), sum(found.ops), 'time of stages and of ops')
  for (const rows of [found.stages, found.ops])
    close(
      rows.reduce((total, { share }) => total + share, 0),
      1,
      'shares',
    )
  assert.ok(found.heavy > 0 && found.heavy <= found.busy && found.busy <= 1, `${found.heavy} ${found.busy}`)
  assert.is(found.memory.peak, found.memory.planned)
  assert.is(found.memory.weights, before)
  const { total, firstFrame } = found.latency
  assert.ok(firstFrame.p50 > 0 && firstFrame.p50 < total.p50, `${firstFrame.p50} of ${total.p50} ms`)
  assert.is(Math.max(...found.stages.map(({ memoryBytes }) => memoryBytes)), found.memory.peak)
  const { least, median, most } = found.overhead.pairs
  assert.ok(least <= median && median <= most)

  // Steps and layers, also of the second step, which on a card is a recorded graph.
  const paths = new Set(found.trace.ops.map(({ path }) => path.join(' / ')))
  for (const layer of ['embeddings', 'block 0', 'block 1', 'head'])
    for (const step of [1, 2]) assert.ok(paths.has(`denoise / step ${step} / ${layer}`), `${layer} ${step}`)
  for (const expected of [
    'encode / text / encoder.block.0.layer.0',
    'encode / clip / encoder.layers.0',
    'encode / picture / down_blocks.0.0',
    'denoise / prepare / block 1',
    'upsample / res_blocks.1',
    'refine / step 1 / block 0',
    'decode / chunk 1 / up_blocks.3.upsample',
    'decode / chunk 1 / conv_out',
  ])
    assert.ok(paths.has(expected), expected)
  assert.equal(
    found.spans.map(({ name }) => name),
    ['request', ...stages],
  )
  assert.is(pipe.device.memory().inUse, before)
  for (const repeats of [0, 1.5, 1001, Number.NaN])
    await refuses(
      () => profile(pipe, request, { repeats }),
      'ERR_FSVIDEO_INVALID_ARGUMENT',
      'repeats',
      `${repeats}`,
    )
  const resolved = { size: { width, height }, base: { schedule: { timesteps: [] } } }
  const shown = tables({
    ...{ folder: 'x', random: true, repeats: 2, profile: found, pipe },
    resolved: { ...resolved, refiner: resolved.base } as unknown as Profiled['resolved'],
  })
  for (const line of shown.split('\n')) assert.ok(line.length <= 80, line)
  await pipe.dispose()
})

test('numbers keep three digits, and tables their columns', () => {
  assert.equal([0, 0.0004, 0.0123, 0.456, 7.891, 99.94, 99.96, 1234, Infinity].map(digits), [
    ...['0', '0.000', '0.012', '0.46', '7.89', '99.9', '100', '1234', '-'],
  ])
  assert.equal([0.0123, 45.6, 999.4, 999.6, 61_000].map(time), [
    ...['0.012 ms', '45.6 ms', '999 ms', '1.00 s', '1 min 01 s'],
  ])
  assert.is(
    table([
      ['name', 'time'],
      ['a', '10 s'],
      ['longer', '5 s'],
    ]),
    'name    time\na       10 s\nlonger   5 s\n',
  )
})

/** `fsvideo` with these words in this process: its exit code and what it wrote. */
async function fsvideo(...words: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' }
  const names = ['stdout', 'stderr'] as const
  const writes = names.map((name) => process[name].write)
  for (const name of names)
    process[name].write = (text: string | Uint8Array) => {
      written[name] += text
      return true
    }
  try {
    return { code: await run(['profile', ...words]), ...written }
  } finally {
    for (const [i, name] of names.entries()) process[name].write = writes[i]!
  }
}

const sizes = ['--model', 'tiny', '--device', testDevice, '--size', `${width}x${height}`]
const steps = ['--frames', `${short.frames}`, '--steps', '2', '--refiner-steps', '1', '--repeats', '1']

test('the command prints tables that fit a terminal, or one document, and writes a trace', async () => {
  const [words, json] = [join(folder, 'words.json'), join(folder, 'document.json')]
  const { code, stdout, stderr } = await fsvideo(...sizes, ...steps, '--trace', words)
  assert.is(code, 0, stderr)
  assert.match(stderr, /^load .*\nprofile +3 requests +/m)
  for (const line of stdout.replaceAll(words, 'FILE').split('\n')) assert.ok(line.length <= 80, line)
  for (const row of [...stages, 'request', 'linear', 'conv3d', 'busy', 'memory', 'tracing', 'trace'])
    assert.match(stdout, new RegExp(`^${row} {2,}\\S`, 'm'), row)
  assert.match(stdout, /^model +models\/tiny, bf16, random weights$/m)
  assert.match(stdout, /^memory +peak .*, as planned$/m)
  const { tracks, counters } = readTrace(await readFile(words, 'utf8'))
  assert.equal([...tracks.keys()], ['host', testDevice.startsWith('sim') ? 'sim:0' : testDevice])
  assert.ok([...tracks.values()][1]!.some(({ inside }) => inside.join().startsWith('denoise,step 2,block 1')))
  assert.ok(counters.has('memory in use'))

  const asked = await fsvideo(...sizes, ...steps, '--json', '--trace', json)
  const found = JSON.parse(asked.stdout)
  assert.equal(found.request, {
    width,
    height,
    frames: short.frames,
    steps: 2,
    refinerSteps: 1,
    guidanceScale: 5,
    decoder: 'standard',
  })
  assert.is(found.randomWeights, true)
  assert.is(found.trace, json)
  assert.equal(
    found.stages.map(({ name }: { name: string }) => name),
    stages,
  )
  readTrace(await readFile(json, 'utf8'))
})

test('what is wrong is refused by its name before any work, and nothing is written', async () => {
  const place = join(folder, 'empty')
  await mkdir(join(place, 'a.json'), { recursive: true })
  for (const [words, message] of [
    [['--repeats', '0'], /^fsvideo: --repeats must be an integer from 1 to 1000, got "0"\n/],
    [['--repeats', '1.5'], /^fsvideo: --repeats must be/],
    [['--repeats', 'many'], /^fsvideo: --repeats must be/],
    [['--trace', join(place, 'trace.txt')], /^fsvideo: --trace must be a name in \.json/],
    [['--trace', join(place, 'a.json')], /cannot be written: it is a folder\n {2}ERR_FSVIDEO_OUTPUT/],
    [['--trace', join(place, 'nowhere/b.json')], /cannot be written: .*nowhere is no folder/],
    [['--model', 'tinyy'], /^fsvideo: --model must be .* \(did you mean tiny\?\)/],
    [['--device', 'gpu'], /^fsvideo: --device must be auto, cpu or cuda\[:N\]/],
    [['--out', 'x.mp4'], /^fsvideo: --out is no option of fsvideo profile/],
    [['--frames', '0'], /^fsvideo: --frames must be/],
    [['--dtype', 'f64'], /^fsvideo: --dtype must be bf16, fp8 or f32/],
    [['--image', join(place, 'none.png')], /none\.png/],
    [['--steps'], /^fsvideo: --steps needs a value/],
    [['tiny'], /^fsvideo: profile takes options only, got "tiny"/],
  ] as const) {
    const { code, stdout, stderr } = await fsvideo(
      ...(words[0] === '--model' ? [] : ['--model', 'tiny']),
      ...words,
    )
    assert.is(code, 2, `${words.join(' ')}: ${stderr}`)
    assert.is(stdout, '', words.join(' '))
    assert.match(stderr, message)
  }
  assert.equal(await readdir(place), ['a.json'])

  if (totalmem() > 80e9) return
  const { code, stderr } = await fsvideo('--model', 'fsvideo-14b', '--device', 'cpu')
  assert.is(code, 1)
  assert.match(
    stderr,
    /^fsvideo: the weights of \S+fsvideo-14b need [\d.]+ GB on cpu, and .* are free there\n/,
  )
})

test.run()
