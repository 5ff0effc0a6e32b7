/**
 * What a model folder says about its networks: one typed configuration a component, read from its config.json. Every field has
 * the default of the full model (models/FORMAT.md tells what each means, fsvideo-spec.md where it comes from); unknown fields,
 * wrong types and numbers that do not fit together are refused with the name of the field.
 */
import {
  choice,
  flag,
  integer,
  list,
  modelFile,
  nullable,
  number,
  object,
  type Reader,
  text,
  triple,
} from './fields.js'

const fullWidths = [128, 256, 512, 512, 1024, 1024, 1024]

/** What the encoder and the decoders have in common. */
const autoencoder = {
  latentChannels: [integer(), 128],
  widths: [list(integer()), fullWidths],
  attentionFromStage: [integer(0), 3],
  headDim: [integer(), 32],
  qkvScales: [list(integer()), [5]],
  gluExpand: [integer(), 4],
  linearAttentionEps: [number({ least: 0 }), 1e-15],
  temporalStages: [list(integer(0)), [0, 1]],
  resampleTimeKernel: [integer(), 3],
  latentTimeKernel: [integer(), 3],
  normAffine: [flag, false],
  normEps: [number({ least: 0 }), 1e-8],
  timePadding: [choice('replicate', 'zeros'), 'replicate'],
} as const

const encoder = object({
  ...autoencoder,
  inChannels: [integer(), 3],
  depths: [list(integer(0)), [2, 2, 2, 3, 3, 3, 3]],
  resample: [choice('shuffle', 'strided'), 'shuffle'],
  conv: [choice('causal'), 'causal'],
  latentsMean: [nullable(list(number())), null],
  latentsStd: [nullable(list(number({ above: 0 }))), null],
  scalingFactor: [number({ above: 0 }), 1],
})
export type EncoderConfig = ReturnType<typeof encoder>

const decoder = object({
  ...autoencoder,
  outChannels: [integer(), 3],
  encoderWidths: [list(integer()), fullWidths],
  depths: [list(integer(0)), [3, 3, 3, 3, 3, 3, 3]],
  resample: [choice('shuffle', 'interpolate'), 'shuffle'],
  conv: [choice('noncausal', 'group_causal'), 'noncausal'],
  noiseWeight: [number({ least: 0 }), 0.05],
  firstFrameAttentionStages: [list(integer(0)), [2, 3, 4, 5, 6]],
  crossHeadDim: [integer(), 64],
  crossNormKv: [flag, false],
})
export type DecoderConfig = ReturnType<typeof decoder>

const memory = object({
  enabled: [flag, true],
  norm: [choice('post_mix', 'pre_mix'), 'post_mix'],
  bias: [flag, true],
})

/** The op `layerMemory` takes 64 states, and a list of 64 flags names the layer of a value that is not finite. */
const mostLayers = 63

const dit = object({
  dim: [integer(), 5120],
  layers: [integer(1, mostLayers), 40],
  heads: [integer(), 40],
  ffnDim: [integer(), 13824],
  patchSize: [triple(1), [1, 1, 1]],
  inChannels: [integer(), 260],
  outChannels: [integer(), 128],
  maskChannels: [integer(0), 4],
  freqDim: [integer(), 256],
  textLen: [integer(), 512],
  textDim: [integer(), 4096],
  imageLen: [nullable(integer()), 257],
  imageDim: [nullable(integer()), 1280],
  eps: [number({ least: 0 }), 1e-6],
  rope: [triple(0), [44, 42, 42]],
  ropeTheta: [number({ above: 0 }), 10000],
  memory: [memory, memory({}, 'memory')],
})
export type DITConfig = ReturnType<typeof dit>

const latentUpsampler = object({
  inChannels: [integer(), 128],
  midChannels: [integer(), 512],
  blocks: [integer(0), 16],
  scale: [integer(), 2],
  normGroups: [integer(), 32],
  normEps: [number({ least: 0 }), 1e-5],
  timePadding: [choice('replicate', 'zeros'), 'zeros'],
})
export type LatentUpsamplerConfig = ReturnType<typeof latentUpsampler>

const umt5 = object({
  vocabSize: [integer(), 256384],
  dModel: [integer(), 4096],
  dKv: [integer(), 64],
  dFf: [integer(), 10240],
  numLayers: [integer(0), 24],
  numHeads: [integer(), 64],
  relativeAttentionNumBuckets: [integer(4), 32],
  relativeAttentionMaxDistance: [integer(2), 128],
  layerNormEpsilon: [number({ least: 0 }), 1e-6],
})
export type UMT5Config = ReturnType<typeof umt5>

const clipVision = object({
  hiddenSize: [integer(), 1280],
  intermediateSize: [integer(), 5120],
  numHiddenLayers: [integer(0), 32],
  numAttentionHeads: [integer(), 16],
  imageSize: [integer(), 224],
  patchSize: [integer(), 14],
  layerNormEps: [number({ least: 0 }), 1e-5],
  hiddenAct: [choice('gelu'), 'gelu'],
  outputLayer: [integer(-(2 ** 31), -1), -2],
})
export type CLIPVisionConfig = ReturnType<typeof clipVision>

const solver = choice('unipc', 'euler', 'renoise')
const stage = {
  shift: [number({ least: 0.01, most: 100 }), 5],
  sigmaStart: [number({ least: 1e-6, most: 1 }), 1],
} as const
const base = object({
  ...stage,
  steps: [integer(1, 1000), 30],
  solver: [solver, 'unipc'],
  guidanceScale: [number({ least: 1, most: 100 }), 5],
})
const refiner = object({ ...stage, steps: [integer(1, 1000), 8], solver: [solver, 'euler'] })
const mask = object({
  lo: [number({ least: 0, most: 1 }), 0.1],
  hi: [number({ least: 0, most: 1 }), 0.9],
  granularity: [choice('map', 'scalar'), 'map'],
  polarity: [choice('error', 'confidence'), 'error'],
})
const scheduler = object({
  frames: [integer(), 121],
  fps: [number({ above: 0 }), 24],
  sizeMultiple: [integer(), 128],
  maxPixels: [integer(64 * 64), 720 * 1280],
  base: [base, base({}, 'base')],
  refiner: [refiner, refiner({}, 'refiner')],
  mask: [mask, mask({}, 'mask')],
  condition: [choice('zero_latents', 'zero_pixels'), 'zero_latents'],
  pad: [choice('replicate'), 'replicate'],
  negativePrompt: [text, ''],
})
export type SchedulerConfig = ReturnType<typeof scheduler>

/** Reads a config.json and then checks what its numbers must be to one another. */
function parser<C>(read: Reader<C>, ...relations: ((config: C, rule: Rule) => void)[]) {
  return (json: unknown, field: string): C => {
    const config = read(json, field)
    const rule: Rule = (name, got, ok, expected) => {
      if (!ok) throw modelFile(`${field}.${name}`, got, expected)
    }
    for (const relation of relations) relation(config, rule)
    return config
  }
}
type Rule = (name: string, got: unknown, ok: boolean, expected: string) => void

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)
const product = (numbers: readonly number[]): number => numbers.reduce((total, n) => total * n, 1)
const divides = (divisor: number, n: number): boolean => n % divisor === 0

/** Time, height and width factors of the step between stages `s` and `s + 1`. */
function stageFactors(config: { temporalStages: readonly number[] }, s: number): [number, number, number] {
  return [config.temporalStages.includes(s) ? 2 : 1, 2, 2]
}

function autoencoderRelations(c: EncoderConfig | DecoderConfig, rule: Rule): void {
  const stages = c.widths.length
  rule('widths', c.widths, stages >= 1, 'a list of at least one width')
  rule('depths', c.depths, c.depths.length === stages, `a list of ${stages} numbers, as widths is`)
  for (const [i, s] of c.temporalStages.entries())
    rule(`temporal_stages[${i}]`, s, s < stages - 1, `a stage before the last, ${stages - 1}`)
  for (const [i, k] of c.qkvScales.entries()) rule(`qkv_scales[${i}]`, k, k % 2 === 1, 'odd')
  for (const [name, kernel] of [
    ['resample_time_kernel', c.resampleTimeKernel],
    ['latent_time_kernel', c.latentTimeKernel],
  ] as const)
    rule(name, kernel, kernel === 1 || kernel === 3, '1 or 3')
  for (let s = 0; s < stages; s++) {
    const width = c.widths[s]!
    if (s >= c.attentionFromStage)
      rule(`widths[${s}]`, width, divides(c.headDim, width), `a multiple of head_dim ${c.headDim}`)
  }
  const last = c.widths[stages - 1]!
  rule(
    'latent_channels',
    c.latentChannels,
    divides(c.latentChannels, last),
    `a divisor of the last width, ${last}`,
  )
}

/** @throws ERR_FSVIDEO_MODEL_FILE with field, got and expected, as all of these. */
export const parseEncoderConfig = parser(encoder, autoencoderRelations, (c, rule) => {
  for (let s = 0; s < c.widths.length - 1; s++) {
    const r = product(stageFactors(c, s))
    const [width, next] = [c.widths[s]!, c.widths[s + 1]!]
    const shuffled = c.resample === 'strided' || divides(r, next)
    rule(
      `widths[${s + 1}]`,
      next,
      divides(next, width * r) && shuffled,
      `a divisor of ${width * r} and a multiple of ${r}`,
    )
  }
  const lists = [c.latentsMean, c.latentsStd]
  rule(
    'latents_std',
    c.latentsStd,
    (lists[0] === null) === (lists[1] === null),
    'given exactly if latents_mean is',
  )
  for (const [i, name] of ['latents_mean', 'latents_std'].entries())
    rule(
      name,
      lists[i],
      !lists[i] || lists[i].length === c.latentChannels,
      `null or ${c.latentChannels} numbers`,
    )
})

export const parseDecoderConfig = parser(decoder, autoencoderRelations, (c, rule) => {
  const stages = c.widths.length
  for (let s = 0; s < stages - 1; s++) {
    const r = product(stageFactors(c, s))
    const [width, from] = [c.widths[s]!, c.widths[s + 1]!]
    rule(
      `widths[${s}]`,
      width,
      divides(from, width * r),
      `such that ${r} times it is a multiple of widths[${s + 1}], ${from}`,
    )
  }
  rule(
    'encoder_widths',
    c.encoderWidths,
    c.encoderWidths.length === stages,
    `a list of ${stages} numbers, as widths is`,
  )
  for (const [i, s] of c.firstFrameAttentionStages.entries()) {
    rule(`first_frame_attention_stages[${i}]`, s, s < stages, `a stage below ${stages}`)
    const width = c.widths[Math.min(s + 1, stages - 1)]!
    rule(
      'cross_head_dim',
      c.crossHeadDim,
      divides(c.crossHeadDim, width),
      `a divisor of ${width}, the width at stage ${s}`,
    )
  }
})

export const parseDITConfig = parser(dit, (c, rule) => {
  rule('heads', c.heads, divides(c.heads, c.dim), `a divisor of dim ${c.dim}`)
  const head = c.dim / c.heads
  rule(
    'rope',
    c.rope,
    sum(c.rope) === head && c.rope.every((d) => d % 2 === 0),
    `even and ${head} in sum, the size of a head`,
  )
  rule('patch_size', c.patchSize, c.patchSize[1] === c.patchSize[2], 'as wide as high')
  rule('freq_dim', c.freqDim, c.freqDim % 2 === 0, 'even')
  const inputs = 2 * c.outChannels + c.maskChannels
  rule('in_channels', c.inChannels, c.inChannels === inputs, `2 * out_channels + mask_channels, ${inputs}`)
  rule(
    'image_len',
    c.imageLen,
    c.imageDim === null || c.imageLen !== null,
    'an integer unless image_dim is null',
  )
})

export const parseLatentUpsamplerConfig = parser(latentUpsampler, (c, rule) => {
  rule(
    'norm_groups',
    c.normGroups,
    divides(c.normGroups, c.midChannels),
    `a divisor of mid_channels ${c.midChannels}`,
  )
})

export const parseUMT5Config = parser(umt5, (c, rule) => {
  const buckets = c.relativeAttentionNumBuckets
  rule('relative_attention_num_buckets', buckets, divides(4, buckets), 'a multiple of 4')
  const distance = c.relativeAttentionMaxDistance
  rule(
    'relative_attention_max_distance',
    distance,
    distance > buckets / 4,
    `more than ${buckets / 4}, the exact buckets`,
  )
})

export const parseCLIPVisionConfig = parser(clipVision, (c, rule) => {
  rule(
    'num_attention_heads',
    c.numAttentionHeads,
    divides(c.numAttentionHeads, c.hiddenSize),
    `a divisor of hidden_size ${c.hiddenSize}`,
  )
  rule('patch_size', c.patchSize, divides(c.patchSize, c.imageSize), `a divisor of image_size ${c.imageSize}`)
  const least = -c.numHiddenLayers - 1
  rule('output_layer', c.outputLayer, c.outputLayer >= least, `from ${least} to -1`)
})

export const parseSchedulerConfig = parser(scheduler, (c, rule) => {
  rule('frames', c.frames, c.frames % 4 === 1, '4k + 1')
  rule('mask.hi', c.mask.hi, c.mask.hi >= c.mask.lo, `at least mask.lo, ${c.mask.lo}`)
})

/** Folder and class of every network; model_index.json names them as ["fsvideo", class]. */
export const networkClasses = {
  encoder: 'Encoder',
  decoder: 'Decoder',
  decoder_lite: 'Decoder',
  transformer: 'DIT',
  refiner: 'DIT',
  latent_upsampler: 'LatentUpsampler',
  text_encoder: 'UMT5Encoder',
  image_encoder: 'CLIPVision',
} as const
export type NetworkName = keyof typeof networkClasses

/**
 * The networks of a model folder from its model_index.json. One of the two decoders may be absent, and the image encoder (for
 * a transformer without an image branch).
 */
export function parseModelIndex(json: unknown, field: string): ReadonlySet<NetworkName> {
  if (json === null || typeof json !== 'object' || Array.isArray(json))
    throw modelFile(field, json, 'an object')
  const { _class_name: className, ...rest } = json as Record<string, unknown>
  if (className !== 'FSVideoPipeline') throw modelFile(`${field}._class_name`, className, '"FSVideoPipeline"')
  // What diffusers writes besides the networks: versions, and folders that every model has.
  const entries = Object.fromEntries(
    Object.entries(rest).filter(
      ([name]) => !name.startsWith('_') && name !== 'tokenizer' && name !== 'scheduler',
    ),
  )
  for (const [name, entry] of Object.entries(entries)) {
    const network = networkClasses[name as NetworkName] as string | undefined
    if (!Object.hasOwn(networkClasses, name))
      throw modelFile(
        `${field}.${name}`,
        entry,
        `absent; known are ${Object.keys(networkClasses).join(', ')}`,
      )
    if (!Array.isArray(entry) || entry.length !== 2 || entry[0] !== 'fsvideo' || entry[1] !== network)
      throw modelFile(`${field}.${name}`, entry, `["fsvideo", "${network}"]`)
  }
  const given = new Set(Object.keys(entries) as NetworkName[])
  for (const name of Object.keys(networkClasses) as NetworkName[]) {
    const replaceable = name.startsWith('decoder') && (given.has('decoder') || given.has('decoder_lite'))
    if (!given.has(name) && !replaceable && name !== 'image_encoder')
      throw modelFile(`${field}.${name}`, undefined, `["fsvideo", "${networkClasses[name]}"]`)
  }
  return given
}
