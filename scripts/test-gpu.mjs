// `npm run test:gpu`: all that can be asked of a card, in one command, with a short table last. On the first real card, or with
// `--device cuda:1` on that one; without any, or with `--device sim`, on simulated cards at small sizes: an addon built against
// test/simulator, with a Hopper card `sim` and a card `sim:2` that has the portable kernels alone.
//
//   node --import tsx scripts/test-gpu.mjs [--device NAME]
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { devices } from '../lib/device.js'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({ options: { device: { type: 'string' } } })

const run = (command, args, env = {}) =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0
const has = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0

const cards = (await devices()).map(({ name }) => name).filter((name) => name.startsWith('cuda'))
const device = options.device ?? cards[0] ?? 'sim'
const simulated = device.startsWith('sim')
const env = { FSVIDEO_TEST_DEVICE: device }
const rows = []
function step(name, work) {
  console.log(`\n== ${name}, on ${device}`)
  const began = performance.now()
  const passed = work()
  rows.push([name, passed ? 'passed' : 'FAILED', (performance.now() - began) / 1e3])
}
const uvu = (pattern, extra = {}, ...before) => {
  const [command, ...wrapped] = [...before, process.execPath]
  const args = [...wrapped, '--import', 'tsx', path.join(root, 'node_modules/uvu/bin.js'), 'test', pattern]
  return run(command, args, { ...env, ...extra })
}

if (simulated) {
  const file = path.join(root, 'build-cmake/simulator/fsvideo.node')
  env.FSVIDEO_ADDON = file
  step('the addon for simulated cards', () =>
    run(process.execPath, ['scripts/cmake-build.cjs', file], { FSV_SIMULATOR: '1' }),
  )
} else {
  step(
    'the probe: what wrappers and simulator rest on',
    () =>
      run('cmake', ['--build', 'build-cmake/release', '--target', 'fsvideo-probe']) &&
      run(path.join(root, 'build-cmake/release/fsvideo-probe'), []),
  )
}
const ops = '^ops-.*\\.test\\.ts$'
step('every op against fp64', () => uvu(ops))
if (device === 'sim')
  step('every op against fp64, portable kernels', () => uvu(ops, { FSVIDEO_TEST_DEVICE: 'sim:2' }))
step('what a device promises', () => uvu('^device\\.test\\.ts$'))
// Who only compares numbers needs no checkers of a simulated card: the op tests had them.
const fast = simulated ? { FSVIDEO_SIM: 'check=0' } : {}
step('every network against the reference', () => uvu('goldens.*\\.test\\.ts$', fast))
step('the whole pipeline against the CPU', () => uvu('^cards-against-cpu\\.test\\.ts$', fast))
if (!simulated && has('compute-sanitizer'))
  for (const tool of ['memcheck', 'racecheck'])
    step(`compute-sanitizer ${tool} over the ops`, () =>
      uvu(ops, {}, 'compute-sanitizer', '--tool', tool, '--error-exitcode', '9', '--target-processes', 'all'),
    )

console.log(`\n${device}`)
for (const [name, state, seconds] of rows)
  console.log(`${name.padEnd(50)}${state.padEnd(8)}${seconds.toFixed(0).padStart(6)} s`)
process.exitCode = rows.every(([, state]) => state === 'passed') ? 0 : 1
