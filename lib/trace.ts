/**
 * What a device did and when: the ops that `device.trace` saw run, each with the ranges that it was queued in, and the slices that
 * ranges are. A range is where its ops are: it begins with the first and ends with the last of them.
 */
import type { NativeTrace } from './addon.js'

export interface TraceOptions {
  /** Of replayed graphs: every op (when left out), or each replay as one op `graph`, which on a card then runs as without a trace. */
  graphs?: 'ops' | 'whole'
}

/** An op or a copy that ran. */
export interface TracedOp {
  /** As in `device.stats()`; copies are `read`, `write` and `assign`. */
  readonly name: string
  /** Operands that decide how long it takes, and the result: `[1, 64, 48] bf16 x [96, 48] bf16 -> [1, 64, 96] bf16`. */
  readonly shapes: string
  /** Names of the ranges that it ran in, the outermost first. */
  readonly path: readonly string[]
  /** On the host's monotonic clock, that of `process.hrtime`. */
  readonly beginMs: number
  readonly endMs: number
  /** As the op's contract counts them. */
  readonly flops: number
  readonly bytes: number
  /** In use on the device while it ran. */
  readonly memoryBytes: number
}

export interface TracedRange {
  readonly name: string
  /** 0 for the outermost. */
  readonly depth: number
  readonly beginMs: number
  endMs: number
}

export class Trace {
  /** In the order in which they ran. */
  readonly ops: readonly TracedOp[]

  constructor(ops: readonly TracedOp[]) {
    this.ops = ops
  }

  /** A range before those inside it. Ranges of one name that follow each other directly are one. */
  ranges(): TracedRange[] {
    const all: TracedRange[] = []
    const open: TracedRange[] = []
    for (const { path, beginMs, endMs } of this.ops) {
      const differs = open.findIndex(({ name }, depth) => name !== path[depth])
      if (differs >= 0) open.length = differs
      for (let depth = open.length; depth < path.length; depth++) {
        const range = { name: path[depth]!, depth, beginMs, endMs }
        open.push(range)
        all.push(range)
      }
      for (const range of open) range.endMs = endMs
    }
    return all
  }
}

/** @internal From the numbers that the addon gives. */
export function traceOf({ names, shapes, paths, fields, ops }: NativeTrace): Trace {
  const list: TracedOp[] = []
  for (let at = 0; at < ops.length; at += fields) {
    const [name, shape, path, begin, end, flops, bytes, memoryBytes] = ops.subarray(
      at,
      at + fields,
    ) as unknown as [number, number, number, number, number, number, number, number]
    list.push({
      name: names[name]!,
      shapes: shapes[shape]!,
      path: paths[path]!,
      beginMs: begin / 1e6,
      endMs: end / 1e6,
      flops,
      bytes,
      memoryBytes,
    })
  }
  return new Trace(list)
}
