// `npm test`: everything once on the best instruction set, then the op tests on every other one that this machine has.
// Arguments are patterns of test files; without any, all.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)

function uvu(pattern, env = {}) {
  const args = ['--import', 'tsx', path.join(root, 'node_modules/uvu/bin.js'), 'test', pattern]
  const run = spawnSync(process.execPath, args, {
    stdio: 'inherit',
    cwd: root,
    env: { ...process.env, ...env },
  })
  if (run.status !== 0) process.exit(run.status ?? 1)
}

const patterns = process.argv.slice(2)
if (patterns.length > 0) {
  for (const pattern of patterns) uvu(pattern)
} else {
  uvu('\\.test\\.ts$')
  const native = process.env.FSVIDEO_ADDON
    ? require(path.resolve(process.env.FSVIDEO_ADDON))
    : require('node-gyp-build')(root)
  for (const isa of native.isas().slice(0, -1)) {
    console.log(`\n== ops on ${isa}`)
    uvu('^ops-.*\\.test\\.ts$', { FSVIDEO_CPU_ISA: isa })
  }
}
