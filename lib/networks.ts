/**
 * From a model folder to networks: which class each component is, what it asks its weights for, and all of them loaded onto a device.
 * The files of every component are opened and checked before the first network is built.
 */
import { join } from 'node:path'
import { Device } from './device.js'
import { invalid } from './errors.js'
import type { ModelFolder } from './model-folder.js'
import { Decoder, Encoder } from './models/autoencoder.js'
import type { NetworkName } from './models/config.js'
import { DIT } from './models/dit.js'
import { CLIPVision } from './models/image-encoder.js'
import { LatentUpsampler } from './models/latent-upsampler.js'
import { UMT5Encoder } from './models/text-encoder.js'
import {
  activationsOf,
  type ComputeType,
  Parameters,
  type Precision,
  type TensorRequest,
  type WeightSource,
} from './parameters.js'
import { expectedTensors, FileWeights } from './weights.js'

/** A network by the name of its folder. */
export type Component = NetworkName

interface NetworkOf {
  encoder: Encoder
  decoder: Decoder
  decoder_lite: Decoder
  transformer: DIT
  refiner: DIT
  latent_upsampler: LatentUpsampler
  text_encoder: UMT5Encoder
  image_encoder: CLIPVision
}
type Builders = { readonly [C in Component]: (model: ModelFolder, parameters: Parameters) => NetworkOf[C] }

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

/** Where a component's weights come from. */
export type WeightsOf = (component: Component, device: Device) => WeightSource | Promise<WeightSource>

export interface LoadOptions {
  device: Device
  dtype: Precision
  /** Default: the model folder's own files. */
  weights?: WeightsOf
  /** Called, and waited for, when a component has been built. `index` counts from 0. */
  onComponent?: (component: Component, index: number, count: number) => void | Promise<void>
}

/** All networks of a model on one device. */
export class Networks {
  readonly device: Device
  readonly precision: Precision
  /** Of activations. */
  readonly dtype: ComputeType
  readonly #built: Partial<NetworkOf> = {}
  readonly #parameters: Parameters[] = []

  private constructor(device: Device, precision: Precision) {
    this.device = device
    this.precision = precision
    this.dtype = activationsOf(precision)
  }

  /**
   * Builds every network of the model.
   * @throws ERR_FSVIDEO_MODEL_FILE for weights that are not what the configurations describe, before anything heavy;
   * ERR_FSVIDEO_OUT_OF_MEMORY; what `onComponent` throws.
   */
  static async load(model: ModelFolder, options: LoadOptions): Promise<Networks> {
    const { device, dtype, onComponent } = options
    const weights = options.weights ?? (await openWeights(model, device))
    const networks = new Networks(device, dtype)
    try {
      for (const [index, component] of [...model.networks].entries()) {
        networks.#build(component, model, await weights(component, device))
        await onComponent?.(component, index, model.networks.size)
      }
      return networks
    } catch (error) {
      networks.dispose()
      throw error
    }
  }

  #build<C extends Component>(component: C, model: ModelFolder, source: WeightSource): void {
    const parameters = new Parameters(this.device, this.precision, source)
    this.#parameters.push(parameters)
    this.#built[component] = builders[component](model, parameters)
  }

  get encoder(): Encoder {
    return this.#built.encoder!
  }
  get transformer(): DIT {
    return this.#built.transformer!
  }
  get refiner(): DIT {
    return this.#built.refiner!
  }
  get latentUpsampler(): LatentUpsampler {
    return this.#built.latent_upsampler!
  }
  get textEncoder(): UMT5Encoder {
    return this.#built.text_encoder!
  }
  /** Absent where the transformers take no image tokens. */
  get imageEncoder(): CLIPVision | undefined {
    return this.#built.image_encoder
  }

  /** Throws ERR_FSVIDEO_INVALID_ARGUMENT for a decoder that the model does not have. */
  decoderFor(name: 'standard' | 'lite'): Decoder {
    const decoder = name === 'lite' ? this.#built.decoder_lite : this.#built.decoder
    if (!decoder) throw invalid('decoder', name, 'a decoder that this model has')
    return decoder
  }

  /** Frees the weights. Idempotent. */
  dispose(): void {
    for (const parameters of this.#parameters.splice(0)) parameters.dispose()
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** What every network of the model asks for, found on the planning device. */
export async function networkTensors(model: ModelFolder): Promise<Map<Component, TensorRequest[]>> {
  const meta = await Device.open('meta')
  try {
    const tensors = (component: Component) =>
      expectedTensors(meta, (parameters) => builders[component](model, parameters))
    return new Map([...model.networks].map((component) => [component, tensors(component)]))
  } finally {
    meta.dispose()
  }
}

/**
 * Opens the weights of one component and compares them with its configuration. Reads only headers.
 * @param expected Its entry of `networkTensors`.
 * @throws ERR_FSVIDEO_MODEL_FILE, as FileWeights.open and FileWeights.check do.
 */
export async function openComponent(
  component: Component,
  model: ModelFolder,
  expected: readonly TensorRequest[],
  device: Device,
): Promise<FileWeights> {
  const weights = await FileWeights.open(join(model.folder, component), device)
  weights.check(expected, { ignore: unread(component, model) })
  return weights
}

async function openWeights(model: ModelFolder, device: Device): Promise<WeightsOf> {
  const opened = new Map<Component, FileWeights>()
  for (const [component, expected] of await networkTensors(model))
    opened.set(component, await openComponent(component, model, expected, device))
  return (component) => opened.get(component)!
}

/** Tensors that a complete CLIP checkpoint has and an image encoder does not read: what lies behind its hidden state. */
function unread(component: Component, { imageEncoder }: ModelFolder): RegExp[] {
  if (component !== 'image_encoder' || !imageEncoder) return []
  const { numHiddenLayers, outputLayer } = imageEncoder
  const behind = Array.from({ length: -1 - outputLayer }, (_, i) => numHiddenLayers - 1 - i)
  return [
    /^vision_model\.post_layernorm\./,
    /^vision_model\.embeddings\.position_ids$/,
    ...behind.map((layer) => new RegExp(`^vision_model\\.encoder\\.layers\\.${layer}\\.`)),
  ]
}
