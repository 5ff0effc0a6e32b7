/** Every network but the autoencoder against the PyTorch reference, in both compute types. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  parseCLIPVisionConfig,
  parseDITConfig,
  parseLatentUpsamplerConfig,
  parseUMT5Config,
} from '../lib/models/config.js'
import { Block, DIT } from '../lib/models/dit.js'
import type { Triple } from '../lib/models/fields.js'
import { CLIPVision } from '../lib/models/image-encoder.js'
import { LatentUpsampler } from '../lib/models/latent-upsampler.js'
import { rotations, timestepFeatures } from '../lib/models/rope.js'
import { positionBuckets, UMT5Encoder } from '../lib/models/text-encoder.js'
import * as ops from '../lib/ops.js'
import { activationsOf, precisions } from '../lib/parameters.js'
import { openTestDevice } from './devices.js'
import { Golden } from './goldens.js'

const device = await openTestDevice()
const test = suite('networks against the reference')
test.after(() => device.dispose())

for (const dtype of precisions) {
  for (const name of ['dit', 'dit_pre_mix', 'dit_wan', 'dit_no_image'])
    test(`${name} in ${dtype}`, async () => {
      const golden = new Golden(device, name)
      const dit = new DIT(parseDITConfig(golden.config, name), golden.parameters(dtype))
      golden.assertAllAsked()
      const latents = golden.tensor('in.x')
      const timesteps = await golden.tensor('in.timestep').toFloat32()
      const conditioning = dit.prepare({
        text: golden.tensor('in.text'),
        image: dit.config.imageDim === null ? undefined : golden.tensor('in.image'),
        size: latents.shape.slice(1, 4) as [number, number, number],
      })
      const features = timestepFeatures([...timesteps], dit.config.freqDim)
      const time = device.tensor(features, [timesteps.length, dit.config.freqDim])
      const { velocity, flags } = dit.forward(latents, time, conditioning, { flags: true })
      assert.is(velocity.dtype, 'f32')
      assert.equal([...(await flags.read())], Array(dit.config.layers + 1).fill(1))
      await golden.assertClose(velocity, 'velocity', dtype)
    })

  for (const norm of ['post_mix', 'pre_mix'] as const)
    test(`a block with ${norm} memory in ${dtype}`, async () => {
      const golden = new Golden(device, `dit_block_${norm}`)
      const config = parseDITConfig(golden.config, 'dit_block')
      const index = golden.metadata<number>('index')
      const block = new Block(golden.parameters(dtype), config, index)
      golden.assertAllAsked()
      const input = (name: string) => ops.cast(golden.tensor(`in.${name}`), activationsOf(dtype))
      const states = Array.from({ length: index + 1 }, (_, i) => input(`states.${i}`))
      const time = golden.tensor('in.modulation').reshape(states[0]!.dim(0), -1)
      const context = block.prepare(input('text'), input('image'))
      const table = rotations(golden.metadata<Triple>('grid'), config.rope, config.ropeTheta)
      const turns = device.tensor(table, [states[0]!.dim(1), config.dim / config.heads / 2, 2])
      await golden.assertClose(block.forward(states, time, context, turns), 'y', dtype)
    })

  if (dtype === 'fp8') continue // the other networks have no product of fp8

  test(`latent upsampler in ${dtype}`, async () => {
    const golden = new Golden(device, 'latent_upsampler')
    const upsampler = new LatentUpsampler(
      parseLatentUpsamplerConfig(golden.config, 'u'),
      golden.parameters(dtype),
    )
    golden.assertAllAsked()
    await golden.assertClose(upsampler.forward(golden.tensor('in.latents')), 'latents', dtype)
  })

  test(`text encoder in ${dtype}`, async () => {
    const golden = new Golden(device, 'text_encoder')
    const encoder = new UMT5Encoder(parseUMT5Config(golden.config, 'text_encoder'), golden.parameters(dtype))
    golden.assertAllAsked()
    const [batch, length] = golden.tensor('in.ids').shape as [number, number]
    const all = [...(await golden.tensor('in.ids').read())]
    const prompts = Array.from({ length: batch }, (_, b) => all.slice(b * length, (b + 1) * length))
    await golden.assertClose(encoder.embed(prompts, length), 'hidden', dtype)
    const padded = encoder.embed(
      prompts.map((ids) => ids.slice(0, 6)),
      10,
    )
    await golden.assertClose(padded, 'padded', dtype)
  })

  test(`image encoder in ${dtype}`, async () => {
    const golden = new Golden(device, 'image_encoder')
    const config = parseCLIPVisionConfig(golden.config, 'image_encoder')
    // The hidden states that lie before the last one are outputs of the same network asked for less.
    for (const [outputLayer, name] of [
      [-4, 'vision_model.pre_layrnorm'],
      [-3, 'vision_model.encoder.layers.0'],
      [-2, 'hidden'],
    ] as const) {
      const clip = new CLIPVision({ ...config, outputLayer }, golden.parameters(dtype))
      await golden.assertClose(clip.forward(golden.tensor('in.pixels')), name, dtype)
      if (outputLayer === config.outputLayer) golden.assertAllAsked()
      else golden.forget()
    }
  })
}

test('position buckets choose the reference biases', async () => {
  const golden = new Golden(device, 'text_encoder')
  const table = golden.tensor('weights.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight')
  const ids = device.tensor(positionBuckets(40, 32, 128), [40, 40])
  await golden.assertClose(ops.permute(ops.embedding(table, ids), [2, 0, 1]), 'bias', 'f32', 0)
})

for (const norm of ['post_mix', 'pre_mix'] as const)
  test(`router and ${norm} memory`, async () => {
    const golden = new Golden(device, `dit_block_${norm}`)
    const { eps } = parseDITConfig(golden.config, 'dit_block')
    const weights = new Golden(device, 'dit_block_post_mix')
    const states = [0, 1, 2].map((i) => golden.tensor(`in.states.${i}`))
    const time = golden.tensor('in.modulation').reshape(2, -1)
    const vectors = ops.modulation(weights.tensor('weights.modulation').reshape(6, -1), time)
    const [shift, scale] = [0, 1].map((i) => vectors.slice(0, i, i + 1).reshape(2, -1))
    const h = ops.normModulate(states[2]!, { scale, shift, eps })
    const router = weights.tensor('weights.self_attn.router.weight')
    const routerBias = weights.tensor('weights.self_attn.router.bias')
    const got = ops.layerMemoryWithWeights(states, h, router, { routerBias, scale, shift, norm, eps })
    await golden.assertClose(got.weights, 'router', 'f32')
    await golden.assertClose(got.memory, 'memory', 'f32')
  })

test.run()
