/**
 * A model folder (models/FORMAT.md): which components it has, what their configurations say, and whether they fit together.
 * Reads nothing but small JSON files; networks.ts builds from what is found here.
 */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { FSVideoError } from './errors.js'
import { readJson } from './json-file.js'
import { compression } from './models/autoencoder.js'
import {
  type CLIPVisionConfig,
  type DecoderConfig,
  type DITConfig,
  type EncoderConfig,
  type LatentUpsamplerConfig,
  type NetworkName,
  parseCLIPVisionConfig,
  parseDecoderConfig,
  parseDITConfig,
  parseEncoderConfig,
  parseLatentUpsamplerConfig,
  parseModelIndex,
  parseSchedulerConfig,
  parseUMT5Config,
  type SchedulerConfig,
  type UMT5Config,
} from './models/config.js'
import { modelFile } from './models/fields.js'
import { checkGuidanceScale, checkShift, checkSigma, checkSolverName, checkSteps } from './sampling/index.js'
import { buildTokenizer, Tokenizer } from './tokenizer.js'

/** Far beyond any configuration: 128 means and deviations take 5 kB. */
const maxConfigBytes = 2 ** 20

/** Frames a second that a video file may have. */
export const maxFps = 240

export interface ModelFolder {
  /** Its path. */
  readonly folder: string
  /** Folders of the networks that there are. */
  readonly networks: ReadonlySet<NetworkName>
  readonly encoder: EncoderConfig
  /** At least one of the decoders is there. */
  readonly decoder?: DecoderConfig
  readonly decoderLite?: DecoderConfig
  readonly transformer: DITConfig
  readonly refiner: DITConfig
  readonly latentUpsampler: LatentUpsamplerConfig
  readonly textEncoder: UMT5Config
  /** Absent where the transformers take no image tokens. */
  readonly imageEncoder?: CLIPVisionConfig
  readonly scheduler: SchedulerConfig
}

/**
 * The configurations of a complete model folder. Weights and tokenizer are not opened; the tokenizer must be there.
 * @throws ERR_FSVIDEO_MODEL_FILE with field (`transformer.text_dim`, or a file), got and expected.
 */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  const model = await readConfigFolder(folder)
  const tokenizer = join(folder, 'tokenizer', 'tokenizer.json')
  await access(tokenizer).catch((cause) => {
    throw new FSVideoError('ERR_FSVIDEO_MODEL_FILE', `${tokenizer} is missing`, {
      field: 'tokenizer',
      got: 'nothing',
      expected: 'a folder with tokenizer.json',
      cause,
    })
  })
  return model
}

/** As `readModelFolder`, for a folder of configurations alone: what `initModel` makes a model of. */
export async function readConfigFolder(folder: string): Promise<ModelFolder> {
  const networks = parseModelIndex(
    await readJson(join(folder, 'model_index.json'), maxConfigBytes),
    'model_index',
  )
  const read = async <C>(name: string, parse: (json: unknown, field: string) => C): Promise<C> =>
    parse(await readJson(join(folder, configFile(name)), maxConfigBytes), name)
  const readIf = async <C>(name: NetworkName, parse: (json: unknown, field: string) => C) =>
    networks.has(name) ? read(name, parse) : undefined
  const model: ModelFolder = {
    folder,
    networks,
    encoder: await read('encoder', parseEncoderConfig),
    decoder: await readIf('decoder', parseDecoderConfig),
    decoderLite: await readIf('decoder_lite', parseDecoderConfig),
    transformer: await read('transformer', parseDITConfig),
    refiner: await read('refiner', parseDITConfig),
    latentUpsampler: await read('latent_upsampler', parseLatentUpsamplerConfig),
    textEncoder: await read('text_encoder', parseUMT5Config),
    imageEncoder: await readIf('image_encoder', parseCLIPVisionConfig),
    scheduler: await read('scheduler', parseSchedulerConfig),
  }
  checkAutoencoder(model)
  checkTransformers(model)
  checkScheduler(model)
  return model
}

/** Path of a component's configuration in a model folder. */
export function configFile(component: string): string {
  return join(component, component === 'scheduler' ? 'scheduler_config.json' : 'config.json')
}

/**
 * The model's tokenizer.
 * @throws ERR_FSVIDEO_MODEL_FILE if it is damaged, or has tokens that the text encoder has no embedding for.
 */
export async function loadTokenizer({ folder, textEncoder }: ModelFolder): Promise<Tokenizer> {
  const tokenizer = await Tokenizer.load(folder)
  ensure(
    'text_encoder.vocab_size',
    textEncoder.vocabSize,
    textEncoder.vocabSize >= tokenizer.vocabSize,
    `at least ${tokenizer.vocabSize}, the tokens of tokenizer.json`,
  )
  return tokenizer
}

/** The tokenizer of a folder of configurations alone: the one that `initModel` writes. */
export function madeTokenizer({ textEncoder }: ModelFolder): Tokenizer {
  const files = buildTokenizer(textEncoder.vocabSize)
  return new Tokenizer(files['tokenizer.json'], files['tokenizer_config.json'])
}

function ensure(field: string, got: unknown, ok: boolean, expected: string): void {
  if (!ok) throw modelFile(field, got, expected)
}

function same(field: string, got: unknown, other: string, value: unknown): void {
  ensure(field, got, JSON.stringify(got) === JSON.stringify(value), `as ${other}, ${JSON.stringify(value)}`)
}

function checkAutoencoder({ encoder, decoder, decoderLite, latentUpsampler }: ModelFolder): void {
  for (const [name, config] of Object.entries({ decoder, decoder_lite: decoderLite })) {
    if (!config) continue
    same(`${name}.latent_channels`, config.latentChannels, 'encoder.latent_channels', encoder.latentChannels)
    same(`${name}.encoder_widths`, config.encoderWidths, 'encoder.widths', encoder.widths)
    same(`${name}.temporal_stages`, config.temporalStages, 'encoder.temporal_stages', encoder.temporalStages)
    same(`${name}.out_channels`, config.outChannels, 'encoder.in_channels', encoder.inChannels)
  }
  ensure('encoder.in_channels', encoder.inChannels, encoder.inChannels === 3, '3: red, green and blue')
  const channels = latentUpsampler.inChannels
  same('latent_upsampler.in_channels', channels, 'encoder.latent_channels', encoder.latentChannels)
}

function checkTransformers(model: ModelFolder): void {
  const { encoder, textEncoder, imageEncoder, transformer, refiner } = model
  for (const [name, config] of Object.entries({ transformer, refiner })) {
    same(`${name}.out_channels`, config.outChannels, 'encoder.latent_channels', encoder.latentChannels)
    same(`${name}.text_dim`, config.textDim, 'text_encoder.d_model', textEncoder.dModel)
    ensure(
      `${name}.patch_size`,
      config.patchSize,
      config.patchSize[0] === 1,
      'with 1 in time: latent frames come in any number',
    )
    if (config.imageDim === null) continue
    ensure(`${name}.image_dim`, config.imageDim, imageEncoder !== undefined, 'null without an image_encoder')
    const { hiddenSize, imageSize, patchSize } = imageEncoder!
    same(`${name}.image_dim`, config.imageDim, 'image_encoder.hidden_size', hiddenSize)
    const tokens = 1 + (imageSize / patchSize) ** 2
    same(`${name}.image_len`, config.imageLen, 'the tokens of image_encoder', tokens)
  }
  same('refiner.mask_channels', refiner.maskChannels, 'transformer.mask_channels', transformer.maskChannels)
  same('refiner.text_len', refiner.textLen, 'transformer.text_len', transformer.textLen)
  ensure(
    'image_encoder',
    'a component',
    !imageEncoder || transformer.imageDim !== null || refiner.imageDim !== null,
    'absent: no transformer has an image_dim',
  )
}

function checkScheduler(model: ModelFolder): void {
  const { scheduler, transformer, refiner, latentUpsampler } = model
  const { time: frames, space } = compression(model.encoder)
  ensure('scheduler.frames', scheduler.frames, scheduler.frames % frames === 1 % frames, `${frames}k + 1`)
  // Both transformers must be able to cut their cells into patches.
  const least = space * Math.max(latentUpsampler.scale * transformer.patchSize[1], refiner.patchSize[1])
  const multiple = scheduler.sizeMultiple
  ensure('scheduler.size_multiple', multiple, multiple % least === 0, `a multiple of ${least}`)
  ensure('scheduler.fps', scheduler.fps, scheduler.fps <= maxFps, `at most ${maxFps}`)
  // The defaults of a request are held to what a request may ask for.
  held('scheduler.base.', () => checkGuidanceScale(scheduler.base.guidanceScale, 'guidance_scale'))
  for (const name of ['base', 'refiner'] as const) {
    const { steps, shift, sigmaStart, solver } = scheduler[name]
    held(`scheduler.${name}.`, () => {
      checkSteps(steps)
      checkShift(shift)
      checkSigma(sigmaStart, 'sigma_start')
      checkSolverName(solver)
    })
  }
}

/** Runs the check of an argument on a field of a file. */
function held(prefix: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    const { field, got, expected } = error as FSVideoError
    throw modelFile(prefix + field, got, expected ?? '')
  }
}
