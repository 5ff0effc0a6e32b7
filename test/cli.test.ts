/**
 * The command line from outside: child processes, judged by what they write where, what they leave behind and how they end. The
 * long table of bad input runs in this process, as starting Node is most of the time of a child.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { modelInfo } from '../lib/init.js'
import { inProcess } from './in-process.js'

const test = suite('command line')
const photo = join(packageRoot, 'models/samples/rocket.jpg')
let folder: string
let model: string

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

interface Running {
  child: ChildProcess
  /** Resolves when stderr has a match, or the process is gone. */
  said(pattern: RegExp): Promise<void>
  ended: Promise<Ended>
}

const main = ['--import', import.meta.resolve('tsx'), join(packageRoot, 'lib/cli/main.ts')]

function start(words: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, [...main, ...words], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const ended = new Promise<Ended>((resolve) =>
    child.on('close', (code) => resolve({ code, stdout, stderr })),
  )
  const said = (pattern: RegExp) =>
    new Promise<void>((resolve) => {
      const look = () => pattern.test(stderr) && resolve()
      look()
      child.stderr.on('data', look)
      child.on('close', () => resolve())
    })
  return { child, said, ended }
}

const fsvideo = (words: readonly string[], env?: NodeJS.ProcessEnv) => start(words, env).ended

const inside = (name: string) => join(folder, name)

/** A generation that takes half a second, plus `more`. */
const generation = (out: string, ...more: string[]) => [
  ...['generate', '--image', photo, '--prompt', 'the rocket lifts off', '--out', out, '--model', model],
  ...(more.includes('--size') ? more : ['--size', '128x128', ...more]),
]

/** Two at a time. */
async function together<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items]
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item)
  }
  await Promise.all([worker(), worker()])
}

test.before(async () => {
  Object.assign(process.env, { FSVIDEO_MODEL: '', FSVIDEO_DEBUG: '', FSVIDEO_BACKEND: 'cpu' })
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-cli-'))
  model = inside('tiny')
  const made = await fsvideo(['init', 'tiny', model, '--seed', '7'])
  assert.is(made.code, 0, made.stderr)
  assert.match(made.stdout, new RegExp(`^path +${model}\nparameters +1\\.46 M, 2\\.92 MB bf16\nseed +7\n$`))
})
test.after(() => rm(folder, { recursive: true }))

test('help and version are results, and fit a terminal of 80 columns', async () => {
  const { version } = JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8'))
  const calls: [string[], RegExp][] = [
    [['--version'], new RegExp(`^${version.replaceAll('.', '\\.')}\n$`)],
    [['--help'], /generate .*\n.*profile .*\n.*info .*\n.*init .*\n.*bench .*\n.*doctor /],
    [['generate', '--help'], /--image F .*--refiner-steps N .*--json /s],
    [['info', '-h'], /^Usage: fsvideo info MODEL/],
    [['profile', '--help'], /^Usage: fsvideo profile .*--repeats N .*--trace FILE /s],
    [['init', '--help', '--seed', '1'], /^Usage: fsvideo init CONFIG DIR/],
    [['doctor', '--help'], /^Usage: fsvideo doctor/],
  ]
  await together(calls, async ([words, pattern]) => {
    const { code, stdout, stderr } = await fsvideo(words)
    assert.is(code, 0, stderr)
    assert.is(stderr, '')
    assert.match(stdout, pattern)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line)
  })
})

test('a generation prints its result on stdout and one line a stage on stderr', async () => {
  const out = inside('plain.mp4')
  const { code, stdout, stderr } = await fsvideo(generation(out, '--frames', '10'))
  assert.is(code, 0, stderr)
  const names = stdout.split('\n').map((line) => line.split(' ')[0])
  const expected = ['path', 'video', 'file', 'seed', 'base', 'refiner', 'timings', 'memory', 'device', '']
  assert.equal(
    names.filter((name, i) => name !== '' || i === names.length - 1),
    expected,
  )
  assert.match(stdout, `path     ${out}\nvideo    128x128, 9 frames, 8 a second\n`)
  assert.match(stdout, /\nseed {5}0\n/)
  assert.match(stderr, /^warning: 9 frames are made, not 10.* \(WARN_FSVIDEO_FRAMES\)\n/)
  const lines = stderr.split('\n').slice(1)
  const stages = ['load', 'encode', 'denoise', 'upsample', 'refine', 'decode', '']
  assert.equal(
    lines.map((line) => line.split(' ')[0]),
    stages,
  )
  assert.match(lines[2]!, /^denoise +4 steps +\d+\.\d\d s$/)
  assert.not.match(stderr, '\r')
  assert.ok((await stat(out)).size > 1000)
})

test('every option reaches the generation, and --json tells so', async () => {
  const out = inside('all.rgb')
  const words = generation(
    out,
    ...['--size', '192x128', '--frames', '5', '--fps', '12.5', '--seed', '18446744073709551615'],
    ...[
      '--steps',
      '3',
      '--refiner-steps',
      '1',
      '--guidance',
      '2.5',
      '--negative',
      'blur',
      '--solver',
      'euler',
    ],
    ...['--shift', '3', '--dtype', 'f32', '--decoder', 'lite', '--threads', '1', '--quality', '50'],
    ...['--device', 'cpu', '--json'],
  )
  const { code, stdout, stderr } = await fsvideo(words)
  assert.is(code, 0, stderr)
  const { timings, memory, device, base, refiner, warnings, ...rest } = JSON.parse(stdout)
  assert.equal(rest, {
    path: out,
    format: 'rgb',
    encoder: 'none',
    bytes: 192 * 128 * 3 * 5,
    frames: 5,
    width: 192,
    height: 128,
    fps: 12.5,
    notes: [],
    seed: '18446744073709551615',
    image: photo,
    prompt: 'the rocket lifts off',
    negativePrompt: 'blur',
    model,
    dtype: 'f32',
    decoder: 'lite',
    workSize: { width: 256, height: 128 },
  })
  const { sigmas, ...sampler } = base
  assert.equal(sampler, { steps: 3, solver: 'euler', guidanceScale: 2.5 })
  // Shift 3 takes the level 2/3 to 3 · 2/3 / (1 + 2 · 2/3) = 6/7.
  assert.ok(Math.abs(sigmas[1] - 6 / 7) < 1e-12, `${sigmas}`)
  assert.is(refiner.steps, 1)
  assert.equal(
    warnings.map((warning: { code: string; field: string }) => [warning.code, warning.field]),
    [['WARN_FSVIDEO_SIZE', 'width']],
  )
  assert.equal(Object.keys(timings.stages), ['encode', 'denoise', 'upsample', 'refine', 'decode'])
  const parts = Object.values<number>(timings.stages).reduce((sum, ms) => sum + ms, timings.loadMs)
  assert.ok(parts > 0 && parts <= timings.totalMs, `${parts} of ${timings.totalMs} ms`)
  assert.ok(memory.peak > 0 && memory.planned > 0)
  assert.is(device.name, 'cpu')
  assert.match(device.description, /, 1 thread/)
})

test('the same words give the same bits, another seed others', async () => {
  const made = new Map<string, Buffer>()
  const runs = [
    ['a.rgb', '4'],
    ['b.rgb', '4'],
    ['c.rgb', '5'],
  ]
  await together(runs, async ([name, seed]) => {
    const out = inside(name!)
    const words = generation(out, '--frames', '1', '--seed', seed!).filter(
      (w) => w !== '--model' && w !== model,
    )
    const { code, stderr } = await fsvideo(words, { FSVIDEO_MODEL: model })
    assert.is(code, 0, stderr)
    made.set(name!, await readFile(out))
  })
  const [a, b, c] = ['a.rgb', 'b.rgb', 'c.rgb'].map((name) => made.get(name)!)
  assert.is(a!.length, 128 * 128 * 3)
  assert.ok(a!.equals(b!))
  assert.not.ok(a!.equals(c!))
})

test('without --model and FSVIDEO_MODEL the shipped model is used', async () => {
  const out = inside('shipped.rgb')
  const image = join(packageRoot, 'models/samples/green-square.png')
  const words = ['generate', '--image', image, '--prompt', 'a large green square moves up', '--out', out]
  const { code, stderr } = await fsvideo(words, { FSVIDEO_MODEL: undefined })
  assert.is(code, 0, stderr)
  const { size } = await stat(out)
  assert.is(size, 17 * 128 * 128 * 3)
})

test('bad input is refused in two lines with its code, before any weight is read', async () => {
  await writeFile(inside('text.png'), 'no picture')
  await writeFile(inside('cut.jpg'), (await readFile(photo)).subarray(0, 20_000))
  await writeFile(inside('dot.png'), await solid(1, 1))
  await writeFile(inside('huge.png'), hugePng(await solid(16, 16)))
  await mkdir(inside('full'))
  await writeFile(inside('full/file'), '')

  const with_ = (...more: string[]) => generation(inside('never.mp4'), ...more)
  const picture = (name: string) => with_().map((word) => (word === photo ? inside(name) : word))
  const out = (name: string) => generation(inside(name))
  const of = (name: string) => with_().map((word) => (word === model ? name : word))
  const without = (path: string, words: string[]) =>
    words.map((word) => (word === path ? inside('nowhere') : word))
  const argument = 'ERR_FSVIDEO_INVALID_ARGUMENT'
  const cases: [words: string[], code: string, message: string][] = [
    [['generat'], argument, 'did you mean generate?'],
    [['generate'], argument, '--image is missing'],
    [['generate', '--image', photo, '--out', 'x.mp4'], argument, '--prompt is missing'],
    [with_('--guidance-scale', '2'), argument, 'did you mean --guidance?'],
    [with_('--frames', '0'), argument, '--frames must be a whole number from 1 to 4097, got 0'],
    [with_('--frames', '8.5'), argument, '--frames must be a whole number from 1 to 4097, got 8.5'],
    [with_('--frames', 'many'), argument, '--frames must be a whole number from 1 to 4097, got "many"'],
    [with_('--fps', '0'), argument, '--fps must be'],
    [with_('--size', '128'), argument, '--size must be WxH in pixels'],
    [with_('--size', '128x9000'), argument, 'the height in --size must be a whole number from 64 to 8192'],
    [with_('--steps', '0'), argument, '--steps must be'],
    [with_('--refiner-steps', '1001'), argument, '--refiner-steps must be'],
    [
      with_('--guidance', 'NaN'),
      argument,
      '--guidance must be a number from 1 (no guidance) to 100, got "NaN"',
    ],
    [with_('--guidance', '0.5'), argument, '--guidance must be'],
    [with_('--seed', '-1'), argument, '--seed must be'],
    [with_('--seed', '18446744073709551616'), argument, '--seed must be'],
    [with_('--shift', '0'), argument, '--shift must be'],
    [with_('--solver', 'dpm'), argument, '--solver must be one of'],
    [with_('--decoder', 'small'), argument, '--decoder must be'],
    [with_('--dtype', 'f16'), argument, '--dtype must be bf16, fp8 or f32, got "f16"'],
    [with_('--threads', '0'), argument, '--threads must be'],
    [with_('--quality', '101'), argument, '--quality must be'],
    [with_('--device', 'tpu'), argument, '--device must be auto, cpu or cuda[:N], got "tpu"'],
    [with_('--prompt'), argument, '--prompt is given twice'],
    [with_().map((w) => (w.includes(' ') ? 'word '.repeat(500) : w)), argument, '--prompt'],
    [with_('--device', 'cuda:1'), 'ERR_FSVIDEO_NO_DEVICE', 'cuda:1'],
    // The model is not looked at before these are known to be good.
    [without(model, picture('missing.png')), 'ERR_FSVIDEO_IMAGE', 'missing.png'],
    [without(model, out('nowhere/x.mp4')), 'ERR_FSVIDEO_OUTPUT', 'nowhere'],
    [picture('text.png'), 'ERR_FSVIDEO_IMAGE', 'text.png'],
    [picture('dot.png'), 'ERR_FSVIDEO_IMAGE', 'dot.png'],
    [picture('huge.png'), 'ERR_FSVIDEO_IMAGE', 'huge.png'],
    [generation('/proc/x.mp4'), 'ERR_FSVIDEO_OUTPUT', '/proc'],
    [out('x.gif'), 'ERR_FSVIDEO_OUTPUT', '.gif'],
    [of(inside('nowhere')), 'ERR_FSVIDEO_MODEL_FILE', 'model_index.json is missing'],
    [of(join(packageRoot, 'models/tiny')), 'ERR_FSVIDEO_MODEL_FILE', 'fsvideo init'],
    [['info'], argument, 'info takes MODEL, got nothing'],
    [['info', 'tniy'], argument, 'did you mean tiny?'],
    [['info', inside('full')], 'ERR_FSVIDEO_MODEL_FILE', 'model_index.json is missing'],
    [['init', 'tiny', inside('full')], 'ERR_FSVIDEO_OUTPUT', 'full is not empty'],
    [['init', 'tiny', inside('nowhere/x')], 'ERR_FSVIDEO_OUTPUT', 'nowhere'],
    [['init', 'tiny', inside('x'), '--seed', '-1'], argument, 'seed must be'],
    [['init', 'tiny', inside('x'), '--dtype', 'f8'], argument, 'dtype must be'],
    [['doctor', 'now'], argument, 'doctor takes options only'],
  ]
  const before = await readdir(folder)
  const check = ({ code: exit, stdout, stderr }: Ended, [words, code, message]: (typeof cases)[number]) => {
    const what = `${words.join(' ')}\n${stderr}`
    assert.is(exit, 2, what)
    assert.is(stdout, '', what)
    assert.ok(stderr.includes(message), `expected ${message} of ${what}`)
    assert.match(stderr, /^fsvideo: .*\n {2}ERR_FSVIDEO_\w+\n$/, what)
    assert.match(stderr, `  ${code}\n`, what)
  }
  for (const each of cases) check(await inProcess(each[0]), each)
  const oneOfACode = new Map(cases.map((each) => [each[1], each]))
  await together([...oneOfACode.values()], async (each) => check(await fsvideo(each[0]), each))
  assert.equal(await readdir(folder), before)

  // The header is whole, so that only decoding can tell.
  const cut = await inProcess(picture('cut.jpg'))
  assert.is(cut.code, 2)
  assert.match(cut.stderr, 'ERR_FSVIDEO_IMAGE')
  assert.equal(await readdir(folder), before)
})

test('no words at all get the help, as an error', async () => {
  const { code, stdout, stderr } = await fsvideo([])
  assert.is(code, 2)
  assert.is(stdout, '')
  assert.match(stderr, /^Usage: fsvideo <command>/)
})

test('what is not the fault of the words ends with 1, and FSVIDEO_DEBUG shows where', async () => {
  const broken = { FSVIDEO_ADDON: inside('no-addon.node') }
  const { code, stdout, stderr } = await fsvideo(generation(inside('never.mp4')), broken)
  assert.is(code, 1)
  assert.is(stdout, '')
  assert.match(stderr, /To mend it:\n[\s\S]*\n {2}ERR_FSVIDEO_NO_BINARY\n$/)
  assert.not.match(stderr, /\n {4}at /)
  assert.match((await fsvideo(['init', 'tiny', 'x'], { ...broken, FSVIDEO_DEBUG: '1' })).stderr, /\n {4}at /)
})

test('an interrupt stops within moments and leaves what was there', async () => {
  const place = inside('interrupted')
  await mkdir(place)
  await writeFile(join(place, 'old.mp4'), 'an older video')
  const long = generation(join(place, 'old.mp4'), '--size', '256x256', '--frames', '801', '--steps', '200')
  for (const [stage, signals] of [
    [/^encode/m, ['SIGINT']],
    [/^refine/m, ['SIGTERM']],
    [/^load/m, ['SIGINT', 'SIGINT']],
  ] as const) {
    const { child, said, ended } = start(long)
    await said(stage)
    await sleep(150)
    const began = performance.now()
    for (const signal of signals) child.kill(signal)
    const { code, stdout, stderr } = await ended
    const ms = performance.now() - began
    assert.is(code, 130, stderr)
    assert.is(stdout, '')
    if (signals.length === 1) assert.match(stderr, /\nfsvideo: interrupted\n$/)
    assert.ok(ms < 2000, `${ms} ms after ${signals} in ${stage}`)
    assert.equal(await readdir(place), ['old.mp4'])
    assert.is(await readFile(join(place, 'old.mp4'), 'utf8'), 'an older video')
  }
})

test('a second interrupt does not wait for what hangs', async () => {
  const [program, asked] = [inside('hanging-ffmpeg'), inside('asked')]
  await writeFile(program, `#!/bin/sh\ntouch ${asked}\nexec sleep 10\n`)
  await chmod(program, 0o755)
  const { child, ended } = start(generation(inside('never.mp4')), { FSVIDEO_FFMPEG: program })
  while (!(await stat(asked).catch(() => undefined))) await sleep(20)
  child.kill('SIGINT')
  await sleep(300)
  assert.is(child.exitCode, null)
  child.kill('SIGINT')
  const began = performance.now()
  const { code, stderr } = await ended
  assert.is(code, 130)
  assert.is(stderr, '')
  assert.ok(performance.now() - began < 2000)
})

test('a reader that goes away does not stop the video', async () => {
  const out = inside('unread.rgb')
  const { child, ended } = start(generation(out, '--frames', '1'))
  child.stdout!.destroy()
  child.stderr!.destroy()
  assert.is((await ended).code, 0)
  assert.is((await stat(out)).size, 128 * 128 * 3)
})

test('info tells of every component, in words and as JSON', async () => {
  const expected = JSON.parse(JSON.stringify(await modelInfo(model)))
  const [words, json, shipped] = await Promise.all([
    fsvideo(['info', model]),
    fsvideo(['info', 'tiny', '--json'].with(1, model)),
    fsvideo(['info', 'fsvideo-14b']),
  ])
  assert.equal(JSON.parse(json!.stdout), expected)
  assert.is(words!.code, 0)
  assert.match(words!.stdout, 'parameters        1.46 M (1459641), 2.92 MB\n')
  for (const { name } of expected.components) assert.match(words!.stdout, new RegExp(`^${name} `, 'm'))
  assert.match(shipped!.stdout, /\ntransformer +DIT, 16\.4 B, no weights\n +40 layers of 5120, /)
  for (const { stdout, stderr } of [words!, shipped!]) {
    assert.is(stderr, '')
    for (const line of stdout.split('\n').slice(1)) assert.ok(line.length <= 80, line)
  }
})

test('init makes the same weights of the same seed', async () => {
  await together(['7', '8'], async (seed) => {
    const { code, stderr } = await fsvideo([
      'init',
      'tiny',
      `seed-${seed}`,
      '--seed',
      seed,
      '--dtype',
      'bf16',
    ])
    assert.is(code, 0, stderr)
    assert.match(stderr, /^write +3 MB +\d+\.\d\d s\n$/)
  })
  const weights = (dir: string) => readFile(inside(`${dir}/refiner/model.safetensors`))
  const [made, same, other] = await Promise.all(['tiny', 'seed-7', 'seed-8'].map(weights))
  assert.ok(made!.equals(same!))
  assert.not.ok(made!.equals(other!))
})

test('the doctor reports on everything, also where something is broken', async () => {
  const tools = inside('tools')
  await mkdir(tools)
  await writeFile(join(tools, 'nvidia-smi'), '#!/bin/sh\necho "driver mismatch" >&2\nkill -SEGV $$\n')
  await chmod(join(tools, 'nvidia-smi'), 0o755)
  const [well, broken] = await Promise.all([
    fsvideo(['doctor'], { PATH: `${tools}:${process.env.PATH}`, FSVIDEO_THREADS: '1', FSVIDEO_BACKEND: '' }),
    fsvideo(['doctor'], { FSVIDEO_ADDON: inside('no-addon.node') }),
  ])
  assert.is(well!.code, 0, well!.stdout)
  assert.is(well!.stderr, '')
  assert.match(well!.stdout, /^fsvideo +\d+\.\d+\.\d+, run from its sources\nnode +v\d+/)
  for (const name of ['system', 'cpu', 'memory', 'addon', 'gpu driver', 'ffmpeg', 'sharp'])
    assert.match(well!.stdout, new RegExp(`^${name} {2,}\\S`, 'm'))
  assert.match(well!.stdout, /^backends +cpu(, cuda 1\d\.\d|; (this build has no CUDA backend|there is no))/m)
  assert.match(well!.stdout, /^instructions +portable/m)
  assert.match(well!.stdout, /^cpu device +\w+, 1 threads?; computes correctly$/m)
  assert.match(well!.stdout, /^gpu +none found: nvidia-smi ended by SIGSEGV: driver mismatch$/m)
  assert.match(well!.stdout, /^environment +.*FSVIDEO_THREADS=1$/m)
  assert.match(well!.stdout, /\nresult +everything that is needed works\n$/)

  assert.is(broken!.code, 1)
  assert.match(broken!.stdout, /no-addon\.node/)
  assert.match(broken!.stdout, /\nsharp +\d/)
  assert.match(broken!.stdout, /\nresult +the native addon does not work/)
})

const solid = (width: number, height: number): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: 'red' } })
    .png()
    .toBuffer()

/** The same file with 30000x30000 in its header. */
function hugePng(png: Buffer): Buffer {
  const huge = Buffer.from(png)
  const ihdr = 8 + 8
  huge.writeUInt32BE(30_000, ihdr)
  huge.writeUInt32BE(30_000, ihdr + 4)
  return huge
}

test.run()
