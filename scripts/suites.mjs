// How uvu is called, and the op tests on several instruction sets.
import path from 'node:path'
import { inParallel, root, run } from './jobs.mjs'

/** Arguments of Node.js that run the test files whose names match `pattern`. */
export const uvu = (pattern) => [
  '--import',
  'tsx',
  path.join(root, 'node_modules/uvu/bin.js'),
  'test',
  pattern,
]

/**
 * Runs the op tests on each of the instruction sets, two at once: most of their time one core computes what is expected. Shows what
 * they said, one after the other, and sets the process's exit code if any failed or ran no test (which uvu calls a success).
 */
export const opsOn = (isas, env = {}) =>
  inParallel(
    isas,
    async (isa) => ({
      isa,
      ...(await run(process.execPath, uvu('^ops-.*\\.test\\.ts$'), {
        env: { ...env, FSVIDEO_CPU_ISA: isa },
      })),
    }),
    ({ isa, code, output, seconds }) => {
      console.log(`\n== ops on ${isa} (${seconds.toFixed(0)} s)\n${output}`)
      if (code !== 0 || !/Passed: +[1-9]/.test(output)) process.exitCode = 1
    },
  )
