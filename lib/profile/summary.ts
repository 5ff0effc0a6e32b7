/** Sums of traces: what each stage and each kind of op did, how long it took, and how near it came to the roofline. */
import type { TracedOp } from '../trace.js'
import type { Roofline } from './roofline.js'

/** Of one request, on average. */
export interface Work {
  name: string
  calls: number
  /** On the device. */
  ms: number
  /** Of all time on the device. */
  share: number
  flopsPerSecond: number
  /** Least bytes, as the ops' contracts count them. */
  bytesPerSecond: number
  /** The time that the roofline allows to the time that it took: each op bound by its FLOPs or its least bytes. */
  rooflineShare: number
  /** The most that was in use meanwhile. */
  memoryBytes: number
}

/** Kernels of matrix products, convolutions and attention: what a generation should spend its time in. */
export const heavyOps: ReadonlySet<string> = new Set(['linear', 'conv3d', 'attention', 'linear_attention'])

/** Sums over ops of `requests` alike requests, by what `key` says of an op, the longest first. */
export function summarize(
  ops: readonly TracedOp[],
  key: (op: TracedOp) => string,
  roofline: Roofline,
  requests = 1,
): Work[] {
  interface Sum {
    calls: number
    ms: number
    leastMs: number
    flops: number
    bytes: number
    memoryBytes: number
  }
  const sums = new Map<string, Sum>()
  let total = 0
  for (const op of ops) {
    const name = key(op)
    let sum = sums.get(name)
    if (!sum) {
      sum = { calls: 0, ms: 0, leastMs: 0, flops: 0, bytes: 0, memoryBytes: 0 }
      sums.set(name, sum)
    }
    const ms = op.endMs - op.beginMs
    total += ms
    sum.calls++
    sum.ms += ms
    sum.leastMs += 1e3 * Math.max(op.flops / roofline.flops, op.bytes / roofline.bytes)
    sum.flops += op.flops
    sum.bytes += op.bytes
    sum.memoryBytes = Math.max(sum.memoryBytes, op.memoryBytes)
  }
  const of = (part: number, whole: number) => (whole > 0 ? part / whole : 0)
  return [...sums]
    .map(([name, { calls, ms, leastMs, flops, bytes, memoryBytes }]) => ({
      name,
      calls: calls / requests,
      ms: ms / requests,
      share: of(ms, total),
      flopsPerSecond: of(flops, ms / 1e3),
      bytesPerSecond: of(bytes, ms / 1e3),
      rooflineShare: of(leastMs, ms),
      memoryBytes,
    }))
    .sort((a, b) => b.ms - a.ms)
}
