/**
 * The pipeline on a tiny random model: the same request gives the same bits however it is asked for, whatever ran before or runs beside it,
 * and whoever stops listening leaves nothing behind.
 */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import type { FSVideoError } from '../lib/errors.js'
import type { StreamEvent } from '../lib/events.js'
import { clipPixels, fitImage, loadImage, padReplicate } from '../lib/media/image.js'
import { loadTokenizer } from '../lib/model-folder.js'
import * as ops from '../lib/ops.js'
import { FSVideoPipeline, type PipelineOptions } from '../lib/pipeline.js'
import { type GenerateRequest, resolveRequest } from '../lib/requests.js'
import type { Tensor } from '../lib/tensor.js'
import type { Video } from '../lib/video.js'
import { picture, randomModel } from './pipeline-model.js'
import { refusal, refuses } from './refusals.js'

const test = suite('pipeline')
const folder = await randomModel('tiny', { dtype: 'f32' })
const open = (options: PipelineOptions = {}) =>
  FSVideoPipeline.fromPretrained(folder, { device: 'cpu', threads: 2, ...options })
const pipe = await open()
test.after(() => pipe.dispose())

const [width, height] = [128, 128]
const one: GenerateRequest = { image: picture(1), prompt: 'a red ball', width, height, frames: 5, seed: 7 }
const two: GenerateRequest = { ...one, image: picture(2), prompt: 'rain over the sea', seed: 2n ** 63n + 1n }

const bytes = ({ frames }: Video): Buffer => Buffer.concat(frames)
const same = (a: Video, b: Video, what: string) => assert.ok(bytes(a).equals(bytes(b)), `${what}: bits`)
const events = async (run: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> => {
  const all: StreamEvent[] = []
  for await (const event of run) all.push(event)
  return all
}

/** That `act` leaves the memory of the pipeline's device as it was. */
async function leavesNothing(act: () => Promise<unknown>, on = pipe): Promise<void> {
  const before = on.device.memory().inUse
  await act()
  await on.device.synchronize()
  assert.is(on.device.memory().inUse, before, 'memory came back')
}

test('a configuration alone is a pipeline with the weights that would be written for it', async () => {
  const made = await FSVideoPipeline.fromConfig(join(packageRoot, 'models/tiny'), {
    device: 'cpu',
    threads: 2,
    dtype: 'f32',
    seed: 1,
  })
  const stored = await open({ dtype: 'f32' })
  same(await made.generate(one), await stored.generate(one), 'made against stored')
  const plan = await made.plan(one)
  // Stored weights that are used as they are lie in their file.
  assert.ok(plan.weightBytes >= (await stored.plan(one)).weightBytes)
  assert.is(plan.weightBytes, made.device.memory().inUse)
  await Promise.all([made, stored].map((pipe) => pipe.dispose()))
})

for (const dtype of ['bf16', 'f32'] as const)
  test(`the same request gives the same bits, alone, later and in a batch, in ${dtype}`, async () => {
    const own = await open({ dtype })
    await leavesNothing(async () => {
      const first = await own.generate(one)
      const second = await own.generate(two)
      assert.not.ok(bytes(first).equals(bytes(second)))
      assert.is(first.frames.length, 5)
      assert.is(
        new Set(first.frames.map((frame) => Buffer.from(frame).toString('base64'))).size,
        5,
        'it moves',
      )
      const [a, b] = await own.generateBatch({
        ...one,
        image: [picture(1), picture(2)],
        prompt: [one.prompt, two.prompt] as string[],
        seed: [7, 2n ** 63n + 1n],
      })
      same(a!, first, 'the first of two')
      same(b!, second, 'the second of two')
      assert.is(b!.report.seed, 2n ** 63n + 1n)
      same(await own.generate(one), first, 'again')
    }, own)
    await own.dispose()
  })

test('the number of threads does not change a bit', async () => {
  const expected = await pipe.generate(one)
  for (const threads of [1, 3]) {
    const other = await open({ threads })
    same(await other.generate(one), expected, `${threads} threads`)
    await other.dispose()
  }
})

test('seed, prompt, negative prompt, guidance and picture all matter', async () => {
  const seen = new Set<string>()
  const variants: Partial<GenerateRequest>[] = [
    {},
    { seed: 8 },
    { prompt: 'a blue ball' },
    { negativePrompt: 'blurry' },
    { guidanceScale: 1 },
    { guidanceScale: 3 },
    { image: picture(2) },
    { steps: 3 },
    { shift: 3 },
    { solver: 'euler' },
    { refinerSteps: 3 },
    { refinerSolver: 'renoise' },
    { refinerSigmas: [0.8, 0.4] },
    { decoder: 'lite' },
  ]
  for (const variant of variants)
    seen.add(bytes(await pipe.generate({ ...one, ...variant })).toString('base64'))
  assert.is(seen.size, variants.length)
})

test('two at once are both right, and each has its turn', async () => {
  const [a, b] = [await pipe.generate(one), await pipe.generate({ ...two, decoder: 'lite' })]
  const [c, d, e] = await Promise.all([
    pipe.generate(one),
    pipe.generate({ ...two, decoder: 'lite' }),
    pipe.generate({ ...one, signal: AbortSignal.timeout(1) }).catch((error: unknown) => error),
  ])
  same(c, a, 'the first')
  same(d, b, 'the second')
  assert.is((e as Error).name, 'TimeoutError')
  const plans = [one, { ...two, width: 256 }, { ...one, decoder: 'lite', frames: 9 }] as const
  const fresh = await open()
  const together = await Promise.all(plans.map((request) => fresh.plan(request)))
  for (const [i, request] of plans.entries()) assert.equal(await pipe.plan(request), together[i])
  await fresh.dispose()
})

test('a size that does not fit the grid is worked at the next one and cropped', async () => {
  const imageEmbeds = { data: new Float32Array(17 * 32), shape: [17, 32] }
  for (const [w, h, frames, made] of [
    [200, 136, 7, 9],
    [64, 130, 2, 1],
    [129, 128, 4, 5],
  ] as const) {
    const request = { ...one, imageEmbeds, width: w, height: h, frames }
    const cropped = await pipe.generate(request)
    assert.equal([cropped.width, cropped.height, cropped.frames.length], [w, h, made])
    const fields = ['frames', ...(w % 128 ? ['width'] : []), ...(h % 128 ? ['height'] : [])]
    assert.equal(
      cropped.report.warnings.map(({ field }) => field),
      fields,
    )
    // The same picture, padded by hand, at the size that was worked at.
    const [wide, high] = [w, h].map((side) => 128 * Math.ceil(side / 128)) as [number, number]
    const fitted = await fitImage(await loadImage(one.image as never), w, h)
    const padded = await padReplicate(fitted, wide, high)
    const whole = await pipe.generate({ ...request, image: padded, width: wide, height: high, frames: made })
    assert.equal(whole.report.warnings, [])
    for (const [i, frame] of whole.frames.entries())
      for (let row = 0; row < h; row++)
        assert.ok(
          Buffer.from(frame.subarray(row * wide * 3, (row * wide + w) * 3)).equals(
            cropped.frames[i]!.subarray(row * w * 3, (row + 1) * w * 3),
          ),
          `${w}x${h}, frame ${i}, row ${row}`,
        )
  }
})

test('ready embeddings and latents are the same bits as what they stand for', async () => {
  const { device, stages, model } = pipe
  const expected = await pipe.generate(one)
  const tokenizer = await loadTokenizer(model)
  const embed = (text: string) => stages.encodeText([tokenizer.encode(text, 64, 'prompt')])
  const [prompt, negative] = [embed(one.prompt as string), embed(model.scheduler.negativePrompt)]
  const clip = await clipPixels(await loadImage(one.image as never), model.imageEncoder!.imageSize)
  const image = device.scope(() =>
    stages.encodeClip(device.tensor(clip.data, [1, 1, clip.height, clip.width, 3])),
  )
  const noise = ops.randn(device, [1, 2, 1, 1, 16], { seeds: [7] })
  const host = async (tensor: Tensor) => ({ data: await tensor.toFloat32(), shape: tensor.shape.slice(1) })
  const rest = { ...one, prompt: undefined }
  await leavesNothing(async () => {
    const embeds = {
      promptEmbeds: prompt,
      negativePromptEmbeds: negative,
      imageEmbeds: image,
      latents: noise,
    }
    same(await pipe.generate({ ...rest, ...embeds, seed: 7 }), expected, 'tensors of the device')
    assert.ok([prompt, negative, image, noise].every((tensor) => !tensor.disposed))
    const numbers = {
      promptEmbeds: await host(prompt),
      negativePromptEmbeds: await host(negative),
      imageEmbeds: await host(image),
      latents: await host(noise),
    }
    same(await pipe.generate({ ...rest, ...numbers }), expected, 'numbers')
    // Only the prompt's own rows: zeros are put behind them.
    const length = tokenizer.encode(one.prompt as string, 64, 'prompt').length
    const short = { data: numbers.promptEmbeds.data.slice(0, 32 * length), shape: [length, 32] }
    same(await pipe.generate({ ...rest, promptEmbeds: short }), expected, 'a short prompt')
  })
  const other = await Device.open('cpu', { threads: 1 })
  const elsewhere = other.tensor(await noise.toFloat32(), noise.shape)
  same(await pipe.generate({ ...one, latents: elsewhere }), expected, 'a tensor of another device')
  // One set of numbers serves all samples of a batch.
  const [a, b] = await pipe.generateBatch({ ...one, latents: elsewhere.reshape(2, 1, 1, 16), seed: [7, 7] })
  same(a!, expected, 'sample 0')
  same(b!, expected, 'sample 1')
  other.dispose()
  for (const tensor of [prompt, negative, image, noise]) tensor.dispose()
})

test('every stage can be called alone, and together they are generate', async () => {
  const { device, stages, model } = pipe
  const expected = await pipe.generate(one)
  const last = async (steps: AsyncGenerator<unknown, Tensor>) => {
    for (;;) {
      const { value, done } = await steps.next()
      if (done) return value
    }
  }
  const tokenizer = await loadTokenizer(model)
  const request = await resolveRequest(one, model, tokenizer)
  const high = await fitImage(await loadImage(one.image as never), width, height)
  const low = await fitImage(high, width / 2, height / 2)
  const clip = await clipPixels(await loadImage(one.image as never), model.imageEncoder!.imageSize)
  const upload = (image: typeof high) => device.tensor(image.data, [1, 1, image.height, image.width, 3])
  const text = (input: typeof request.text) => stages.encodeText((input as { tokens: Int32Array[] }).tokens)
  await leavesNothing(async () => {
    const pixels = [high, low, clip].map(upload) as [Tensor, Tensor, Tensor]
    const conditions = {
      ...stages.encodePicture(pixels[0], pixels[1], request.latentFrames),
      text: text(request.text),
      negative: text(request.negativeText!),
      image: stages.encodeClip(pixels[2]),
    }
    const { seeds } = request
    const base = await last(
      stages.denoise(conditions, { ...request.base, seeds, frames: request.latentFrames }),
    )
    const upsampled = stages.upsample(base)
    const refined = await last(
      stages.refine(upsampled, conditions, { ...request.refiner, guidanceScale: 1, seeds }),
    )
    const frames: Uint8Array[] = []
    const options = { decoder: 'standard', width, height, chunk: 1, seed: seeds[0] } as const
    for await (const chunk of stages.decode(refined, conditions.features, options)) frames.push(chunk.frames)
    assert.ok(Buffer.concat(frames).equals(bytes(expected)))
    const { features, ...rest } = conditions
    for (const tensor of [...pixels, ...features, ...Object.values(rest), base, upsampled, refined])
      tensor?.dispose()
  })
})

test('a stream tells every stage in order, shows previews, and gives the frames of generate', async () => {
  const expected = await pipe.generateBatch({ ...one, seed: [7, 8] })
  const steps: string[] = []
  const onStep = ({ stage, step, steps: count }: { stage: string; step: number; steps: number }) =>
    steps.push(`${stage} ${step}/${count}`)
  const told: string[] = []
  const frames: Buffer[][] = [[], []]
  await leavesNothing(async () => {
    for await (const event of pipe.stream({ ...one, seed: [7, 8], onStep })) {
      if (event.type === 'progress') {
        told.push(`${event.stage} ${event.step}/${event.steps}`)
        assert.ok(event.elapsedMs >= 0)
        assert.is(event.preview !== undefined, event.stage === 'denoise' || event.stage === 'refine')
        if (!event.preview) continue
        const { data, shape } = await event.preview()
        const side = event.stage === 'refine' ? 2 : 1
        assert.equal([...shape], [2, 2, side, side, 16])
        assert.is(data.length, 2 * 2 * side * side * 16)
        assert.ok(data.every(Number.isFinite) && data.some((value) => value !== 0))
        assert.is(event.timestep, 1000 * event.sigma!)
      } else if (event.type === 'frame') {
        assert.is(event.index, frames[event.sample]!.length)
        assert.equal([event.width, event.height, event.data.length], [width, height, width * height * 3])
        frames[event.sample]!.push(Buffer.from(event.data))
      } else {
        told.push('done')
        assert.equal(
          event.reports.map(({ seed }) => seed),
          [7n, 8n],
        )
        const { timings, memory } = event.reports[0]!
        assert.equal(Object.keys(timings.stages), ['encode', 'denoise', 'upsample', 'refine', 'decode'])
        assert.ok(timings.totalMs > 0 && memory.peak > 0)
      }
    }
  })
  const samplers = ['denoise 1/4', 'denoise 2/4', 'denoise 3/4', 'denoise 4/4']
  const refiner = ['refine 1/2', 'refine 2/2']
  assert.equal(steps, [...samplers, ...refiner])
  assert.equal(
    told.filter((line) => !line.startsWith('decode')),
    ['encode 1/3', 'encode 2/3', 'encode 3/3', ...samplers, 'upsample 1/1', ...refiner, 'done'],
  )
  assert.is(told.at(-2), 'decode 10/10')
  for (const [i, video] of expected.entries()) assert.ok(Buffer.concat(frames[i]!).equals(bytes(video)))
})

test('the lite decoder gives its frames group by group', async () => {
  const all = await events(pipe.stream({ ...one, frames: 13, decoder: 'lite' }))
  const decode = all.flatMap((event) =>
    event.type === 'progress' && event.stage === 'decode' ? [event.step] : [],
  )
  assert.equal(decode, [1, 5, 9, 13])
})

test('who stops listening leaves nothing behind', async () => {
  const streamed: GenerateRequest = { ...one, frames: 9, decoder: 'lite', steps: 2 }
  const expected = await pipe.generate(streamed)
  const count = (await events(pipe.stream(streamed))).length
  for (let stop = 0; stop < count; stop++)
    await leavesNothing(async () => {
      let seen = 0
      for await (const _ of pipe.stream(streamed)) if (seen++ === stop) break
    })
  // A stream that is never begun takes no turn.
  pipe.stream(streamed)
  same(await pipe.generate(streamed), expected, 'afterwards')
})

test('what a listener throws ends the generation and nothing else', async () => {
  await leavesNothing(async () => {
    const stop = new Error('stop')
    const error = await pipe
      .generate({
        ...one,
        onStep: ({ stage }) => {
          if (stage === 'refine') throw stop
        },
      })
      .catch((thrown: unknown) => thrown)
    assert.is(error, stop)
  })
  await pipe.generate(one)
})

test('what cannot be done is refused before any work', async () => {
  await leavesNothing(async () => {
    const refused = (request: object, field: string) =>
      refuses(() => pipe.generate({ ...one, ...request }), 'ERR_FSVIDEO_INVALID_ARGUMENT', field)
    await refused({ seed: [1, 2] }, 'request')
    await refused({ frames: 0 }, 'frames')
    await refused({ stepz: 4 }, 'stepz')
    await refused({ latents: { data: new Float32Array(16), shape: [1, 1, 1, 16] } }, 'latents.shape')
    await refuses(() => open({ dtype: 'fp4' as never }), 'ERR_FSVIDEO_INVALID_ARGUMENT', 'dtype')
  })
  const reason = new Error('no more')
  for (const signal of [AbortSignal.abort(reason)])
    for (const act of [() => pipe.generate({ ...one, signal }), () => open({ signal })])
      assert.is(await act().catch((error: unknown) => error), reason)
})

test('a pipeline that is disposed of refuses, and stops what it was doing', async () => {
  const own = await open()
  let steps = 0
  const onStep = () => void steps++
  const running = own.generate({ ...one, steps: 500, onStep }).catch((error: FSVideoError) => error.code)
  const waiting = own.generate(one).catch((error: FSVideoError) => error.code)
  while (steps < 3) await new Promise(setImmediate)
  await own.dispose()
  await own.dispose()
  assert.is(await running, 'ERR_FSVIDEO_DISPOSED')
  assert.is(await waiting, 'ERR_FSVIDEO_DISPOSED')
  assert.ok(own.device.disposed)
  assert.is((await refusal(() => own.generate(one))).code, 'ERR_FSVIDEO_DISPOSED')
  assert.is((await refusal(() => own.plan(one))).code, 'ERR_FSVIDEO_DISPOSED')
  assert.is((await refusal(() => own.stream(one).next())).code, 'ERR_FSVIDEO_DISPOSED')
})

test('a device of the caller outlives the pipeline, with all its memory', async () => {
  const device = await Device.open('cpu', { threads: 2 })
  const own = await open({ device })
  const before = device.memory().inUse
  assert.ok(before > 0)
  let steps = 0
  const onStep = () => void steps++
  const running = own.generate({ ...one, steps: 500, onStep }).catch((error: FSVideoError) => error.code)
  while (steps < 3) await new Promise(setImmediate)
  const stepsBefore = steps
  await own.dispose()
  assert.is(await running, 'ERR_FSVIDEO_DISPOSED')
  assert.ok(steps <= stepsBefore + 2, `${steps - stepsBefore} steps after the end`)
  await device.synchronize()
  assert.not(device.disposed)
  assert.is(device.memory().inUse, 0)
  device.dispose()
})

test.run()
