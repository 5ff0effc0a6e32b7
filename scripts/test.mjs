// `npm test`: everything once on the best instruction set, then the op tests on every other one that this machine has.
// Arguments are patterns of test files; without any, all.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { root } from './jobs.mjs'
import { opsOn, uvu } from './suites.mjs'

const require = createRequire(import.meta.url)
const patterns = process.argv.slice(2)
for (const pattern of patterns.length > 0 ? patterns : ['\\.test\\.ts$']) {
  const { status } = spawnSync(process.execPath, uvu(pattern), { stdio: 'inherit', cwd: root })
  if (status !== 0) process.exit(status ?? 1)
}
if (patterns.length === 0) {
  const native = process.env.FSVIDEO_ADDON
    ? require(path.resolve(process.env.FSVIDEO_ADDON))
    : require('node-gyp-build')(root)
  await opsOn(native.isas().slice(0, -1))
}
