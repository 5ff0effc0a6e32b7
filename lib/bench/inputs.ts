/** A spec on a device of ours: random inputs, N(0, 1), and one call of the op on them. */
import { type Device, ops, type Tensor } from '../kernels.js'
import type {
  AttentionSpec,
  Conv3dSpec,
  Float,
  LayerMemorySpec,
  LinearAttentionSpec,
  LinearSpec,
  PlainOp,
  PlainSpec,
  QkNormRopeSpec,
  ShuffleSpec,
  Spec,
} from './spec.js'

export interface Prepared {
  /** Queues one call. Whoever calls disposes of the result. */
  call(): Tensor | Tensor[]
  readonly inputs: readonly Tensor[]
}

export function disposeOf(tensors: Tensor | readonly Tensor[]): void {
  for (const tensor of Array.isArray(tensors) ? tensors : [tensors]) tensor.dispose()
}

/** Draws inputs of one copy; copies differ in their seeds. */
class Source {
  readonly #device: Device
  readonly #seed: number
  #stream = 0
  readonly made: Tensor[] = []

  constructor(device: Device, seed: number) {
    this.#device = device
    this.#seed = seed
  }

  #keep(make: () => Tensor): Tensor {
    const tensor = this.#device.scope(make)
    this.made.push(tensor)
    return tensor
  }
  /** N(0, 1). */
  noise(shape: readonly number[], dtype: Float): Tensor {
    return this.#keep(() => this.#draw(shape, dtype))
  }
  #draw(shape: readonly number[], dtype: Float): Tensor {
    const options = { seeds: [this.#seed], stream: this.#stream++, dtype }
    return ops.randn(this.#device, [1, ...shape], options).reshape(...shape)
  }
  vector(length: number): Tensor {
    return this.noise([length], 'f32')
  }
  packed(shape: readonly [number, number], dtype: Float): Tensor {
    return this.#keep(() => ops.packLinear(this.#draw(shape, dtype)))
  }
  packedConv(shape: readonly number[], dtype: Float, groups: number): Tensor {
    return this.#keep(() => ops.packConv3d(this.#draw(shape, dtype), groups))
  }
  /** Values and scales. */
  fp8(shape: readonly number[], groups = false): ops.Quantized {
    const { values, scales } = this.#device.scope(() =>
      ops.quantizeFp8(this.#draw(shape, 'bf16'), { groups }),
    )
    this.made.push(values, scales)
    return { values, scales }
  }
  bytes(shape: readonly number[]): Tensor {
    return this.#keep(() => ops.toRgb8(this.#draw(shape, 'f32')))
  }
  /** Numbers from 0 up to but not including `end`, spread over it. */
  ids(length: number, end: number): Tensor {
    const values = Int32Array.from({ length }, (_, i) => (i * 7919) % end)
    return this.#keep(() => this.#device.tensor(values, [length]))
  }
}

type Call = () => Tensor | Tensor[]

function linear(from: Source, { op, dtype, m, n, k, epilogue }: LinearSpec): Call {
  const bias = epilogue === 'none' ? undefined : from.vector(n)
  const out = dtype === 'f8e4m3' ? 'bf16' : dtype
  const gated = epilogue === 'gate' && {
    gate: from.noise([1, n], 'f32'),
    residual: from.noise([1, m, n], out),
  }
  const activation = epilogue === 'gelu' ? ('gelu_tanh' as const) : undefined
  if (dtype === 'f8e4m3') {
    const [x, w] = [from.fp8([1, m, k], op === 'linearFp8'), from.fp8([n, k])]
    const options = { xScale: x.scales, weightScale: w.scales, bias, activation }
    if (op === 'linearFp8') return () => Object.values(ops.linearFp8(x.values, w.values, options))
    return () => ops.linear(x.values, w.values, { ...options, ...gated })
  }
  const [x, weight] = [from.noise([1, m, k], dtype), from.packed([n, k], dtype)]
  return () => ops.linear(x, weight, { bias, activation, ...gated })
}

function attention(from: Source, { dtype, batch, queries, keys, heads, headDim }: AttentionSpec): Call {
  const q = from.noise([batch, queries, heads, headDim], dtype)
  const k = from.noise([batch, keys, heads, headDim], dtype)
  const v = from.noise([batch, keys, heads, headDim], dtype)
  return () => ops.attention(q, k, v)
}

function layerMemory(from: Source, { op, dtype, states, tokens, dim }: LayerMemorySpec): Call {
  const bank = Array.from({ length: states }, () => from.noise([1, tokens, dim], dtype))
  const router = from.noise([states, dim], dtype)
  const [scale, shift] = [from.noise([1, dim], 'f32'), from.noise([1, dim], 'f32')]
  if (op === 'layerMemoryFp8')
    return () => Object.values(ops.layerMemoryFp8(bank, bank.at(-1)!, router, { scale, shift }))
  return () => ops.layerMemory(bank, bank.at(-1)!, router, { scale, shift })
}

function qkNormRope(from: Source, { dtype, tokens, heads, headDim }: QkNormRopeSpec): Call {
  const x = from.noise([1, tokens, heads * headDim], dtype)
  const weight = from.vector(heads * headDim)
  const rotations = from.noise([tokens, headDim / 2, 2], 'f32')
  return () => ops.qkNormRope(x, { heads, weight, rotations })
}

function linearAttention(from: Source, spec: LinearAttentionSpec): Call {
  const { dtype, frames, tokens, heads, headDim } = spec
  const qkv = from.noise([frames, tokens, heads * 3 * headDim], dtype)
  return () => ops.linearAttention(qkv, { headDim })
}

function conv3d(from: Source, spec: Conv3dSpec): Call {
  const { dtype, frames, height, width, channels, out, kernel, groups, fused, norm } = spec
  const x = from.noise([1, frames, height, width, channels], dtype)
  const weight = from.packedConv([out, channels / groups, ...kernel], dtype, groups)
  const [time, down, across] = kernel.map((n) => n >> 1) as [number, number, number]
  const options: ops.Conv3dOptions = {
    padTime: [time, time],
    padSpace: [down, across],
    timePadding: 'zeros',
    groups,
  }
  if (fused)
    Object.assign(options, {
      bias: from.vector(out),
      noise: from.noise([height, width], 'f32'),
      noiseWeight: 0.05,
      activation: 'silu',
    } satisfies ops.Conv3dOptions)
  if (norm)
    Object.assign(options, {
      noise: from.noise([height, width], 'f32'),
      noiseWeight: 0.05,
      norm: {},
      residual: from.noise([1, frames, height, width, out], dtype),
    } satisfies ops.Conv3dOptions)
  return () => ops.conv3d(x, weight, options)
}

function shuffle(
  from: Source,
  { op, dtype, frames, height, width, channels, out, time, space }: ShuffleSpec,
): Call {
  const x = from.noise([1, frames, height, width, channels], dtype)
  return () => ops[op](x, { time, space, channels: out })
}

const plain: Readonly<
  Record<PlainOp, (from: Source, shape: number[], dtype: Float, device: Device) => Call>
> = {
  normModulate: (from, shape, dtype) => {
    const [x, scale, shift] = [
      from.noise(shape, dtype),
      from.noise([shape[0]!, shape.at(-1)!], 'f32'),
      from.noise([shape[0]!, shape.at(-1)!], 'f32'),
    ]
    return () => ops.normModulate(x, { scale, shift })
  },
  normModulateFp8: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    const [scale, shift] = [0, 1].map(() => from.noise([shape[0]!, shape.at(-1)!], 'f32'))
    return () => Object.values(ops.normModulateFp8(x, { scale, shift }))
  },
  pixelNorm: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.pixelNorm(x, { activation: 'silu' })
  },
  groupNorm: (from, shape, dtype) => {
    const [x, weight, bias] = [
      from.noise(shape, dtype),
      from.vector(shape.at(-1)!),
      from.vector(shape.at(-1)!),
    ]
    return () => ops.groupNorm(x, { groups: 32, weight, bias, activation: 'silu' })
  },
  combine: (from, shape, dtype) => {
    const terms = [from.noise(shape, dtype), from.noise(shape, dtype)]
    return () => ops.combine(terms, [0.5, 0.5], { dtype })
  },
  randn: (_from, shape, dtype, device) => () =>
    ops.randn(device, shape, { seeds: shape.slice(0, 1).map(() => 1), dtype }),
  fill: (_from, shape, dtype, device) => () => ops.fill(device, shape, 1, dtype),
  cast: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.cast(x, dtype === 'f32' ? 'bf16' : 'f32')
  },
  concat: (from, shape, dtype) => {
    const parts = [from.noise(shape, dtype), from.noise(shape, dtype)]
    return () => ops.concat(parts, -1)
  },
  slice: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.slice(x, shape.length - 1, 0, shape.at(-1)!)
  },
  permute: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.permute(x, [0, 2, 1, 3])
  },
  embedding: (from, shape, dtype) => {
    const [table, ids] = [from.noise(shape, dtype), from.ids(512, shape[0]!)]
    return () => ops.embedding(table, ids)
  },
  modulation: (from, shape) => {
    const [table, embedded] = [from.noise(shape, 'f32'), from.noise([1, shape[0]! * shape[1]!], 'f32')]
    return () => ops.modulation(table, embedded)
  },
  affine: (from, shape, dtype) => {
    const [x, scale, shift] = [
      from.noise(shape, dtype),
      from.vector(shape.at(-1)!),
      from.vector(shape.at(-1)!),
    ]
    return () => ops.affine(x, scale, shift)
  },
  activate: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.activate(x, 'silu')
  },
  glu: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.glu(x)
  },
  fromRgb8: (from, shape, dtype) => {
    const x = from.bytes(shape)
    return () => ops.fromRgb8(x, dtype)
  },
  toRgb8: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.toRgb8(x)
  },
  quantizeFp8: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => Object.values(ops.quantizeFp8(x, { groups: true })) // as activations are
  },
  dequantizeFp8: (from, shape, dtype) => {
    const { values, scales } = from.fp8(shape, true)
    return () => ops.dequantizeFp8(values, scales, dtype)
  },
  allFinite: (from, shape, dtype) => {
    const x = from.noise(shape, dtype)
    return () => ops.allFinite(x)
  },
  dynamicMask: (from, shape, dtype) => {
    const [a, b] = [from.noise(shape, dtype), from.noise(shape, dtype)]
    return () => ops.dynamicMask(a, b, { frames: 31, channels: 4, dtype })
  },
  packLinear: (from, shape, dtype) => {
    const weight = from.noise(shape, dtype)
    return () => ops.packLinear(weight)
  },
}

/** Inputs of one copy and the call on them. @throws what the ops throw, ERR_FSVIDEO_OUT_OF_MEMORY among it. */
export function prepare(device: Device, spec: Spec, copy = 0): Prepared {
  const from = new Source(device, copy)
  try {
    return { call: callOf(from, spec, device), inputs: from.made }
  } catch (error) {
    disposeOf(from.made)
    throw error
  }
}

function callOf(from: Source, spec: Spec, device: Device): Call {
  switch (spec.op) {
    case 'linear':
    case 'linearFp8':
      return linear(from, spec)
    case 'attention':
      return attention(from, spec)
    case 'layerMemory':
    case 'layerMemoryFp8':
      return layerMemory(from, spec)
    case 'qkNormRope':
      return qkNormRope(from, spec)
    case 'linearAttention':
      return linearAttention(from, spec)
    case 'conv3d':
      return conv3d(from, spec)
    case 'shuffle3d':
    case 'unshuffle3d':
      return shuffle(from, spec)
    default:
      return plain[(spec satisfies PlainSpec).op](from, [...spec.shape], spec.dtype, device)
  }
}
