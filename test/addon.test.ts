/** A native addon that does not load says what was tried and how to mend it, and names nothing else. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'

const test = suite('addon')
const folder = mkdtempSync(path.join(tmpdir(), 'fsvideo-addon-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

/** Opens a device in a child process and gives code and message of the error. */
function failure(env: Record<string, string>): { code: string; message: string } {
  const script = `
    import { Device } from ${JSON.stringify(path.join(packageRoot, 'lib/device.ts'))}
    try { (await Device.open('cpu')).dispose(); console.log('{}') }
    catch (error) { console.log(JSON.stringify({ code: error.code, message: error.message })) }`
  const run = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: packageRoot,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  return JSON.parse(run.stdout)
}

test('a missing file', () => {
  const { code, message } = failure({ FSVIDEO_ADDON: path.join(folder, 'none.node') })
  assert.is(code, 'ERR_FSVIDEO_NO_BINARY')
  assert.match(message, /none\.node/)
  assert.match(message, /unset it/)
})

test('a file that is no addon', () => {
  const file = path.join(folder, 'text.node')
  writeFileSync(file, 'not a shared object')
  const { code, message } = failure({ FSVIDEO_ADDON: file })
  assert.is(code, 'ERR_FSVIDEO_NO_BINARY')
  assert.match(message, /Tried:\n.*text\.node/)
  assert.match(message, /To mend it:/)
})

test('an instruction set and a backend that are not there', () => {
  const isa = failure({ FSVIDEO_CPU_ISA: 'sse9' })
  assert.is(isa.code, 'ERR_FSVIDEO_UNSUPPORTED_DEVICE')
  assert.match(isa.message, /portable/)
  assert.is(failure({ FSVIDEO_BACKEND: 'vulkan' }).code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
  assert.is(failure({ FSVIDEO_THREADS: 'many' }).code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
})

test('FSVIDEO_BACKEND=cpu works', () => {
  assert.equal(failure({ FSVIDEO_BACKEND: 'cpu' }), {})
})

test.run()
