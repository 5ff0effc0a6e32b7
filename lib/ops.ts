/**
 * The ops: pure functions of tensors, coarse enough to be worth a kernel. Each validates, allocates its result, queues the work
 * on the tensors' device and returns at once. Letters: B batch, N tokens, H heads, D head size, C channels, T frames;
 * H, W also height and width. Matrices and activations are f32 or bf16 (all of one op alike); vectors are f32.
 * All throw ERR_FSVIDEO_INVALID_ARGUMENT naming op and field. The contract is csrc/ops/ops.h.
 */
import { addon, type NativeTensor } from './addon.js'
import type { Device } from './device.js'
import { invalid } from './errors.js'
import { type DType, Tensor } from './tensor.js'

export type Activation = 'none' | 'silu' | 'relu' | 'gelu' | 'gelu_tanh'

const handle = (tensor: Tensor | undefined): NativeTensor | undefined => tensor?.native
const handles = (tensors: readonly Tensor[]): NativeTensor[] => tensors.map((t) => t.native)

/**
 * Numbers in fp8: value · scale. values f8e4m3 [..., C]; scales f32, one a row [...] or one for every 128 channels of a row
 * [..., ⌈C / 128⌉].
 */
export interface Quantized {
  values: Tensor
  scales: Tensor
}

const quantized = (device: Device, [values, scales]: [NativeTensor, NativeTensor]): Quantized => ({
  values: new Tensor(device, values),
  scales: new Tensor(device, scales),
})

/** The type of a result that is one tensor: `f8e4m3` needs scales beside it. */
function plain(op: string, dtype: DType): DType {
  if (dtype === 'f8e4m3') throw invalid(`${op}.dtype`, dtype, `f32 or bf16; ${op}Fp8 gives values and scales`)
  if (dtype !== 'f32' && dtype !== 'bf16') throw invalid(`${op}.dtype`, dtype, 'f32 or bf16')
  return dtype
}

function deviceOf(tensor: Tensor, field: string): Device {
  if (!(tensor instanceof Tensor)) throw invalid(field, tensor, 'a tensor')
  return tensor.device
}

interface FactorOptions {
  bias?: Tensor
  /** Of an f8e4m3 x, of rows or groups; the weight is f8e4m3 and plain then. */
  xScale?: Tensor
  /** Row scales f32 [N] of an f8e4m3 weight. */
  weightScale?: Tensor
  activation?: Activation
}

/**
 * y = residual + gate · act(x Wᵀ + bias). x [..., K]; weight [N, K], plain or packed; gate [B, N] or the result's shape. → [..., N]
 * With x and weight as `quantizeFp8` gives them, values and scales, the multiplication is of fp8; `dtype` is bf16 then by default.
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  options: FactorOptions & { gate?: Tensor; residual?: Tensor; dtype?: DType } = {},
): Tensor {
  const device = deviceOf(x, 'linear.x')
  const { xScale, weightScale, bias, gate, residual, activation } = options
  const dtype = options.dtype ? plain('linear', options.dtype) : x.dtype === 'f8e4m3' ? 'bf16' : x.dtype
  const args = [x, xScale, weight, weightScale, bias, gate, residual].map(handle)
  return new Tensor(device, addon().linear(device.native, ...args, activation, dtype) as NativeTensor)
}

/** act(x Wᵀ + bias) quantised as it is computed, a scale for every 128 channels of a row. */
export function linearFp8(x: Tensor, weight: Tensor, options: FactorOptions = {}): Quantized {
  const device = deviceOf(x, 'linear.x')
  const { xScale, weightScale, bias, activation } = options
  const args = [x, xScale, weight, weightScale, bias, undefined, undefined].map(handle)
  const result = addon().linear(device.native, ...args, activation, 'f8e4m3')
  return quantized(device, result as [NativeTensor, NativeTensor])
}

/** softmax(q kᵀ · scale + bias) v. q [B, Nq, H, D]; k, v [B, Nk, H, D]; bias f32 [H, Nq, Nk]; keyLengths i32 [B]. → as q */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { scale?: number; bias?: Tensor; keyLengths?: Tensor } = {},
): Tensor {
  const device = deviceOf(q, 'attention.q')
  const { scale = 1 / Math.sqrt(q.dim(-1)), bias, keyLengths } = options
  return new Tensor(
    device,
    addon().attention(device.native, q.native, handle(k), handle(v), handle(bias), handle(keyLengths), scale),
  )
}

/** ReLU linear attention of each leading position by itself. qkv [..., N, H·3·D], per head q, k, v. → [..., N, H·D] */
export function linearAttention(qkv: Tensor, options: { headDim?: number; eps?: number } = {}): Tensor {
  const device = deviceOf(qkv, 'linearAttention.qkv')
  const { headDim = 32, eps = 1e-15 } = options
  return new Tensor(device, addon().linear_attention(device.native, qkv.native, headDim, eps))
}

export interface LayerMemoryOptions {
  /** f32 [count] */
  routerBias?: Tensor
  /** f32 [B, C] */
  scale?: Tensor
  shift?: Tensor
  norm?: 'post_mix' | 'pre_mix'
  eps?: number
}

/**
 * Layer memory (FSVideo eq. 6-8): w = softmax(routerInput · routerᵀ + bias) per token over the `count` states [B, N, C], mixed,
 * normalised and modulated. router [count, C]. → [B, N, C]
 */
export function layerMemory(
  states: readonly Tensor[],
  routerInput: Tensor,
  router: Tensor,
  options: LayerMemoryOptions = {},
): Tensor {
  const device = deviceOf(routerInput, 'layerMemory.routerInput')
  const args = memoryArguments(states, routerInput, router, options)
  const [memory] = addon().layer_memory(device.native, ...args, routerInput.dtype, false)
  return new Tensor(device, memory as NativeTensor)
}

/** `layerMemory` quantised as it is computed, a scale for every 128 channels of a row. */
export function layerMemoryFp8(
  states: readonly Tensor[],
  routerInput: Tensor,
  router: Tensor,
  options: LayerMemoryOptions = {},
): Quantized {
  const device = deviceOf(routerInput, 'layerMemory.routerInput')
  const args = memoryArguments(states, routerInput, router, options)
  const [memory] = addon().layer_memory(device.native, ...args, 'f8e4m3', false)
  return quantized(device, memory as [NativeTensor, NativeTensor])
}

/** `layerMemory` with the router's weights, f32 [B, N, count], beside it. */
export function layerMemoryWithWeights(
  states: readonly Tensor[],
  routerInput: Tensor,
  router: Tensor,
  options: LayerMemoryOptions = {},
): { memory: Tensor; weights: Tensor } {
  const device = deviceOf(routerInput, 'layerMemory.routerInput')
  const [memory, weights] = addon().layer_memory(
    device.native,
    ...memoryArguments(states, routerInput, router, options),
    routerInput.dtype,
    true,
  )
  return { memory: new Tensor(device, memory as NativeTensor), weights: new Tensor(device, weights!) }
}

function memoryArguments(
  states: readonly Tensor[],
  routerInput: Tensor,
  router: Tensor,
  options: LayerMemoryOptions,
) {
  const { routerBias, scale, shift, norm = 'post_mix', eps = 1e-6 } = options
  if (norm !== 'post_mix' && norm !== 'pre_mix')
    throw invalid('layerMemory.norm', norm, 'post_mix or pre_mix')
  const tensors = [routerInput.native, handle(router), handle(routerBias), handle(scale), handle(shift)]
  return [handles(states), ...tensors, norm === 'pre_mix', eps]
}

export interface NormOptions {
  /** f32 [C], as bias */
  weight?: Tensor
  bias?: Tensor
  /** f32 [B, C], as shift */
  scale?: Tensor
  shift?: Tensor
  /** Root mean square instead of LayerNorm. */
  rms?: boolean
  eps?: number
}

/** (norm(x) · weight + bias)(1 + scale) + shift over the last axis. → as x, of `dtype` */
export function normModulate(x: Tensor, options: NormOptions & { dtype?: DType } = {}): Tensor {
  const device = deviceOf(x, 'normModulate.x')
  const dtype = options.dtype ? plain('normModulate', options.dtype) : x.dtype
  const args = [...normArguments(x, options), dtype]
  return new Tensor(device, addon().norm_modulate(device.native, ...args) as NativeTensor)
}

/** `normModulate` quantised as it is computed, a scale for every 128 channels of a row. */
export function normModulateFp8(x: Tensor, options: NormOptions = {}): Quantized {
  const device = deviceOf(x, 'normModulate.x')
  const result = addon().norm_modulate(device.native, ...normArguments(x, options), 'f8e4m3')
  return quantized(device, result as [NativeTensor, NativeTensor])
}

function normArguments(x: Tensor, { weight, bias, scale, shift, rms = false, eps = 1e-6 }: NormOptions) {
  return [x.native, handle(weight), handle(bias), handle(scale), handle(shift), rms, eps]
}

/** RMS norm over all channels, then rotary embedding. x [B, N, H·D]; weight [H·D]; rotations f32 [N, D/2, 2]. → [B, N, H, D] */
export function qkNormRope(
  x: Tensor,
  options: { heads: number; weight?: Tensor; rotations?: Tensor; eps?: number },
): Tensor {
  const device = deviceOf(x, 'qkNormRope.x')
  const { heads, weight, rotations, eps = 1e-6 } = options
  return new Tensor(
    device,
    addon().qk_norm_rope(device.native, x.native, handle(weight), handle(rotations), heads, eps),
  )
}

/** act(x / √(mean_c x² + eps) · weight + bias + residual) over the last axis. → as x */
export function pixelNorm(
  x: Tensor,
  options: { weight?: Tensor; bias?: Tensor; residual?: Tensor; activation?: Activation; eps?: number } = {},
): Tensor {
  const device = deviceOf(x, 'pixelNorm.x')
  const { weight, bias, residual, activation, eps = 1e-8 } = options
  const args = [x.native, handle(weight), handle(bias), handle(residual), activation, eps]
  return new Tensor(device, addon().pixel_norm(device.native, ...args))
}

/** act(groupnorm(x) · weight + bias + residual). x [B, ..., C]; statistics over a group's channels and all middle axes. → as x */
export function groupNorm(
  x: Tensor,
  options: {
    groups?: number
    weight?: Tensor
    bias?: Tensor
    residual?: Tensor
    activation?: Activation
    eps?: number
  } = {},
): Tensor {
  const device = deviceOf(x, 'groupNorm.x')
  const { groups = 32, weight, bias, residual, activation, eps = 1e-5 } = options
  const args = [x.native, handle(weight), handle(bias), handle(residual), groups, activation, eps]
  return new Tensor(device, addon().group_norm(device.native, ...args))
}

export interface Conv3dOptions {
  bias?: Tensor
  /** Frames that precede x in a stream, [B, n, H, W, C]. */
  before?: Tensor
  /** Time, height, width. */
  stride?: readonly [number, number, number]
  /** Frames added at the two ends of time. */
  padTime?: readonly [number, number]
  /** Zeros on both sides of height and width. */
  padSpace?: readonly [number, number]
  timePadding?: 'replicate' | 'zeros'
  groups?: number
  /** Group-causal time: frames per group, and how many frames of x stand before the first whole group. */
  groupCausal?: { size: number; first: number }
  activation?: Activation
  /** f32 [H', W'], added to all frames and channels before the activation. */
  noise?: Tensor
  noiseWeight?: number
  /** A `pixelNorm` of the sums with bias and noise, before the activation or the residual: one of the two, not both. */
  norm?: { weight?: Tensor; bias?: Tensor; eps?: number }
  residual?: Tensor
}

/** Channels-last 3D convolution act(norm(conv + bias + w · noise)) + residual. x [B, T, H, W, C]; weight [O, C/groups, kt, kh, kw]. → [B, T', H', W', O] */
export function conv3d(x: Tensor, weight: Tensor, options: Conv3dOptions = {}): Tensor {
  const device = deviceOf(x, 'conv3d.x')
  const {
    before,
    bias,
    noise,
    residual,
    stride = [1, 1, 1],
    padTime = [0, 0],
    padSpace = [0, 0],
    groups = 1,
  } = options
  const {
    groupCausal = { size: 0, first: 0 },
    timePadding = 'replicate',
    activation,
    noiseWeight = 0,
    norm,
  } = options
  if (timePadding !== 'replicate' && timePadding !== 'zeros')
    throw invalid('conv3d.timePadding', timePadding, 'replicate or zeros')
  const tensors = [x.native, handle(before), handle(weight), handle(bias), handle(noise), handle(residual)]
  return new Tensor(
    device,
    addon().conv3d(
      device.native,
      ...tensors,
      stride,
      ...padTime,
      ...padSpace,
      groups,
      groupCausal.size,
      groupCausal.first,
      timePadding === 'replicate',
      activation,
      noiseWeight,
      norm !== undefined,
      handle(norm?.weight),
      handle(norm?.bias),
      norm?.eps ?? 1e-8,
    ),
  )
}

/**
 * Time and space into channels, ((c · time + it) · space + ih) · space + iw, averaged to `channels` and with an equally treated
 * shortcut added. `repeatFirst`: copies of frame 0 put before it. x [B, T, H, W, C] → [B, (T + repeatFirst) / time, H / space, W / space, channels]
 */
export function unshuffle3d(
  x: Tensor,
  options: { time?: number; space?: number; channels?: number; shortcut?: Tensor; repeatFirst?: number } = {},
): Tensor {
  const device = deviceOf(x, 'unshuffle3d.x')
  const { time = 1, space = 1, shortcut, repeatFirst = 0 } = options
  const { channels = x.dim(-1) * time * space * space } = options
  return new Tensor(
    device,
    addon().unshuffle3d(device.native, x.native, handle(shortcut), time, space, repeatFirst, channels),
  )
}

/** The inverse: channels into time and space; channels are repeated in place to fill `channels`. `dropFirst`: frames dropped at the front. */
export function shuffle3d(
  x: Tensor,
  options: { time?: number; space?: number; channels?: number; shortcut?: Tensor; dropFirst?: number } = {},
): Tensor {
  const device = deviceOf(x, 'shuffle3d.x')
  const { time = 1, space = 1, shortcut, dropFirst = 0 } = options
  const { channels = x.dim(-1) / (time * space * space) } = options
  return new Tensor(
    device,
    addon().shuffle3d(device.native, x.native, handle(shortcut), time, space, dropFirst, channels),
  )
}

/** Σ cᵢ·xᵢ over one to eight tensors of one shape. Coefficients in a tensor f32 [n] are read when the op runs. */
export function combine(
  terms: readonly Tensor[],
  coefficients: readonly number[] | Tensor,
  options: { dtype?: DType } = {},
): Tensor {
  const device = deviceOf(terms[0]!, 'combine.terms[0]')
  const factors = coefficients instanceof Tensor ? coefficients.native : coefficients
  return new Tensor(device, addon().combine(device.native, handles(terms), factors, options.dtype ?? 'f32'))
}

export interface RandnOptions {
  /** One seed a sample: shape[0] of them. */
  seeds: readonly (number | bigint)[]
  stream?: number | bigint
  /** Elements skipped, a multiple of 4. */
  offset?: number
  dtype?: DType
}

/** Philox 4×32-10 normal numbers: the same on every backend and in every batch. */
export function randn(device: Device, shape: readonly number[], options: RandnOptions): Tensor {
  const { seeds, stream = 0, offset = 0, dtype = 'f32' } = options
  return new Tensor(device, addon().randn(device.native, shape, seeds, stream, offset, dtype))
}

export function fill(device: Device, shape: readonly number[], value: number, dtype: DType = 'f32'): Tensor {
  return new Tensor(device, addon().fill(device.native, shape, value, dtype))
}

export function cast(x: Tensor, dtype: DType): Tensor {
  const device = deviceOf(x, 'cast.x')
  return new Tensor(device, addon().cast(device.native, x.native, dtype))
}

export function concat(parts: readonly Tensor[], axis: number): Tensor {
  const device = deviceOf(parts[0]!, 'concat.parts[0]')
  return new Tensor(
    device,
    addon().concat(device.native, handles(parts), axis < 0 ? axis + parts[0]!.shape.length : axis),
  )
}

/** A copy of x[..., start : end, ...]; `tensor.slice` avoids the copy where it can. */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const device = deviceOf(x, 'slice.x')
  return new Tensor(device, addon().slice(device.native, x.native, axis, start, end))
}

/** Axes in another order: shape[i] of the result is x.shape[order[i]]. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  const device = deviceOf(x, 'permute.x')
  return new Tensor(device, addon().permute(device.native, x.native, order))
}

/** Rows of table [V, C] by ids i32 [...]. → [..., C] */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const device = deviceOf(table, 'embedding.table')
  return new Tensor(device, addon().embedding(device.native, table.native, handle(ids)))
}

/** table f32 [K, C] + embedding f32 [B, K·C] → f32 [K, B, C]: the vectors that modulate a block. */
export function modulation(table: Tensor, embedded: Tensor): Tensor {
  const device = deviceOf(table, 'modulation.table')
  return new Tensor(device, addon().modulation(device.native, table.native, handle(embedded)))
}

/** x · scale + shift, f32 [C] each. */
export function affine(x: Tensor, scale: Tensor, shift: Tensor, options: { dtype?: DType } = {}): Tensor {
  const device = deviceOf(x, 'affine.x')
  return new Tensor(
    device,
    addon().affine(device.native, x.native, handle(scale), handle(shift), options.dtype ?? x.dtype),
  )
}

export function activate(x: Tensor, activation: Activation): Tensor {
  const device = deviceOf(x, 'activate.x')
  return new Tensor(device, addon().activate(device.native, x.native, activation))
}

/** x [..., 2C] → first half · silu(second half), [..., C] */
export function glu(x: Tensor): Tensor {
  const device = deviceOf(x, 'glu.x')
  return new Tensor(device, addon().glu(device.native, x.native))
}

/** u8 → x / 127.5 − 1 */
export function fromRgb8(x: Tensor, dtype: DType = 'f32'): Tensor {
  const device = deviceOf(x, 'fromRgb8.x')
  return new Tensor(device, addon().from_rgb8(device.native, x.native, dtype))
}

/** round((x + 1) · 127.5), clamped to 0..255 → u8 */
export function toRgb8(x: Tensor): Tensor {
  const device = deviceOf(x, 'toRgb8.x')
  return new Tensor(device, addon().to_rgb8(device.native, x.native))
}

/** x in fp8, the largest number under a scale as 448: a scale a row, or with `groups` one for every 128 channels of a row. */
export function quantizeFp8(x: Tensor, options: { groups?: boolean } = {}): Quantized {
  const device = deviceOf(x, 'quantizeFp8.x')
  return quantized(device, addon().quantize_fp8(device.native, x.native, options.groups ?? false))
}

/** values · scales, with either kind of scales. */
export function dequantizeFp8(values: Tensor, scales: Tensor, dtype: DType = 'f32'): Tensor {
  const device = deviceOf(values, 'dequantizeFp8.x')
  return new Tensor(device, addon().dequantize_fp8(device.native, values.native, handle(scales), dtype))
}

/** i32 [1]: 1 if every element is finite, else 0. */
export function allFinite(x: Tensor): Tensor {
  const device = deviceOf(x, 'allFinite.x')
  return new Tensor(device, addon().all_finite(device.native, x.native))
}

/** The refiner's dynamic mask (FSVideo 2.4.2) from the first frame's true and upsampled latents a, b [B, 1, H, W, C]. → [B, frames, H, W, channels] */
export function dynamicMask(
  a: Tensor,
  b: Tensor,
  options: {
    frames: number
    channels: number
    lo?: number
    hi?: number
    granularity?: 'map' | 'scalar'
    polarity?: 'error' | 'confidence'
    dtype?: DType
  },
): Tensor {
  const device = deviceOf(a, 'dynamicMask.a')
  const {
    frames,
    channels,
    lo = 0.1,
    hi = 0.9,
    granularity = 'map',
    polarity = 'error',
    dtype = 'f32',
  } = options
  const args = [frames, channels, lo, hi, granularity === 'scalar', polarity === 'confidence', dtype]
  return new Tensor(device, addon().dynamic_mask(device.native, a.native, handle(b), ...args))
}

/** Copies `from` into the memory of `to` (same shape and dtype), in order: how the inputs of a captured graph change. */
export function assign(to: Tensor, from: Tensor): void {
  addon().assign(deviceOf(to, 'assign.to').native, to.native, handle(from)!)
}

/** A weight [N, K] in the order its backend multiplies best. */
export function packLinear(weight: Tensor, scales?: Tensor): Tensor {
  const device = deviceOf(weight, 'pack.weight')
  return new Tensor(device, addon().pack(device.native, weight.native, handle(scales), false, 1))
}

/** A weight [O, C/groups, kt, kh, kw] in the order its backend convolves best. */
export function packConv3d(weight: Tensor, groups = 1): Tensor {
  const device = deviceOf(weight, 'pack.weight')
  return new Tensor(device, addon().pack(device.native, weight.native, undefined, true, groups))
}
