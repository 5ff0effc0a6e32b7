/** Generations that must end early: by an abort at any time, or by a value that is not finite; and what is left of them. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FSVideoPipeline } from '../lib/pipeline.js'
import type { GenerateRequest } from '../lib/requests.js'
import { Random } from './numbers.js'
import { picture, randomModel, temporaryFolder } from './pipeline-model.js'
import { refusal } from './refusals.js'

const test = suite('faults of the pipeline')
const tiny = await randomModel('tiny')

const request: GenerateRequest = {
  image: picture(1),
  prompt: 'a red ball',
  width: 128,
  height: 128,
  frames: 9,
  steps: 3,
  refinerSteps: 2,
}

/** A copy of the tiny model in which one tensor is full of NaN. */
function poisoned(component: string, tensor: string): string {
  const folder = path.join(temporaryFolder('poisoned'), 'model')
  cpSync(tiny, folder, { recursive: true })
  const file = path.join(folder, component, 'model.safetensors')
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { data_offsets: number[] }
  >
  const [start, end] = header[tensor]!.data_offsets as [number, number]
  bytes.fill(0xff, 8 + length + start, 8 + length + end) // a NaN in bf16 as in f32
  writeFileSync(file, bytes)
  return folder
}

for (const [component, tensor, where] of [
  [
    'text_encoder',
    'encoder.block.1.layer.1.DenseReluDense.wo.weight',
    { stage: 'encode', layer: 'encoder.block.1.layer.1' },
  ],
  ['image_encoder', 'vision_model.embeddings.class_embedding', { stage: 'encode', layer: 'embeddings' }],
  ['encoder', 'conv_out.bias', { stage: 'encode', layer: 'conv_out' }],
  ['transformer', 'blocks.0.ffn.0.weight', { stage: 'denoise', step: 1, layer: 0 }],
  ['transformer', 'blocks.1.self_attn.router.bias', { stage: 'denoise', step: 1, layer: 1 }],
  ['transformer', 'head.head.weight', { stage: 'denoise', step: 1, layer: 2 }],
  ['latent_upsampler', 'final_conv.bias', { stage: 'upsample', layer: 'final_conv' }],
  ['refiner', 'blocks.1.cross_attn.o.weight', { stage: 'refine', step: 1, layer: 1 }],
  ['decoder', 'up_blocks.0.0.conv2.weight', { stage: 'decode', step: 0, layer: 'up_blocks.0.0' }],
] as const)
  test(`NaN in ${component}'s ${tensor} is found in ${where.stage}`, async () => {
    const pipe = await FSVideoPipeline.fromPretrained(poisoned(component, tensor), { device: 'cpu' })
    const before = pipe.device.memory().inUse
    const error = await refusal(() => pipe.generate(request))
    assert.is(error.code, 'ERR_FSVIDEO_NON_FINITE')
    const { stage, step, layer } = { step: undefined, ...where }
    assert.is(error.stage, stage)
    assert.match(error.message, stage)
    assert.equal([error.step, error.layer], [step, layer])
    assert.match(error.message, layer === 2 ? 'the output' : `layer ${layer}`)
    await pipe.device.synchronize()
    assert.is(pipe.device.memory().inUse, before)
    if (component === 'decoder') await pipe.generate({ ...request, decoder: 'lite' })
    await pipe.dispose()
  })

test('an abort at any time ends the generation soon, with its reason and nothing left behind', async () => {
  const pipe = await FSVideoPipeline.fromPretrained(await randomModel('demo'), { device: 'cpu' })
  const expected = await pipe.generate(request)
  const spans = new Map<string, number>()
  const first = performance.now()
  for await (const event of pipe.stream(request)) {
    if (event.type !== 'progress') continue
    spans.set(event.stage, performance.now() - first)
  }
  const stages = [...spans.keys()]
  const before = pipe.device.memory().inUse
  const random = new Random(5)
  const latencies: number[] = []
  const count = Number(process.env.FSVIDEO_TEST_ABORTS ?? 100)
  for (let i = 0; i < count; i++) {
    // Some time after the stage before has ended, up to as long as this one takes.
    const index = i % stages.length
    const after = index === 0 ? undefined : stages[index - 1]
    const span = spans.get(stages[index]!)! - (after ? spans.get(after)! : 0)
    const controller = new AbortController()
    const reason = { abort: i }
    let aborted = 0
    const abort = () => {
      aborted = performance.now()
      controller.abort(reason)
    }
    let timer: NodeJS.Timeout | undefined
    const arm = () => {
      timer ??= setTimeout(abort, random.uniform() * span)
    }
    if (!after) arm()
    const run = async () => {
      for await (const event of pipe.stream({ ...request, seed: i, signal: controller.signal }))
        if (event.type === 'progress' && event.stage === after && event.step === event.steps) arm()
    }
    const outcome = await run().catch((error: unknown) => error)
    if (aborted) {
      latencies.push(performance.now() - aborted)
      // It may have been over already.
      if (outcome !== undefined) assert.is(outcome, reason)
    }
    clearTimeout(timer)
    assert.is(pipe.device.memory().inUse, before, `abort ${i} in ${stages[index]}`)
  }
  latencies.sort((a, b) => a - b)
  const quantile = (q: number) => latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))]!
  process.stderr.write(
    `    ${latencies.length} aborts: median ${quantile(0.5).toFixed(1)} ms, p99 ${quantile(0.99).toFixed(1)} ms\n`,
  )
  assert.ok(latencies.length > count / 2)
  assert.ok(quantile(0.99) <= 100, `p99 ${quantile(0.99)} ms`)
  const again = await pipe.generate(request)
  assert.ok(
    Buffer.concat([...again.frames]).equals(Buffer.concat([...expected.frames])),
    'the next one is right',
  )
  await pipe.dispose()
})

test.run()
