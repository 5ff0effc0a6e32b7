/** Model folders: the shipped configurations fit together, what does not is refused by name, and a model made of nothing is complete. */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { type InitProgress, initModel, modelInfo } from '../lib/init.js'
import { loadTokenizer, readConfigFolder, readModelFolder } from '../lib/model-folder.js'
import { Networks } from '../lib/networks.js'
import type { TensorRequest } from '../lib/parameters.js'
import { FileWeights, writeSafetensors } from '../lib/weights.js'
import { refuses } from './refusals.js'

const test = suite('model folders')
const tiny = join(packageRoot, 'models/tiny')
const demo = join(packageRoot, 'models/demo')
let device: Device
/** Of the whole suite; `made` holds a tiny model with seed 7. */
let folder: string
let made: string

test.before(async () => {
  device = await Device.open('cpu', { threads: 1 })
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-init-'))
  made = join(folder, 'tiny')
  await initModel(tiny, made, { seed: 7 })
})
test.after(async () => {
  device.dispose()
  await rm(folder, { recursive: true })
})

let scratches = 0
const scratch = () => join(folder, `scratch-${scratches++}`)

/** A copy of a folder with one field of a JSON file set. */
async function edited(from: string, file: string, path: string, value: unknown): Promise<string> {
  const copy = scratch()
  await cp(from, copy, { recursive: true })
  const json = JSON.parse(await readFile(join(copy, file), 'utf8'))
  const keys = path.split('.')
  const last = keys.pop()!
  const holder = keys.reduce((object, key) => object[key], json)
  if (value === undefined) delete holder[last]
  else holder[last] = value
  await writeFile(join(copy, file), JSON.stringify(json))
  return copy
}

const ask = (name: string, shape: number[]): TensorRequest => ({ name, shape, init: 'normal', gain: 1 })
async function elements(model: string, component: string, name: string, shape: number[]) {
  const weights = await FileWeights.open(join(model, component), device)
  return weights.get(ask(name, shape)).toFloat32()
}

test('the shipped configurations are models', async () => {
  const [small, larger] = [await modelInfo(tiny), await modelInfo(demo)]
  assert.equal(
    small.components.map(({ name }) => name),
    [
      'encoder',
      'decoder',
      'decoder_lite',
      'transformer',
      'refiner',
      'latent_upsampler',
      'text_encoder',
      'image_encoder',
    ],
  )
  assert.ok(small.parameters < 1.5e6, `tiny has ${small.parameters}`)
  // 32 MB in bf16 is what the trained demo model may have
  assert.ok(larger.parameters > 12e6 && larger.parameters < 16e6, `demo has ${larger.parameters}`)
  for (const info of [small, larger]) {
    assert.is(info.bytes, undefined)
    assert.is(
      info.components.reduce((n, { parameters }) => n + parameters, 0),
      info.parameters,
    )
  }
  const full = await modelInfo(join(packageRoot, 'models/fsvideo-14b'))
  assert.is(full.components.find(({ name }) => name === 'transformer')?.parameters, 16_399_994_547)
  assert.is(small.summary, '9 frames, 8 a second; base 4 steps unipc, guidance 5; refiner 2 steps euler')
  const transformer = small.components.find(({ name }) => name === 'transformer')
  assert.is(transformer?.summary, '2 layers of 48, 3 heads, FFN 96, layer memory post_mix, image tokens')
})

test('a model made of nothing is complete and loads', async () => {
  const model = await readModelFolder(made)
  const info = await modelInfo(made)
  assert.is(info.bytes, 2 * info.parameters)
  assert.equal([...new Set(info.components.flatMap(({ dtypes }) => dtypes))], ['bf16'])
  const tokenizer = await loadTokenizer(model)
  assert.is(tokenizer.decode(tokenizer.encode('the red ball rolls', 20)), 'the red ball rolls')

  const before = device.memory().inUse
  const progress: string[] = []
  const networks = await Networks.load(model, {
    device,
    dtype: 'bf16',
    onComponent: (component, index, count) => void progress.push(`${component} ${index}/${count}`),
  })
  assert.is(progress.length, 8)
  assert.is(progress[7], 'image_encoder 7/8')
  assert.equal(networks.encoder.config, model.encoder)
  assert.is(networks.decoderFor('lite').config.conv, 'group_causal')
  assert.is(networks.decoderFor('standard').config.conv, 'noncausal')
  networks.dispose()
  await device.synchronize()
  assert.is(device.memory().inUse, before)
})

test('weights depend on the seed, the component and the name alone', async () => {
  const other = scratch()
  await initModel(tiny, other, { seed: 7n })
  const files = (await readdir(made, { recursive: true, withFileTypes: true })).filter((e) => e.isFile())
  assert.is(files.length, 1 + 8 * 2 + 1 + 2)
  for (const file of files) {
    const path = join(file.parentPath ?? file.path, file.name)
    assert.equal(await readFile(path), await readFile(path.replace(made, other)), path)
  }
  const name = 'blocks.0.ffn.0.weight'
  const base = await elements(made, 'transformer', name, [96, 48])
  assert.not.equal(await elements(made, 'refiner', name, [96, 48]), base)
  const seeded = scratch()
  await initModel(tiny, seeded, { seed: 8 })
  assert.not.equal(await elements(seeded, 'transformer', name, [96, 48]), base)

  const variance = base.reduce((sum, x) => sum + x * x, 0) / base.length
  assert.ok(Math.abs(variance * 48 - 1) < 0.1, `variance of the weights: ${variance}`)
})

test('f32 and shards hold the same model', async () => {
  const sharded = scratch()
  await initModel(tiny, sharded, { seed: 7, dtype: 'f32', maxShardBytes: 100e3 })
  const info = await modelInfo(sharded)
  assert.is(info.bytes, 4 * info.parameters)
  const shards = (await readdir(join(sharded, 'transformer'))).filter((name) => name.endsWith('.safetensors'))
  assert.ok(shards.length >= 4, shards.join())
  assert.match(shards[0]!, /^model-00001-of-0000\d\.safetensors$/)
  const [full, half] = await Promise.all(
    [sharded, made].map((model) => elements(model, 'refiner', 'blocks.1.self_attn.q.weight', [48, 48])),
  )
  for (const [i, x] of full!.entries())
    assert.ok(Math.abs(x - half![i]!) <= Math.abs(x) / 256, `element ${i}`)
  const networks = await Networks.load(await readModelFolder(sharded), { device, dtype: 'f32' })
  networks.dispose()
})

test('progress goes to the end', async () => {
  const seen: InitProgress[] = []
  const total = (await modelInfo(tiny)).parameters * 2
  await initModel(tiny, scratch(), { onProgress: (progress) => seen.push(progress) })
  assert.is(seen.at(-1)!.writtenBytes, total)
  assert.ok(seen.every(({ totalBytes }) => totalBytes === total))
  assert.ok(seen.every(({ writtenBytes }, i) => i === 0 || writtenBytes > seen[i - 1]!.writtenBytes))
})

test('nothing is left of a model that was not finished', async () => {
  const parent = scratch()
  await mkdir(parent)
  const out = join(parent, 'model')
  const controller = new AbortController()
  const reason = new Error('enough')
  try {
    await initModel(tiny, out, {
      signal: controller.signal,
      onProgress: ({ component }) => component === 'refiner' && controller.abort(reason),
    })
    assert.unreachable()
  } catch (error) {
    assert.is(error, reason)
  }
  assert.equal(await readdir(parent), [])
})

test('where a model may be made', async () => {
  const parent = scratch()
  await mkdir(join(parent, 'empty'), { recursive: true })
  await initModel(tiny, join(parent, 'empty'))
  await readModelFolder(join(parent, 'empty'))
  await writeFile(join(parent, 'file'), 'x')
  const places = [join(parent, 'empty'), join(parent, 'file'), join(parent, 'none/model')]
  for (const place of places)
    await refuses(() => initModel(tiny, place), 'ERR_FSVIDEO_OUTPUT', 'outDir', place)
  assert.equal((await readdir(parent)).sort(), ['empty', 'file'])
  const early = await refuses(() => initModel(tiny, places[0]!), 'ERR_FSVIDEO_OUTPUT')
  assert.match(early.message, 'is not empty', 'told before the work')
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 53, 2n ** 64n, -1n, '7'])
    await refuses(
      () => initModel(tiny, scratch(), { seed: seed as number }),
      'ERR_FSVIDEO_INVALID_ARGUMENT',
      'seed',
    )
  await refuses(
    () => initModel(tiny, scratch(), { dtype: 'f16' as 'f32' }),
    'ERR_FSVIDEO_INVALID_ARGUMENT',
    'dtype',
  )
  await refuses(
    () => initModel(parent, scratch()),
    'ERR_FSVIDEO_MODEL_FILE',
    join(parent, 'model_index.json'),
  )
})

test('a component that is missing is named', async () => {
  for (const name of ['encoder', 'transformer', 'refiner', 'latent_upsampler', 'text_encoder', 'scheduler']) {
    const copy = scratch()
    await cp(made, copy, { recursive: true })
    await rm(join(copy, name), { recursive: true })
    const file = name === 'scheduler' ? 'scheduler_config.json' : 'config.json'
    await refuses(() => readModelFolder(copy), 'ERR_FSVIDEO_MODEL_FILE', join(copy, name, file))
  }
  const bare = scratch()
  await cp(made, bare, { recursive: true })
  await rm(join(bare, 'tokenizer'), { recursive: true })
  await refuses(() => readModelFolder(bare), 'ERR_FSVIDEO_MODEL_FILE', 'tokenizer')
  await rm(join(bare, 'refiner/model.safetensors'))
  const model = await readConfigFolder(bare)
  await refuses(
    () => Networks.load(model, { device, dtype: 'f32' }),
    'ERR_FSVIDEO_MODEL_FILE',
    join(bare, 'refiner'),
  )
  for (const name of ['encoder', 'transformer'])
    await refuses(
      async () => readConfigFolder(await edited(tiny, 'model_index.json', name, undefined)),
      'ERR_FSVIDEO_MODEL_FILE',
      `model_index.${name}`,
    )
})

test('one decoder is enough; without CLIP the transformers take no image', async () => {
  const lite = await readConfigFolder(await edited(tiny, 'model_index.json', 'decoder', undefined))
  assert.is(lite.decoder, undefined)
  assert.is(lite.decoderLite?.conv, 'group_causal')
  const neither = await edited(
    await edited(tiny, 'model_index.json', 'decoder', undefined),
    'model_index.json',
    'decoder_lite',
    undefined,
  )
  await refuses(() => readConfigFolder(neither), 'ERR_FSVIDEO_MODEL_FILE', 'model_index.decoder')
  const blind = await edited(tiny, 'model_index.json', 'image_encoder', undefined)
  await refuses(() => readConfigFolder(blind), 'ERR_FSVIDEO_MODEL_FILE', 'transformer.image_dim')
  assert.is((await readConfigFolder(demo)).imageEncoder, undefined)
})

test('sizes that do not fit together are named', async () => {
  const wide = [8, 8, 16, 16, 32, 32, 64]
  for (const [file, path, value, field] of [
    ['decoder', 'latent_channels', 32, 'decoder.latent_channels'],
    ['decoder_lite', 'latent_channels', 32, 'decoder_lite.latent_channels'],
    ['decoder', 'encoder_widths', wide, 'decoder.encoder_widths'],
    ['decoder_lite', 'temporal_stages', [0], 'decoder_lite.temporal_stages'],
    ['decoder', 'out_channels', 4, 'decoder.out_channels'],
    ['latent_upsampler', 'in_channels', 32, 'latent_upsampler.in_channels'],
    ['transformer', 'text_dim', 64, 'transformer.text_dim'],
    ['refiner', 'text_dim', 64, 'refiner.text_dim'],
    ['text_encoder', 'd_model', 64, 'transformer.text_dim'],
    ['transformer', 'image_dim', 64, 'transformer.image_dim'],
    ['refiner', 'image_dim', 64, 'refiner.image_dim'],
    ['image_encoder', 'hidden_size', 64, 'transformer.image_dim'],
    ['image_encoder', 'image_size', 28, 'transformer.image_len'],
    ['transformer', 'image_len', 18, 'transformer.image_len'],
    ['refiner', 'text_len', 32, 'refiner.text_len'],
    ['transformer', 'patch_size', [2, 1, 1], 'transformer.patch_size'],
    ['transformer', 'in_channels', 35, 'transformer.in_channels'],
  ] as const)
    await refuses(
      async () => readConfigFolder(await edited(tiny, `${file}/config.json`, path, value)),
      'ERR_FSVIDEO_MODEL_FILE',
      field,
      `${file}.${path}`,
    )
  const fewer = await edited(tiny, 'refiner/config.json', 'mask_channels', 2)
  await refuses(
    async () => readConfigFolder(await edited(fewer, 'refiner/config.json', 'in_channels', 34)),
    'ERR_FSVIDEO_MODEL_FILE',
    'refiner.mask_channels',
  )
  const thin = await edited(tiny, 'refiner/config.json', 'out_channels', 8)
  await refuses(
    async () => readConfigFolder(await edited(thin, 'refiner/config.json', 'in_channels', 20)),
    'ERR_FSVIDEO_MODEL_FILE',
    'refiner.out_channels',
  )
})

test('sampling defaults are held to what a request may ask for', async () => {
  for (const [path, value, field] of [
    ['frames', 11, 'scheduler.frames'],
    ['size_multiple', 64, 'scheduler.size_multiple'],
    ['size_multiple', 192, 'scheduler.size_multiple'],
    ['base.steps', 1001, 'scheduler.base.steps'],
    ['refiner.shift', 101, 'scheduler.refiner.shift'],
    ['base.sigma_start', 1e-9, 'scheduler.base.sigma_start'],
    ['base.guidance_scale', 101, 'scheduler.base.guidance_scale'],
    ['fps', 241, 'scheduler.fps'],
  ] as const)
    await refuses(
      async () => readConfigFolder(await edited(tiny, 'scheduler/scheduler_config.json', path, value)),
      'ERR_FSVIDEO_MODEL_FILE',
      field,
      path,
    )
})

test('frames of the default follow the temporal stages', async () => {
  let folder = tiny
  for (const name of ['encoder', 'decoder', 'decoder_lite'])
    folder = await edited(folder, `${name}/config.json`, 'temporal_stages', [0, 1, 2])
  assert.is((await readConfigFolder(folder)).scheduler.frames, 9)
  const other = await edited(folder, 'scheduler/scheduler_config.json', 'frames', 13)
  await refuses(() => readConfigFolder(other), 'ERR_FSVIDEO_MODEL_FILE', 'scheduler.frames')
})

test('a configuration that is no JSON, or far too large, is refused', async () => {
  const copy = scratch()
  await cp(tiny, copy, { recursive: true })
  const file = join(copy, 'encoder/config.json')
  for (const text of ['{', '', ' '.repeat(2 ** 20 + 1)]) {
    await writeFile(file, text)
    await refuses(() => readConfigFolder(copy), 'ERR_FSVIDEO_MODEL_FILE', file)
  }
  await rm(file)
  await mkdir(file)
  await refuses(() => readConfigFolder(copy), 'ERR_FSVIDEO_MODEL_FILE', file, 'a folder')
})

test('weights of another configuration are refused before any network is built', async () => {
  const other = await edited(made, 'refiner/config.json', 'ffn_dim', 112)
  const before = device.memory()
  const built: string[] = []
  const error = await refuses(
    async () =>
      Networks.load(await readModelFolder(other), {
        device,
        dtype: 'f32',
        onComponent: (component) => void built.push(component),
      }),
    'ERR_FSVIDEO_MODEL_FILE',
    'blocks.0.ffn.0.weight',
  )
  assert.match(error.message, '6 tensors are of the wrong shape')
  assert.equal(built, [])
  assert.equal(device.memory(), before)
  await refuses(() => modelInfo(other), 'ERR_FSVIDEO_MODEL_FILE', 'blocks.0.ffn.0.weight')
})

test('a complete CLIP checkpoint may hold what is not read', async () => {
  const copy = scratch()
  await cp(made, copy, { recursive: true })
  const file = join(copy, 'image_encoder/model.safetensors')
  const weights = await FileWeights.open(join(copy, 'image_encoder'), device)
  const entries = weights.entries.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: name.endsWith('patch_embedding.weight') ? shape.toSpliced(2, 1) : shape,
    data: () => weights.get(ask(name, shape)).read(),
  }))
  const extra = (name: string) => ({
    name,
    dtype: 'f32' as const,
    shape: [1],
    data: () => new Float32Array(1),
  })
  // of two layers the first is read: the output is the hidden state before the last
  const behind = ['vision_model.post_layernorm.weight', 'vision_model.encoder.layers.1.mlp.fc1.bias'].map(
    extra,
  )
  await rm(file)
  await writeSafetensors(file, [...entries, ...behind])
  const model = await readModelFolder(copy)
  const networks = await Networks.load(model, { device, dtype: 'f32' })
  networks.dispose()
  const inside = extra('vision_model.encoder.layers.0.extra')
  await rm(file)
  await writeSafetensors(file, [...entries, inside])
  await refuses(() => Networks.load(model, { device, dtype: 'f32' }), 'ERR_FSVIDEO_MODEL_FILE', inside.name)
})

test('a tokenizer with more words than the text encoder is refused', async () => {
  const copy = await edited(made, 'text_encoder/config.json', 'vocab_size', 300)
  await refuses(
    async () => loadTokenizer(await readModelFolder(copy)),
    'ERR_FSVIDEO_MODEL_FILE',
    'text_encoder.vocab_size',
  )
})

test.run()
