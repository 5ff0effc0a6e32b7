/**
 * One run: every case on a device of ours beside its peers, in alternating rounds, so that what the machine does meanwhile meets both. The
 * roofline is measured in the same run, before the cases and after them.
 */
import type { Device } from '../kernels.js'
import { median, ratioOf, spread } from '../statistics.js'
import type { Case } from './cases.js'
import { type Failure, failureOf } from './failures.js'
import { measureHost } from './host.js'
import { bytesBeyondCache, commitNow, gpuNow, machineOf } from './machine.js'
import { openOneDnn, openTorch, type Peer } from './peers.js'
import type { Ceilings, GoalResult, Measurement, PeerName, PeerResult, Row } from './report.js'
import { measureRequests, type RequestCase } from './requests.js'
import { nameOf, type Spec } from './spec.js'
import { Subject } from './subject.js'
import { sumsOf } from './sums.js'

export interface RunOptions {
  device: Device
  cases: readonly Case[]
  requests: readonly RequestCase[]
  /** Alternations with the peers. */
  rounds: number
  /** Spent on each side a round. */
  seconds: number
  peers: boolean
  host: boolean
  signal?: AbortSignal
  /** Told how many cases and requests are done. */
  onCase?: (done: number) => void
}

type Peers = Partial<Record<PeerName, Peer>>

/** Of a peer to one case, a round each. */
interface Answers {
  ms: number[]
  ratios: number[]
  how: Pick<PeerResult, 'way' | 'refused'>
}

/**
 * Measures. A case that fails (most likely it does not fit) is in `failed`, and the others are measured all the same.
 * @throws ERR_FSVIDEO_DEVICE_LOST, ERR_FSVIDEO_DISPOSED; what `signal` says when it is aborted.
 */
export async function measure(options: RunOptions): Promise<Measurement> {
  const { device, cases, rounds, seconds, signal } = options
  const machine = await machineOf(device)
  const { peers, absent } = options.peers
    ? await openPeers(device, machine.threads)
    : { peers: {}, absent: [] }
  const run = new Run(options, peers, bytesBeyondCache(device))
  try {
    const types = new Set(cases.map(({ spec }) => spec.dtype))
    if (options.requests.length > 0) types.add('bf16')
    const gpu = await run.ceilings(types)
    const rows: Row[] = []
    const failed: Failure[] = []
    for (const [index, it] of cases.entries()) {
      signal?.throwIfAborted()
      try {
        rows.push(await run.case(it))
      } catch (error) {
        failed.push(failureOf(it.name, error))
      }
      options.onCase?.(index + 1)
    }
    await run.ceilings(types)
    judge(rows, run.best, cases, device)
    const whole = await measureRequests(device, options.requests, 1e12 * (run.best.gemm.bf16?.tflops ?? 0), {
      signal,
      onCase: (index) => options.onCase?.(cases.length + index + 1),
    })
    const host = options.host ? await measureHost(device) : { rows: [] }
    if (host.absent) absent.push(host.absent)
    return {
      kind: 'measurement',
      date: new Date().toISOString(),
      commit: commitNow(),
      machine: gpu ? { ...machine, gpu } : machine,
      peers: Object.fromEntries(Object.entries(peers).map(([name, peer]) => [name, peer.version])),
      absent,
      ceilings: run.best,
      rounds,
      seconds,
      rotatedBytes: run.rotate,
      rows,
      sums: await sumsOf(rows.map((row) => ({ ...row, milliseconds: row.milliseconds.median }))),
      requests: whole.rows,
      failed: [...failed, ...whole.failed],
      host: host.rows,
    }
  } finally {
    for (const peer of Object.values(peers)) peer.close()
  }
}

async function openPeers(device: Device, threads: number): Promise<{ peers: Peers; absent: string[] }> {
  const peers: Peers = {}
  const absent: string[] = []
  const opened: (readonly [PeerName, Awaited<ReturnType<typeof openTorch>>])[] = [
    ['torch', await openTorch(device.name, threads)],
  ]
  if (device.name === 'cpu') opened.unshift(['onednn', openOneDnn(threads)])
  for (const [name, result] of opened) {
    if ('peer' in result) peers[name] = result.peer
    else absent.push(result.absent)
  }
  return { peers, absent }
}

class Run {
  readonly best: Ceilings = { copyGBs: 0, gemm: {} }
  readonly rotate: number
  readonly #options: RunOptions
  readonly #peers: Peers

  constructor(options: RunOptions, peers: Peers, rotate: number) {
    this.#options = options
    this.#peers = peers
    this.rotate = rotate
  }

  async case({ name, spec, groups }: Case): Promise<Row> {
    const { device, rounds, seconds, signal } = this.#options
    const subject = await Subject.open(device, spec, this.rotate)
    try {
      await subject.sample(0.2) // warm-up
      const all: number[] = []
      const ours: number[] = []
      const theirs: Partial<Record<PeerName, Answers>> = {}
      const absent: Row['absent'] = {}
      for (let round = 0; round < rounds; round++) {
        signal?.throwIfAborted()
        const samples = await subject.sample(seconds)
        all.push(...samples)
        ours.push(median(samples))
        for (const [name, peer] of this.#everyPeer()) {
          if (absent[name]) continue
          const answer = await peer.measure({ spec, seconds, rotate: this.rotate })
          if ('absent' in answer) {
            absent[name] = answer.absent
            continue
          }
          theirs[name] ??= { ms: [], ratios: [], how: {} }
          const result = theirs[name]
          result.ms.push(answer.medianMs)
          result.ratios.push(answer.medianMs / ours.at(-1)!)
          const { way, refused } = answer
          result.how = { ...(way && { way }), ...(refused && { refused }) }
        }
      }
      const milliseconds = spread(all)
      const { flops, bytes } = subject
      const [tflops, gbs] = [flops / milliseconds.median / 1e9, bytes / milliseconds.median / 1e6]
      const row: Row = {
        name,
        groups,
        spec,
        milliseconds,
        flops,
        bytes,
        tflops,
        gbs,
        roofline: 0,
        bound: 'memory',
        peers: {},
        absent,
        goals: [],
      }
      for (const [peer, { ms, ratios, how }] of Object.entries(theirs))
        row.peers[peer as PeerName] = {
          milliseconds: median(ms),
          ratio: ratioOf(ratios),
          best: Math.min(...ms) / Math.min(...ours),
          ...how,
        }
      return row
    } finally {
      subject.dispose()
    }
  }

  #everyPeer() {
    return Object.entries(this.#peers) as [PeerName, Peer][]
  }

  /** Measures a large copy and a large product of each type, and keeps the best so far. Gives what the card did meanwhile. */
  async ceilings(types: ReadonlySet<Spec['dtype']>) {
    const { device, seconds } = this.#options
    const card = /^cuda:(\d+)$/.exec(device.name)
    const elements = (card ? 2 ** 30 : 2 ** 28) / 8
    const copy: Spec = { op: 'slice', dtype: 'f32', shape: [2, elements] }
    let gpu: ReturnType<typeof gpuNow> = Promise.resolve(undefined)
    for (const spec of [copy, ...[...types].map((dtype) => largeProduct(dtype, card !== null))]) {
      this.#options.signal?.throwIfAborted()
      const subject = await Subject.open(device, spec, this.rotate)
      try {
        await subject.sample(0.1)
        if (card && spec.dtype === 'bf16') gpu = gpuNow(Number(card[1]))
        const ours = median(await subject.sample(Math.max(0.1, seconds)))
        this.#reached(spec, subject, ours, 'fsvideo')
        for (const [, peer] of this.#everyPeer()) {
          const answer = await peer.measure({ spec, seconds, rotate: this.rotate })
          if (!('absent' in answer)) this.#reached(spec, subject, answer.medianMs, answer.way ?? 'PyTorch')
        }
      } finally {
        subject.dispose()
      }
    }
    return gpu
  }

  #reached(spec: Spec, { flops, bytes }: Subject, ms: number, by: string): void {
    if (spec.op !== 'linear') {
      this.best.copyGBs = Math.max(this.best.copyGBs, bytes / ms / 1e6)
      return
    }
    const tflops = flops / ms / 1e9
    if (tflops > (this.best.gemm[spec.dtype]?.tflops ?? 0)) this.best.gemm[spec.dtype] = { tflops, by }
  }
}

function largeProduct(dtype: Spec['dtype'], card: boolean): Spec {
  const side = dtype === 'f32' ? 4096 : 8192
  const [m, n, k] = card ? [side, side, side] : [1024, 4096, 4096]
  return { op: 'linear', dtype, m, n, k, epilogue: 'none' }
}

/** Shares of the roofline, and whether goals of this kind of device are met, once everything that they are held against is known. */
export function judge(
  rows: readonly Row[],
  { copyGBs, gemm }: Ceilings,
  cases: readonly Pick<Case, 'name' | 'goals'>[],
  device: { name: string },
): void {
  const kind = device.name === 'cpu' ? 'cpu' : 'card'
  for (const row of rows) {
    const rate = gemm[row.spec.dtype]?.tflops ?? Number.POSITIVE_INFINITY
    const [compute, memory] = [row.flops / rate / 1e9, row.bytes / copyGBs / 1e6]
    row.bound = compute > memory ? 'compute' : 'memory'
    row.roofline = Math.max(compute, memory) / row.milliseconds.median
    const reached = (against: GoalResult['against']): number | undefined => {
      if (against === 'copy') return row.gbs / copyGBs
      if (against === 'gemm') return row.tflops / rate
      if (against !== 'bf16') return row.peers[against]?.ratio.median
      const wide = nameOf({ ...row.spec, dtype: 'bf16' } as Spec)
      const other = rows.find(({ name }) => name === wide)
      return other && other.milliseconds.median / row.milliseconds.median
    }
    const goals = cases.find(({ name }) => name === row.name)?.goals ?? []
    row.goals = goals.flatMap((goal) => {
      const value = goal.on === kind ? reached(goal.against) : undefined
      return value === undefined ? [] : [{ ...goal, reached: value, met: value >= goal.atLeast }]
    })
  }
}
