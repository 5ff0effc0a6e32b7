/**
 * What is to be expected of a card, without one. Kernels run on a simulated card, whole or a slice of them, and what they move is counted;
 * how tiles fill the real card's processors is asked of the same plans that will choose there (csrc/cuda/launch); and time is what
 * the slowest unit needs at rates that others have measured. A case's figures say how they were come by.
 */
import { type Addon, addon } from '../addon.js'
import { invalid } from '../errors.js'
import { Device } from '../kernels.js'
import type { Case } from './cases.js'
import { type Failure, failureOf } from './failures.js'
import { disposeOf, prepare } from './inputs.js'
import { commitNow, machineOf } from './machine.js'
import { attentionShape, gemmShape, processors, rates } from './rates.js'
import type { Counters, PredictedRow, Prediction, TilePlan } from './report.js'
import { sliceOf } from './slices.js'
import { type Conv3dSpec, contractName, nameOf, type Spec } from './spec.js'
import { sumsOf } from './sums.js'

interface Plan extends TilePlan {
  /** As the plan models them; 0 where it does not. */
  cycles: number
}

/** What the addon of FSV_SIMULATOR has beside the others (test/simulator/addon). */
interface SimulatorAddon extends Addon {
  /** Starts or ends counting, and gives what was counted. */
  count(on: boolean): Counters
  plan(op: string, dtype: string, processors: number, ...shapes: unknown[]): Plan
}
const simulator = () => addon() as SimulatorAddon

export interface PredictOptions {
  /** A simulated card. */
  device: Device
  cases: readonly Case[]
  signal?: AbortSignal
  onCase?: (index: number) => void
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT for a card that is no Hopper, and where the simulator was told not to check: then it cannot count. */
export async function predict({ device, cases, signal, onCase }: PredictOptions): Promise<Prediction> {
  if (!device.description.includes('sm_90'))
    throw invalid('--device', device.name, 'sim or sim:1: a prediction is of an H200')
  if (/\bcheck=0/.test(process.env.FSVIDEO_SIM ?? ''))
    throw invalid('FSVIDEO_SIM', process.env.FSVIDEO_SIM, 'without check=0, which counts nothing')
  const meta = await Device.open('meta')
  const counts = new Map<string, Counters>()
  const rows: PredictedRow[] = []
  const failed: Failure[] = []
  try {
    for (const [index, it] of cases.entries()) {
      signal?.throwIfAborted()
      const slice = sliceOf(it.spec)
      const name = nameOf(slice)
      try {
        if (!counts.has(name)) counts.set(name, await countersOf(device, slice))
        rows.push(rowOf(it, costOf(meta, it.spec), { name, ...costOf(meta, slice) }, counts.get(name)!))
      } catch (error) {
        failed.push(failureOf(it.name, error))
      }
      onCase?.(index)
    }
  } finally {
    meta.dispose()
  }
  return {
    kind: 'prediction',
    date: new Date().toISOString(),
    commit: commitNow(),
    machine: await machineOf(device),
    rates: Object.values(rates).map((rate) => ({ ...rate })),
    rows,
    sums: await sumsOf(rows),
    failed,
  }
}

interface Cost {
  flops: number
  bytes: number
}

/** As the contract counts one call. */
export function costOf(meta: Device, spec: Spec): Cost {
  const { call, inputs } = prepare(meta, spec)
  meta.resetStats()
  disposeOf(call())
  disposeOf(inputs)
  const { flops, bytes } = meta.stats()[contractName(spec.op)]!
  return { flops, bytes }
}

async function countersOf(device: Device, spec: Spec): Promise<Counters> {
  const { call, inputs } = prepare(device, spec)
  await device.synchronize()
  simulator().count(true)
  try {
    disposeOf(call())
    await device.synchronize()
  } finally {
    disposeOf(inputs)
    device.trim()
  }
  return simulator().count(false)
}

/** Seconds that a unit needs. */
export type Need = readonly [bound: PredictedRow['bound'], seconds: number]

export const slowest = (needs: readonly Need[]): Need =>
  needs.reduce((most, need) => (need[1] > most[1] ? need : most))

/** Of any kernel: its operands move once, and it is launched. */
const needsOfAll = ({ bytes }: Cost, { launches }: Counters): Need[] => [
  ['memory', bytes / (rates.copy.value * 1e9)],
  ['launch', Math.max(1, launches) * rates.launch.value * 1e-6],
]

/**
 * Of a kernel without tiles of tensor cores, `times` the piece that was counted. What is asked for again comes from L1 at best, for the
 * simulator has no caches: these times are the least.
 */
export function needsOfRows(cost: Cost, counters: Counters, times: number): Need[] {
  return [
    ...needsOfAll(cost, counters),
    ['FMA units', cost.flops / (rates.fma.value * 1e12)],
    ['L1', ((counters.read + counters.written) * times) / (rates.l1.value * 1e9)],
  ]
}

function rowOf(
  { name, groups, spec }: Case,
  cost: Cost,
  slice: Cost & { name: string },
  counters: Counters,
): PredictedRow {
  const whole = slice.name === name
  const plan = planOf(spec)
  const tiled = plan !== undefined && plan.rounds > 0
  const times = tiled ? cost.flops / slice.flops : cost.bytes / slice.bytes
  const portable = plan !== undefined && /sm80|portable/.test(plan.kernel) && spec.dtype !== 'f32'
  const [bound, unit] = slowest(
    tiled
      ? [...needsOfAll(cost, counters), ['tensor cores', secondsOfTiles(spec, plan)]]
      : portable
        ? [...needsOfAll(cost, counters), ['tensor cores', cost.flops / (rates.bf16.value * 1e12)]]
        : needsOfRows(cost, counters, times),
  )
  const seconds = unit + (plan ? secondsOfNorm(spec, plan) : 0)
  const row: PredictedRow = {
    name,
    groups,
    spec,
    ...cost,
    milliseconds: 1e3 * seconds,
    tflops: cost.flops / seconds / 1e12,
    gbs: cost.bytes / seconds / 1e9,
    bound,
    how: tiled ? 'plan' : whole ? 'simulated' : 'slice',
    counters,
  }
  if (!whole) row.slice = { name: slice.name, times, bytes: slice.bytes }
  if (plan) {
    const { cycles: _, ...shape } = plan
    row.plan = shape
  }
  return row
}

/** How a real card would run it; undefined where nothing is planned but rows. */
export function planOf(spec: Spec): Plan | undefined {
  const { plan } = simulator()
  switch (spec.op) {
    case 'linear':
    case 'linearFp8':
      return plan(spec.op, spec.dtype, processors, [spec.m, spec.k], [spec.n, spec.k])
    case 'attention': {
      const { batch, queries, keys, heads, headDim } = spec
      const [q, k] = [queries, keys].map((n) => [batch, n, heads, headDim])
      return plan('attention', spec.dtype, processors, q, k)
    }
    case 'conv3d':
      return plan('conv3d', spec.dtype, processors, ...shapesOf(spec))
    default:
      return undefined
  }
}

function shapesOf(spec: Conv3dSpec): unknown[] {
  const { frames, height, width, channels, out, kernel, groups, norm = false } = spec
  const [time, down, across] = kernel.map((n) => n >> 1)
  return [
    [1, frames, height, width, channels],
    [out, channels / groups, ...kernel],
    [1, frames, height, width, out],
    [time, time, down, across],
    groups,
    norm,
  ]
}

/**
 * Cycles of a plan at the clock at which the same plan takes as long as was measured for the product behind the rate; attention, whose plan
 * has no model, at the rate of the tiles that were measured.
 */
function secondsOfTiles(spec: Spec, plan: Plan): number {
  if (spec.op === 'attention') {
    const { tiles, keys, keyBlock } = attentionShape
    const busy = tiles / processors / Math.ceil(tiles / processors)
    const filled = keys / (Math.ceil(keys / keyBlock) * keyBlock)
    const perProcessor = (rates.attention.value * 1e12) / busy / filled / processors
    const padded = Math.ceil(spec.keys / plan.columns) * plan.columns
    return (plan.rounds * plan.rows * padded * 4 * spec.headDim) / perProcessor
  }
  return plan.cycles / clockOf(spec.dtype === 'f8e4m3' ? 'f8e4m3' : 'bf16')
}

/** A norm over more channels than a tile has is a pass of its own: it reads the result and the residual, and writes the result. */
function secondsOfNorm(spec: Spec, plan: Plan): number {
  if (spec.op !== 'conv3d' || !spec.norm || plan.columns >= spec.out) return 0
  const bytes = 2 * spec.frames * spec.height * spec.width * spec.out
  return (3 * bytes) / (rates.copy.value * 1e9)
}

/** Cycles a second. */
export function clockOf(dtype: keyof typeof gemmShape): number {
  const [m, n, k] = gemmShape[dtype]
  const { cycles } = simulator().plan('linear', dtype, processors, [m, k], [n, k])
  return cycles / ((2 * m * n * k) / (rates[dtype].value * 1e12))
}
