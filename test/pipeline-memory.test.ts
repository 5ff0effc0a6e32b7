/** That the pipeline knows beforehand what memory a request takes, keeps to what it is allowed, and says what it would need. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FSVideoPipeline } from '../lib/pipeline.js'
import type { GenerateRequest } from '../lib/requests.js'
import { picture, randomModel } from './pipeline-model.js'
import { refusal } from './refusals.js'

const test = suite('memory of the pipeline')
const tiny = await FSVideoPipeline.fromPretrained(await randomModel('tiny'), { device: 'cpu' })
const demo = await FSVideoPipeline.fromPretrained(await randomModel('demo'), { device: 'cpu' })
test.after(async () => {
  await tiny.dispose()
  await demo.dispose()
})

const request: GenerateRequest = {
  image: picture(1),
  prompt: 'a red ball',
  width: 128,
  height: 128,
  frames: 9,
  steps: 2,
  refinerSteps: 1,
}
const megabyte = 2 ** 20

/** Resident bytes of this process. */
function resident(): number {
  const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1])
  return pages * 4096
}

const cases: [string, FSVideoPipeline, Partial<GenerateRequest>][] = [
  ['tiny', tiny, {}],
  ['tiny, lite', tiny, { decoder: 'lite', frames: 17 }],
  ['tiny, a picture', tiny, { frames: 1 }],
  ['tiny, many steps', tiny, { steps: 7, refinerSteps: 6, solver: 'unipc', refinerSolver: 'unipc' }],
  [
    'tiny, re-noise',
    tiny,
    { solver: 'renoise', refinerSolver: 'renoise', refinerSteps: undefined, refinerSigmas: [0.7, 0.4] },
  ],
  ['tiny, no guidance', tiny, { guidanceScale: 1, width: 256 }],
  ['tiny, a batch', tiny, { seed: [1, 2, 3], prompt: ['a', 'a longer one', 'of three'] }],
  ['tiny, embeddings', tiny, { imageEmbeds: { data: new Float32Array(17 * 32), shape: [17, 32] } }],
  ['tiny, large', tiny, { width: 384, height: 256, frames: 17 }],
  ['demo', demo, {}],
  ['demo, lite', demo, { decoder: 'lite', width: 256 }],
]
for (const [name, pipe, changes] of cases)
  test(`the plan is what is then measured: ${name}`, async () => {
    const wanted = { ...request, ...changes }
    const plan = await pipe.plan(wanted)
    assert.is(plan.weightBytes, pipe.device.memory().inUse)
    const videos = await pipe.generateBatch(wanted)
    const { planned, peak } = videos[0]!.report.memory
    assert.is(planned, plan.peakBytes)
    assert.ok(Math.abs(planned / peak - 1) <= 0.15, `${name}: planned ${planned}, measured ${peak}`)
    // Bytes in use depend on the order of calls alone, so that the plan is not only near.
    assert.is(planned, peak, name)
    assert.is(pipe.device.memory().inUse, plan.weightBytes)
    assert.equal(await pipe.plan(wanted), plan)
  })

test('the process grows by about what was planned', async () => {
  const wanted = { ...request, width: 384, height: 384, frames: 17 }
  const { peakBytes, weightBytes } = await tiny.plan(wanted)
  await tiny.generate(request)
  tiny.device.trim()
  await tiny.device.synchronize()
  let most = 0
  const before = resident()
  for await (const _ of tiny.stream(wanted)) most = Math.max(most, resident())
  const [grown, planned] = [most - before, peakBytes - weightBytes]
  // Pages that were never written are not resident, and the frames and the engine's buffers are not the device's.
  assert.ok(grown < 1.2 * planned + 32 * megabyte, `grew by ${grown}, planned ${planned}`)
  assert.ok(grown > 0.4 * planned - 16 * megabyte, `grew by ${grown}, planned ${planned}`)
})

test('of what a generation lets go 256 MB at most are kept for the next one', async () => {
  // In a process of its own: what others let go would be counted, too.
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--import',
    'tsx',
    fileURLToPath(new URL('fixtures/kept-memory.ts', import.meta.url)),
  ])
  const { resident, faults } = JSON.parse(stdout) as { resident: number[]; faults: number }
  const fifties = resident.map((megabytes) => Math.round(megabytes / 50))
  assert.equal(fifties, [2, 5, 5, 5, 5, 5, 5, 5, 5, 0, 4, 0], `${resident}`)
  assert.ok(faults < 300, 'pages new from the system would be 600, of 2 MB')
})

test('a generation leaves what it used for the next one, and a plan that lacks memory returns that first', async () => {
  const { device } = tiny
  const { peakBytes, weightBytes } = await tiny.plan({ ...request, frames: 17 })
  await tiny.generate({ ...request, frames: 17 })
  await device.synchronize()
  const before = resident()
  // A machine whose free memory would do, were it not for what is kept.
  device.freeMemory = () => (before - resident() > 0.4 * (peakBytes - weightBytes) ? 2 ** 40 : 0)
  try {
    await tiny.plan({ ...request, frames: 17 })
    device.freeMemory = () => 0
    const error = await refusal(() => tiny.generate(request))
    assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
  } finally {
    delete (device as Partial<typeof device>).freeMemory
  }
})

test('more than is allowed is refused before any work, with bytes', async () => {
  const { peakBytes, decodeChunk } = await tiny.plan({ ...request, frames: 17 })
  assert.is(decodeChunk, 4)
  tiny.device.resetStats()
  const maxMemory = 3 * megabyte
  const error = await refusal(() => tiny.generate({ ...request, frames: 17, maxMemory }))
  assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
  assert.is(error.available, maxMemory)
  assert.ok(error.needed! > maxMemory && error.needed! < peakBytes)
  assert.match(error.message, /lite decoder/)
  assert.equal(
    Object.values(tiny.device.stats())
      .map(({ calls }) => calls)
      .filter((calls) => calls > 0),
    [],
    'nothing ran',
  )
  // What it says that it needs is enough.
  const video = await tiny.generate({ ...request, frames: 17, maxMemory: error.needed })
  assert.ok(video.report.memory.peak <= error.needed!)
})

test('between the two it decodes in smaller chunks, to the same bits', async () => {
  const wanted = { ...request, frames: 33 }
  const { peakBytes } = await tiny.plan(wanted)
  const free = await tiny.generate(wanted)
  for (const [share, chunk] of [
    [0.9, 2],
    [0.6, 1],
  ] as const) {
    const maxMemory = Math.floor(share * peakBytes)
    const plan = await tiny.plan({ ...wanted, maxMemory })
    assert.is(plan.decodeChunk, chunk)
    assert.ok(plan.peakBytes <= maxMemory)
    const { frames, report } = await tiny.generate({ ...wanted, maxMemory })
    assert.ok(report.memory.peak <= maxMemory)
    assert.ok(Buffer.concat([...frames]).equals(Buffer.concat([...free.frames])), `chunks of ${chunk}`)
  }
})

test('the limit of the device counts as well, and what others hold on it', async () => {
  const folder = tiny.model.folder
  const small = await FSVideoPipeline.fromPretrained(folder, { device: 'cpu', memoryLimit: 8 * megabyte })
  const error = await refusal(() => small.generate(request))
  assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
  assert.ok(error.needed! > 8 * megabyte)
  assert.is(error.available, 8 * megabyte)
  const other = small.device.tensor(new Uint8Array(megabyte), [megabyte])
  const less = await refusal(() => small.plan(request))
  assert.is(less.available, error.available! - megabyte)
  other.dispose()
  await small.dispose()
  // A limit with room for the plan is room for the run, to the byte.
  const enough = await FSVideoPipeline.fromPretrained(folder, {
    device: 'cpu',
    memoryLimit: error.needed,
  })
  const plan = await enough.plan(request)
  for (const seed of [1, 2]) await enough.generate({ ...request, seed })
  assert.ok(enough.device.memory().reservedPeak <= plan.reservedBytes)
  await enough.dispose()
})

test.run()
