/**
 * A tensor: a handle on device memory with a shape. Contiguous, last dimension fastest; bf16 and fp8 are stored as raw bits
 * on the JavaScript side (`Uint16Array`, `Uint8Array`). The face follows onnxruntime's `Tensor`.
 */
import { addon, type NativeTensor } from './addon.js'
import type { Device } from './device.js'
import { FSVideoError, invalid } from './errors.js'
import * as ops from './ops.js'

export type DType = 'f32' | 'bf16' | 'f8e4m3' | 'i32' | 'u8'
/** A packed weight can only be given to the op it was packed for. */
export type Layout = 'plain' | 'packedLinear' | 'packedConv'
export type TensorData = Float32Array | Uint16Array | Uint8Array | Int32Array

export class Tensor {
  readonly device: Device
  #native: NativeTensor
  #description?: { dtype: DType; layout: Layout; shape: readonly number[] }
  #disposed = false

  /** @internal Tensors come from `device.tensor` and from ops. */
  constructor(device: Device, native: NativeTensor) {
    this.device = device
    this.#native = native
    device.track(this)
  }

  /** @internal */
  get native(): NativeTensor {
    return this.#native
  }

  #describe() {
    if (!this.#description) {
      const [dtype, layout, ...shape] = addon().describeTensor(this.#native)
      this.#description = { dtype, layout: layout as Layout, shape }
    }
    return this.#description
  }

  get dtype(): DType {
    return this.#describe().dtype
  }
  get layout(): Layout {
    return this.#describe().layout
  }
  get shape(): readonly number[] {
    return this.#describe().shape
  }
  /** Size of one axis; negative axes count from the end. */
  dim(axis: number): number {
    return this.shape.at(axis) ?? 0
  }
  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((n, d) => n * d, 1)
  }
  get disposed(): boolean {
    return this.#disposed
  }

  /** The same memory under another shape; one size may be -1. Throws ERR_FSVIDEO_INVALID_ARGUMENT when the elements do not fit. */
  reshape(...shape: number[]): Tensor {
    const unknown = shape.indexOf(-1)
    if (unknown >= 0) {
      const known = shape.reduce((n, d, i) => (i === unknown ? n : n * d), 1)
      if (known === 0 || this.size % known !== 0)
        throw invalid('reshape.shape', shape, `a divisor of ${this.size} elements`)
      shape = shape.with(unknown, this.size / known)
    }
    return new Tensor(this.device, addon().reshape(this.#native, shape))
  }

  /** Elements [start, end) of an axis: the same memory when every axis before it has size 1, else a copy. */
  slice(axis: number, start: number, end: number = this.dim(axis)): Tensor {
    const at = axis < 0 ? axis + this.shape.length : axis
    if (this.shape.slice(0, at).every((d) => d === 1))
      return new Tensor(this.device, addon().view(this.#native, at, start, end))
    return ops.slice(this, at, start, end)
  }

  /** Waits for all work queued before and copies the elements to JavaScript. */
  async read(): Promise<TensorData> {
    const buffer = await addon().read(this.device.native, this.#native)
    switch (this.dtype) {
      case 'f32':
        return new Float32Array(buffer)
      case 'bf16':
        return new Uint16Array(buffer)
      case 'i32':
        return new Int32Array(buffer)
      default:
        return new Uint8Array(buffer)
    }
  }

  /** As `read`, widened to f32 on the device first. */
  async toFloat32(): Promise<Float32Array> {
    if (this.dtype === 'f32') return (await this.read()) as Float32Array
    const wide = ops.cast(this, 'f32')
    try {
      return (await wide.read()) as Float32Array
    } finally {
      wide.dispose()
    }
  }

  /** Overwrites the elements, in order with queued ops. The data is taken at once. */
  write(data: TensorData): void {
    addon().write(this.device.native, this.#native, data)
  }

  /** Gives the memory back, in order with queued ops. Idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#describe()
    this.#disposed = true
    addon().dispose(this.#native)
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Throws ERR_FSVIDEO_DISPOSED if the tensor is gone. */
export function requireLive(tensor: Tensor, field: string): void {
  if (tensor.disposed)
    throw new FSVideoError('ERR_FSVIDEO_DISPOSED', `${field}: the tensor has been disposed of`, { field })
}
