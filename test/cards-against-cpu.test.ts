/**
 * The whole tiny pipeline on the card of FSVIDEO_TEST_DEVICE: against the CPU on the same noise, stage by stage; and what it promises
 * whatever happens around it: the same bits, memory that comes back, an end soon after an abort, another try after memory ran out.
 */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { addon, packageRoot } from '../lib/addon.js'
import { Device, devices } from '../lib/device.js'
import { clipPixels, fitImage, loadImage } from '../lib/media/image.js'
import * as ops from '../lib/ops.js'
import { FSVideoPipeline, type PipelineOptions } from '../lib/pipeline.js'
import type { GenerateRequest } from '../lib/requests.js'
import { createSolver, gridSchedule } from '../lib/sampling/index.js'
import type { Tensor } from '../lib/tensor.js'
import type { Video } from '../lib/video.js'
import { onCpu, openTestDevice, simulated, testDevice } from './devices.js'
import { relativeL2 } from './goldens.js'
import { picture } from './pipeline-model.js'
import { refusal } from './refusals.js'

const test = suite('a card against the CPU')
const [width, height] = [128, 128]
const open = (options: PipelineOptions = {}) =>
  FSVideoPipeline.fromConfig(join(packageRoot, 'models/tiny'), { device: testDevice, seed: 1, ...options })

/** Requests of a size that a simulated card can bear. */
const one: GenerateRequest = {
  ...{ image: picture(1), prompt: 'a red ball', seed: 7, width, height },
  ...(simulated ? { frames: 1, steps: 2, refinerSteps: 1 } : { frames: 9 }),
}
const two: GenerateRequest = { ...one, image: picture(2), prompt: 'rain over the sea', seed: 8 }

const bytes = ({ frames }: Video): Buffer => Buffer.concat(frames)
const same = (a: Video, b: Video, what: string) => assert.ok(bytes(a).equals(bytes(b)), `${what}: bits`)

async function last(steps: AsyncGenerator<unknown, Tensor>): Promise<Tensor> {
  for (;;) {
    const { value, done } = await steps.next()
    if (done) return value
  }
}

/** What every stage gives, by name. */
async function stagesOf(pipe: FSVideoPipeline, frames: number): Promise<Map<string, Float32Array>> {
  const { device, stages, model } = pipe
  const results = new Map<string, Float32Array>()
  const note = async (values: Record<string, Tensor>) => {
    for (const [name, tensor] of Object.entries(values)) results.set(name, await tensor.toFloat32())
  }
  const image = await loadImage(picture(1))
  const pixels = await Promise.all([
    fitImage(image, width, height),
    fitImage(image, width / 2, height / 2),
    clipPixels(image, model.imageEncoder!.imageSize),
  ])
  const [high, low, clip] = pixels.map((p) => device.tensor(p.data, [1, 1, p.height, p.width, 3]))
  const { features, ...encoded } = stages.encodePicture(high!, low!, frames)
  const [text, negative] = [[40, 41, 1], [1]].map((ids) => stages.encodeText([Int32Array.from(ids)]))
  const conditions = {
    ...encoded,
    features,
    text: text!,
    negative: negative!,
    image: stages.encodeClip(clip!),
  }
  await note({ low: conditions.low, high: conditions.high, text: text!, image: conditions.image })
  await note(Object.fromEntries(features.map((feature, i) => [`feature ${i}`, feature])))
  const sampling = (name: 'base' | 'refiner', steps: number) => {
    const { solver, ...defaults } = model.scheduler[name]
    return {
      solver,
      schedule: gridSchedule({ ...defaults, steps, grid: createSolver(solver).grid }),
      seeds: [7],
    }
  }
  const base = await last(stages.denoise(conditions, { ...sampling('base', 3), guidanceScale: 5, frames }))
  const upsampled = stages.upsample(base)
  const refined = await last(
    stages.refine(upsampled, conditions, { ...sampling('refiner', 2), guidanceScale: 1, fromNoise: true }),
  )
  await note({ base, upsampled, refined })
  for (const decoder of ['standard', 'lite'] as const) {
    const options = { decoder, width, height, chunk: 1, seed: 7 }
    const chunks: Uint8Array[] = []
    for await (const chunk of stages.decode(refined, features, options)) chunks.push(chunk.frames)
    results.set(`frames, ${decoder}`, Float32Array.from(Buffer.concat(chunks)))
  }
  return results
}

test('every stage: f32 to 1e-5, bf16 to 2e-2', async () => {
  const run = async (device: string, dtype: 'f32' | 'bf16') => {
    const pipe = await open({ device, dtype })
    const results = await stagesOf(pipe, 2)
    await pipe.dispose()
    return results
  }
  const truth = await run('cpu', 'f32')
  for (const [dtype, limit] of [
    ['f32', 1e-5],
    ['bf16', 2e-2],
  ] as const) {
    const [card, cpu] = [await run(testDevice, dtype), await run('cpu', dtype)]
    for (const [name, expected] of cpu) {
      const got = card.get(name)!
      const error = relativeL2(got, expected)
      console.log(`    ${dtype} ${name}: ${error.toExponential(1)}`)
      // The end of the chain, in 256 levels: as near to the truth as the CPU is, and a few pixels rounded the other way.
      if (name.startsWith('frames'))
        assert.ok(
          relativeL2(got, truth.get(name)!) <= 2 * relativeL2(expected, truth.get(name)!) + 2e-4,
          name,
        )
      else assert.ok(error <= limit, `${name} is off by ${error}`)
    }
  }
})

test('the same bits again, in a batch of two, and op by op instead of in graphs', async () => {
  const pipe = await open()
  const [first, second] = [await pipe.generate(one), await pipe.generate(two)]
  same(await pipe.generate(one), first, 'again')
  const batch = await pipe.generateBatch({
    ...one,
    image: [one.image, two.image] as never,
    prompt: [one.prompt, two.prompt] as string[],
    seed: [7, 8],
  })
  same(batch[0]!, first, 'first of two')
  same(batch[1]!, second, 'second of two')
  await pipe.dispose()
  process.env.FSVIDEO_CUDA_SYNC = '1'
  try {
    const plain = await open()
    same(await plain.generate(one), first, 'op by op')
    assert.not.ok('graph' in plain.device.stats())
    await plain.dispose()
  } finally {
    delete process.env.FSVIDEO_CUDA_SYNC
  }
})

test('memory is back where it was after many requests, as planned', async () => {
  const pipe = await open()
  const { device } = pipe
  const { peakBytes, weightBytes } = await pipe.plan(one)
  const before = device.memory().inUse
  assert.is(before, weightBytes)
  await pipe.generate(one)
  device.trim()
  await device.synchronize()
  const free = device.freeMemory()
  for (let i = 0; i < (simulated ? 2 : 50); i++) {
    device.resetPeak()
    await pipe.generate(one)
    assert.is(device.memory().inUse, before)
    assert.is(device.memory().peak, peakBytes)
  }
  device.trim()
  await device.synchronize()
  assert.is(device.freeMemory(), free)
  await pipe.dispose()
})

test('an abort ends a request soon, and the next one is not touched', async () => {
  const pipe = await open()
  const expected = await pipe.generate(one)
  for (const stage of ['encode', 'denoise', 'refine']) {
    const controller = new AbortController()
    let began = 0
    try {
      for await (const event of pipe.stream({ ...one, signal: controller.signal })) {
        if (event.type !== 'progress' || event.stage !== stage || began) continue
        began = performance.now()
        controller.abort(new Error('enough'))
      }
      assert.unreachable(`${stage} was not stopped`)
    } catch (error) {
      assert.is((error as Error).message, 'enough', stage)
    }
    await pipe.device.synchronize()
    const elapsed = performance.now() - began
    assert.ok(simulated || elapsed < 100, `${stage}: ${elapsed} ms`)
  }
  same(await pipe.generate(one), expected, 'after aborts')
  await pipe.dispose()
})

test('memory that runs out is an error, and then all is as before', async () => {
  const device = await openTestDevice()
  const pipe = await open({ device })
  const expected = await pipe.generate(one)
  const [release, before] = [await takeAll(device), device.memory().inUse]
  try {
    const error = await refusal(() => pipe.generate(one))
    assert.is(error.code, 'ERR_FSVIDEO_OUT_OF_MEMORY')
    assert.ok(error.needed! > error.available!, `${error.needed} bytes needed, ${error.available} available`)
    assert.is(device.memory().inUse, before)
  } finally {
    release()
  }
  same(await pipe.generate(one), expected, 'with memory again')
  await pipe.dispose()
  device.dispose()
})

/** Leaves a card without memory, until the function is called that comes back. */
async function takeAll(device: Device): Promise<() => void> {
  device.trim()
  await device.synchronize()
  if (simulated) {
    const { simulate } = addon() as unknown as { simulate(what: { memory: number }): void }
    simulate({ memory: device.memory().reserved })
    return () => simulate({ memory: 2 ** 36 })
  }
  const held: Tensor[] = []
  for (let size = device.freeMemory(); size > 2 ** 20; ) {
    try {
      held.push(ops.fill(device, [Math.floor(size)], 0, 'u8'))
    } catch {
      size /= 2
    }
  }
  return () => {
    for (const tensor of held) tensor.dispose()
  }
}

test('several cards have a pipeline each', async () => {
  const kind = testDevice.split(':')[0]!
  const names = (await devices()).map(({ name }) => name).filter((name) => name.startsWith(kind))
  const like = (await Promise.all(names.map((name) => Device.open(name)))).map((device) => {
    device.dispose()
    return device.description
  })
  const alike = names.filter((_, i) => like[i] === like[0]).slice(0, 2)
  const pipes = await Promise.all(alike.map((device) => open({ device })))
  const videos = await Promise.all(pipes.map((pipe) => pipe.generate(one)))
  for (const video of videos) same(video, videos[0]!, 'cards')
  for (const pipe of pipes) await pipe.dispose()
})

if (!onCpu) test.run()
