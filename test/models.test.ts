/**
 * What must hold for the networks whatever their weights: layer memory (fsvideo-spec.md 10.2 and 10.3), samples that do not feel
 * their neighbours in a batch, a step that can be captured, the layer of a value that is not finite, and errors by name.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device } from '../lib/device.js'
import { FSVideoError } from '../lib/errors.js'
import {
  type DITConfig,
  parseCLIPVisionConfig,
  parseDITConfig,
  parseLatentUpsamplerConfig,
  parseUMT5Config,
} from '../lib/models/config.js'
import { DIT } from '../lib/models/dit.js'
import type { Triple } from '../lib/models/fields.js'
import { CLIPVision } from '../lib/models/image-encoder.js'
import { LatentUpsampler } from '../lib/models/latent-upsampler.js'
import { rotations, timestepFeatures } from '../lib/models/rope.js'
import { positionBuckets, UMT5Encoder } from '../lib/models/text-encoder.js'
import * as ops from '../lib/ops.js'
import { type ComputeType, Parameters, RandomWeights, type WeightSource } from '../lib/parameters.js'
import type { Tensor, TensorData } from '../lib/tensor.js'
import { relativeL2 } from './goldens.js'

const device = await Device.open('cpu')
const test = suite('networks')
test.after(() => device.dispose())

const config: DITConfig = parseDITConfig(
  {
    dim: 64,
    layers: 4,
    heads: 4,
    ffn_dim: 96,
    in_channels: 20,
    out_channels: 8,
    freq_dim: 32,
    text_len: 6,
    text_dim: 24,
    image_len: 5,
    image_dim: 16,
    rope: [8, 4, 4],
  },
  'dit',
)
const size: Triple = [2, 2, 3]

/** The same inputs for every network; `seeds` one a sample. */
function inputs(seeds: readonly number[]) {
  const normal = (stream: number, ...shape: number[]) =>
    ops.randn(device, [seeds.length, ...shape], { seeds, stream })
  return {
    latents: normal(0, ...size, config.inChannels),
    text: normal(1, config.textLen, config.textDim),
    image: normal(2, config.imageLen!, config.imageDim!),
    time: device.tensor(
      timestepFeatures(
        seeds.map((seed) => 900 - 100 * seed),
        config.freqDim,
      ),
      [seeds.length, config.freqDim],
    ),
  }
}

function makeDIT(
  changes: Partial<DITConfig> = {},
  source: WeightSource = new RandomWeights(device, 1),
  dtype: ComputeType = 'f32',
) {
  return new DIT({ ...config, ...changes }, new Parameters(device, dtype, source))
}

async function velocityOf(dit: DIT, seeds: readonly number[]): Promise<Float32Array> {
  const { latents, text, image, time } = inputs(seeds)
  const conditioning = dit.prepare({ text, image, size })
  const velocity = dit.forward(latents, time, conditioning)
  conditioning.dispose()
  return velocity.toFloat32()
}

/** Random weights, but for the tensors that `change` gives. */
function changed(change: (name: string, shape: readonly number[]) => Tensor | undefined): WeightSource {
  const random = new RandomWeights(device, 1)
  return { get: (request) => change(request.name, request.shape) ?? random.get(request) }
}

function refused(
  run: () => unknown,
  field: string,
  expected: RegExp,
  code = 'ERR_FSVIDEO_INVALID_ARGUMENT',
): void {
  try {
    run()
  } catch (error) {
    assert.instance(error, FSVideoError)
    const refusal = error as FSVideoError
    assert.is(refusal.code, code)
    assert.is(refusal.field, field)
    assert.match(refusal.expected ?? '', expected)
    return
  }
  assert.unreachable(`${field} was accepted`)
}

const bytes = (data: TensorData): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength)
const assertSameBits = (a: TensorData, b: TensorData, what: string) =>
  assert.ok(bytes(a).equals(bytes(b)), `${what}: bits differ`)

test('a router that always takes the newest state is plain Wan', async () => {
  const newest = changed((name, shape) => {
    if (name.endsWith('router.weight')) return ops.fill(device, shape, 0)
    if (!name.endsWith('router.bias')) return undefined
    const bias = new Float32Array(shape[0]!)
    bias[bias.length - 1] = 50
    return device.tensor(bias, shape)
  })
  const plain = await velocityOf(makeDIT({ memory: { ...config.memory, enabled: false } }), [1, 2])
  for (const norm of ['post_mix', 'pre_mix'] as const) {
    const memory = { enabled: true, norm, bias: true }
    const distance = relativeL2(await velocityOf(makeDIT({ memory }, newest), [1, 2]), plain)
    assert.ok(distance <= 1e-6, `${norm}: ${distance}`)
    const free = relativeL2(await velocityOf(makeDIT({ memory }), [1, 2]), plain)
    assert.ok(free > 1e-2, `${norm}: a free router makes a difference, but here only ${free}`)
  }
})

/** A layer memory of four states over 2 samples x 12 tokens x 64 channels, on tokens in a given order. */
function memoryOf(order: (x: Tensor) => Tensor, norm: 'post_mix' | 'pre_mix') {
  const normal = (stream: number, ...shape: number[]) =>
    ops.randn(device, shape, { seeds: Array(shape[0]!).fill(stream), stream })
  const states = [0, 1, 2, 3].map((i) => order(normal(i, 2, 12, 64)))
  const router = normal(8, 4, 64)
  const scale = normal(9, 2, 64)
  const shift = normal(10, 2, 64)
  const routerBias = device.tensor(Float32Array.of(0.5, -1, 0, 1), [4])
  return ops.layerMemoryWithWeights(states, order(normal(11, 2, 12, 64)), router, {
    routerBias,
    scale,
    shift,
    norm,
  })
}

for (const norm of ['post_mix', 'pre_mix'] as const)
  test(`${norm}: a token's router weights sum to 1, and tokens do not see each other`, async () => {
    const swap = (x: Tensor) => ops.concat([x.slice(1, 5, 12), x.slice(1, 0, 5)], 1)
    const straight = memoryOf((x) => x, norm)
    const swapped = memoryOf(swap, norm)
    const weights = (await straight.weights.read()) as Float32Array
    for (let row = 0; row < weights.length; row += 4) {
      const sum = weights.subarray(row, row + 4).reduce((total, w) => total + w, 0)
      assert.ok(Math.abs(sum - 1) < 1e-6, `row ${row / 4} sums to ${sum}`)
    }
    assertSameBits(await swap(straight.weights).read(), await swapped.weights.read(), 'weights')
    assertSameBits(await swap(straight.memory).read(), await swapped.memory.read(), 'memory')
  })

for (const dtype of ['f32', 'bf16'] as const) {
  test(`a batch of two is two singles, bit for bit, in ${dtype}`, async () => {
    const halves = (both: TensorData, singles: TensorData[], what: string) => {
      assertSameBits(both.slice(0, both.length / 2), singles[0]!, `${what}, first sample`)
      assertSameBits(both.slice(both.length / 2), singles[1]!, `${what}, second sample`)
    }
    const parameters = new Parameters(device, dtype, new RandomWeights(device, 2))
    const normal = (seeds: number[], ...shape: number[]) =>
      ops.randn(device, [seeds.length, ...shape], { seeds })

    const dit = makeDIT({}, new RandomWeights(device, 1), dtype)
    halves(await velocityOf(dit, [1, 2]), [await velocityOf(dit, [1]), await velocityOf(dit, [2])], 'DIT')

    const upsampler = new LatentUpsampler(
      parseLatentUpsamplerConfig({ in_channels: 8, mid_channels: 12, blocks: 2, norm_groups: 3 }, 'u'),
      parameters,
    )
    const up = (...seeds: number[]) => upsampler.forward(normal(seeds, 3, 3, 2, 8)).read()
    halves(await up(1, 2), [await up(1), await up(2)], 'upsampler')

    const clip = new CLIPVision(
      parseCLIPVisionConfig(
        {
          hidden_size: 24,
          intermediate_size: 40,
          num_hidden_layers: 2,
          num_attention_heads: 2,
          image_size: 12,
          patch_size: 4,
        },
        'clip',
      ),
      parameters,
    )
    const see = (...seeds: number[]) => clip.forward(normal(seeds, 1, 12, 12, 3)).read()
    halves(await see(1, 2), [await see(1), await see(2)], 'image encoder')

    const encoder = makeTextEncoder(parameters)
    const embed = (...prompts: number[][]) => encoder.embed(prompts, 9).read()
    const prompts: [number[], number[]] = [
      [5, 6, 7, 1],
      [8, 1],
    ]
    halves(await embed(...prompts), [await embed(prompts[0]), await embed(prompts[1])], 'text encoder')
  })
}

function makeTextEncoder(parameters: Parameters): UMT5Encoder {
  const small = { vocab_size: 20, d_model: 24, d_kv: 8, d_ff: 40, num_layers: 2, num_heads: 3 }
  return new UMT5Encoder(parseUMT5Config(small, 'text_encoder'), parameters)
}

test('behind the last token of a prompt there are zeros', async () => {
  const encoder = makeTextEncoder(new Parameters(device, 'f32', new RandomWeights(device, 2)))
  const short = (await encoder.forward([3, 1]).read()) as Float32Array
  const padded = (await encoder.embed([[3, 1]], 5).read()) as Float32Array
  assertSameBits(padded.slice(0, short.length), short, 'the prompt')
  assert.ok(padded.slice(short.length).every((value) => value === 0))
  assertSameBits(await encoder.embed([[3, 1]], 2).read(), short, 'a prompt that fills the length')
})

test('a captured step follows its latents and its timestep', async () => {
  const dit = makeDIT()
  const { latents, text, image, time } = inputs([1])
  const other = inputs([2])
  const conditioning = dit.prepare({ text, image, size })
  const eager = async (x: Tensor, t: Tensor) => dit.forward(x, t, conditioning).read()
  const expected = [
    await eager(latents, time),
    await eager(other.latents, time),
    await eager(latents, other.time),
  ]
  const [x, t] = [ops.cast(latents, 'f32'), ops.cast(time, 'f32')]
  const { graph, result } = device.capture(() => dit.forward(x, t, conditioning, { flags: true }))
  for (const [i, [from, at]] of [
    [latents, time],
    [other.latents, time],
    [latents, other.time],
  ].entries() as Iterable<[number, [Tensor, Tensor]]>) {
    ops.assign(x, from)
    ops.assign(t, at)
    graph.replay()
    assertSameBits(await result.velocity.read(), expected[i]!, `replay ${i}`)
    assert.equal([...(await result.flags.read())], [1, 1, 1, 1, 1])
  }
  assert.ok(
    relativeL2(expected[2] as Float32Array, expected[0] as Float32Array) > 1e-3,
    'the timestep matters',
  )
  graph.dispose()
})

test('flags tell the layer from which on values are not finite', async () => {
  const broken = changed((name, shape) =>
    name === 'blocks.2.ffn.2.bias'
      ? device.tensor(new Float32Array(config.dim).fill(Number.POSITIVE_INFINITY), shape)
      : undefined,
  )
  const { latents, text, image, time } = inputs([1, 2])
  const dit = makeDIT({}, broken)
  const { flags } = dit.forward(latents, time, dit.prepare({ text, image, size }), { flags: true })
  assert.equal([...(await flags.read())], [1, 1, 0, 0, 0])
})

test('nothing is left behind', async () => {
  const dit = makeDIT()
  const plain = makeDIT({ memory: { ...config.memory, enabled: false } })
  const encoder = makeTextEncoder(new Parameters(device, 'bf16', new RandomWeights(device, 2)))
  await device.synchronize()
  const before = device.memory().inUse
  for (const network of [dit, plain]) {
    const { latents, text, image, time } = inputs([1, 2])
    const conditioning = device.scope(() => network.prepare({ text, image, size }))
    const velocity = network.forward(latents, time, conditioning)
    conditioning.dispose()
    conditioning.dispose()
    for (const tensor of [latents, text, image, time, velocity]) tensor.dispose()
  }
  encoder.embed([[1], [2, 1]], 4).dispose()
  await device.synchronize()
  assert.is(device.memory().inUse, before)
})

test('without memory old states are dropped: the peak does not grow with the layers', () => {
  const peak = (memory: boolean, layers: number) => {
    const dit = makeDIT({ layers, memory: { ...config.memory, enabled: memory } })
    const [t, h, w] = [4, 8, 8]
    const conditioning = dit.prepare({
      text: ops.fill(device, [1, config.textLen, config.textDim], 0),
      image: ops.fill(device, [1, config.imageLen!, config.imageDim!], 0),
      size: [t, h, w],
    })
    const latents = ops.fill(device, [1, t, h, w, config.inChannels], 0)
    const time = ops.fill(device, [1, config.freqDim], 0)
    device.resetPeak()
    const before = device.memory().inUse
    dit.forward(latents, time, conditioning).dispose()
    return device.memory().peak - before
  }
  const state = 4 * 8 * 8 * config.dim * 4
  assert.ok(peak(false, 12) - peak(false, 4) < state, 'plain')
  assert.ok(Math.abs((peak(true, 12) - peak(true, 4)) / state - 8) < 0.5, 'eight states more with memory')
})

test('position buckets: exact to 7, then wider by the square root of 2, the last from 91 on', () => {
  const n = 200
  const table = positionBuckets(n, 32, 128)
  const firstOf = (keyBehind: boolean) =>
    Array.from({ length: 16 }, (_, bucket) => {
      const wanted = bucket + (keyBehind ? 16 : 0)
      const row = keyBehind
        ? table.subarray(0, n)
        : table
            .subarray((n - 1) * n)
            .slice()
            .reverse()
      return row.indexOf(wanted)
    })
  const starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
  assert.equal(firstOf(false), starts)
  // A query's own position is counted to the first half.
  assert.equal(firstOf(true), [-1, ...starts.slice(1)])
})

test('rotations: every axis turns its own pairs by its own frequencies', () => {
  const [t, h, w] = [3, 2, 2]
  const split: Triple = [4, 2, 6]
  const table = rotations([t, h, w], split, 100)
  assert.is(table.length, t * h * w * 12)
  const [i, j, k] = [2, 1, 1]
  const token = (i * h + j) * w + k
  const angles = [i, i * 100 ** (-2 / 4), j, k, k * 100 ** (-2 / 6), k * 100 ** (-4 / 6)]
  for (const [pair, angle] of angles.entries()) {
    assert.is(table[token * 12 + 2 * pair], Math.fround(Math.cos(angle)))
    assert.is(table[token * 12 + 2 * pair + 1], Math.fround(Math.sin(angle)))
  }
})

test('timestep features: cosines, then sines, not rounded to whole steps', () => {
  const features = timestepFeatures([0, 937.5], 8)
  assert.equal([...features.subarray(0, 8)], [1, 1, 1, 1, 0, 0, 0, 0])
  for (let k = 0; k < 4; k++) {
    assert.is(features[8 + k], Math.fround(Math.cos(937.5 * 10 ** -k)))
    assert.is(features[12 + k], Math.fround(Math.sin(937.5 * 10 ** -k)))
  }
})

test('tensors that do not fit are refused by name', () => {
  const dit = makeDIT()
  const { latents, text, image, time } = inputs([1])
  const prepare = (change: object) => () => dit.prepare({ text, image, size, ...change })
  refused(prepare({ text: text.reshape(1, 3, -1) }), 'dit.text', /\[B, 6, 24\]/)
  refused(prepare({ image: inputs([1, 2]).image }), 'dit.image', /\[1, 5, 16\]/)
  refused(prepare({ image: undefined }), 'dit.image', /given/)
  refused(prepare({ size: [2, 0, 3] }), 'dit.size', /multiples/)
  const patched = makeDIT({ patchSize: [1, 2, 2] })
  refused(() => patched.prepare({ text, image, size: [2, 2, 3] }), 'dit.size', /\[1, 2, 2\]/)
  const blind = makeDIT({ imageDim: null })
  refused(() => blind.prepare({ text, image, size }), 'dit.image', /no image branch/)

  const conditioning = dit.prepare({ text, image, size })
  const forward = (x: Tensor, t: Tensor) => () => dit.forward(x, t, conditioning)
  refused(forward(latents.reshape(1, 2, 3, 2, -1), time), 'dit.latents', /\[1, 2, 2, 3, 20\]/)
  refused(forward(inputs([1, 2]).latents, time), 'dit.latents', /\[1, 2, 2, 3, 20\]/)
  refused(forward(latents, time.slice(1, 0, 16)), 'dit.timestep', /\[1, 32\]/)
  const gone = ops.cast(latents, 'f32')
  gone.dispose()
  try {
    dit.forward(gone, time, conditioning)
    assert.unreachable('a disposed tensor was taken')
  } catch (error) {
    assert.is((error as FSVideoError).code, 'ERR_FSVIDEO_DISPOSED')
    assert.is((error as FSVideoError).field, 'dit.latents')
  }

  const parameters = new Parameters(device, 'f32', new RandomWeights(device, 2))
  const encoder = makeTextEncoder(parameters)
  refused(() => encoder.forward([]), 'ids', /at least one/)
  refused(() => encoder.forward([3, 20]), 'ids[1]', /from 0 to 19/)
  refused(() => encoder.forward([-1]), 'ids[0]', /from 0 to 19/)
  refused(() => encoder.embed([[1], [1, 2, 3]], 2), 'prompts[1]', /at most 2/)
  const upsampler = new LatentUpsampler(
    parseLatentUpsamplerConfig({ in_channels: 8, mid_channels: 8, blocks: 0, norm_groups: 1 }, 'u'),
    parameters,
  )
  refused(() => upsampler.forward(latents), 'latentUpsampler.latents', /\[B, T, h, w, 8\]/)
})

test.run()
