/** Weight files: what is read is what was written, in place; and what is wrong is told whole and before any use. */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device } from '../lib/device.js'
import type { TensorRequest } from '../lib/parameters.js'
import type { Tensor } from '../lib/tensor.js'
import { expectedTensors, FileWeights, type NewEntry, tensorEntry, writeSafetensors } from '../lib/weights.js'
import { refusal, refuses } from './refusals.js'

const test = suite('weights')
let device: Device
let folder: string

test.before(async () => {
  device = await Device.open('cpu', { threads: 1 })
})
test.after(() => device.dispose())
test.before.each(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-weights-'))
})
test.after.each(() => rm(folder, { recursive: true }))

const count = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1)
/** 1, 2, 3, ... plus `offset`: exact in f32. */
const ramp = (shape: readonly number[], offset = 0) =>
  Float32Array.from({ length: count(shape) }, (_, i) => i + 1 + offset)

const f32 = (name: string, shape: number[], offset = 0): NewEntry => ({
  name,
  dtype: 'f32',
  shape,
  data: () => ramp(shape, offset),
})
const typed = (name: string, dtype: NewEntry['dtype'], shape: number[]): NewEntry => {
  const bytes = { f32: 4, i32: 4, bf16: 2, f8e4m3: 1, u8: 1 }[dtype]
  return { name, dtype, shape, data: () => new Uint8Array(bytes * count(shape)) }
}
const ask = (name: string, shape: number[]): TensorRequest => ({ name, shape, init: 'normal', gain: 1 })
const at = (name: string) => join(folder, name)
const values = async (tensor: Tensor) => [...(await tensor.toFloat32())]

async function writeIndex(map: unknown, name = 'model.safetensors.index.json'): Promise<void> {
  await writeFile(at(name), JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }))
}

test('tensors come back as they were written, in f32 and bf16, from a device too', async () => {
  const made = device.tensor(new Uint16Array([0x3f80, 0xc000]), [2], 'bf16') // 1, -2
  await writeSafetensors(at('model.safetensors'), [
    f32('a.weight', [2, 3]),
    tensorEntry('b', made),
    f32('empty', [0, 3]),
    f32('scalar', []),
  ])
  const weights = await FileWeights.open(folder, device)
  assert.equal(await values(weights.get(ask('a.weight', [2, 3]))), [1, 2, 3, 4, 5, 6])
  const b = weights.get(ask('b', [2]))
  assert.is(b.dtype, 'bf16')
  assert.equal(await values(b), [1, -2])
  assert.equal(weights.get(ask('empty', [0, 3])).shape, [0, 3])
  assert.equal(await values(weights.get(ask('scalar', []))), [1])
  weights.finish()
})

test('on the CPU a tensor is the mapped file and takes no memory of its own', async () => {
  await writeSafetensors(at('model.safetensors'), [f32('a', [1000, 1000])])
  const weights = await FileWeights.open(folder, device)
  const before = device.memory()
  const a = weights.get(ask('a', [1000, 1000]))
  const after = device.memory()
  assert.is(after.mapped - before.mapped, 4e6)
  assert.is(after.inUse, before.inUse)
  a.dispose()
  await device.synchronize()
  assert.is(device.memory().mapped, before.mapped)
})

test('shards are one set of tensors', async () => {
  await mkdir(at('part'))
  await writeSafetensors(at('one.safetensors'), [f32('a', [2]), f32('b', [2], 10)])
  await writeSafetensors(at('part/two.safetensors'), [f32('c', [3], 20)])
  const map = { a: 'one.safetensors', b: 'one.safetensors', c: 'part/two.safetensors' }
  for (const name of ['model.safetensors.index.json', 'diffusion_pytorch_model.safetensors.index.json']) {
    await writeIndex(map, name)
    const weights = await FileWeights.open(folder, device)
    assert.equal(weights.entries.map((entry) => entry.name).sort(), ['a', 'b', 'c'])
    assert.equal(await values(weights.get(ask('b', [2]))), [11, 12])
    assert.equal(await values(weights.get(ask('c', [3]))), [21, 22, 23])
    await rm(at(name))
  }
})

test('the weight file is found by its name; a variant where it is the only one or is named', async () => {
  const first = async (options = {}) =>
    (await values((await FileWeights.open(folder, device, options)).get(ask('a', [1]))))[0]
  await refuses(first, 'ERR_FSVIDEO_MODEL_FILE', folder, 'no weights')
  await writeSafetensors(at('diffusion_pytorch_model.bf16.safetensors'), [f32('a', [1], 1)])
  assert.is(await first(), 2)
  await refuses(() => first({ variant: 'fp32' }), 'ERR_FSVIDEO_MODEL_FILE', folder, 'another variant')
  await writeSafetensors(at('diffusion_pytorch_model.fp32.safetensors'), [f32('a', [1], 2)])
  const error = await refuses(first, 'ERR_FSVIDEO_MODEL_FILE', folder, 'two variants')
  assert.match(error.message, 'diffusion_pytorch_model.bf16.safetensors and diffusion_pytorch_model.fp32')
  assert.is(await first({ variant: 'fp32' }), 3)
  await refuses(() => first({ variant: 'fp8' }), 'ERR_FSVIDEO_MODEL_FILE', folder, 'no such variant')
  await writeSafetensors(at('diffusion_pytorch_model.safetensors'), [f32('a', [1], 3)])
  assert.is(await first(), 4)
  await writeSafetensors(at('model.safetensors'), [f32('a', [1], 4)])
  await refuses(first, 'ERR_FSVIDEO_MODEL_FILE', folder, 'two files')
  await refuses(() => FileWeights.open(at('none'), device), 'ERR_FSVIDEO_MODEL_FILE', at('none'))
})

test('a weight map that is not one is refused', async () => {
  const index = at('model.safetensors.index.json')
  const open = () => FileWeights.open(folder, device)
  for (const [text, field] of [
    ['{', index],
    ['[]', 'weight_map'],
    ['null', 'weight_map'],
    ['{"weight_map": ["a"]}', 'weight_map'],
    ['{"weight_map": {"a": 3}}', 'weight_map.a'],
    [`{"weight_map": {"a": "${'x'.repeat(16 * 2 ** 20)}"}}`, index],
  ] as const) {
    await writeFile(index, text)
    await refuses(open, 'ERR_FSVIDEO_MODEL_FILE', field, text.slice(0, 40))
  }
})

test('a weight map does not lead out of its folder', async () => {
  const inner = at('component')
  await mkdir(inner)
  await writeSafetensors(at('outside.safetensors'), [f32('a', [1])])
  await symlink(at('outside.safetensors'), join(inner, 'link.safetensors'))
  await symlink(folder, join(inner, 'up'))
  await mkdir(join(inner, 'folder.safetensors'))
  for (const name of [
    '../outside.safetensors',
    'x/../../outside.safetensors',
    '..\\outside.safetensors',
    at('outside.safetensors'),
    'link.safetensors',
    'up/outside.safetensors',
    'folder.safetensors',
    'missing.safetensors',
    'nul\0.safetensors',
    '',
    '.',
  ]) {
    const index = { weight_map: { a: name } }
    await writeFile(join(inner, 'model.safetensors.index.json'), JSON.stringify(index))
    const error = await refuses(
      () => FileWeights.open(inner, device),
      'ERR_FSVIDEO_MODEL_FILE',
      'weight_map',
      name,
    )
    assert.is(error.got, name)
  }
})

test('map and shards must agree', async () => {
  await writeSafetensors(at('one.safetensors'), [f32('a', [1]), f32('b', [1])])
  await writeSafetensors(at('two.safetensors'), [f32('c', [1])])
  const open = () => FileWeights.open(folder, device)
  await writeIndex({ a: 'one.safetensors', b: 'one.safetensors', c: 'two.safetensors', d: 'two.safetensors' })
  assert.match(
    (await refuses(open, 'ERR_FSVIDEO_MODEL_FILE', 'd')).message,
    '1 tensors are not in the shard it names: d',
  )
  await writeIndex({ a: 'one.safetensors', c: 'two.safetensors' })
  assert.match(
    (await refuses(open, 'ERR_FSVIDEO_MODEL_FILE', 'b')).message,
    '1 tensors of shards are not in it: b',
  )
  await writeIndex({ a: 'one.safetensors', b: 'two.safetensors', c: 'two.safetensors' })
  const error = await refuses(open, 'ERR_FSVIDEO_MODEL_FILE', 'b', 'the wrong shard')
  assert.match(error.message, 'not in the shard it names: b; 1 tensors of shards are not in it: b')
})

test('everything that does not fit is told at once', async () => {
  const many = Array.from({ length: 12 }, (_, i) => `layer.${i}`)
  await writeSafetensors(at('model.safetensors'), [
    f32('good', [2, 3]),
    f32('turned', [3, 2]),
    typed('counts', 'i32', [2]),
    typed('strange', 'bf16', [2]),
    typed('teacher.weight', 'bf16', [2]),
  ])
  const weights = await FileWeights.open(folder, device)
  const expected = [
    ask('good', [2, 3]),
    ask('turned', [2, 3]),
    ask('counts', [2]),
    ...many.map((name) => ask(name, [4])),
  ]
  const error = await refusal(() => weights.check(expected, { ignore: [/^teacher\./] }))
  assert.is(error.code, 'ERR_FSVIDEO_MODEL_FILE')
  assert.is(error.field, 'turned')
  assert.is(error.got, 'f32 [3, 2]')
  assert.is(error.expected, 'f32 or bf16 or f8e4m3 [2, 3]')
  for (const part of [
    `${at('model.safetensors')} is not what config.json describes`,
    '1 tensor is of the wrong shape: turned is f32 [3, 2] and must be f32 or bf16 or f8e4m3 [2, 3]',
    '1 tensor is of the wrong dtype: counts is i32 [2] and must be f32 or bf16 [2]',
    '12 tensors are missing: layer.0, layer.1, ',
    'layer.9 and 2 more',
    '1 tensor is not expected: strange',
  ])
    assert.ok(error.message.includes(part), `${part} in: ${error.message}`)
  assert.not.match(error.message, 'teacher')
  assert.not.match(error.message, 'layer.10')
  weights.check(
    ['good', 'strange', 'teacher.weight'].map((name, i) => ask(name, i === 0 ? [2, 3] : [2])),
    { ignore: [/^turned$/, /^counts$/] },
  )
})

test('fp8 is for matrices only', async () => {
  await writeSafetensors(at('model.safetensors'), [
    typed('matrix', 'f8e4m3', [2, 3]),
    typed('vector', 'f8e4m3', [3]),
    typed('kernel', 'f8e4m3', [2, 3, 1, 1, 1]),
  ])
  const weights = await FileWeights.open(folder, device)
  assert.is(weights.get(ask('matrix', [2, 3])).dtype, 'f8e4m3')
  for (const [name, shape] of Object.entries({ vector: [3], kernel: [2, 3, 1, 1, 1] }))
    await refuses(() => weights.get(ask(name, shape)), 'ERR_FSVIDEO_MODEL_FILE', name)
})

test('a single request is checked like the table', async () => {
  await writeSafetensors(at('model.safetensors'), [f32('a', [2, 3]), typed('i', 'i32', [1])])
  const weights = await FileWeights.open(folder, device)
  assert.is((await refuses(() => weights.get(ask('b', [1])), 'ERR_FSVIDEO_MODEL_FILE', 'b')).got, 'nothing')
  for (const shape of [[3, 2], [6], [2, 3, 1], [1, 2, 3]])
    await refuses(() => weights.get(ask('a', shape)), 'ERR_FSVIDEO_MODEL_FILE', 'a', String(shape))
  await refuses(() => weights.get(ask('i', [1])), 'ERR_FSVIDEO_MODEL_FILE', 'i')
})

test('tensors that nobody asked for are told at the end', async () => {
  await writeSafetensors(at('model.safetensors'), [f32('a', [1]), f32('b.x', [1]), f32('b.y', [1])])
  const weights = await FileWeights.open(folder, device)
  weights.get(ask('a', [1]))
  const error = await refuses(() => weights.finish(), 'ERR_FSVIDEO_MODEL_FILE', 'b.x')
  assert.match(error.message, '2 tensors are not expected: b.x, b.y')
  weights.finish({ ignore: [/^b\./] })
})

test('a patch embedding may be stored as a 2D convolution, other weights not', async () => {
  const stored = [4, 3, 2, 2]
  await writeSafetensors(at('model.safetensors'), [
    f32('patch_embedding.weight', stored),
    f32('conv', stored),
  ])
  const weights = await FileWeights.open(folder, device)
  const asked = ask('patch_embedding.weight', [4, 3, 1, 2, 2])
  weights.check([asked], { ignore: [/^conv$/] })
  const tensor = weights.get(asked)
  assert.equal(tensor.shape, [4, 3, 1, 2, 2])
  assert.equal(await tensor.toFloat32(), ramp(stored))
  await refuses(() => weights.get(ask('conv', [4, 3, 1, 2, 2])), 'ERR_FSVIDEO_MODEL_FILE', 'conv')
  const deep = ask('patch_embedding.weight', [4, 3, 2, 2, 2])
  await refuses(() => weights.get(deep), 'ERR_FSVIDEO_MODEL_FILE', 'patch_embedding.weight')
})

test('a damaged file is refused when it is opened', async () => {
  await writeSafetensors(at('model.safetensors'), [f32('a', [100])])
  await truncate(at('model.safetensors'), 200)
  assert.is((await refusal(() => FileWeights.open(folder, device))).code, 'ERR_FSVIDEO_MODEL_FILE')
})

test('what a network asks for is known without weights', async () => {
  const meta = await Device.open('meta')
  try {
    const tensors = expectedTensors(meta, (parameters) => {
      parameters.at('block.0').linear('weight', [3, 4])
      parameters.vector('norm', 5, 'ones')
    })
    assert.equal(tensors, [
      { name: 'block.0.weight', shape: [3, 4], init: 'normal', gain: 1 },
      { name: 'norm', shape: [5], init: 'ones', gain: 1 },
    ])
    assert.is(meta.memory().inUse, 0)
  } finally {
    meta.dispose()
  }
})

test('a file appears whole or not at all', async () => {
  const path = at('model.safetensors')
  const short: NewEntry = { ...f32('b', [3]), data: () => ramp([2]) }
  await refuses(
    () => writeSafetensors(path, [f32('a', [3]), short]),
    'ERR_FSVIDEO_INVALID_ARGUMENT',
    'b',
    'data of the wrong size',
  )
  const failing: NewEntry = {
    ...f32('b', [3]),
    data: () => {
      throw new Error('no data')
    },
  }
  try {
    await writeSafetensors(path, [f32('a', [3]), failing])
    assert.unreachable()
  } catch (error) {
    assert.is((error as Error).message, 'no data')
  }
  await refuses(
    () => writeSafetensors(at('none/model.safetensors'), [f32('a', [1])]),
    'ERR_FSVIDEO_OUTPUT',
    at('none/model.safetensors'),
  )
  assert.equal(await readdir(folder), [])
})

test('the bodies are asked for one after the other, in the order of the file', async () => {
  const asked: string[] = []
  const entry = (name: string, dtype: NewEntry['dtype']): NewEntry => {
    const made = typed(name, dtype, [3])
    return {
      ...made,
      data: async () => {
        asked.push(`${name} begins`)
        await new Promise(setImmediate)
        asked.push(`${name} ends`)
        return made.data()
      },
    }
  }
  await writeSafetensors(at('model.safetensors'), [entry('half', 'bf16'), entry('full', 'f32')], {
    note: 'x',
  })
  assert.equal(asked, ['full begins', 'full ends', 'half begins', 'half ends'])
  const header = await readFile(at('model.safetensors'))
  const length = Number(header.readBigUInt64LE())
  const { __metadata__: metadata } = JSON.parse(header.toString('utf8', 8, 8 + length))
  assert.equal(metadata, { format: 'pt', note: 'x' })
})

test.run()
