/**
 * From a model folder to networks: which class each component is, what it asks its weight file for, and how it is built from it.
 * The pipeline first opens and checks the files of every component and only then builds any.
 */
import { join } from 'node:path'
import { Device } from './device.js'
import type { ModelFolder } from './model-folder.js'
import { Decoder, Encoder } from './models/autoencoder.js'
import type { NetworkName } from './models/config.js'
import { DIT } from './models/dit.js'
import { CLIPVision } from './models/image-encoder.js'
import { LatentUpsampler } from './models/latent-upsampler.js'
import { UMT5Encoder } from './models/text-encoder.js'
import { type ComputeType, Parameters, type TensorRequest } from './parameters.js'
import { expectedTensors, FileWeights } from './weights.js'

export interface Networks {
  encoder: Encoder
  decoder: Decoder
  decoder_lite: Decoder
  transformer: DIT
  refiner: DIT
  latent_upsampler: LatentUpsampler
  text_encoder: UMT5Encoder
  image_encoder: CLIPVision
}

type Builders = { readonly [N in NetworkName]: (model: ModelFolder, parameters: Parameters) => Networks[N] }

const builders: Builders = {
  encoder: (model, parameters) => new Encoder(model.encoder, parameters),
  decoder: (model, parameters) => new Decoder(model.decoder!, parameters),
  decoder_lite: (model, parameters) => new Decoder(model.decoderLite!, parameters),
  transformer: (model, parameters) => new DIT(model.transformer, parameters),
  refiner: (model, parameters) => new DIT(model.refiner, parameters),
  latent_upsampler: (model, parameters) => new LatentUpsampler(model.latentUpsampler, parameters),
  text_encoder: (model, parameters) => new UMT5Encoder(model.textEncoder, parameters),
  image_encoder: (model, parameters) => new CLIPVision(model.imageEncoder!, parameters),
}

/** A network of the model from any source of weights. It must be one of `model.networks`. */
export function buildNetwork<N extends NetworkName>(
  name: N,
  model: ModelFolder,
  parameters: Parameters,
): Networks[N] {
  return builders[name](model, parameters)
}

/** What every network of the model asks for, found on the planning device. */
export async function networkTensors(model: ModelFolder): Promise<Map<NetworkName, TensorRequest[]>> {
  const meta = await Device.open('meta')
  try {
    return new Map(
      [...model.networks].map((name) => [
        name,
        expectedTensors(meta, (parameters) => buildNetwork(name, model, parameters)),
      ]),
    )
  } finally {
    meta.dispose()
  }
}

/**
 * Opens the weights of every component and compares them with its configuration. Reads only headers.
 * @throws ERR_FSVIDEO_MODEL_FILE, as FileWeights.open and FileWeights.check do.
 */
export async function openWeights(
  model: ModelFolder,
  device: Device,
): Promise<Map<NetworkName, FileWeights>> {
  const opened = new Map<NetworkName, FileWeights>()
  for (const [name, expected] of await networkTensors(model))
    opened.set(name, await openComponent(name, model, expected, device))
  return opened
}

/** As `openWeights` for one component; `expected` is its entry of `networkTensors`. */
export async function openComponent(
  name: NetworkName,
  model: ModelFolder,
  expected: readonly TensorRequest[],
  device: Device,
): Promise<FileWeights> {
  const weights = await FileWeights.open(join(model.dir, name), device)
  weights.check(expected, { ignore: unread(name, model) })
  return weights
}

/** A network and the parameters it holds, which the caller disposes of. */
export interface Loaded<N extends NetworkName> {
  network: Networks[N]
  parameters: Parameters
}

/** Builds a network on its device from weights that have been checked. */
export function loadNetwork<N extends NetworkName>(
  name: N,
  model: ModelFolder,
  weights: FileWeights,
  device: Device,
  dtype: ComputeType,
): Loaded<N> {
  const parameters = new Parameters(device, dtype, weights)
  try {
    const network = buildNetwork(name, model, parameters)
    weights.finish({ ignore: unread(name, model) })
    return { network, parameters }
  } catch (error) {
    parameters.dispose()
    throw error
  }
}

/** Tensors that a complete CLIP checkpoint has and an image encoder does not read: what lies behind its hidden state. */
function unread(name: NetworkName, { imageEncoder }: ModelFolder): RegExp[] {
  if (name !== 'image_encoder' || !imageEncoder) return []
  const { numHiddenLayers, outputLayer } = imageEncoder
  const behind = Array.from({ length: -1 - outputLayer }, (_, i) => numHiddenLayers - 1 - i)
  return [
    /^vision_model\.post_layernorm\./,
    /^vision_model\.embeddings\.position_ids$/,
    ...behind.map((layer) => new RegExp(`^vision_model\\.encoder\\.layers\\.${layer}\\.`)),
  ]
}
