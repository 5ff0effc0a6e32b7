// `npm run test:gpu`: everything that can be tested on a card, in one command that ends with a table. Without `--device` it takes
// the first CUDA card, and where there is none simulated ones, with less of what would take them hours.
//
//   npm run test:gpu -- [--device cuda|cuda:1|sim] [--only PATTERN] [--no-sanitizer]
//
// The probe (the PTX wrappers and the simulator's model against the hardware), every op against fp64, what a device promises,
// every network against PyTorch, the pipeline against the CPU, and the ops once more under compute-sanitizer where it is installed.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { devices } from '../lib/device.js'
import { inParallel, root, run } from './jobs.mjs'
import { uvu } from './suites.mjs'

const { values: options } = parseArgs({
  options: {
    device: { type: 'string' },
    only: { type: 'string', default: '' },
    'no-sanitizer': { type: 'boolean', default: false },
  },
})

/** Runs Node.js; what it says is shown when it fails. */
const nodeRun = (args, env) => run(process.execPath, args, { env: { NO_COLOR: '1', ...env } })

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
  if (built.code !== 0) {
    console.error(built.output)
    process.exit(1)
  }
}

const suite =
  (pattern, env = {}) =>
  () =>
    nodeRun(uvu(pattern), { ...environment, ...env })
/** On simulated cards: the checkers have seen the kernels in the op tests, and here they would take hours. */
const unchecked = simulated ? { FSVIDEO_SIM: 'check=0,threads=2' } : {}

const steps = [['probe: wrappers and the model of the simulator', probe]]
const ops = ['rows', 'elements', 'memory', 'move', 'attention', 'linear', 'conv']
// sim:2 has the portable kernels alone.
for (const family of simulated ? ['sim', 'sim:2'] : [device])
  for (const name of ops)
    steps.push([
      `ops-${name} against fp64 on ${family}`,
      suite(`^ops-${name}\\.test`, { FSVIDEO_TEST_DEVICE: family }),
    ])
steps.push(
  ['what a device promises', suite('^device\\.test', unchecked)],
  ['what traces and profiles tell', suite('^(trace|profile)\\.test', unchecked)],
  ['transformers and encoders against PyTorch', suite('^models-goldens\\.test', unchecked)],
  ['the autoencoder against PyTorch', suite('^goldens-autoencoder\\.test', unchecked)],
  ['the pipeline against the CPU, and around it', suite('^cards-against-cpu\\.test', unchecked)],
)
steps.push(['bench measures, on simulated cards counts', suite('^bench-command\\.test')])
if (simulated) steps.push(['cards that fail', suite('^simulated-cards\\.test')])
else if (!options['no-sanitizer'])
  for (const tool of ['memcheck', 'racecheck'])
    steps.push([`compute-sanitizer ${tool} over the ops`, () => sanitizer(tool)])

/** A program by the CMake target fsvideo-probe, in the build folder of the addon; on simulated cards one of their test suite. */
async function probe() {
  if (simulated) return nodeRun(['scripts/simulator.mjs', '--only', 'probe', '--no-mutants'])
  const folder = path.join(root, 'build-cmake/release')
  const built = await run('cmake', ['--build', folder, '--target', 'fsvideo-probe'])
  if (built.code !== 0) return built
  const program = ['fsvideo-probe', 'Release/fsvideo-probe']
    .map((name) => path.join(folder, name))
    .find(existsSync)
  const index = /:(\d+)$/.exec(device)?.[1] ?? '0'
  return run(program, [], { env: { CUDA_VISIBLE_DEVICES: index } })
}

function sanitizer(tool) {
  const program = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(
    (name) => spawnSync(name, ['--version']).status === 0,
  )
  if (!program) return { skipped: 'compute-sanitizer is not installed' }
  const test = [process.execPath, ...uvu('^ops-.*\\.test')]
  const args = ['--tool', tool, '--error-exitcode', '1', '--target-processes', 'all', ...test]
  return run(program, args, { env: environment })
}

/** What a suite says of itself, and whether it may be believed: uvu calls it a success when a suite did not begin. */
function judged({ code, output, skipped }) {
  if (skipped) return ['not run', skipped]
  const [, passed] = /Passed:\s+(\d+)/.exec(output) ?? []
  return [code === 0 && passed !== '0' ? 'ok' : 'FAILED', passed ? `${passed} tests` : '']
}

const wanted = steps.filter(([name]) => new RegExp(options.only).test(name))
const rows = wanted.map(([name, act]) => ({ name, act }))
// A real card is alone with each step; of simulated ones two find room, and take the long steps first, which are last.
await inParallel(
  simulated ? rows.toReversed() : rows,
  async (row) => {
    const began = performance.now()
    const answer = await row.act()
    row.seconds = (performance.now() - began) / 1e3
    ;[row.result, row.note] = judged(answer)
    console.log(`${row.result.padEnd(8)} ${row.seconds.toFixed(0).padStart(4)} s  ${row.name}`)
    if (row.result !== 'FAILED') return
    process.exitCode = 1
    console.error(answer.output)
  },
  undefined,
  simulated ? undefined : 1,
)
const width = Math.max(...rows.map(({ name }) => name.length))
console.log(`\n${device}${description ? `, ${description}` : ''}`)
for (const { name, result, seconds, note } of rows)
  console.log(`  ${name.padEnd(width)}  ${result.padEnd(7)}  ${seconds.toFixed(0).padStart(4)} s  ${note}`)
