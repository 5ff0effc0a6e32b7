/** Configurations: the full model's, what is refused, and the sizes that follow from them with nothing allocated. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { FSVideoError } from '../lib/errors.js'
import {
  type DITConfig,
  networkClasses,
  parseCLIPVisionConfig,
  parseDecoderConfig,
  parseDITConfig,
  parseEncoderConfig,
  parseLatentUpsamplerConfig,
  parseModelIndex,
  parseSchedulerConfig,
  parseUMT5Config,
} from '../lib/models/config.js'
import { DIT } from '../lib/models/dit.js'
import { CLIPVision } from '../lib/models/image-encoder.js'
import { LatentUpsampler } from '../lib/models/latent-upsampler.js'
import { UMT5Encoder } from '../lib/models/text-encoder.js'
import { Parameters, RecordedShapes } from '../lib/parameters.js'

const folder = path.join(packageRoot, 'models')
const read = (file: string): unknown => JSON.parse(readFileSync(path.join(folder, file), 'utf8'))

type Parse = (json: unknown, field: string) => unknown
const parsers: Record<string, Parse> = {
  encoder: parseEncoderConfig,
  decoder: parseDecoderConfig,
  decoder_lite: parseDecoderConfig,
  transformer: parseDITConfig,
  refiner: parseDITConfig,
  latent_upsampler: parseLatentUpsamplerConfig,
  text_encoder: parseUMT5Config,
  image_encoder: parseCLIPVisionConfig,
}

/** Wan2.1 I2V 14B in the same class. */
const wan: DITConfig = parseDITConfig(
  {
    in_channels: 36,
    out_channels: 16,
    patch_size: [1, 2, 2],
    memory: { enabled: false },
  },
  'wan',
)
const full = parseDITConfig({}, 'transformer')

function refused(parse: () => unknown, field: string, expected: RegExp): void {
  try {
    parse()
  } catch (error) {
    assert.instance(error, FSVideoError)
    const { code, field: named, expected: allowed, message } = error as FSVideoError
    assert.is(code, 'ERR_FSVIDEO_MODEL_FILE')
    assert.is(named, field)
    assert.match(allowed ?? '', expected)
    assert.ok(message.startsWith(`${field} must be `), message)
    return
  }
  assert.unreachable(`${field} was accepted`)
}

/** Number of parameters that a network's constructor asks for; nothing is allocated. */
async function countParameters<C>(
  network: new (config: C, parameters: Parameters) => unknown,
  config: C,
): Promise<number> {
  const meta = await Device.open('meta')
  const shapes = new RecordedShapes(meta)
  new network(config, new Parameters(meta, 'bf16', shapes))
  meta.dispose()
  return shapes.count
}

const test = suite('configurations')

test('the full model says what the defaults say', () => {
  assert.equal(
    [...parseModelIndex(read('fsvideo-14b/model_index.json'), 'index')],
    Object.keys(networkClasses),
  )
  for (const [name, parse] of Object.entries(parsers)) {
    const defaults = parse(
      name === 'decoder_lite' ? { widths: [64, 128, 512, 512, 1024, 1024, 1024], conv: 'group_causal' } : {},
      name,
    )
    assert.equal(parse(read(`fsvideo-14b/${name}/config.json`), name), defaults, name)
  }
  const scheduler = read('fsvideo-14b/scheduler/scheduler_config.json')
  assert.equal(parseSchedulerConfig(scheduler, 'scheduler'), parseSchedulerConfig({}, 'scheduler'))
})

test('the full model spells out every field', () => {
  for (const [name, parse] of Object.entries(parsers)) {
    const json = read(`fsvideo-14b/${name}/config.json`) as object
    assert.is(Object.keys(json).length, Object.keys(parse(json, name) as object).length, name)
  }
})

test('FORMAT.md shows the defaults', () => {
  const text = readFileSync(path.join(folder, 'FORMAT.md'), 'utf8')
  for (const [title, parse] of [
    ['Encoder', parseEncoderConfig],
    ['Decoder', parseDecoderConfig],
    ['DIT', parseDITConfig],
    ['LatentUpsampler', parseLatentUpsamplerConfig],
    ['scheduler_config.json', parseSchedulerConfig],
  ] as [string, Parse][]) {
    const json = new RegExp(`^## ${title}\\n+\`\`\`json\\n([\\s\\S]*?)\`\`\``, 'm').exec(text)?.[1]
    assert.ok(json, title)
    assert.equal(parse(JSON.parse(json), title), parse({}, title), title)
  }
})

test('names in JSON are snake_case, here camelCase', () => {
  assert.is(parseDITConfig({ text_len: 77 }, 'transformer').textLen, 77)
  refused(
    () => parseDITConfig({ textLen: 77 }, 'transformer'),
    'transformer.textLen',
    /absent; known are dim, layers/,
  )
})

test('a wrong value is refused by name', () => {
  const dit = (json: unknown) => () => parseDITConfig(json, 'transformer')
  refused(dit(null), 'transformer', /an object/)
  refused(dit([]), 'transformer', /an object/)
  refused(dit({ layers: 0 }), 'transformer.layers', /from 1 to 63/)
  refused(dit({ layers: 64 }), 'transformer.layers', /from 1 to 63/)
  refused(dit({ layers: 2.5 }), 'transformer.layers', /an integer/)
  refused(dit({ layers: '40' }), 'transformer.layers', /an integer/)
  refused(dit({ layers: null }), 'transformer.layers', /an integer/)
  refused(dit({ eps: -1 }), 'transformer.eps', /at least 0/)
  refused(dit({ rope_theta: 0 }), 'transformer.rope_theta', /above 0/)
  refused(dit({ patch_size: [1, 1] }), 'transformer.patch_size', /three integers/)
  refused(dit({ patch_size: [1, 1, 1, 1] }), 'transformer.patch_size', /three integers/)
  refused(dit({ patch_size: [1, 0, 0] }), 'transformer.patch_size[1]', /an integer/)
  refused(dit({ memory: { norm: 'none' } }), 'transformer.memory.norm', /one of "post_mix", "pre_mix"/)
  refused(dit({ memory: { enabled: 1 } }), 'transformer.memory.enabled', /true or false/)
  refused(
    dit({ memory: { window: 3 } }),
    'transformer.memory.window',
    /absent; known are enabled, norm, bias/,
  )
  refused(
    () => parseCLIPVisionConfig({ hidden_act: 'quick_gelu' }, 'clip'),
    'clip.hidden_act',
    /one of "gelu"/,
  )
  refused(
    () => parseSchedulerConfig({ base: { solver: 'ddim' } }, 's'),
    's.base.solver',
    /"unipc", "euler", "renoise"/,
  )
  refused(() => parseSchedulerConfig({ mask: { lo: 1.5 } }, 's'), 's.mask.lo', /at most 1/)
})

test('numbers that do not fit together are refused by name', () => {
  const dit = (json: unknown) => () => parseDITConfig(json, 'transformer')
  refused(dit({ heads: 39 }), 'transformer.heads', /a divisor of dim 5120/)
  refused(dit({ rope: [44, 42, 44] }), 'transformer.rope', /128 in sum/)
  refused(dit({ rope: [44, 41, 43] }), 'transformer.rope', /even/)
  refused(dit({ patch_size: [1, 2, 1] }), 'transformer.patch_size', /as wide as high/)
  refused(dit({ freq_dim: 255 }), 'transformer.freq_dim', /even/)
  refused(dit({ in_channels: 256 }), 'transformer.in_channels', /260/)
  refused(dit({ image_len: null }), 'transformer.image_len', /image_dim is null/)
  assert.is(parseDITConfig({ image_len: null, image_dim: null }, 'transformer').imageDim, null)

  const encoder = (json: unknown) => () => parseEncoderConfig(json, 'encoder')
  refused(encoder({ depths: [2, 2] }), 'encoder.depths', /a list of 7/)
  refused(encoder({ temporal_stages: [6] }), 'encoder.temporal_stages[0]', /before the last/)
  refused(encoder({ head_dim: 48 }), 'encoder.widths[3]', /a multiple of head_dim 48/)
  refused(encoder({ qkv_scales: [4] }), 'encoder.qkv_scales[0]', /odd/)
  refused(encoder({ latent_channels: 96 }), 'encoder.latent_channels', /a divisor of the last width/)
  refused(encoder({ latents_mean: Array(128).fill(0) }), 'encoder.latents_std', /exactly if latents_mean/)
  refused(encoder({ latents_mean: [0], latents_std: [1] }), 'encoder.latents_mean', /null or 128/)
  refused(encoder({ latents_mean: [], latents_std: [0] }), 'encoder.latents_std[0]', /above 0/)
  refused(
    encoder({ widths: [128, 300, 512, 512, 1024, 1024, 1024] }),
    'encoder.widths[1]',
    /a divisor of 1024/,
  )
  const decoder = (json: unknown) => () => parseDecoderConfig(json, 'decoder')
  refused(decoder({ encoder_widths: [1] }), 'decoder.encoder_widths', /a list of 7/)
  refused(
    decoder({ first_frame_attention_stages: [7] }),
    'decoder.first_frame_attention_stages[0]',
    /below 7/,
  )
  refused(decoder({ cross_head_dim: 96 }), 'decoder.cross_head_dim', /a divisor of 512/)
  refused(
    decoder({ widths: [40, 128, 512, 512, 1024, 1024, 1024] }),
    'decoder.widths[0]',
    /a multiple of widths\[1\]/,
  )

  refused(
    () => parseLatentUpsamplerConfig({ norm_groups: 33 }, 'u'),
    'u.norm_groups',
    /a divisor of mid_channels/,
  )
  refused(
    () => parseUMT5Config({ relative_attention_num_buckets: 30 }, 't'),
    't.relative_attention_num_buckets',
    /of 4/,
  )
  refused(
    () => parseUMT5Config({ relative_attention_max_distance: 8 }, 't'),
    't.relative_attention_max_distance',
    /8/,
  )
  refused(() => parseCLIPVisionConfig({ output_layer: -34 }, 'clip'), 'clip.output_layer', /from -33 to -1/)
  refused(
    () => parseCLIPVisionConfig({ patch_size: 15 }, 'clip'),
    'clip.patch_size',
    /a divisor of image_size/,
  )
  refused(() => parseSchedulerConfig({ frames: 120 }, 's'), 's.frames', /4k \+ 1/)
  refused(() => parseSchedulerConfig({ mask: { lo: 0.9, hi: 0.1 } }, 's'), 's.mask.hi', /at least mask.lo/)
})

test('the index must name every network and its class', () => {
  const index = read('fsvideo-14b/model_index.json') as Record<string, unknown>
  const without = (name: string) => Object.fromEntries(Object.entries(index).filter(([key]) => key !== name))
  for (const name of ['decoder', 'decoder_lite', 'image_encoder'])
    assert.not(parseModelIndex(without(name), 'index').has(name as 'decoder'))
  for (const name of ['encoder', 'transformer', 'refiner', 'latent_upsampler', 'text_encoder'])
    refused(() => parseModelIndex(without(name), 'index'), `index.${name}`, /"fsvideo"/)
  const noDecoder = { ...without('decoder') }
  delete noDecoder.decoder_lite
  refused(() => parseModelIndex(noDecoder, 'index'), 'index.decoder', /"Decoder"/)
  refused(() => parseModelIndex({ ...index, vae: ['fsvideo', 'VAE'] }, 'index'), 'index.vae', /absent/)
  refused(() => parseModelIndex({ ...index, toString: 1 }, 'index'), 'index.toString', /absent/)
  refused(
    () => parseModelIndex({ ...index, refiner: ['fsvideo', 'UNet'] }, 'index'),
    'index.refiner',
    /"DIT"/,
  )
  refused(() => parseModelIndex(without('_class_name'), 'index'), 'index._class_name', /FSVideoPipeline/)
  refused(() => parseModelIndex([], 'index'), 'index', /an object/)
})

test('parameter counts are exact', async () => {
  assert.is(await countParameters(DIT, full), 16_399_994_547)
  assert.is(await countParameters(DIT, wan), 16_394_878_784)
  const withoutBias = { ...full, memory: { ...full.memory, bias: false } }
  assert.is(await countParameters(DIT, withoutBias), 16_399_994_547 - 819)
  // Section 4.1 of the specification, in millions.
  const upsampler = (midChannels: number) =>
    countParameters(LatentUpsampler, parseLatentUpsamplerConfig({ mid_channels: midChannels }, 'u'))
  const millions = [await upsampler(256), await upsampler(512), await upsampler(1024)].map((n) => n / 1e6)
  assert.equal(
    millions.map((n) => n.toFixed(1)),
    ['61.1', '235.4', '923.8'],
  )
})

test('text and image encoder have the sizes of UMT5-XXL and of ViT-H/14 without its last block', async () => {
  // vocabulary + blocks (attention, biases, feed-forward, two norms) + final norm
  const block = 4 * 4096 * 4096 + 32 * 64 + 3 * 4096 * 10240 + 2 * 4096
  assert.is(await countParameters(UMT5Encoder, parseUMT5Config({}, 't')), 256384 * 4096 + 24 * block + 4096)
  const layer = 4 * (1280 * 1280 + 1280) + 2 * 1280 * 5120 + 5120 + 1280 + 4 * 1280
  const embeddings = 1280 + 1280 * 3 * 14 * 14 + 257 * 1280 + 2 * 1280
  assert.is(await countParameters(CLIPVision, parseCLIPVisionConfig({}, 'clip')), embeddings + 31 * layer)
})

test('one evaluation costs what the specification says, and a plan needs no memory', async () => {
  const before = process.memoryUsage().rss
  // Section 2.3: 768x1280, base and refiner; Wan at 720x1280. TFLOP of the multiplications, with
  // what is prepared once a request (3 TFLOP here) as in every evaluation of Wan.
  for (const [config, size, teraflops] of [
    [full, [31, 12 / 2, 20 / 2], 52],
    [full, [31, 12, 20], 231],
    [wan, [31, 90, 160], 12_944],
  ] as const) {
    const meta = await Device.open('meta')
    const dit = new DIT(config, new Parameters(meta, 'bf16', new RecordedShapes(meta)))
    meta.resetStats()
    const conditioning = dit.prepare({
      text: meta.tensor(new Uint16Array(512 * 4096), [1, 512, 4096]),
      image: meta.tensor(new Uint16Array(257 * 1280), [1, 257, 1280]),
      size,
    })
    const shape = [1, ...size, config.inChannels]
    const latents = meta.tensor(new Float32Array(shape.reduce((n, d) => n * d)), shape)
    const velocity = dit.forward(latents, meta.tensor(new Float32Array(256), [1, 256]), conditioning)
    assert.equal(velocity.shape, [1, ...size, config.outChannels])
    const { linear, attention } = meta.stats()
    const counted = (linear!.flops + attention!.flops) / 1e12
    assert.ok(Math.abs(counted / teraflops - 1) < 0.03, `${counted} TFLOP, not ${teraflops}`)
    meta.dispose()
  }
  assert.ok(process.memoryUsage().rss - before < 1e9)
})

test.run()
