/** Requests: what every option may be, what they must be to one another, and what is made of what was left out. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { type ModelFolder, readConfigFolder } from '../lib/model-folder.js'
import { suggest } from '../lib/options.js'
import { requestOptions } from '../lib/request-options.js'
import { type GenerateRequest, resolveRequest } from '../lib/requests.js'
import { gridSchedule } from '../lib/sampling/index.js'
import { buildTokenizer, Tokenizer } from '../lib/tokenizer.js'
import { refusal, refuses } from './refusals.js'

const test = suite('requests')
let model: ModelFolder
let tokenizer: Tokenizer
test.before(async () => {
  model = await readConfigFolder(join(packageRoot, 'models/tiny'))
  const files = buildTokenizer(model.textEncoder.vocabSize)
  tokenizer = new Tokenizer(files['tokenizer.json'], files['tokenizer_config.json'])
})

const picture = (width = 320, height = 240) => ({
  data: new Uint8Array(width * height * 3),
  width,
  height,
})
const plain = { image: picture(), prompt: 'the ball rolls', width: 256, height: 128 }
const resolve = (request: object = {}, of: Partial<ModelFolder> = {}) =>
  resolveRequest({ ...plain, ...request } as GenerateRequest, { ...model, ...of }, tokenizer)
const refused = (request: object, field: string, of: Partial<ModelFolder> = {}) =>
  refuses(() => resolve(request, of), 'ERR_FSVIDEO_INVALID_ARGUMENT', field, show(request))
const show = (request: object) =>
  JSON.stringify(request, (_, v) => (typeof v === 'bigint' ? `${v}n` : typeof v === 'number' ? String(v) : v))
const host = (...shape: number[]) => ({
  data: new Float32Array(shape.reduce((n, d) => n * d, 1)),
  shape,
})

test('what is left out comes from the model', async () => {
  const request = await resolve()
  const { image: images, prompt, width, height } = plain
  assert.equal(request.images, [images])
  assert.equal(request.text, { tokens: [tokenizer.encode(prompt, 64)] })
  assert.equal(request.negativeText, { tokens: [tokenizer.encode('', 64)] })
  assert.equal(request.seeds, [0n])
  assert.is(request.batch, 1)
  assert.is(request.frames, 9)
  assert.is(request.latentFrames, 3)
  assert.is(request.fps, 8)
  assert.equal(request.size, { width, height })
  assert.equal(request.workSize, { width, height })
  assert.equal(request.baseCells, { width: 2, height: 1 })
  assert.equal(request.refinerCells, { width: 4, height: 2 })
  assert.equal(request.base, {
    solver: 'unipc',
    schedule: gridSchedule({ steps: 4, shift: 5, grid: 'wan' }),
    guidanceScale: 5,
  })
  assert.equal(request.refiner, {
    solver: 'euler',
    schedule: gridSchedule({ steps: 2, shift: 5, grid: 'linear' }),
    fromNoise: true,
  })
  assert.is(request.decoder, 'standard')
  assert.equal(request.warnings, [])
})

test('what is given is used', async () => {
  const onStep = () => {}
  const { signal } = new AbortController()
  const request = await resolve({
    negativePrompt: 'blurry',
    seed: 2n ** 64n - 1n,
    frames: 17,
    fps: 23.976,
    steps: 7,
    refinerSteps: 3,
    guidanceScale: 3,
    solver: 'euler',
    refinerSolver: 'renoise',
    shift: 2,
    refinerShift: 1,
    decoder: 'lite',
    onStep,
    signal,
    maxMemory: 1e9,
  })
  assert.equal(request.negativeText, { tokens: [tokenizer.encode('blurry', 64)] })
  assert.equal(request.seeds, [2n ** 64n - 1n])
  assert.equal([request.frames, request.latentFrames, request.fps], [17, 5, 23.976])
  assert.equal(request.base, {
    solver: 'euler',
    schedule: gridSchedule({ steps: 7, shift: 2, grid: 'linear' }),
    guidanceScale: 3,
  })
  assert.equal(request.refiner.schedule, gridSchedule({ steps: 3, shift: 1, grid: 'linear' }))
  assert.is(request.refiner.solver, 'renoise')
  assert.is(request.decoder, 'lite')
  assert.is(request.onStep, onStep)
  assert.is(request.signal, signal)
  assert.is(request.maxMemory, 1e9)
})

/** Values that no number option takes. */
const noNumber = [Number.NaN, Number.POSITIVE_INFINITY, '3', null, {}, [], true, 3n]

test('every option refuses what it cannot be, by name', async () => {
  const wrong: { [K in keyof Required<GenerateRequest>]: readonly unknown[] } = {
    image: [undefined, null, 3, '', {}, [], new Float32Array(3), [picture(), 3].slice(1)],
    prompt: [null, 3, {}, []],
    negativePrompt: [null, 3, {}, []],
    seed: [...noNumber.filter((v) => typeof v !== 'bigint'), -1, 0.5, 2 ** 53, -1n, 2n ** 64n],
    frames: [...noNumber, 0, -3, 9.5, 4098],
    fps: [...noNumber, 0, -1, 241],
    width: [...noNumber, 63, 8193, 128.5, 0, -128],
    height: [...noNumber, 63, 8193, 128.5, 0, -128],
    steps: [...noNumber, 0, 1.5, 1001],
    refinerSteps: [...noNumber, 0, 1.5, 1001],
    guidanceScale: [...noNumber, 0, 0.99, 101, -5],
    solver: [null, 'ddim', 3, ['euler'], 'Euler'],
    refinerSolver: [null, 'ddim', 3],
    shift: [...noNumber, 0, 101, -5],
    refinerShift: [...noNumber, 0, 101, -5],
    sigmas: [null, 0.5, 'x', [], [0]],
    refinerSigmas: [null, 0.5, [], [0]],
    decoder: [null, 'full', 3],
    promptEmbeds: [
      null,
      [1, 2],
      new Float32Array(4),
      { data: [1], shape: [1] },
      { data: new Float32Array(1) },
    ],
    negativePromptEmbeds: [null, [1, 2], 'x'],
    imageEmbeds: [null, [1, 2], 'x'],
    latents: [null, [1, 2], 'x'],
    onStep: [null, 'x', {}],
    signal: [null, {}, true],
    maxMemory: [...noNumber, 0, -1, 0.5],
  }
  let refusals = 0
  for (const [field, values] of Object.entries(wrong))
    for (const value of values) {
      const name = Array.isArray(value) && value.length > 0 && field === 'image' ? `${field}[0]` : field
      await refused({ [field]: value }, name)
      refusals++
    }
  assert.ok(refusals > 130)
  assert.equal(Object.keys(wrong), [...requestOptions])
})

test('the ends of every range are allowed', async () => {
  for (const request of [
    { seed: 0 },
    { seed: 2 ** 53 - 1 },
    { frames: 1 },
    { frames: 4097 },
    { fps: 0.01 },
    { fps: 240 },
    { width: 64, height: 64 },
    { width: 8192, height: 8192 },
    { steps: 1, refinerSteps: 1 },
    { steps: 1000, refinerSteps: 1000 },
    { guidanceScale: 1 },
    { guidanceScale: 100 },
    { shift: 0.01, refinerShift: 100 },
    { prompt: '' },
    { maxMemory: 1 },
    { solver: 'renoise', refinerSolver: 'unipc' },
    { negativePrompt: undefined, seed: undefined, sigmas: undefined },
  ])
    await resolve(request)
})

test('a request is an object, and an unknown option is refused with the ones there are', async () => {
  for (const request of [undefined, null, 'a.png', 3, []])
    await refuses(
      () => resolveRequest(request as unknown as GenerateRequest, model, tokenizer),
      'ERR_FSVIDEO_INVALID_ARGUMENT',
      'request',
    )
  for (const [name, meant] of Object.entries({
    guidance_scale: 'guidanceScale',
    frame: 'frames',
    num_frames: 'frames',
    numInferenceSteps: 'steps',
    negativeprompt: 'negativePrompt',
    promt: 'prompt',
    heigth: 'height',
    CFG: 'guidanceScale',
    generator: 'seed',
    refinerStep: 'refinerSteps',
  })) {
    const error = await refused({ [name]: 3 }, name)
    assert.match(error.message, `did you mean ${meant}?`)
    for (const option of requestOptions) assert.ok(String(error.expected).includes(option))
  }
  for (const name of ['colour', 'x', '__proto__x', 'toString', 'q'.repeat(10_000)])
    assert.not.match((await refused({ [name]: 3 }, name)).message, 'did you mean')
})

test('two slips of the pen are understood, three are not', () => {
  const known = ['guidanceScale', 'steps', 'fps']
  assert.is(suggest('gudanceScal', known), 'guidanceScale')
  assert.is(suggest('gidacScale', known), undefined)
  assert.is(suggest('steqs', known), 'steps')
  assert.is(suggest('stxxs', known), undefined)
  assert.is(suggest('GUIDANCE-SCALE', known), 'guidanceScale')
  assert.is(suggest('fp', known), 'fps')
  assert.is(suggest('tps', known), 'fps')
})

test('lists make a batch, and all must be as long', async () => {
  const [one, two] = [picture(320, 240), picture(200, 200)]
  const request = await resolve({ image: [one, two], prompt: ['a', 'b'], seed: [3, 4n] })
  assert.is(request.batch, 2)
  assert.equal(request.images, [one, two])
  assert.equal(request.text, { tokens: [tokenizer.encode('a', 64), tokenizer.encode('b', 64)] })
  assert.equal(request.seeds, [3n, 4n])
  const { tokens } = request.negativeText as { tokens: Int32Array[] }
  assert.is(tokens.length, 2)

  const seeds = await resolve({ seed: [1, 2, 3] })
  assert.is(seeds.batch, 3)
  assert.is(seeds.images.length, 3)
  assert.is((seeds.text as { tokens: Int32Array[] }).tokens.length, 3)
  assert.equal((await resolve({ prompt: ['a', 'b'], seed: 9 })).seeds, [9n, 9n])
  assert.is((await resolve({ seed: [5] })).batch, 1)

  await refused({ prompt: ['a', 'b'], seed: [1, 2, 3] }, 'seed')
  await refused({ image: [one, two], prompt: ['a'] }, 'prompt')
  await refused({ seed: [1, -1] }, 'seed[1]')
  await refused({ prompt: ['a', 3] }, 'prompt[1]')
  await refused({ image: [one, ''] }, 'image[1]')
  await refused({ seed: new Array(65).fill(0) }, 'seed')
})

test('a list that changes later does not change the request', async () => {
  const seed = [1, 2]
  const sigmas = [0.9, 0.5]
  const image = [plain.image, plain.image]
  const request = await resolve({ image, seed, sigmas })
  image[0] = picture(200, 200)
  seed[0] = 7
  sigmas[0] = 0.7
  assert.is(request.images[0], plain.image)
  assert.equal(request.seeds, [1n, 2n])
  assert.is(request.base.schedule.sigmas[0], 0.9)
})

test('a prompt must be there, once, and short enough', async () => {
  await refused({ prompt: undefined }, 'prompt')
  const embeds = host(5, 32)
  await refused({ promptEmbeds: embeds }, 'promptEmbeds')
  await refused({ negativePrompt: 'x', negativePromptEmbeds: embeds }, 'negativePromptEmbeds')
  const ready = await resolve({ prompt: undefined, promptEmbeds: embeds })
  assert.is((ready.text as { embeds: unknown }).embeds, embeds)
  // as long as text_len allows, with the closing token
  const word = (n: number) => new Array(n).fill('the').join(' ')
  assert.is(((await resolve({ prompt: word(63) })).text as { tokens: Int32Array[] }).tokens[0]!.length, 64)
  await refused({ prompt: word(64) }, 'prompt')
  await refused({ prompt: ['the', word(64)] }, 'prompt[1]')
  await refused({ negativePrompt: word(64) }, 'negativePrompt')
})

test('frames go to the nearest 4k + 1, with a warning', async () => {
  for (const [wanted, frames] of [
    [1, 1],
    [2, 1],
    [3, 5],
    [4, 5],
    [5, 5],
    [6, 5],
    [7, 9],
    [120, 121],
    [121, 121],
    [4096, 4097],
  ] as const) {
    const request = await resolve({ frames: wanted })
    assert.is(request.frames, frames, String(wanted))
    assert.is(request.latentFrames, 1 + (frames - 1) / 4)
    const warned = request.warnings.map(({ code, field }) => `${code} ${field}`)
    assert.equal(warned, wanted === frames ? [] : ['WARN_FSVIDEO_FRAMES frames'])
  }
  const [warning] = (await resolve({ frames: 24 })).warnings
  assert.is(warning!.message, '25 frames are made, not 24: the nearest number of the form 4k + 1')
})

test('sizes are worked at the next multiple of 128, with a warning', async () => {
  const request = await resolve({ width: 1280, height: 720 })
  assert.equal(request.size, { width: 1280, height: 720 })
  assert.equal(request.workSize, { width: 1280, height: 768 })
  assert.equal(request.refinerCells, { width: 20, height: 12 })
  assert.equal(request.baseCells, { width: 10, height: 6 })
  assert.equal(request.warnings, [
    {
      code: 'WARN_FSVIDEO_SIZE',
      field: 'height',
      message: 'a height of 720 is worked at 768, a multiple of 128, and cropped',
    },
  ])
  const small = await resolve({ width: 65, height: 64 })
  assert.equal(small.workSize, { width: 128, height: 128 })
  assert.is(small.warnings.length, 2)
  const coarse = { scheduler: { ...model.scheduler, sizeMultiple: 256 } }
  assert.equal((await resolve({ width: 300, height: 256 }, coarse)).workSize, { width: 512, height: 256 })
})

test("the picture's shape gives what is missing of the size", async () => {
  const size = async (width: number, height: number, request: object = {}) =>
    (await resolve({ image: picture(width, height), width: undefined, height: undefined, ...request })).size
  assert.equal(await size(640, 427), { width: 640, height: 428 })
  assert.equal(await size(640, 480, { width: 320 }), { width: 320, height: 240 })
  assert.equal(await size(640, 480, { height: 512 }), { width: 682, height: 512 })
  assert.equal(await size(20, 30), { width: 64, height: 64 })
  assert.equal(await size(1280, 720), { width: 1280, height: 720 })
  const large = await size(4000, 3000)
  assert.ok(large.width * large.height <= 1.01 * 720 * 1280, 'at most 720p')
  assert.ok(Math.abs(large.width / large.height - 4 / 3) < 0.01, 'the same shape')
  assert.equal(await size(8000, 16, { height: 64 }), { width: 8192, height: 64 })
})

test('a picture that is none is refused before anything is made', async () => {
  const bad = (image: unknown) => refuses(() => resolve({ image }), 'ERR_FSVIDEO_IMAGE', 'image')
  await bad('/no/such/picture.png')
  await bad(join(packageRoot, 'package.json'))
  await bad(packageRoot)
  await bad(new Uint8Array(0))
  await bad(new Uint8Array(100))
  await bad(picture(1, 1))
  await bad([picture(), 'none.png'])
})

test('noise levels stand in place of steps and shift', async () => {
  const request = await resolve({ sigmas: [0.9, 0.5, 0], refinerSigmas: [0.6, 0.2] })
  assert.equal(request.base.schedule, { sigmas: [0.9, 0.5, 0], timesteps: [900, 500] })
  assert.equal(request.refiner.schedule, { sigmas: [0.6, 0.2, 0], timesteps: [600, 200] })
  assert.is(request.refiner.fromNoise, false)
  assert.is((await resolve({ refinerSigmas: [1, 0.5] })).refiner.fromNoise, true)
  const later = {
    scheduler: { ...model.scheduler, refiner: { ...model.scheduler.refiner, sigmaStart: 0.8 } },
  }
  const started = await resolve({}, later)
  assert.is(started.refiner.fromNoise, false)
  const start = { steps: 2, shift: 5, grid: 'linear', sigmaStart: 0.8 } as const
  assert.equal(started.refiner.schedule, gridSchedule(start))

  await refused({ sigmas: [0.5, 0.9] }, 'sigmas[1]')
  await refused({ sigmas: [Number.NaN] }, 'sigmas[0]')
  await refused({ sigmas: [1.5] }, 'sigmas[0]')
  await refused({ refinerSigmas: [0.5, 'x'] }, 'refinerSigmas[1]')
  await refused({ sigmas: [0.9, 0.5], steps: 2 }, 'steps')
  await refused({ sigmas: [0.9, 0.5], shift: 2 }, 'shift')
  await refused({ refinerSigmas: [0.9, 0.5], refinerSteps: 2 }, 'refinerSteps')
  await refused({ refinerSigmas: [0.9, 0.5], refinerShift: 2 }, 'refinerShift')
})

test('without guidance there is no negative prompt, and one that was given is told to be idle', async () => {
  const request = await resolve({ guidanceScale: 1, negativePrompt: 'blurry' })
  assert.is(request.negativeText, undefined)
  assert.equal(request.warnings, [
    {
      code: 'WARN_FSVIDEO_UNUSED',
      field: 'negativePrompt',
      message: 'negativePrompt has no effect: guidanceScale is 1',
    },
  ])
  assert.equal((await resolve({ guidanceScale: 1 })).warnings, [])
  const fields = { guidanceScale: 1, negativePromptEmbeds: host(4, 32) }
  assert.is((await resolve(fields)).warnings[0]!.field, 'negativePromptEmbeds')
  const scheduler = { ...model.scheduler, negativePrompt: 'dark' }
  assert.equal((await resolve({}, { scheduler })).negativeText, { tokens: [tokenizer.encode('dark', 64)] })
})

test('ready numbers must have the shapes of the networks', async () => {
  const text = { prompt: undefined }
  for (const shape of [
    [64, 32],
    [1, 32],
    [1, 7, 32],
  ])
    await resolve({ ...text, promptEmbeds: host(...shape) })
  await resolve({ ...text, seed: [1, 2], promptEmbeds: host(2, 7, 32) })
  for (const shape of [[65, 32], [7, 33], [2, 7, 32], [32], [1, 1, 7, 32]])
    await refused({ ...text, promptEmbeds: host(...shape) }, 'promptEmbeds.shape')
  await refused({ negativePromptEmbeds: host(7, 31) }, 'negativePromptEmbeds.shape')

  await resolve({ imageEmbeds: host(17, 32) })
  await resolve({ imageEmbeds: host(1, 17, 32) })
  await refused({ imageEmbeds: host(16, 32) }, 'imageEmbeds.shape')
  const dit = { ...model.transformer, imageDim: null }
  const blind = { transformer: dit, refiner: dit, imageEncoder: undefined }
  await resolve({ imageEmbeds: host(17, 32) }, { transformer: dit })
  await refused({ imageEmbeds: host(17, 32) }, 'imageEmbeds', blind)

  await resolve({ latents: host(3, 1, 2, 16) })
  await resolve({ latents: host(2, 3, 1, 2, 16), seed: [1, 2] })
  for (const shape of [
    [3, 2, 4, 16],
    [3, 2, 1, 16],
    [2, 1, 2, 16],
    [3, 1, 2, 8],
    [2, 3, 1, 2, 16],
  ])
    await refused({ latents: host(...shape) }, 'latents.shape')
})

test('ready numbers are numbers', async () => {
  const latents = host(3, 1, 2, 16)
  await refused({ latents: { ...latents, data: latents.data.subarray(1) } }, 'latents.data')
  await refused({ latents: { ...latents, shape: [3, 1, 2, -16] } }, 'latents.shape')
  const holed = host(3, 1, 2, 16)
  holed.data[5] = Number.NaN
  await refused({ latents: holed }, 'latents.data[5]')
  const device = await Device.open('cpu', { threads: 1 })
  try {
    const tensor = device.tensor(latents.data, latents.shape)
    assert.is((await resolve({ latents: tensor })).latents, tensor)
    const whole = device.tensor(new Int32Array(96), latents.shape)
    await refused({ latents: whole }, 'latents.dtype')
    tensor.dispose()
    const { code, field } = await refusal(() => resolve({ latents: tensor }))
    assert.equal([code, field], ['ERR_FSVIDEO_DISPOSED', 'latents'])
  } finally {
    device.dispose()
  }
})

test('a decoder that the model does not have is refused', async () => {
  assert.is((await resolve({}, { decoder: undefined })).decoder, 'lite')
  const error = await refused({ decoder: 'standard' }, 'decoder', { decoder: undefined })
  assert.match(String(error.expected), "'lite'")
  await refused({ decoder: 'lite' }, 'decoder', { decoderLite: undefined })
})

test('an aborted signal stops a request before its work, with its own reason', async () => {
  const reason = new Error('not any more')
  let encoded = 0
  const counting = {
    encode: (...args: Parameters<Tokenizer['encode']>) => {
      encoded++
      return tokenizer.encode(...args)
    },
  }
  try {
    await resolveRequest({ ...plain, signal: AbortSignal.abort(reason) }, model, counting)
    assert.unreachable()
  } catch (error) {
    assert.is(error, reason)
  }
  assert.is(encoded, 0)
})

test.run()
