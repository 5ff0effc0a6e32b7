/**
 * What kernels make of a network: the times of its calls, summed up. No launch gaps, no small layers, no host: what a whole forward can at
 * best take, from the same run, or as predicted.
 */
import {
  blockCalls,
  type Call,
  chunks,
  configurations,
  decoderCalls,
  latentFrames,
  latentSize,
  tokenCounts,
} from './networks.js'
import { nameOf } from './spec.js'

export interface Sum {
  name: string
  milliseconds: number
  flops: number
  /** Milliseconds by op, the largest first. */
  parts: Record<string, number>
}

interface Timed {
  name: string
  milliseconds: number
  flops: number
}

interface Workload {
  name: string
  calls: readonly { call: Call; times: number }[]
}

async function workloads(): Promise<Workload[]> {
  const { dit, standard, lite } = await configurations()
  const forward = (index: number, fp8: boolean, times = 1) =>
    blockCalls(dit, tokenCounts[index]!, true).map((call) => ({
      call,
      times: times * (fp8 ? (call.fp8 ?? call.calls) : call.calls),
    }))
  const types = [
    ['bf16', false],
    ['fp8', true],
  ] as const
  const decode = (name: 'standard' | 'lite', config: typeof standard): Workload => ({
    name: `decode 121x768x1280, ${name}`,
    calls: decoderCalls(config, latentSize, chunks[name]).map((call) => ({
      call,
      times: (call.calls * latentFrames) / chunks[name],
    })),
  })
  return [
    ...types.flatMap(([type, fp8]) =>
      tokenCounts.map(({ tokens, batch }, index) => ({
        name: `14B DIT forward ${type}, ${batch > 1 ? `${batch}x` : ''}${tokens} tokens`,
        calls: forward(index, fp8),
      })),
    ),
    ...types.map(([type, fp8]) => ({
      name: `60 + 8 forwards ${type}, 121x768x1280`,
      calls: [...forward(0, fp8, 60), ...forward(2, fp8, 8)],
    })),
    decode('standard', standard),
    decode('lite', lite),
  ]
}

/** The sums of which every part is among `rows`. */
export async function sumsOf(rows: readonly Timed[]): Promise<Sum[]> {
  const timed = new Map(rows.map((row) => [row.name, row]))
  const sums: Sum[] = []
  for (const { name, calls } of await workloads()) {
    const parts: Record<string, number> = {}
    let flops = 0
    const whole = calls.every(({ call: { spec }, times }) => {
      const row = timed.get(nameOf(spec))
      if (!row) return times === 0
      flops += times * row.flops
      if (times > 0) parts[spec.op] = (parts[spec.op] ?? 0) + times * row.milliseconds
      return true
    })
    if (!whole) continue
    const sorted = Object.entries(parts).sort(([, a], [, b]) => b - a)
    const milliseconds = sorted.reduce((sum, [, ms]) => sum + ms, 0)
    sums.push({ name, milliseconds, flops, parts: Object.fromEntries(sorted) })
  }
  return sums
}
