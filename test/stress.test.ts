/**
 * What must not happen in a process that runs for long: crashes when threads are ended, memory that grows, a JavaScript thread or a
 * file system that waits. Each in a process of its own; FSVIDEO_TEST_WORKERS and FSVIDEO_TEST_GENERATIONS scale them.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { randomModel } from './pipeline-model.js'

const test = suite('stress')

/** What the program printed; fails if it ended in any other way. */
async function run<T>(name: string, args: (string | number)[] = [], env: NodeJS.ProcessEnv = {}): Promise<T> {
  const child = spawn(
    process.execPath,
    ['--expose-gc', '--import', 'tsx', path.join('test', 'fixtures', 'stress.ts'), name, ...args.map(String)],
    { cwd: packageRoot, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const exit = new Promise((resolve) => child.once('close', (code, signal) => resolve(signal ?? code)))
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)])
  assert.is(await exit, 0, `${name}: ${errors}`)
  process.stderr.write(`    ${name}: ${out.length > 200 ? `${out.slice(0, 200)}...\n` : out}`)
  return JSON.parse(out) as T
}

const { FSVIDEO_ADDON: named } = process.env
const addonFile = named
  ? path.resolve(named)
  : (createRequire(import.meta.url)('node-gyp-build') as { path(root: string): string }).path(packageRoot)

test('a hundred workers ended in the middle of their work', async () => {
  const count = Number(process.env.FSVIDEO_TEST_WORKERS ?? 100)
  const { ended } = await run<{ ended: number }>('workers', [count, addonFile])
  assert.is(ended, count)
})

test('workers ended in the middle of a generation', async () => {
  const { frames } = await run<{ frames: number }>('pipelines', [await randomModel('tiny'), 6])
  assert.is(frames, 9)
})

test('fifty generations leave memory as it was', async () => {
  const count = Number(process.env.FSVIDEO_TEST_GENERATIONS ?? 50)
  const { inUse, resident, after } = await run<{
    inUse: number[]
    resident: number[]
    after: { inUse: number; reserved: number }
  }>('generations', [await randomModel('tiny'), count])
  assert.is(new Set(inUse).size, 1, `bytes in use: ${inUse}`)
  assert.equal([after.inUse, after.reserved], [0, 0])
  const grown = (resident.at(-1)! - resident[4]!) / 1e6
  process.stderr.write(`    resident memory grew by ${grown.toFixed(1)} MB from the 5th on\n`)
  assert.ok(grown <= 20, `resident memory grew by ${grown} MB`)
})

test('the JavaScript thread stays free', async () => {
  const { p99 } = await run<{ p99: number }>('loop', [await randomModel('demo')])
  assert.ok(p99 < 20, `p99 of the event loop's delay is ${p99} ms`)
})

test('the threads of libuv are not used by native work', async () => {
  const { opMs, looks, longest } = await run<{ opMs: number; looks: number; longest: number }>('pool', [], {
    UV_THREADPOOL_SIZE: '1',
  })
  assert.ok(opMs > 100, `the op took ${opMs} ms`)
  assert.ok(longest < opMs / 2 && looks > 5, `${looks} looks, the longest took ${longest} of ${opMs} ms`)
})

test.run()
