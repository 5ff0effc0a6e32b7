/**
 * A model without a checkpoint: seeded random weights for every network of a folder of configurations, written as a complete
 * model folder, so that everything runs and can be measured. And what `fsvideo info` tells of a model folder.
 */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Device } from './device.js'
import { FSVideoError, invalid } from './errors.js'
import { configFile, type ModelFolder, readConfigFolder } from './model-folder.js'
import { networkClasses } from './models/config.js'
import { type Component, networkTensors, openComponent } from './networks.js'
import * as ops from './ops.js'
import { type ComputeType, RandomWeights, type TensorRequest } from './parameters.js'
import type { DType } from './tensor.js'
import { buildTokenizer } from './tokenizer.js'
import { bytesOf, hasWeights, type NewEntry, writeSafetensors } from './weights.js'

export interface InitProgress {
  component: Component
  /** Of all components. */
  writtenBytes: number
  totalBytes: number
}

export interface InitOptions {
  /** 0 to 2^64 − 1. */
  seed?: number | bigint
  /** What every tensor is stored as. Default bf16. */
  dtype?: ComputeType
  onProgress?: (progress: InitProgress) => void
  signal?: AbortSignal
  /** A component larger than this is cut into shards. Default 5 GB. */
  maxShardBytes?: number
}

/**
 * Writes a complete model folder with random weights of the configurations in `configDir`. A tensor's values depend on the seed, its
 * component and its name alone. `outDir` must not exist or be empty; it appears only when it is whole.
 * @throws ERR_FSVIDEO_MODEL_FILE for a configuration that is not one, ERR_FSVIDEO_OUTPUT for a place that cannot be written,
 * ERR_FSVIDEO_INVALID_ARGUMENT for options, `signal.reason` when aborted.
 */
export async function initModel(configDir: string, outDir: string, options: InitOptions = {}): Promise<void> {
  const { seed = 0, dtype = 'bf16', onProgress, signal, maxShardBytes = 5e9 } = options
  checkSeed(seed)
  if (dtype !== 'f32' && dtype !== 'bf16') throw invalid('dtype', dtype, "'f32' or 'bf16'")
  signal?.throwIfAborted()
  const model = await readConfigFolder(configDir)
  const tokenizer = buildTokenizer(model.textEncoder.vocabSize)
  const tensors = await networkTensors(model)
  await requireEmpty(outDir)
  const target = resolve(outDir)
  const scratch = join(dirname(target), `.${randomBytes(4).toString('hex')}.part`)
  const device = await Device.open('cpu')
  try {
    await mkdir(scratch).catch((cause) => {
      throw cannotWrite(outDir, cause)
    })
    await copyConfigs(model, scratch)
    await mkdir(join(scratch, 'tokenizer'))
    for (const [name, json] of Object.entries(tokenizer))
      await writeFile(join(scratch, 'tokenizer', name), `${JSON.stringify(json)}\n`)

    const totalBytes = [...tensors.values()].flat().reduce((n, { shape }) => n + bytesOf({ dtype, shape }), 0)
    let writtenBytes = 0
    for (const [component, requests] of tensors) {
      const source = randomComponent(device, seed, component)
      const entries = requests.map((request) => {
        const { name, shape } = request
        const data = async () => {
          signal?.throwIfAborted()
          const elements = await randomElements(device, source, request, dtype)
          writtenBytes += elements.byteLength
          onProgress?.({ component, writtenBytes, totalBytes })
          return elements
        }
        return { name, dtype, shape: [...shape], data }
      })
      await writeComponent(join(scratch, component), entries, maxShardBytes)
    }
    await rename(scratch, target).catch((cause) => {
      throw cannotWrite(outDir, cause)
    })
  } catch (error) {
    await rm(scratch, { recursive: true, force: true })
    throw error
  } finally {
    device.dispose()
  }
}

export function checkSeed(seed: unknown): void {
  const whole = typeof seed === 'bigint' ? seed : Number.isSafeInteger(seed) ? BigInt(seed as number) : -1n
  if (whole < 0n || whole >= 2n ** 64n) throw invalid('seed', seed, 'a whole number from 0 to 2^64 - 1')
}

async function requireEmpty(dir: string): Promise<void> {
  const held = await readdir(dir).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return []
    throw cannotWrite(dir, cause)
  })
  if (held.length === 0) return
  throw new FSVideoError('ERR_FSVIDEO_OUTPUT', `${dir} is not empty`, {
    field: 'outDir',
    got: `${held.length} entries`,
    expected: 'a folder that does not exist or is empty',
  })
}

function cannotWrite(dir: string, cause: NodeJS.ErrnoException): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_OUTPUT', `${dir} cannot be written: ${cause.code}`, {
    field: 'outDir',
    got: cause.code,
    expected: 'a new folder in a folder that can be written',
    cause,
  })
}

async function copyConfigs({ folder, networks }: ModelFolder, out: string): Promise<void> {
  await copyFile(join(folder, 'model_index.json'), join(out, 'model_index.json'))
  for (const component of [...networks, 'scheduler']) {
    await mkdir(join(out, component))
    await copyFile(join(folder, configFile(component)), join(out, configFile(component)))
  }
}

/** The weights that `initModel` writes for a component. */
export function randomComponent(device: Device, seed: number | bigint, component: Component): RandomWeights {
  return new RandomWeights(device, seed, `${component}.`)
}

async function randomElements(
  device: Device,
  source: RandomWeights,
  request: TensorRequest,
  dtype: ComputeType,
): Promise<ArrayBufferView> {
  const tensor = device.scope(() => {
    const values = source.get(request)
    return dtype === 'f32' ? values : ops.cast(values, dtype)
  })
  try {
    return await tensor.read()
  } finally {
    tensor.dispose()
  }
}

async function writeComponent(folder: string, entries: NewEntry[], maxShardBytes: number): Promise<void> {
  const shards = intoShards(entries, maxShardBytes)
  if (shards.length === 1) return writeSafetensors(join(folder, 'model.safetensors'), entries)
  const number = (i: number) => String(i).padStart(5, '0')
  const weightMap: Record<string, string> = {}
  for (const [i, shard] of shards.entries()) {
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`
    for (const { name } of shard) weightMap[name] = file
    await writeSafetensors(join(folder, file), shard)
  }
  const totalSize = entries.reduce((n, entry) => n + bytesOf(entry), 0)
  const index = { metadata: { total_size: totalSize }, weight_map: weightMap }
  await writeFile(join(folder, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`)
}

/** Runs of entries of at most `maxBytes` each; a single tensor may be larger. */
function intoShards(entries: readonly NewEntry[], maxBytes: number): NewEntry[][] {
  const shards: NewEntry[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const entry of entries) {
    const size = bytesOf(entry)
    if (bytes + size > maxBytes) {
      shards.push([])
      bytes = 0
    }
    shards.at(-1)!.push(entry)
    bytes += size
  }
  return shards
}

export interface ComponentInfo {
  name: Component
  class: string
  /** Counted from shapes. */
  parameters: number
  /** In the weight files; absent where there are none. */
  bytes?: number
  dtypes?: DType[]
  /** The sizes that matter, in words. */
  summary: string
}

export interface ModelInfo {
  folder: string
  components: ComponentInfo[]
  parameters: number
  /** Absent where any component has no weights. */
  bytes?: number
  /** The sampling defaults. */
  summary: string
}

/**
 * What a folder of configurations, with or without weights, amounts to. Nothing is allocated; weights that are there are checked.
 * @throws ERR_FSVIDEO_MODEL_FILE
 */
export async function modelInfo(folder: string): Promise<ModelInfo> {
  const model = await readConfigFolder(folder)
  const meta = await Device.open('meta')
  try {
    const components: ComponentInfo[] = []
    for (const [name, requests] of await networkTensors(model)) {
      const parameters = requests.reduce((n, { shape }) => n + shape.reduce((p, d) => p * d, 1), 0)
      const info = { name, class: networkClasses[name], parameters, summary: summaries[name](model) }
      components.push({ ...info, ...(await storedSize(name, model, requests, meta)) })
    }
    const sum = (numbers: number[]) => numbers.reduce((total, n) => total + n, 0)
    const bytes = components.map((component) => component.bytes)
    return {
      folder,
      components,
      parameters: sum(components.map((component) => component.parameters)),
      bytes: bytes.every((n) => n !== undefined) ? sum(bytes) : undefined,
      summary: schedulerSummary(model),
    }
  } finally {
    meta.dispose()
  }
}

async function storedSize(
  name: Component,
  model: ModelFolder,
  expected: readonly TensorRequest[],
  device: Device,
): Promise<{ bytes: number; dtypes: DType[] } | undefined> {
  if (!(await hasWeights(join(model.folder, name)))) return undefined
  const { entries } = await openComponent(name, model, expected, device)
  return {
    bytes: entries.reduce((n, entry) => n + bytesOf(entry), 0),
    dtypes: [...new Set(entries.map(({ dtype }) => dtype))],
  }
}

type Autoencoder = { widths: readonly number[]; depths: readonly number[]; latentChannels: number }
const stages = ({ widths, depths, latentChannels }: Autoencoder): string =>
  `widths ${widths.join(' ')}, depths ${depths.join(' ')}, ${latentChannels} latent channels`

const transformer = (config: ModelFolder['transformer']): string => {
  const { layers, dim, heads, ffnDim, memory, imageDim } = config
  const image = imageDim === null ? '' : ', image tokens'
  return `${layers} layers of ${dim}, ${heads} heads, FFN ${ffnDim}, layer memory ${memory.enabled ? memory.norm : 'off'}${image}`
}

const summaries: { readonly [N in Component]: (model: ModelFolder) => string } = {
  encoder: ({ encoder }) => `${stages(encoder)}, ${encoder.conv}, ${encoder.resample}`,
  decoder: ({ decoder }) => `${stages(decoder!)}, ${decoder!.conv}, ${decoder!.resample}`,
  decoder_lite: ({ decoderLite }) =>
    `${stages(decoderLite!)}, ${decoderLite!.conv}, ${decoderLite!.resample}`,
  transformer: (model) => transformer(model.transformer),
  refiner: (model) => transformer(model.refiner),
  latent_upsampler: ({ latentUpsampler: c }) => `${c.blocks} blocks of ${c.midChannels}, x${c.scale}`,
  text_encoder: ({ textEncoder: c }) =>
    `${c.numLayers} layers of ${c.dModel}, ${c.numHeads} heads, vocabulary ${c.vocabSize}`,
  image_encoder: ({ imageEncoder }) => {
    const { numHiddenLayers, hiddenSize, imageSize, patchSize } = imageEncoder!
    return `${numHiddenLayers} layers of ${hiddenSize}, ${imageSize} pixels in patches of ${patchSize}`
  },
}

function schedulerSummary({ scheduler: { frames, fps, base, refiner } }: ModelFolder): string {
  return `${frames} frames, ${fps} a second; base ${base.steps} steps ${base.solver}, guidance ${base.guidanceScale}; refiner ${refiner.steps} steps ${refiner.solver}`
}
