#!/usr/bin/env node
// Builds the addon with CMake into build-cmake/<variant> and copies it to the path given (default build/Release/fsvideo.node).
// Variants by environment: FSV_SANITIZE=1 (ASan + UBSan), FSV_AMX_EMULATION=1.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const out = path.resolve(process.argv[2] || path.join(root, 'build/Release/fsvideo.node'))
const options = ['FSV_SANITIZE', 'FSV_AMX_EMULATION'].filter((name) => process.env[name] === '1')
const dir = path.join(root, 'build-cmake', ['release', ...options].join('-').toLowerCase())
const cmake = require.resolve('cmake-js/bin/cmake-js')

// `configure` each time: `build` alone would ignore changed options. 0.8 s when nothing changed.
for (const step of ['configure', 'build']) {
  const defines = ['FSV_SANITIZE', 'FSV_AMX_EMULATION'].map(
    (name) => `--CD${name}=${options.includes(name) ? 'ON' : 'OFF'}`,
  )
  const args = [cmake, step, '-d', root, '-O', dir, '-B', 'Release', '-p', '2', ...defines]
  const run = spawnSync(process.execPath, args, { stdio: 'inherit', cwd: root })
  if (run.status !== 0) process.exit(run.status ?? 1)
}
fs.mkdirSync(path.dirname(out), { recursive: true })
fs.rmSync(out, { force: true })
fs.copyFileSync(path.join(dir, 'Release', 'fsvideo.node'), out)
