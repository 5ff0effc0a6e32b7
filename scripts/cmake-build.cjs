#!/usr/bin/env node
// Builds the addon with CMake into build-cmake/<variant> and copies it to the path given (default build/Release/fsvideo.node).
// Variants by environment: FSV_SANITIZE=1 (ASan + UBSan), FSV_AMX_EMULATION=1, FSV_SIMULATOR=1 (simulated CUDA cards); and
// FSV_CUDA=ON or OFF, where the CUDA backend shall not depend on whether there is an nvcc.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const out = path.resolve(process.argv[2] || path.join(root, 'build/Release/fsvideo.node'))
const variants = ['FSV_SANITIZE', 'FSV_AMX_EMULATION', 'FSV_SIMULATOR']
const options = variants.filter((name) => process.env[name] === '1')
const dir = path.join(root, 'build-cmake', ['release', ...options].join('-').toLowerCase())
const cuda = process.env.FSV_CUDA || 'AUTO'
const run = (command, args) => {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (status !== 0) process.exit(status ?? 1)
}

let cmakeJs
try {
  cmakeJs = require.resolve('cmake-js/bin/cmake-js')
} catch {
  // Installed as a dependency: plain CMake does as well.
}
if (cmakeJs) {
  // `configure` each time: `build` alone would ignore changed options. 0.8 s when nothing changed.
  const values = [
    ...variants.map((name) => `--CD${name}=${options.includes(name) ? 'ON' : 'OFF'}`),
    `--CDFSV_CUDA=${cuda}`,
  ]
  for (const step of ['configure', 'build'])
    run(process.execPath, [cmakeJs, step, '-d', root, '-O', dir, '-B', 'Release', '-p', '2', ...values])
} else {
  const values = variants.map((name) => `-D${name}=${options.includes(name) ? 'ON' : 'OFF'}`)
  run('cmake', [
    '-S',
    root,
    '-B',
    dir,
    '-DCMAKE_BUILD_TYPE=Release',
    `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${dir}/Release`,
    `-DFSV_CUDA=${cuda}`,
    ...values,
  ])
  run('cmake', ['--build', dir, '--parallel', '2'])
}
fs.mkdirSync(path.dirname(out), { recursive: true })
fs.rmSync(out, { force: true })
fs.copyFileSync(path.join(dir, 'Release', 'fsvideo.node'), out)
