/**
 * Where networks get their weights. A network's constructor asks for each tensor by name, shape and purpose, exactly once;
 * the same constructor so serves a checkpoint, a random initialisation, and a count of shapes.
 */
import type { Device } from './device.js'
import { invalid } from './errors.js'
import * as ops from './ops.js'
import type { DType, Tensor } from './tensor.js'

/** How a tensor starts when there is no checkpoint. `normal`: variance 1 / fan-in, times `gain` squared. */
export type Init = 'normal' | 'zeros' | 'ones'

export interface TensorRequest {
  name: string
  shape: readonly number[]
  init: Init
  gain: number
}

/** Gives the tensor for a request, plain, f32 or bf16 (or f8e4m3), in the request's shape. The caller disposes of it. */
export interface WeightSource {
  get(request: TensorRequest): Tensor
}

export type ComputeType = 'f32' | 'bf16'
/** What networks compute in. `fp8`: in bf16, with the products of the transformers' blocks in fp8. */
export type Precision = ComputeType | 'fp8'
/** The type of activations. */
export const activationsOf = (precision: Precision): ComputeType => (precision === 'fp8' ? 'bf16' : precision)
export const precisions: readonly Precision[] = ['bf16', 'fp8', 'f32']

export class Parameters {
  readonly device: Device
  /** What matrices and activations are computed in. */
  readonly dtype: ComputeType
  /** Whether products that can be of fp8 shall be. */
  readonly fp8: boolean
  #source: WeightSource
  #prefix: string
  #kept: Tensor[]

  constructor(device: Device, precision: Precision, source: WeightSource, prefix = '', kept: Tensor[] = []) {
    this.device = device
    this.fp8 = precision === 'fp8'
    this.dtype = activationsOf(precision)
    this.#source = source
    this.#prefix = prefix
    this.#kept = kept
  }

  /** The parameters below a name: `at('blocks.0')` asks for `blocks.0.<name>`. */
  at(name: string): Parameters {
    const precision = this.fp8 ? 'fp8' : this.dtype
    return new Parameters(this.device, precision, this.#source, `${this.#prefix}${name}.`, this.#kept)
  }

  /** A weight [N, K] for `ops.linear`, packed. Also takes one that is stored with trailing dimensions of the same size. */
  linear(
    name: string,
    shape: readonly [number, number],
    options: { stored?: readonly number[]; gain?: number } = {},
  ): Tensor {
    const stored = options.stored ?? shape
    return this.#keep(name, stored, 'normal', options.gain ?? 1, (raw) => {
      const flat = stored.length === 2 ? raw : raw.reshape(...shape)
      return ops.packLinear(this.#cast(flat, this.dtype))
    })
  }

  /** A weight [N, K] for a product of fp8, with a scale a row. */
  quantizedLinear(
    name: string,
    shape: readonly [number, number],
    options: { gain?: number } = {},
  ): ops.Quantized {
    const { gain = 1 } = options
    const request: TensorRequest = { name: this.#prefix + name, shape, init: 'normal', gain }
    const weight = this.device.scope(() => {
      const { values, scales } = ops.quantizeFp8(this.#cast(this.#source.get(request), 'f32'))
      for (const tensor of [values, scales]) this.device.keep(tensor)
      return { values, scales }
    })
    this.#kept.push(weight.values, weight.scales)
    return weight
  }

  /** A weight [O, I / groups, kt, kh, kw] for `ops.conv3d`, packed. */
  conv3d(
    name: string,
    shape: readonly [number, number, number, number, number],
    options: { groups?: number; gain?: number } = {},
  ): Tensor {
    return this.#keep(name, shape, 'normal', options.gain ?? 1, (raw) =>
      ops.packConv3d(this.#cast(raw, this.dtype), options.groups ?? 1),
    )
  }

  /** A matrix or table that an op reads as it is, in the compute type. */
  matrix(name: string, shape: readonly number[], options: { init?: Init; gain?: number } = {}): Tensor {
    return this.#keep(name, shape, options.init ?? 'normal', options.gain ?? 1, (raw) =>
      this.#cast(raw, this.dtype),
    )
  }

  /** A vector (bias, norm weight, modulation), always f32. */
  vector(name: string, shape: number | readonly number[], init: Init = 'zeros', gain = 1): Tensor {
    const list = typeof shape === 'number' ? [shape] : shape
    return this.#keep(name, list, init, gain, (raw) => this.#cast(raw, 'f32'))
  }

  /** A vector that comes from the configuration instead of the weights, f32. */
  constant(values: readonly number[]): Tensor {
    const tensor = this.device.tensor(Float32Array.from(values), [values.length])
    this.#kept.push(tensor)
    return tensor
  }

  /** Everything asked for so far, under every prefix. */
  dispose(): void {
    for (const tensor of this.#kept.splice(0)) tensor.dispose()
  }

  #cast(tensor: Tensor, dtype: DType): Tensor {
    return tensor.dtype === dtype ? tensor : ops.cast(tensor, dtype)
  }

  #keep(
    name: string,
    shape: readonly number[],
    init: Init,
    gain: number,
    prepare: (raw: Tensor) => Tensor,
  ): Tensor {
    const request = { name: this.#prefix + name, shape, init, gain }
    const tensor = this.device.scope(() => prepare(this.#source.get(request)))
    this.#kept.push(tensor)
    return tensor
  }
}

/**
 * Seeded random weights made on the device: element i of a tensor depends on the seed, the tensor's name and i alone, so it is
 * the same on every backend and whatever else the model holds.
 */
export class RandomWeights implements WeightSource {
  readonly #device: Device
  readonly #seed: bigint
  readonly #prefix: string

  /** @param prefix Stands before all names, for components that share some and must not share weights. */
  constructor(device: Device, seed: number | bigint = 0, prefix = '') {
    this.#device = device
    this.#seed = BigInt(seed)
    this.#prefix = prefix
  }

  get({ name, shape, init, gain }: TensorRequest): Tensor {
    if (init !== 'normal') return ops.fill(this.#device, shape, init === 'ones' ? 1 : 0)
    const fanIn = shape.slice(1).reduce((n, d) => n * d, 1)
    const noise = ops.randn(this.#device, [1, ...shape], {
      seeds: [this.#seed],
      stream: hash64(this.#prefix + name),
    })
    return ops.combine([noise.reshape(...shape)], [gain / Math.sqrt(fanIn)])
  }
}

/** Notes what is asked for; the tensors themselves are of the planning device. */
export class RecordedShapes implements WeightSource {
  readonly requests: TensorRequest[] = []
  readonly #device: Device

  constructor(meta: Device) {
    if (!meta.dry) throw invalid('device', meta.name, 'meta')
    this.#device = meta
  }

  get(request: TensorRequest): Tensor {
    this.requests.push(request)
    return ops.fill(this.#device, request.shape, 0)
  }

  /** Number of parameters asked for. */
  get count(): number {
    return this.requests.reduce((n, { shape }) => n + shape.reduce((p, d) => p * d, 1), 0)
  }
}

/** FNV-1a, 64 bits: a stable stream number for a name. */
function hash64(name: string): bigint {
  let hash = 0xcbf29ce484222325n
  for (const byte of new TextEncoder().encode(name))
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return hash
}
