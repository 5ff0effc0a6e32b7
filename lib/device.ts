/**
 * A device: where tensors live and ops run. Calls return at once; work runs in order on the device's own native thread, never
 * on the JavaScript thread and never on libuv's pool. `synchronize()` and `tensor.read()` are the only waits.
 */
import { cpus, freemem, totalmem } from 'node:os'
import {
  addon,
  type MemoryUse,
  type NativeDevice,
  type NativeGraph,
  type NativeToken,
  type OpStats,
} from './addon.js'
import { FSVideoError, invalid } from './errors.js'
import { type DType, Tensor, type TensorData } from './tensor.js'
import { type Trace, type TraceOptions, traceOf } from './trace.js'

export interface DeviceOptions {
  /** CPU threads inside an op. Default: FSVIDEO_THREADS, else the processors of the affinity mask. */
  threads?: number
  /** CPU instruction set: portable, avx2, avx512, avx512bf16, amx. Default: FSVIDEO_CPU_ISA, else the best there is. */
  isa?: string
  /** Bytes that may be reserved for tensors. Default: no limit of ours. */
  memoryLimit?: number
}

export class Device {
  /** `cpu`; `cuda:0` and so on; or `meta`: plans and counts, computes nothing. */
  readonly name: string
  /** @internal */
  readonly native: NativeDevice
  #scopes: Set<Tensor>[] = []
  #tokens = new WeakMap<AbortSignal, NativeToken>()
  #token: NativeToken | null = null
  #limit: number
  #disposed = false
  #traced = false

  private constructor(name: string, native: NativeDevice, limit: number) {
    this.name = name
    this.native = native
    this.#limit = limit
    if (limit > 0) addon().setLimit(native, limit)
  }

  /**
   * Opens a device by name: `cpu`, `cuda` (the first card), `cuda:1`, `meta`, or `auto`: the first card, or the CPU where there is
   * none or it does not open, which is said once on stderr. FSVIDEO_BACKEND=cpu or cuda is what `auto` is.
   * Throws ERR_FSVIDEO_NO_DEVICE for a name that is not there, ERR_FSVIDEO_UNSUPPORTED_DEVICE for an instruction set that is not and a
   * card that is too old, ERR_FSVIDEO_NO_BINARY when the addon cannot be loaded.
   * @param like The device for whose memory `meta` plans; default: the CPU.
   */
  static async open(name = 'auto', options: DeviceOptions = {}, like?: Device): Promise<Device> {
    const threads = options.threads ?? environmentInteger('FSVIDEO_THREADS')
    if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 1024))
      throw invalid('threads', threads, 'an integer from 1 to 1024')
    const limit = options.memoryLimit ?? 0
    if (!(Number.isFinite(limit) && limit >= 0))
      throw invalid('memoryLimit', limit, 'a number of bytes, 0 for no limit')
    const isa = options.isa ?? (process.env.FSVIDEO_CPU_ISA || undefined)
    const open = async (one: string) => {
      const full = /^(cuda|sim)$/.test(one) ? `${one}:0` : one
      return new Device(full, await addon().open(full, threads, isa, like?.native), limit)
    }
    const backend = backendOfEnvironment()
    const wanted = name === 'auto' ? backend : name
    if (!/^(auto|cpu|meta|(cuda|sim)(:\d+)?)$/.test(wanted))
      throw new FSVideoError('ERR_FSVIDEO_NO_DEVICE', `there is no device ${JSON.stringify(name)}`, {
        field: 'device',
        got: name,
        expected: 'auto, cpu, cuda[:N] or meta',
      })
    if (wanted !== 'auto') return open(wanted)
    const found = await addon().cards()
    if (found.kind === 'cuda' && found.list.length > 0) {
      try {
        return await open('cuda')
      } catch (error) {
        sayOnce(`running on the CPU: ${(error as Error).message}`)
      }
    } else sayOnce(`running on the CPU: ${found.problem ?? 'cards are simulated'}`)
    return open('cpu')
  }

  /** Instruction sets that this build has and this machine can run, the best last. */
  static instructionSets(): string[] {
    return addon().isas()
  }

  /** "avx512, 2 threads", or the card's name. */
  get description(): string {
    return addon().describe(this.native)
  }
  get disposed(): boolean {
    return this.#disposed
  }
  /** True when nothing is computed: the planning device. */
  get dry(): boolean {
    return this.name === 'meta'
  }
  /** Bytes that may be reserved; 0 for no limit. */
  get memoryLimit(): number {
    return this.#limit
  }

  /** A tensor from JavaScript data, which is taken at once. Throws ERR_FSVIDEO_INVALID_ARGUMENT when data, shape and dtype disagree. */
  tensor(data: TensorData, shape: readonly number[], dtype: DType = dtypeOf(data)): Tensor {
    return new Tensor(this, addon().tensor(this.native, data, shape, dtype))
  }

  /** @internal */
  track(tensor: Tensor): void {
    this.#scopes.at(-1)?.add(tensor)
  }

  /**
   * Runs `fn` and disposes of every tensor made in it, except those it returns (a tensor, or arrays and plain objects of them).
   * `fn` must not be async.
   */
  scope<T>(fn: () => T): T {
    const made = new Set<Tensor>()
    this.#scopes.push(made)
    let kept: Set<Tensor> | undefined
    try {
      const result = fn()
      kept = new Set(tensorsIn(result))
      return result
    } finally {
      this.#scopes.pop()
      for (const tensor of made) {
        if (kept?.has(tensor)) this.track(tensor)
        else tensor.dispose()
      }
    }
  }

  /** Takes a tensor out of the current scopes: it lives until it is disposed of or released. */
  keep(tensor: Tensor): Tensor {
    for (const scope of this.#scopes) scope.delete(tensor)
    return tensor
  }
  /** Gives a kept tensor to the current scope, which disposes of it at its end; without a scope disposes of it now. */
  release(tensor: Tensor): Tensor {
    const scope = this.#scopes.at(-1)
    if (scope) scope.add(tensor)
    else tensor.dispose()
    return tensor
  }

  /**
   * Records the ops of `fn` instead of running them. The graph keeps the memory of what it makes; tensors that `fn` returns
   * are its outputs and hold what the latest replay computed. Nothing may be read or waited for inside.
   */
  capture<T>(fn: () => T): { graph: Graph; result: T } {
    addon().beginCapture(this.native)
    let native: NativeGraph | undefined
    try {
      const result = this.scope(fn)
      native = addon().endCapture(this.native)
      return { graph: new Graph(this, native), result }
    } finally {
      if (!native) addon().disposeGraph(addon().endCapture(this.native))
    }
  }

  /** Ops queued inside `fn` are skipped once the signal is aborted: what they would have computed is undefined then. */
  withSignal<T>(signal: AbortSignal | undefined, fn: () => T): T {
    if (!signal) return fn()
    let token = this.#tokens.get(signal)
    if (!token) {
      const made = addon().token()
      token = made
      this.#tokens.set(signal, made)
      if (signal.aborted) addon().cancel(made)
      else signal.addEventListener('abort', () => addon().cancel(made), { once: true })
    }
    const outer = this.#token
    const use = (current: NativeToken | null) => {
      this.#token = current
      addon().setToken(this.native, current)
    }
    use(token)
    try {
      return fn()
    } finally {
      use(outer)
    }
  }

  /**
   * Runs `fn`, which may be async, and gives the ops that were queued on this device meanwhile, with the times that they took on it.
   * Costs below 3 % of their time; a device that is not traced pays nothing.
   * Throws what `fn` throws, and as `synchronize` does; ERR_FSVIDEO_INVALID_ARGUMENT for a trace inside a trace.
   */
  async trace<T>(
    fn: () => T | Promise<T>,
    { graphs = 'ops' }: TraceOptions = {},
  ): Promise<{ trace: Trace; result: T }> {
    if (graphs !== 'ops' && graphs !== 'whole') throw invalid('trace.graphs', graphs, 'ops or whole')
    addon().beginTrace(this.native, graphs === 'whole')
    this.#traced = true
    let ended: ReturnType<ReturnType<typeof addon>['endTrace']> | undefined
    const end = () => {
      this.#traced = false
      ended ??= addon().endTrace(this.native)
      return ended
    }
    try {
      const result = await fn()
      return { result, trace: traceOf(await end()) }
    } catch (error) {
      if (!ended) await end().catch(() => {})
      throw error
    }
  }

  /**
   * What `fn`, which must not be async, queues is a slice of this name in traces, inside the ranges around it; NVIDIA's profilers
   * show it too. Ranges of one name that follow each other are one slice: parts of async work join so. Captured ops keep the ranges
   * inside the capture, and lie in those around each replay.
   */
  range<T>(name: string, fn: () => T): T {
    if (!this.#traced) return fn()
    addon().pushRange(this.native, name)
    try {
      return fn()
    } finally {
      addon().popRange(this.native)
    }
  }

  /** Resolves when everything queued so far is done; rejects with the first error among it, or ERR_FSVIDEO_DISPOSED. */
  async synchronize(): Promise<void> {
    return addon().fence(this.native)
  }

  /** Ops queued and not done. */
  get depth(): number {
    return addon().depth(this.native)
  }

  memory(): MemoryUse {
    return addon().memory(this.native)
  }
  /** Bytes of memory that the card, or the machine, has left. */
  freeMemory(): number {
    const bytes = addon().freeBytes(this.native)
    return bytes < 0 ? freemem() : bytes
  }
  resetPeak(): void {
    addon().resetPeak(this.native)
  }
  /**
   * Returns memory that no tensor uses to the system. With `keep` the CPU backend holds back up to 256 MB of it for whoever
   * asks next: the system would fill every page of it with zeros again.
   */
  trim({ keep = false }: { keep?: boolean } = {}): void {
    addon().trim(this.native, keep)
  }

  /** Per op since the last reset: calls, FLOPs and least bytes as the contract counts them, seconds. */
  stats(): Record<string, OpStats> {
    return addon().stats(this.native)
  }
  resetStats(): void {
    addon().resetStats(this.native)
  }

  /** Lets the running op finish, drops what is queued: whoever waits for it is told ERR_FSVIDEO_DISPOSED. Idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    addon().close(this.native)
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Recorded work: `replay()` runs it again on what its inputs hold by then. */
export class Graph {
  readonly device: Device
  #native: NativeGraph

  /** @internal Graphs come from `device.capture`. */
  constructor(device: Device, native: NativeGraph) {
    this.device = device
    this.#native = native
  }
  replay(): void {
    addon().replay(this.device.native, this.#native)
  }
  /** Frees the graph's memory once queued replays are done. Idempotent. */
  dispose(): void {
    addon().disposeGraph(this.#native)
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

export interface DeviceInfo {
  /** For `Device.open`. */
  name: string
  /** Of the card, or the CPU. */
  description: string
  /** Of cards only: `9.0`, and the CUDA version of their driver. */
  computeCapability?: string
  driver?: string
  freeBytes: number
  totalBytes: number
}

/** The devices that this build can use on this machine, the one that `auto` takes first. Does not open them. */
export async function devices(): Promise<DeviceInfo[]> {
  const { list, kind, driver } = await addon().cards()
  const cards = list.map(({ name, capability, freeBytes, totalBytes }, index) => ({
    name: `${kind}:${index}`,
    description: name,
    computeCapability: capability,
    driver,
    freeBytes,
    totalBytes,
  }))
  const processor = cpus()[0]?.model.trim() ?? 'unknown'
  return [...cards, { name: 'cpu', description: processor, freeBytes: freemem(), totalBytes: totalmem() }]
}

/** What `auto` is by FSVIDEO_BACKEND. */
function backendOfEnvironment(): string {
  const backend = process.env.FSVIDEO_BACKEND || 'auto'
  if (!['auto', 'cpu', 'cuda'].includes(backend))
    throw invalid('FSVIDEO_BACKEND', backend, 'cpu, cuda or auto')
  return backend
}

const said = new Set<string>()
function sayOnce(message: string): void {
  if (said.has(message)) return
  said.add(message)
  process.stderr.write(`fsvideo: ${message}\n`)
}

function dtypeOf(data: TensorData): DType {
  if (data instanceof Float32Array) return 'f32'
  if (data instanceof Int32Array) return 'i32'
  if (data instanceof Uint16Array) return 'bf16'
  return 'u8'
}

function environmentInteger(name: string): number | undefined {
  const value = process.env[name]
  return value ? Number(value) : undefined
}

function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value
  else if (Array.isArray(value)) for (const item of value) yield* tensorsIn(item)
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) yield* tensorsIn(item)
}
