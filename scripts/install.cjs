#!/usr/bin/env node
// npm's install step. A prebuilt addon for this platform is taken as it is; otherwise the addon is built from source, by CMake
// where there is a new enough one, else by node-gyp with the portable kernels. Downloads nothing.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const run = (command, args, env = {}) =>
  spawnSync(command, args, { stdio: 'inherit', cwd: root, env: { ...process.env, ...env } }).status

function prebuilt() {
  try {
    const found = require('node-gyp-build').path(root)
    if (!found.includes(`${path.sep}prebuilds${path.sep}`)) return false
    require(found)
    return true
  } catch {
    return false
  }
}

/** CMake 3.25 or newer. */
function hasCMake() {
  const { status, stdout } = spawnSync('cmake', ['--version'], { encoding: 'utf8' })
  const [, major, minor] = /version (\d+)\.(\d+)/.exec(stdout ?? '') ?? []
  return status === 0 && (major > 3 || (major === '3' && minor >= 25))
}

if (prebuilt()) process.exit(0)
if (hasCMake()) process.exit(run(process.execPath, [path.join(__dirname, 'cmake-build.cjs')]) ?? 1)

// Node's own headers, where Node was installed with them, so that node-gyp need not fetch any.
const prefix = path.resolve(process.execPath, '../..')
const headers = fs.existsSync(path.join(prefix, 'include/node/node_api.h'))
  ? { npm_package_config_node_gyp_nodedir: prefix }
  : {}
const gyp = process.env.npm_config_node_gyp
process.exit(
  (gyp ? run(process.execPath, [gyp, 'rebuild'], headers) : run('node-gyp', ['rebuild'], headers)) ?? 1,
)
