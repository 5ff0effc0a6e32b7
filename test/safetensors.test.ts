/**
 * The ground of the weight files, csrc/core: element types, mapped files and the safetensors reader. They are tested
 * in C++ by the programs of test/native, and this file builds and runs all that stand there; CI runs them once more
 * under sanitizers and with all cases of the fuzzers.
 */
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const folder = fileURLToPath(new URL('./native/', import.meta.url))
const run = (...args: string[]) =>
  promisify(execFile)(process.execPath, [`${folder}run.mjs`, '--quick', ...args])

for (const file of readdirSync(folder).filter((file) => /_(test|fuzz)\.cpp$/.test(file))) {
  const name = file.replace(/\.cpp$/, '')
  test(`native ${name}`, async () => {
    const { stdout } = await run(name)
    assert.is(stdout, `${name}: ok\n`)
  })
}

test('the runner does not take a missing test for a passing one', async () => {
  try {
    await run('no_such_test')
    assert.unreachable()
  } catch (error) {
    assert.match(String((error as { stderr?: string }).stderr), 'no test is called no_such_test')
  }
})

test.run()
