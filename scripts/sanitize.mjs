// `npm run test:sanitize`: builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer, with emulated AMX tiles even
// where the machine has some, since nobody sees what the instructions read; runs the op tests under it on every instruction set;
// then the plain native tests and the bounded fuzzer.
import { execFileSync, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { root } from './jobs.mjs'
import { opsOn } from './suites.mjs'

const require = createRequire(import.meta.url)
const addon = path.join(root, 'build-cmake/sanitized/fsvideo.node')
const node = (args, env = {}) => {
  const { status } = spawnSync(process.execPath, args, {
    stdio: 'inherit',
    cwd: root,
    env: { ...process.env, ...env },
  })
  if (status !== 0) process.exit(status ?? 1)
}

const native = require('node-gyp-build')(root)
const isas = native.isas().filter((isa) => isa !== 'amx')
const emulates = isas.includes('avx512bf16') // whose arithmetic the emulation is made of
node(['scripts/cmake-build.cjs', addon], {
  FSV_SANITIZE: '1',
  ...(emulates ? { FSV_AMX_EMULATION: '1' } : {}),
})

// Node itself is not instrumented, so the run-time library must come first; leaks of Node's own are not ours to report.
await opsOn([...isas, ...(emulates ? ['amx'] : [])], {
  FSVIDEO_ADDON: addon,
  LD_PRELOAD: execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim(),
  ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
})
node(['test/native/run.mjs', '--sanitize'])
