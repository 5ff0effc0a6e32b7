/**
 * The autoencoder, the samplers, the random numbers and the way from picture to frames against the PyTorch reference, in both compute
 * types; and that no golden file is left uncompared. The other networks are in models-goldens.test.ts.
 */
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import type { ModelFolder } from '../lib/model-folder.js'
import { Decoder, Encoder } from '../lib/models/autoencoder.js'
import {
  AttentionBlock,
  type BlockContext,
  Downsample,
  FirstFrameAttention,
  ResBlock,
  temporalConv,
  Upsample,
} from '../lib/models/autoencoder-blocks.js'
import {
  parseCLIPVisionConfig,
  parseDecoderConfig,
  parseDITConfig,
  parseEncoderConfig,
  parseLatentUpsamplerConfig,
  parseSchedulerConfig,
  parseUMT5Config,
} from '../lib/models/config.js'
import { Run, type TimeMode } from '../lib/models/streaming.js'
import { type Component, Networks } from '../lib/networks.js'
import * as ops from '../lib/ops.js'
import {
  createSolver,
  dataPrediction,
  gridSchedule,
  guidanceCoefficients,
  type KeptTensor,
  type Term,
} from '../lib/sampling/index.js'
import { type Conditions, Stages } from '../lib/stages.js'
import type { Tensor } from '../lib/tensor.js'
import { openTestDevice, simulated } from './devices.js'
import { Golden, relativeL2, tolerance } from './goldens.js'

const device = await openTestDevice()
const test = suite('autoencoder and pipeline against the reference')
test.after(() => device.dispose())

/** Files that are compared here, noted as they are opened, and those that models-goldens.test.ts compares. */
const compared = new Set([
  ...['dit', 'dit_pre_mix', 'dit_wan', 'dit_no_image', 'dit_block_post_mix', 'dit_block_pre_mix'],
  ...['latent_upsampler', 'text_encoder', 'image_encoder'],
])
function open(name: string): Golden {
  compared.add(name)
  return new Golden(device, name)
}

const context = (config: { conv: TimeMode }): BlockContext =>
  ({ ...config, mode: config.conv }) as unknown as BlockContext

/** A pass over a video that is pushed whole. */
function whole(): Run {
  const run = new Run(device)
  run.last = true
  return run
}

/** Streams of the decoder's noise maps start here (models/FORMAT.md). */
const noiseStream = 2n ** 32n

/** Rows and columns 0, 5, 10 ... of a video, f32: what a golden holds of a large one. */
async function everyFifth(video: Tensor): Promise<Tensor> {
  const [batch, frames, height, width, channels] = video.shape as [number, number, number, number, number]
  const all = await video.toFloat32()
  const [rows, columns] = [Math.ceil(height / 5), Math.ceil(width / 5)]
  const kept = new Float32Array(batch * frames * rows * columns * channels)
  let i = 0
  for (let frame = 0; frame < batch * frames; frame++)
    for (let row = 0; row < height; row += 5)
      for (let column = 0; column < width; column += 5)
        for (let channel = 0; channel < channels; channel++)
          kept[i++] = all[((frame * height + row) * width + column) * channels + channel]!
  return device.tensor(kept, [batch, frames, rows, columns, channels])
}

for (const dtype of ['f32', 'bf16'] as const) {
  // Blocks, networks and the mask hold to the tolerance; the video is behind five networks, whose errors add up as squares.
  const videoLimit = dtype === 'f32' ? tolerance.f32 : Math.sqrt(5) * tolerance.bf16
  const input = (golden: Golden, name = 'x') => ops.cast(golden.tensor(`in.${name}`), dtype)

  for (const name of ['encoder_resblock', 'encoder_resblock_affine'])
    test(`${name} in ${dtype}`, async () => {
      const golden = open(name)
      const [channels] = golden.metadata<[number]>('channels')
      const config = parseEncoderConfig(golden.config, name)
      const block = new ResBlock(golden.parameters(dtype), context(config), channels)
      golden.assertAllAsked()
      await golden.assertClose(block.push(input(golden), whole())!, 'y', dtype)
    })

  test(`decoder_resblock_noise in ${dtype}`, async () => {
    const golden = open('decoder_resblock_noise')
    const config = parseDecoderConfig(golden.config, 'decoder')
    const [channels] = golden.metadata<[number]>('channels')
    const seeds = [golden.metadata<number>('seed')]
    const first = 2
    const source = (index: number, height: number, width: number) => {
      const stream = noiseStream + BigInt(index - first)
      const noise = ops.randn(device, [1, height, width], { seeds, stream }).reshape(height, width)
      return { noise, noiseWeight: config.noiseWeight }
    }
    const block = new ResBlock(golden.parameters(dtype), context(config), channels, {
      noise: { source, index: first },
    })
    golden.assertAllAsked()
    await golden.assertClose(block.push(input(golden), whole())!, 'y', dtype)
  })

  for (const name of ['attention_block', 'attention_block_two_scales', 'attention_block_lite'])
    test(`${name} in ${dtype}`, async () => {
      const golden = open(name)
      const [channels] = golden.metadata<[number]>('channels')
      const lite = name.endsWith('lite')
      const config = lite ? parseDecoderConfig(golden.config, name) : parseEncoderConfig(golden.config, name)
      const groupSize = lite ? golden.metadata<number>('group') : undefined
      const block = new AttentionBlock(golden.parameters(dtype), context(config), channels, { groupSize })
      golden.assertAllAsked()
      await golden.assertClose(block.push(input(golden), whole())!, 'y', dtype)
    })

  for (const name of [
    ...[
      'downsample_shuffle',
      'downsample_shuffle_spatial',
      'downsample_strided',
      'downsample_strided_spatial',
    ],
    ...['upsample_shuffle', 'upsample_shuffle_spatial', 'upsample_interpolate'],
  ])
    test(`${name} in ${dtype}`, async () => {
      const golden = open(name)
      const [time, space] = golden.metadata<[number, number, number]>('factors')
      const [from, to] = golden.metadata<[number, number]>('channels')
      const up = name.startsWith('up')
      const config = up ? parseDecoderConfig(golden.config, name) : parseEncoderConfig(golden.config, name)
      const kernel = [time > 1 ? 3 : config.resampleTimeKernel, 3, 3] as const
      const Resample = up ? Upsample : Downsample
      const options = { kernel, time, space }
      const step = new Resample(golden.parameters(dtype), context(config), from, to, options)
      golden.assertAllAsked()
      await golden.assertClose(step.push(input(golden), whole())!, 'y', dtype)
    })

  for (const group of [1, 2, 4])
    for (const padding of ['replicate', 'zeros'] as const)
      test(`group-causal convolution, ${group} frames a group, ${padding}, in ${dtype}`, async () => {
        const golden = open(`conv_group_causal_${group}_${padding}`)
        const [from, to] = golden.metadata<[number, number]>('channels')
        assert.is(golden.metadata('group'), group)
        const shared = context({ conv: 'group_causal' })
        shared.timePadding = padding
        const conv = temporalConv(golden.parameters(dtype), shared, from, to, [3, 3, 3], { groupSize: group })
        golden.assertAllAsked()
        await golden.assertClose(conv.push(input(golden), whole())!, 'y', dtype)
      })

  test(`first-frame attention in ${dtype}`, async () => {
    const golden = open('first_frame_attention')
    const config = parseDecoderConfig(golden.config, 'decoder')
    const [channels, featureChannels] = golden.metadata<[number, number]>('channels')
    const options = { headDim: config.crossHeadDim, normKv: config.crossNormKv }
    const parameters = golden.parameters(dtype)
    const attention = new FirstFrameAttention(parameters, context(config), channels, featureChannels, options)
    golden.assertAllAsked()
    const kv = attention.prepare(input(golden, 'features'))
    await golden.assertClose(attention.forward(input(golden), kv), 'y', dtype)
  })

  for (const name of ['encoder', 'encoder_strided'])
    test(`${name} in ${dtype}`, async () => {
      const golden = open(name)
      const encoder = new Encoder(parseEncoderConfig(golden.config, name), golden.parameters(dtype))
      golden.assertAllAsked()
      const { latents, features } = encoder.encode(input(golden, 'video'))
      await golden.assertClose(encoder.normalize(latents), 'normalized', dtype)
      // and back, to the roundings of a division
      const back = encoder.denormalize(encoder.normalize(latents))
      await golden.assertClose(back, 'latents', dtype)
      await golden.assertClose(latents, 'latents', dtype)
      const stages = golden.names('out.features.')
      assert.ok(stages.length >= 3)
      for (const s of stages) await golden.assertClose(features[Number(s)]!, `features.${s}`, dtype)
    })

  for (const name of ['decoder_standard', 'decoder_lite', 'decoder_interpolate', 'decoder_interpolate_lite'])
    test(`${name} in ${dtype}`, async () => {
      const golden = open(name)
      const decoder = new Decoder(parseDecoderConfig(golden.config, name), golden.parameters(dtype))
      golden.assertAllAsked()
      const features: Tensor[] = []
      for (const s of golden.names('in.features.')) features[Number(s)] = input(golden, `features.${s}`)
      const decode = async (seed?: number) => {
        const [video, ...more] = decoder.decode(input(golden, 'latents'), features, { seed })
        assert.is(more.length, 0)
        return everyFifth(video!)
      }
      if (!simulated) await golden.assertClose(await decode(), 'video_every5', dtype)
      await golden.assertClose(await decode(golden.metadata('seed')), 'noisy_every5', dtype)
    })

  // A simulated card takes minutes for this in f32, where cards-against-cpu.test.ts compares it with the CPU.
  if (simulated && dtype === 'f32') continue
  test(`from picture to frames in ${dtype}`, async () => {
    const golden = open('pipeline')
    const files = golden.metadata<Record<Component, string>>('weights_from')
    const config = (component: Component) => open(files[component]).config
    const model: ModelFolder = {
      folder: 'goldens',
      networks: new Set(Object.keys(files) as Component[]),
      encoder: parseEncoderConfig(config('encoder'), 'encoder'),
      decoder: parseDecoderConfig(config('decoder'), 'decoder'),
      transformer: parseDITConfig(config('transformer'), 'transformer'),
      refiner: parseDITConfig(config('refiner'), 'refiner'),
      latentUpsampler: parseLatentUpsamplerConfig(config('latent_upsampler'), 'latent_upsampler'),
      textEncoder: parseUMT5Config(config('text_encoder'), 'text_encoder'),
      imageEncoder: parseCLIPVisionConfig(config('image_encoder'), 'image_encoder'),
      scheduler: parseSchedulerConfig(golden.config, 'scheduler'),
    }
    const networks = await Networks.load(model, { device, dtype, weights: (name) => open(files[name]) })
    const stages = new Stages(networks, model.scheduler)
    const { encoder } = networks
    const seed = golden.metadata<number>('seed')
    const ids = async (name: string) => [Int32Array.from(await golden.tensor(`in.${name}`).read())]

    // The stages take pixels of 8 bits; the reference's are any numbers, so the encoders are called by themselves.
    const text = stages.encodeText(await ids('prompt_ids'))
    const negative = stages.encodeText(await ids('negative_ids'))
    const image = networks.imageEncoder!.forward(input(golden, 'pixels'))
    const { latents: high, features } = encoder.encode(input(golden, 'high'))
    const { latents: low } = encoder.encode(input(golden, 'low'))
    const copy = (tensor: Tensor) => ops.cast(tensor, 'f32')
    await golden.assertClose(copy(text), 'text', dtype)
    await golden.assertClose(copy(negative), 'negative', dtype)
    await golden.assertClose(copy(image), 'clip', dtype)

    const conditions: Conditions = { high: copy(high), low: copy(low), features, text, negative, image }
    const { base, refiner } = model.scheduler
    const sampler = (options: typeof base | typeof refiner) => ({
      solver: options.solver,
      schedule: gridSchedule({ ...options, grid: createSolver(options.solver).grid }),
      seeds: [seed],
    })
    const last = async (steps: AsyncGenerator<unknown, Tensor>): Promise<Tensor> => {
      for (;;) {
        const { value, done } = await steps.next()
        if (done) return value
      }
    }
    const given = golden.tensor('in.base_noise')
    for (const [stream, noise] of [given, golden.tensor('in.refiner_noise')].entries()) {
      const ours = ops.randn(device, noise.shape, { seeds: [seed], stream })
      assert.ok(relativeL2(await ours.toFloat32(), await noise.toFloat32()) < 1e-6)
    }
    const baseLatents = await last(
      stages.denoise(conditions, {
        ...sampler(base),
        guidanceScale: base.guidanceScale,
        frames: given.dim(1),
      }),
    )
    await golden.assertClose(copy(baseLatents), 'base_latents', dtype)

    const upsampled = stages.upsample(baseLatents)
    await golden.assertClose(encoder.normalize(upsampled), 'upsampled', dtype)

    const estimate = networks.latentUpsampler.forward(ops.cast(low, dtype))
    const mask = ops.dynamicMask(conditions.high, copy(estimate), {
      ...model.scheduler.mask,
      frames: 2,
      channels: 1,
    })
    await golden.assertClose(ops.slice(mask, 1, 1, 2), 'mask', dtype)

    const refined = await last(
      stages.refine(upsampled, conditions, { ...sampler(refiner), guidanceScale: 1, fromNoise: true }),
    )
    await golden.assertClose(copy(refined), 'refined', dtype)

    // The last stage gives 8 bits too: here its network is called, and the stage is held to that to half a grey level.
    const raw = ops.cast(encoder.denormalize(refined), dtype)
    const [video] = networks.decoderFor('standard').decode(raw, features, { seed })
    await golden.assertClose(await everyFifth(video!), 'video_every5', dtype, videoLimit)
    const expected = await ops.toRgb8(video!).read()
    const [height, width] = [video!.dim(2), video!.dim(3)]
    const frames: Uint8Array[] = []
    const options = { decoder: 'standard', height, width, chunk: 2, seed } as const
    for await (const chunk of stages.decode(refined, features, options)) frames.push(chunk.frames)
    assert.ok(Buffer.concat(frames).equals(expected as Uint8Array), 'the stage gives what its network gives')
    networks.dispose()
  })
}

test('samplers follow the reference from step to step', async () => {
  const golden = open('sampling')
  const cases = golden.config as Record<string, { sigmas: number[] }>
  for (const name of ['unipc', 'unipc_from_one', 'euler', 'renoise']) {
    const { sigmas } = cases[name]!
    const schedule = { sigmas, timesteps: sigmas.slice(0, -1).map((sigma) => 1000 * sigma) }
    const plan = createSolver(name.split('_')[0] as 'unipc' | 'euler' | 'renoise').plan(schedule)
    assert.is(plan.length, sigmas.length - 1, name)
    const kept = new Map<KeptTensor, Tensor>([['x', golden.tensor(`in.${name}.x`)]])
    const sum = (terms: readonly Term[]) =>
      ops.combine(
        terms.map(({ tensor }) => kept.get(tensor)!),
        terms.map(({ coefficient }) => coefficient),
      )
    for (const [i, step] of plan.entries()) {
      assert.is(step.sigma, sigmas[i])
      const x = kept.get('x')!
      await golden.assertClose(ops.cast(x, 'f32'), `${name}.x.${i}`, 'f32')
      const velocity = golden.tensor(`out.${name}.velocity.${i}`)
      kept.set('m0', ops.combine([x, velocity], dataPrediction(step.sigma)))
      if (name === 'renoise' && i < 3) kept.set('noise', golden.tensor(`in.renoise.noise.${i}`))
      if (step.corrector) kept.set('x', sum(step.corrector))
      const next = sum(step.predictor)
      kept.set('lastX', kept.get('x')!)
      kept.set('x', next)
      if (kept.has('m1')) kept.set('m2', kept.get('m1')!)
      kept.set('m1', kept.get('m0')!)
    }
    await golden.assertClose(kept.get('x')!, `${name}.final`, 'f32')
  }
  const both = ['conditional', 'unconditional'].map((which) => golden.tensor(`in.guidance.${which}`))
  const { scale } = (golden.config as { guidance: { scale: number } }).guidance
  await golden.assertClose(ops.combine(both, guidanceCoefficients(scale)), 'guidance', 'f32')
})

test('random numbers are the reference, for every seed and stream', async () => {
  const golden = open('random')
  const names = golden.names('out.normals.')
  assert.is(names.length, 16)
  for (const name of names) {
    const [seed, stream] = name.split('.').map(BigInt) as [bigint, bigint]
    await golden.assertClose(
      ops.randn(device, [1, 1003], { seeds: [seed], stream }).reshape(1003),
      `normals.${name}`,
      'f32',
      1e-6,
    )
  }
})

test('no golden is left uncompared', () => {
  const there = readdirSync(process.env.FSVIDEO_GOLDENS ?? path.join(packageRoot, 'reference', 'goldens'))
    .filter((file) => file.endsWith('.safetensors'))
    .map((file) => file.replace('.safetensors', ''))
  assert.equal([...compared].sort(), there.sort())
})

test.run()
