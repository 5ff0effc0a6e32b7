/**
 * What must hold for the autoencoder whatever its weights (fsvideo-spec.md 10.4 to 10.6): the encoder looks only back, a decoder that is
 * fed in chunks gives the bits of a whole run, and sizes come back as they went in.
 */
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { readConfigFolder } from '../lib/model-folder.js'
import { compression, Decoder, Encoder } from '../lib/models/autoencoder.js'
import type { DecoderConfig, EncoderConfig } from '../lib/models/config.js'
import * as ops from '../lib/ops.js'
import { type ComputeType, Parameters, RandomWeights, RecordedShapes } from '../lib/parameters.js'
import type { Tensor } from '../lib/tensor.js'
import { sameBits } from './numbers.js'
import { refuses } from './refusals.js'

const device = await Device.open('cpu')
const test = suite('autoencoder')
test.after(() => device.dispose())

const tiny = await readConfigFolder(path.join(packageRoot, 'models', 'tiny'))
const full = await readConfigFolder(path.join(packageRoot, 'models', 'fsvideo-14b'))
/** Four stages in place of seven, so that a decode is a matter of milliseconds. */
const short = {
  widths: [8, 8, 16, 16],
  depths: [1, 2, 1, 1],
  attentionFromStage: 2,
  latentTimeKernel: 3,
  resampleTimeKernel: 3,
}

const parameters = (dtype: ComputeType, seed = 1) =>
  new Parameters(device, dtype, new RandomWeights(device, seed))
const normal = (shape: readonly number[], dtype: ComputeType, stream = 0) =>
  ops.randn(device, shape, { seeds: shape.slice(0, 1).map(() => 5), stream, dtype })
const frame = (video: Tensor, from: number, to = from + 1) => ops.slice(video, 1, from, to)

const encoders: [string, Partial<EncoderConfig>][] = [
  ['shuffle', {}],
  ['strided, zeros', { resample: 'strided', timePadding: 'zeros' }],
]
for (const dtype of ['f32', 'bf16'] as const)
  for (const [name, changes] of encoders)
    test(`the encoder looks only back: ${name} in ${dtype}`, async () => {
      const made = parameters(dtype)
      const encoder = new Encoder({ ...tiny.encoder, ...changes }, made)
      const video = normal([1, 9, 64, 128, 3], dtype)
      const { latents, features } = encoder.encode(video)
      assert.equal(latents.shape, [1, 3, 1, 2, tiny.encoder.latentChannels])
      for (const j of [0, 1]) {
        const changed = ops.concat(
          [frame(video, 0, 4 * j + 1), normal([1, 8 - 4 * j, 64, 128, 3], dtype, 1)],
          1,
        )
        const other = encoder.encode(changed)
        await sameBits(frame(other.latents, 0, j + 1), frame(latents, 0, j + 1), `latents to ${j}`)
        // and what lies behind does change
        const [a, b] = [await frame(other.latents, j + 1).read(), await frame(latents, j + 1).read()]
        assert.not.equal([...a], [...b])
      }
      const alone = encoder.encode(frame(video, 0))
      await sameBits(alone.latents, frame(latents, 0), 'the latent of a picture')
      assert.is(alone.features.length, features.length)
      for (const [s, feature] of features.entries())
        await sameBits(alone.features[s]!, feature, `features of stage ${s}`)
      made.dispose()
    })

const decoders: [string, Partial<DecoderConfig>][] = [
  ['standard', {}],
  ['standard, interpolate', { resample: 'interpolate' }],
  ['standard, zeros, interpolate', { resample: 'interpolate', timePadding: 'zeros' }],
  ['standard, kernels of one frame', { latentTimeKernel: 1, resampleTimeKernel: 1, timePadding: 'zeros' }],
  ['lite', { conv: 'group_causal' }],
  ['lite, zeros', { conv: 'group_causal', timePadding: 'zeros' }],
  ['lite, interpolate', { conv: 'group_causal', resample: 'interpolate' }],
]
/** A small decoder and what it decodes: T latent frames of 2x3 cells, 16x24 pixels. */
function decoderOf(changes: Partial<DecoderConfig>, dtype: ComputeType, frames: number) {
  const config: DecoderConfig = {
    ...(changes.conv ? tiny.decoderLite! : tiny.decoder!),
    ...short,
    encoderWidths: short.widths,
    firstFrameAttentionStages: [1, 2, 3],
    noiseWeight: 0.3,
    ...changes,
  }
  const made = parameters(dtype)
  const sides = [8, 4, 2, 1].map((_, s) => 2 ** (3 - Math.min(s + 1, 3)))
  const features = sides.map((side, s) =>
    normal([1, 1, 2 * side, 3 * side, config.encoderWidths[Math.min(s + 1, 3)]!], dtype, 10 + s),
  )
  const latents = normal([1, frames, 2, 3, config.latentChannels], dtype)
  const decode = (chunk?: number, seed: number | null = 3) => [
    ...new Decoder(config, made).decode(latents, features, { chunk, seed: seed ?? undefined }),
  ]
  return { decode, dispose: () => made.dispose() }
}

for (const dtype of ['f32', 'bf16'] as const)
  for (const [name, changes] of decoders)
    test(`chunks joined are the whole: ${name} in ${dtype}`, async () => {
      const total = 5
      const { decode, dispose } = decoderOf(changes, dtype, total)
      const [whole, ...more] = decode()
      assert.is(more.length, 0)
      assert.equal(whole!.shape, [1, 4 * total - 3, 16, 24, 3])
      for (const chunk of [1, 2, 3, 4]) {
        const parts = decode(chunk)
        await sameBits(ops.concat(parts, 1), whole!, `chunks of ${chunk}`)
        if (name.startsWith('lite')) {
          const counts = parts.map((part) => part.dim(1))
          const expected = Array.from(
            { length: Math.ceil(total / chunk) },
            (_, i) => 4 * Math.min(chunk, total - i * chunk) - (i === 0 ? 3 : 0),
          )
          assert.equal(counts, expected, 'every latent frame gives its frames at once')
        }
      }
      // The noise is there, and its seed matters.
      const quiet = await decode(undefined, null)[0]!.read()
      const other = await decode(undefined, 4)[0]!.read()
      const noisy = await whole!.read()
      assert.not.equal([...noisy.slice(0, 500)], [...quiet.slice(0, 500)])
      assert.not.equal([...noisy.slice(0, 500)], [...other.slice(0, 500)])
      dispose()
    })

test('every number of latent frames gives its frames, in every chunk size', async () => {
  for (const conv of ['noncausal', 'group_causal'] as const)
    for (const frames of [1, 2, 3, 4]) {
      const { decode, dispose } = decoderOf({ conv }, 'f32', frames)
      const [whole] = decode()
      for (let chunk = 1; chunk <= frames + 1; chunk++)
        await sameBits(
          ops.concat(decode(chunk), 1),
          whole!,
          `${conv}: ${frames} frames in chunks of ${chunk}`,
        )
      assert.is(whole!.dim(1), 4 * frames - 3)
      dispose()
    }
})

test('the lite decoder does not look behind the frames of its latent', async () => {
  const { decode, dispose } = decoderOf({ conv: 'group_causal' }, 'f32', 4)
  const shorter = decoderOf({ conv: 'group_causal' }, 'f32', 2)
  await sameBits(frame(decode()[0]!, 0, 5), shorter.decode()[0]!, 'frames of the first two latents')
  dispose()
  shorter.dispose()
})

test('a decode that is left early gives its memory back', async () => {
  const other = await Device.open('cpu')
  const made = new Parameters(other, 'bf16', new RandomWeights(other, 1))
  const config = {
    ...tiny.decoderLite!,
    ...short,
    encoderWidths: short.widths,
    firstFrameAttentionStages: [],
  }
  const decoder = new Decoder(config, made)
  const latents = ops.randn(other, [1, 5, 2, 3, 16], { seeds: [1], dtype: 'bf16' })
  const before = other.memory().inUse
  const chunks = decoder.decode(latents, [], { chunk: 1, seed: 1 })
  for (let i = 0; i < 3; i++) chunks.next().value?.dispose()
  assert.ok(other.memory().inUse > before)
  chunks.return()
  assert.is(other.memory().inUse, before)
  latents.dispose()
  made.dispose()
  assert.is(other.memory().inUse, 0)
  other.dispose()
})

test('the sizes of the paper go in and come out', async () => {
  const meta = await Device.open('meta')
  const shapes = new Parameters(meta, 'bf16', new RecordedShapes(meta))
  const encoder = new Encoder(full.encoder, shapes)
  const decoders = [full.decoder!, full.decoderLite!].map((config) => new Decoder(config, shapes))
  assert.equal(compression(full.encoder), { time: 4, space: 64 })
  const weights = meta.memory().inUse
  for (const [width, height] of [
    ...[
      [1536, 1024],
      [1024, 1536],
      [896, 1152],
      [1536, 768],
      [1280, 768],
    ],
    ...[
      [768, 512],
      [512, 768],
      [448, 576],
      [768, 384],
      [640, 384],
    ],
  ] as [number, number][])
    meta.scope(() => {
      const video = ops.fill(meta, [1, 121, height, width, 3], 0, 'bf16')
      const { latents, features } = encoder.encode(video)
      assert.equal(latents.shape, [1, 31, height / 64, width / 64, 128])
      assert.is(features.length, 7)
      for (const decoder of decoders)
        for (const chunk of [4, 31]) {
          let frames = 0
          for (const part of decoder.decode(latents, features, { chunk, seed: 1 })) {
            assert.equal([part.dim(0), ...part.shape.slice(2)], [1, height, width, 3])
            frames += part.dim(1)
            part.dispose()
          }
          assert.is(frames, 121)
        }
    })
  assert.is(meta.memory().inUse, weights)
  meta.dispose()
})

test('what cannot be encoded or decoded is refused by name', async () => {
  const made = parameters('f32')
  const encoder = new Encoder(tiny.encoder, made)
  for (const shape of [
    [1, 2, 64, 64, 3],
    [1, 1, 63, 64, 3],
    [1, 1, 64, 0, 3],
    [1, 64, 64, 3],
  ])
    await refuses(
      () => encoder.encode(ops.fill(device, shape, 0)),
      'ERR_FSVIDEO_INVALID_ARGUMENT',
      'encode.video',
    )
  const decoder = new Decoder(tiny.decoder!, made)
  const latents = ops.fill(device, [1, 1, 1, 1, 16], 0)
  const refused = (field: string, act: () => Generator) =>
    refuses(() => [...act()], 'ERR_FSVIDEO_INVALID_ARGUMENT', field)
  await refused('decode.features', () => decoder.decode(latents, []))
  await refused('decode.chunk', () => decoder.decode(latents, [], { chunk: 0 }))
  await refused('decode.latents', () => decoder.decode(ops.fill(device, [2, 1, 1, 1, 16], 0), []))
  await refused('decode.latents', () => decoder.decode(ops.fill(device, [1, 1, 1, 1, 15], 0), []))
  made.dispose()
})

test.run()
