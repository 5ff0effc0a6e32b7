/**
 * What a device can do at most, measured when it is asked for: the rate of a large matrix product and of a large copy. Sizes grow
 * until a call takes long enough, so that the same lines measure a card, a CPU and a simulated card.
 */
import type { Device } from '../device.js'
import { FSVideoError } from '../errors.js'
import * as ops from '../ops.js'
import type { ComputeType } from '../parameters.js'
import type { Tensor } from '../tensor.js'

export interface Roofline {
  /** Of the product, per second. */
  flops: number
  /** Moved by the copy, read and written, per second. */
  bytes: number
}

const longEnoughMs = 20
const calls = 5
/** [n, n] by [n, n] */
const productSizes = [64, 256, 1024, 2048, 4096, 8192]
/** Bytes that are copied. */
const copySizes = [2 ** 16, 2 ** 20, 2 ** 24, 2 ** 28, 2 ** 30]

/** Takes about a second, and on a card some GB while it lasts. */
export async function measureRoofline(device: Device, dtype: ComputeType): Promise<Roofline> {
  const flops = await fastest(device, 'flops', productSizes, (n) => {
    // Normal numbers: zeros would let a card clock higher.
    const matrix = (stream: bigint) =>
      ops.randn(device, [1, n, n], { seeds: [0], stream, dtype }).reshape(n, n)
    const operands = [matrix(0n), ops.packLinear(matrix(1n))]
    return { operands, run: () => ops.linear(operands[0]!, operands[1]!) }
  })
  // Half of every row: a copy that no view can stand for.
  const bytes = await fastest(device, 'bytes', copySizes, (size) => {
    const x = ops.fill(device, [2, size / 4], 1)
    return { operands: [x], run: () => ops.slice(x, 1, 0, size / 8) }
  })
  return { flops, bytes }
}

/** The rate of the fastest call at the last size: a roof is what cannot be exceeded. */
async function fastest(
  device: Device,
  amount: 'flops' | 'bytes',
  sizes: readonly number[],
  prepare: (size: number) => { operands: Tensor[]; run: () => Tensor },
): Promise<number> {
  let rate = 0
  for (const size of sizes) {
    let operands: Tensor[] = []
    try {
      const { run, ...made } = device.scope(() => prepare(size))
      operands = made.operands
      const { trace } = await device.trace(() => {
        for (let i = 0; i < calls; i++) run().dispose()
      })
      const [ms = 0] = trace.ops.map(({ beginMs, endMs }) => endMs - beginMs).sort((a, b) => a - b)
      rate = trace.ops[0]![amount] / (ms / 1e3)
      if (ms >= longEnoughMs) break
    } catch (error) {
      // The largest that there is room for.
      if (rate > 0 && error instanceof FSVideoError && error.code === 'ERR_FSVIDEO_OUT_OF_MEMORY') break
      throw error
    } finally {
      for (const tensor of operands) tensor.dispose()
      device.trim()
    }
  }
  return rate
}
