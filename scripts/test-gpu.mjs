// `npm run test:gpu`: everything that can be tested on a card, in one command that ends with a table. Without `--device` it takes
// the first CUDA card, and where there is none simulated ones, with less of what would take them hours.
//
//   npm run test:gpu -- [--device cuda|cuda:1|sim] [--only PATTERN] [--no-sanitizer]
//
// The probe (the PTX wrappers and the simulator's model against the hardware), every op against fp64, what a device promises,
// every network against PyTorch, the pipeline against the CPU, and the ops once more under compute-sanitizer where it is installed.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { devices } from '../lib/device.js'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({
  options: {
    device: { type: 'string' },
    only: { type: 'string', default: '' },
    'no-sanitizer': { type: 'boolean', default: false },
  },
})

/** Runs a program; what it says is shown when it fails. */
function run(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env: { ...process.env, NO_COLOR: '1', ...env } })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    child.on('error', (error) => resolve({ ok: false, output: error.message }))
    child.on('close', (code) => resolve({ ok: code === 0, output }))
  })
}

const nodeRun = (args, env) => run(process.execPath, args, env)

const found = options.device?.startsWith('sim')
  ? []
  : (await devices()).filter(({ name }) => name.startsWith('cuda'))
const device = options.device ?? found[0]?.name ?? 'sim'
const simulated = device.startsWith('sim')
const description = found.find(({ name }) => name === (device === 'cuda' ? 'cuda:0' : device))?.description
console.log(`test:gpu on ${device}${description ? `, ${description}` : ''}${simulated ? ', simulated' : ''}`)

const environment = { FSVIDEO_TEST_DEVICE: device }
if (simulated) {
  environment.FSVIDEO_ADDON = path.join(root, 'build-cmake/simulator/fsvideo.node')
  const built = await nodeRun(['scripts/cmake-build.cjs', environment.FSVIDEO_ADDON], { FSV_SIMULATOR: '1' })
  if (!built.ok) {
    console.error(built.output)
    process.exit(1)
  }
}

const uvu =
  (pattern, env = {}) =>
  () =>
    nodeRun(['--import', 'tsx', path.join(root, 'node_modules/uvu/bin.js'), 'test', pattern], {
      ...environment,
      ...env,
    })
/** On simulated cards: the checkers have seen the kernels in the op tests, and here they would take hours. */
const unchecked = simulated ? { FSVIDEO_SIM: 'check=0,threads=2' } : {}

const steps = [['probe: wrappers and the model of the simulator', probe]]
const ops = ['rows', 'elements', 'memory', 'move', 'matrix', 'conv']
// sim:2 has the portable kernels alone.
for (const family of simulated ? ['sim', 'sim:2'] : [device])
  for (const name of ops)
    steps.push([
      `ops-${name} against fp64 on ${family}`,
      uvu(`^ops-${name}\\.test`, { FSVIDEO_TEST_DEVICE: family }),
    ])
steps.push(
  ['what a device promises', uvu('^device\\.test', unchecked)],
  ['what traces and profiles tell', uvu('^(trace|profile)\\.test', unchecked)],
  ['transformers and encoders against PyTorch', uvu('^models-goldens\\.test', unchecked)],
  ['the autoencoder against PyTorch', uvu('^goldens-autoencoder\\.test', unchecked)],
  ['the pipeline against the CPU, and around it', uvu('^cards-against-cpu\\.test', unchecked)],
)
steps.push(['bench measures, on simulated cards counts', uvu('^bench-command\\.test')])
if (simulated) steps.push(['cards that fail', uvu('^simulated-cards\\.test')])
else if (!options['no-sanitizer'])
  for (const tool of ['memcheck', 'racecheck'])
    steps.push([`compute-sanitizer ${tool} over the ops`, () => sanitizer(tool)])

/** A program by the CMake target fsvideo-probe, in the build folder of the addon; on simulated cards one of their test suite. */
async function probe() {
  if (simulated) return nodeRun(['scripts/simulator.mjs', '--only', 'probe', '--no-mutants'])
  const folder = path.join(root, 'build-cmake/release')
  const built = await run('cmake', ['--build', folder, '--target', 'fsvideo-probe'])
  if (!built.ok) return built
  const program = ['fsvideo-probe', 'Release/fsvideo-probe']
    .map((name) => path.join(folder, name))
    .find(existsSync)
  const index = /:(\d+)$/.exec(device)?.[1] ?? '0'
  return run(program, [], { CUDA_VISIBLE_DEVICES: index })
}

function sanitizer(tool) {
  const program = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(
    (name) => spawnSync(name, ['--version']).status === 0,
  )
  if (!program) return { skipped: 'compute-sanitizer is not installed' }
  const test = [process.execPath, '--import', 'tsx', 'node_modules/uvu/bin.js', 'test', '^ops-.*\\.test']
  const args = ['--tool', tool, '--error-exitcode', '1', '--target-processes', 'all', ...test]
  return run(program, args, environment)
}

/** What a suite says of itself, and whether it may be believed: uvu calls it a success when a suite did not begin. */
function judged({ ok, output, skipped }) {
  if (skipped) return ['not run', skipped]
  const [, passed] = /Passed:\s+(\d+)/.exec(output) ?? []
  return [ok && passed !== '0' ? 'ok' : 'FAILED', passed ? `${passed} tests` : '']
}

const wanted = steps.filter(([name]) => new RegExp(options.only).test(name))
const rows = wanted.map(([name, act]) => ({ name, act }))
// A real card is alone with each step; of simulated ones two find room, and take the long steps first, which are last.
const queue = (simulated ? rows.toReversed() : rows).values()
await Promise.all(
  Array.from({ length: simulated ? Math.min(2, os.availableParallelism()) : 1 }, async () => {
    for (const row of queue) {
      const began = performance.now()
      const answer = await row.act()
      row.seconds = (performance.now() - began) / 1e3
      ;[row.result, row.note] = judged(answer)
      console.log(`${row.result.padEnd(8)} ${row.seconds.toFixed(0).padStart(4)} s  ${row.name}`)
      if (row.result !== 'FAILED') continue
      process.exitCode = 1
      console.error(answer.output)
    }
  }),
)
const width = Math.max(...rows.map(({ name }) => name.length))
console.log(`\n${device}${description ? `, ${description}` : ''}`)
for (const { name, result, seconds, note } of rows)
  console.log(`  ${name.padEnd(width)}  ${result.padEnd(7)}  ${seconds.toFixed(0).padStart(4)} s  ${note}`)
