/**
 * Whole requests, as a user waits for them: the 14B model with random weights on a card, the demo model on a CPU. What a profile of each
 * (lib/profile) says is held against the figures that the project has set itself.
 */
import { join } from 'node:path'
import { packageRoot } from '../addon.js'
import type { Device } from '../device.js'
import type { Precision } from '../parameters.js'
import { FSVideoPipeline } from '../pipeline.js'
import { type Profile, profile } from '../profile/profile.js'
import type { GenerateRequest } from '../requests.js'
import type { Spread } from '../statistics.js'
import { type Failure, failureOf } from './failures.js'

/** What is told of a request; milliseconds, bytes and shares. */
export interface Figures {
  request: number
  firstFrame: number
  base: number
  refiner: number
  decode: number
  /** All forwards of both transformers. */
  forwards: number
  /** Of the decoder, until its first frames are out. */
  decodeBegins: number
  /** In use while the decoder runs, besides the weights. */
  decodeBytes: number
  peakBytes: number
  /** Of the run's rate of large products: FLOPs of all steps by the time that they took, host and solver included. */
  baseRate: number
  refinerRate: number
  /** Of the request, inside products, convolutions and attention. */
  heavy: number
}
export type Figure = keyof Figures

export interface RequestGoal {
  figure: Figure
  atMost?: number
  atLeast?: number
  /** `atLeast` so many times faster than this request. */
  than?: string
}
export interface RequestGoalResult extends RequestGoal {
  reached: number
  met: boolean
}

export interface RequestCase {
  name: string
  on: 'cpu' | 'card'
  /** Folder in models/. */
  model: string
  /** Made on the device. */
  random: boolean
  dtype: Precision
  /** Pairs of requests, with and without a trace. */
  repeats: number
  request: Omit<GenerateRequest, 'image' | 'signal'>
  goals: readonly RequestGoal[]
}

export interface RequestRow {
  name: string
  milliseconds: Spread
  figures: Figures
  goals: RequestGoalResult[]
}

const [seconds, gigabytes] = [1e3, 1e9]

const large = { model: 'fsvideo-14b', random: true, on: 'card', repeats: 2 } as const
const video = { prompt: 'the waves roll in', width: 1280, height: 768, frames: 121 } as const
const bf16 = '14B bf16, Standard'

export const requestCases: readonly RequestCase[] = [
  {
    ...large,
    name: bf16,
    dtype: 'bf16',
    request: { ...video, decoder: 'standard' },
    goals: [
      { figure: 'baseRate', atLeast: 0.85 },
      { figure: 'refinerRate', atLeast: 0.85 },
      { figure: 'forwards', atMost: 8 * seconds },
      { figure: 'decode', atMost: 3.5 * seconds },
      { figure: 'decodeBegins', atMost: 0.1 },
      { figure: 'decodeBytes', atMost: 40 * gigabytes },
      { figure: 'request', atMost: 14 * seconds },
    ],
  },
  {
    ...large,
    name: '14B bf16, Lite',
    dtype: 'bf16',
    request: { ...video, decoder: 'lite' },
    goals: [
      { figure: 'decode', atMost: 1.2 * seconds },
      { figure: 'decodeBegins', atMost: 0.1 },
      { figure: 'decodeBytes', atMost: 12 * gigabytes },
    ],
  },
  {
    ...large,
    name: '14B fp8, Standard',
    dtype: 'fp8',
    request: { ...video, decoder: 'standard' },
    goals: [
      { figure: 'base', atLeast: 1.5, than: bf16 },
      { figure: 'refiner', atLeast: 1.5, than: bf16 },
      { figure: 'forwards', atMost: 5.5 * seconds },
    ],
  },
  {
    name: 'shapes bf16, Standard',
    on: 'cpu',
    model: 'shapes',
    random: false,
    dtype: 'bf16',
    repeats: 10,
    request: { prompt: 'a large blue circle moves left' },
    goals: [{ figure: 'heavy', atLeast: 0.8 }],
  },
]

/** What a profile says, against the rate of the run's largest product (FLOP/s). */
export function figuresOf({ latency, stages, memory, heavy }: Profile, rate: number): Figures {
  const { total, firstFrame } = latency
  const ms = (stage: keyof typeof latency.stages) => latency.stages[stage]?.p50 ?? 0
  const [base, refiner, decode] = [ms('denoise'), ms('refine'), ms('decode')]
  const work = (name: string) => stages.find((stage) => stage.name === name)
  const share = (name: string, milliseconds: number) => {
    const { flopsPerSecond = 0, ms: worked = 0 } = work(name) ?? {}
    return (flopsPerSecond * worked) / milliseconds / rate
  }
  return {
    request: total.p50,
    firstFrame: firstFrame.p50,
    base,
    refiner,
    decode,
    forwards: base + refiner,
    decodeBegins: 1 - (total.p50 - firstFrame.p50) / decode,
    decodeBytes: (work('decode')?.memoryBytes ?? 0) - memory.weights,
    peakBytes: memory.peak,
    baseRate: share('denoise', base),
    refinerRate: share('refine', refiner),
    heavy,
  }
}

/** Goals of which everything that they are held against is among `rows`. */
export function judgeRequest(
  figures: Figures,
  goals: readonly RequestGoal[],
  rows: readonly RequestRow[],
): RequestGoalResult[] {
  return goals.flatMap((goal) => {
    const other = rows.find(({ name }) => name === goal.than)?.figures[goal.figure]
    if (goal.than !== undefined && other === undefined) return []
    const reached = other === undefined ? figures[goal.figure] : other / figures[goal.figure]
    const met = reached <= (goal.atMost ?? Number.POSITIVE_INFINITY) && reached >= (goal.atLeast ?? 0)
    return [{ ...goal, reached, met }]
  })
}

export interface RequestsResult {
  rows: RequestRow[]
  failed: Failure[]
}

/**
 * Profiles each; a pipeline stays for the next case that needs the same. One that fails (most likely it does not fit) is in `failed`.
 * @param rate FLOP/s of the run's largest bf16 product.
 * @throws ERR_FSVIDEO_DEVICE_LOST, ERR_FSVIDEO_DISPOSED; what `signal` says when it is aborted.
 */
export async function measureRequests(
  device: Device,
  cases: readonly RequestCase[],
  rate: number,
  { signal, onCase }: { signal?: AbortSignal; onCase?: (index: number) => void } = {},
): Promise<RequestsResult> {
  const rows: RequestRow[] = []
  const failed: Failure[] = []
  let open: { key: string; pipe: FSVideoPipeline } | undefined
  try {
    for (const [index, { name, model, random, dtype, repeats, request, goals }] of cases.entries()) {
      const key = `${model} ${dtype}`
      try {
        if (open?.key !== key) {
          await open?.pipe.dispose()
          open = undefined
          const load = random ? FSVideoPipeline.fromConfig : FSVideoPipeline.fromPretrained
          open = { key, pipe: await load(join(packageRoot, 'models', model), { device, dtype, signal }) }
        }
        const image = join(packageRoot, 'models/samples/drawn-circle.png')
        const found = await profile(open.pipe, { ...request, image, signal }, { repeats })
        const figures = figuresOf(found, rate)
        const { p50, p10, p90, samples } = found.latency.total
        const milliseconds = { median: p50, p10, p90, count: samples }
        rows.push({ name, milliseconds, figures, goals: judgeRequest(figures, goals, rows) })
      } catch (error) {
        failed.push(failureOf(name, error))
      }
      onCase?.(index)
    }
    return { rows, failed }
  } finally {
    await open?.pipe.dispose()
  }
}
