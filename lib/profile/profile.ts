/**
 * Where the time of a request goes: the same request again and again, in turns with and without a trace. Latencies are those without;
 * times of stages and ops are of the traces; and the pairs tell what tracing costs.
 */

import type { HostSpan } from '../chrome-trace.js'
import { invalid } from '../errors.js'
import type { FSVideoPipeline } from '../pipeline.js'
import type { GenerateRequest } from '../requests.js'
import type { Stage } from '../stages.js'
import { type Percentiles, percentiles, quantile, type Ratio, ratioOf } from '../statistics.js'
import type { Trace } from '../trace.js'
import { measureRoofline, type Roofline } from './roofline.js'
import { heavyOps, summarize, type Work } from './summary.js'

export interface ProfileOptions {
  /** Pairs of requests with and without a trace, 1 to 1000. Default 5. */
  repeats?: number
  /** Told how many requests of how many are done. */
  onRequest?(done: number, all: number): void
}

export interface Profile {
  /** Measured before the requests. */
  roofline: Roofline
  /** Milliseconds of the requests without a trace, as the caller waits: for all of it, for its first frame, and for each stage. */
  latency: { total: Percentiles; firstFrame: Percentiles; stages: Partial<Record<Stage, Percentiles>> }
  /** In the order in which they run. */
  stages: Work[]
  /** The longest first. */
  ops: Work[]
  /** Of the traced requests' time: that the device worked, and that it spent in matrix products, convolutions and attention. */
  busy: number
  heavy: number
  /**
   * What tracing costs, as a part of the time without and of the processors' time without: by the lower quartiles of both kinds, for
   * whatever else the machine does only adds; and of the pairs.
   */
  overhead: { time: number; cpu: number; pairs: Ratio }
  /** Bytes; `weights` are in both. */
  memory: { weights: number; planned: number; peak: number }
  /** Of the traced request whose time is the median. */
  trace: Trace
  /** What the host waited for meanwhile. */
  spans: HostSpan[]
}

interface Run {
  ms: number
  firstFrameMs: number
  /** Of all threads of this process. */
  cpuMs: number
  stages: Partial<Record<Stage, number>>
  memory: { planned: number; peak: number }
  spans: HostSpan[]
}

/**
 * Profiles a request of one sample. The first request, which finds nothing ready, is not counted.
 * Throws what `pipeline.generate` throws, and ERR_FSVIDEO_INVALID_ARGUMENT for `repeats`.
 */
export async function profile(
  pipe: FSVideoPipeline,
  request: GenerateRequest,
  { repeats = 5, onRequest }: ProfileOptions = {},
): Promise<Profile> {
  if (!(Number.isInteger(repeats) && repeats >= 1 && repeats <= 1000))
    throw invalid('repeats', repeats, 'an integer from 1 to 1000')
  const { device } = pipe
  const { weightBytes } = await pipe.plan(request) // refuses before any work
  const roofline = await measureRoofline(device, pipe.stages.networks.dtype)
  const all = 2 * repeats + 1
  await run(pipe, request)
  onRequest?.(1, all)

  const plain: Run[] = []
  const traced: (Run & { trace: Trace })[] = []
  for (let i = 0; i < repeats; i++) {
    const turns = [
      async () => void plain.push(await run(pipe, request)),
      async () => {
        const { trace, result } = await device.trace(() => run(pipe, request))
        traced.push({ ...result, trace })
      },
    ]
    for (const [turn, act] of (i % 2 === 0 ? turns : turns.reverse()).entries()) {
      await act()
      onRequest?.(2 * i + turn + 2, all)
    }
  }

  const ops = traced.flatMap(({ trace }) => trace.ops)
  const stageOf = ({ path }: { path: readonly string[] }) => path[0] ?? 'other'
  const order = [...new Set(ops.map(stageOf))]
  const byOp = summarize(ops, ({ name }) => name, roofline, repeats)
  const worked = byOp.reduce((sum, { ms }) => sum + ms, 0)
  const heavy = byOp.filter(({ name }) => heavyOps.has(name)).reduce((sum, { ms }) => sum + ms, 0)
  const meanMs = traced.reduce((sum, { ms }) => sum + ms, 0) / repeats
  const stages = Object.keys(plain[0]!.stages) as Stage[]
  const median = [...traced].sort((a, b) => a.ms - b.ms)[Math.floor((repeats - 1) / 2)]!
  return {
    roofline,
    latency: {
      total: percentiles(plain.map(({ ms }) => ms)),
      firstFrame: percentiles(plain.map(({ firstFrameMs }) => firstFrameMs)),
      stages: Object.fromEntries(
        stages.map((stage) => [stage, percentiles(plain.map((one) => one.stages[stage]!))]),
      ),
    },
    stages: summarize(ops, stageOf, roofline, repeats).sort(
      (a, b) => order.indexOf(a.name) - order.indexOf(b.name),
    ),
    ops: byOp,
    busy: worked / meanMs,
    heavy: heavy / meanMs,
    overhead: {
      time: more(traced, plain, ({ ms }) => ms),
      cpu: more(traced, plain, ({ cpuMs }) => cpuMs),
      pairs: ratioOf(traced.map(({ ms }, i) => ms / plain[i]!.ms - 1)),
    },
    memory: {
      weights: weightBytes,
      planned: plain[0]!.memory.planned,
      peak: Math.max(...[...plain, ...traced].map(({ memory }) => memory.peak)),
    },
    trace: median.trace,
    spans: median.spans,
  }
}

/** By how much of itself `of` is more in one kind of requests than in the other. */
function more(these: readonly Run[], those: readonly Run[], of: (run: Run) => number): number {
  const [a = 0, b = 0] = [these, those].map((runs) => quantile(runs.map(of), 0.25))
  return a / b - 1
}

/** One request, from its words to its last frame. */
async function run(pipe: FSVideoPipeline, request: GenerateRequest): Promise<Run> {
  const spans = new Map<string, HostSpan>()
  const began = now()
  const cpu = process.cpuUsage()
  let firstFrameMs: number | undefined
  for await (const event of pipe.stream(request)) {
    if (event.type === 'frame') firstFrameMs ??= now() - began
    if (event.type === 'progress') {
      const { stage, elapsedMs } = event
      const endMs = now()
      const span = spans.get(stage) ?? { name: stage, beginMs: endMs - elapsedMs, endMs }
      spans.set(stage, { ...span, endMs })
    }
    if (event.type === 'done') {
      const { timings, memory } = event.reports[0]!
      const endMs = now()
      const all = { name: 'request', beginMs: began, endMs }
      const { user, system } = process.cpuUsage(cpu)
      const [ms, cpuMs] = [endMs - began, (user + system) / 1e3]
      return {
        ms,
        firstFrameMs: firstFrameMs ?? ms,
        cpuMs,
        stages: timings.stages,
        memory,
        spans: [all, ...spans.values()],
      }
    }
  }
  throw new Error('the generation ended without a result')
}

/** Milliseconds on the clock of traces. */
function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
