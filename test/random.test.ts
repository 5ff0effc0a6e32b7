/**
 * The bits of core/random.h must not depend on the compiler's flags: test/native/random_test.cpp, which compares them
 * with a fingerprint, is built without optimisation, with fused products, and with everything this machine has.
 */

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const builds = [
  ['-O0', '-ffp-contract=off'],
  ['-O3', '-ffp-contract=fast', '-fno-math-errno', '-march=native'],
]

const random = suite('random numbers')

for (const flags of builds) {
  random(`are the same bits with ${flags.join(' ')}`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fsvideo-random-'))
    try {
      const program = join(folder, 'random_test')
      const compiler = process.env.CXX ?? 'g++'
      await run(
        compiler,
        ['-std=c++20', ...flags, '-Icsrc', '-Itest/native', 'test/native/random_test.cpp', '-o', program],
        {
          cwd: root,
        },
      )
      const { stdout } = await run(program)
      assert.match(stdout, 'error in ulp')
    } finally {
      await rm(folder, { recursive: true })
    }
  })
}

random.run()
