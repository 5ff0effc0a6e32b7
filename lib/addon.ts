/**
 * The door to the native addon: finds it, loads it once, and says what to do when that fails.
 * Everything typed `Native*` is opaque; `device.ts` and `ops.ts` give it a face.
 */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { FSVideoError } from './errors.js'
import type { DType } from './tensor.js'

declare const brand: unique symbol
export type NativeDevice = { [brand]: 'device' }
export type NativeTensor = { [brand]: 'tensor' }
export type NativeGraph = { [brand]: 'graph' }
export type NativeToken = { [brand]: 'token' }
export type NativeFile = { [brand]: 'file' }

/** Bytes. `inUse`: held by live tensors and graphs; `reserved`: taken from the system; `mapped`: weight files in place. */
export interface MemoryUse {
  /** Of tensors, and the most of it since `resetPeak`. */
  inUse: number
  peak: number
  /** Taken from the system: what is in use and what is free between. */
  reserved: number
  reservedPeak: number
  mapped: number
}

export interface OpStats {
  calls: number
  /** Floating point operations and least bytes, as the op's contract counts them. */
  flops: number
  bytes: number
  /** Time on the device, of what was done by the last wait. Ops of a replayed graph on a card are in the row `graph`. */
  seconds: number
}

/** The cards that the build's CUDA backend finds. */
export interface Cards {
  /** What their names start with: cuda. */
  kind: string
  /** CUDA versions, `13.0`, or empty. */
  runtime: string
  driver: string
  /** Why the list is empty. */
  problem?: string
  list: { name: string; capability: string; freeBytes: number; totalBytes: number }[]
}

/** Ops that ran, `fields` numbers each: indices of name, shapes and path; begin and end in ns; FLOPs; bytes; memory in use. */
export interface NativeTrace {
  names: string[]
  shapes: string[]
  paths: string[][]
  fields: number
  ops: Float64Array
}

export interface FileEntry {
  name: string
  dtype: DType
  shape: number[]
}

type NativeOp = (device: NativeDevice, ...args: unknown[]) => NativeTensor
/** Values and scales where the result is of f8e4m3. */
type NativeScaledOp = (
  device: NativeDevice,
  ...args: unknown[]
) => NativeTensor | [values: NativeTensor, scales: NativeTensor]

export interface Addon {
  setErrorClass(errorClass: typeof FSVideoError): void
  open(name: string, threads?: number, isa?: string, like?: NativeDevice): Promise<NativeDevice>
  cards(): Promise<Cards>
  freeBytes(device: NativeDevice): number
  close(device: NativeDevice): void
  describe(device: NativeDevice): string
  isas(): string[]
  fence(device: NativeDevice): Promise<void>
  memory(device: NativeDevice): MemoryUse
  resetPeak(device: NativeDevice): void
  trim(device: NativeDevice, keep: boolean): void
  setLimit(device: NativeDevice, bytes: number): void
  depth(device: NativeDevice): number
  stats(device: NativeDevice): Record<string, OpStats>
  resetStats(device: NativeDevice): void
  token(): NativeToken
  cancel(token: NativeToken): void
  setToken(device: NativeDevice, token: NativeToken | null): void
  beginCapture(device: NativeDevice): void
  endCapture(device: NativeDevice): NativeGraph
  replay(device: NativeDevice, graph: NativeGraph): void
  beginTrace(device: NativeDevice, wholeGraphs: boolean): void
  endTrace(device: NativeDevice): Promise<NativeTrace>
  pushRange(device: NativeDevice, name: string): void
  popRange(device: NativeDevice): void
  disposeGraph(graph: NativeGraph): void
  tensor(device: NativeDevice, data: ArrayBufferView, shape: readonly number[], dtype: DType): NativeTensor
  write(device: NativeDevice, tensor: NativeTensor, data: ArrayBufferView): void
  assign(device: NativeDevice, to: NativeTensor, from: NativeTensor): void
  read(device: NativeDevice, tensor: NativeTensor): Promise<ArrayBuffer>
  dispose(tensor: NativeTensor): void
  describeTensor(tensor: NativeTensor): [DType, string, ...number[]]
  reshape(tensor: NativeTensor, shape: readonly number[]): NativeTensor
  view(tensor: NativeTensor, axis: number, start: number, end: number): NativeTensor
  openSafetensors(path: string): {
    handle: NativeFile
    metadata: Record<string, string>
    entries: FileEntry[]
  }
  mapTensor(device: NativeDevice, file: NativeFile, name: string): NativeTensor
  safetensorsHeader(
    entries: FileEntry[],
    metadata?: Record<string, string>,
  ): { header: Uint8Array; order: string[] }
  layer_memory(device: NativeDevice, ...args: unknown[]): [ReturnType<NativeScaledOp>, NativeTensor?]
  quantize_fp8(device: NativeDevice, ...args: unknown[]): [NativeTensor, NativeTensor]
  linear: NativeScaledOp
  attention: NativeOp
  linear_attention: NativeOp
  norm_modulate: NativeScaledOp
  qk_norm_rope: NativeOp
  pixel_norm: NativeOp
  group_norm: NativeOp
  conv3d: NativeOp
  unshuffle3d: NativeOp
  shuffle3d: NativeOp
  combine: NativeOp
  randn: NativeOp
  fill: NativeOp
  cast: NativeOp
  concat: NativeOp
  slice: NativeOp
  permute: NativeOp
  embedding: NativeOp
  modulation: NativeOp
  affine: NativeOp
  activate: NativeOp
  glu: NativeOp
  from_rgb8: NativeOp
  to_rgb8: NativeOp
  dequantize_fp8: NativeOp
  all_finite: NativeOp
  dynamic_mask: NativeOp
  pack: NativeOp
}

/** The package's root, from `lib` under tsx as from `dist`. */
export const packageRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')

let loaded: Addon | undefined

/** The addon. Throws ERR_FSVIDEO_NO_BINARY with everything that was tried and how to mend it. */
export function addon(): Addon {
  loaded ??= load()
  return loaded
}

function load(): Addon {
  const require = createRequire(import.meta.url)
  const tried: string[] = []
  const attempt = (what: string, open: () => unknown): Addon | undefined => {
    try {
      const native = open() as Addon
      native.setErrorClass(FSVideoError)
      return native
    } catch (error) {
      tried.push(`${what}: ${(error as Error).message.split('\n')[0]}`)
      return undefined
    }
  }
  const named = process.env.FSVIDEO_ADDON
  const native = named
    ? attempt(`FSVIDEO_ADDON=${named}`, () => require(path.resolve(named)))
    : attempt(`local build or prebuild under ${packageRoot}`, () => require('node-gyp-build')(packageRoot))
  if (native) return native
  throw new FSVideoError(
    'ERR_FSVIDEO_NO_BINARY',
    [
      `The native addon of fsvideo could not be loaded on ${process.platform}-${process.arch}, Node ${process.version}. Tried:`,
      ...tried.map((line) => `  - ${line}`),
      'To mend it:',
      ...advice(tried.join('\n')).map((line) => `  - ${line}`),
    ].join('\n'),
  )
}

function advice(failures: string): string[] {
  const lines: string[] = []
  if (/GLIBC|GLIBCXX/.test(failures))
    lines.push('the binary was built for a newer C++ runtime: build it here with `npm run build:native`')
  if (/wrong ELF class|invalid ELF header|incompatible architecture/.test(failures))
    lines.push(
      'the binary is for another architecture: remove build/ and prebuilds/, then `npm run build:native`',
    )
  if (/No native build was found/.test(failures)) {
    const built = existsSync(path.join(packageRoot, 'prebuilds'))
      ? readdirSync(path.join(packageRoot, 'prebuilds'))
      : []
    lines.push(
      `there is no binary for this platform${built.length ? ` (there is one for ${built.join(', ')})` : ''}: ` +
        'install g++ 12 or newer and cmake 3.25 or newer, then `npm rebuild fsvideo` (in a clone: `npm run build:native`)',
    )
    lines.push('if packages are installed with --ignore-scripts, run `npm rebuild fsvideo` once')
  }
  if (process.env.FSVIDEO_ADDON)
    lines.push('FSVIDEO_ADDON names a file that must exist: unset it to use the usual places')
  if (lines.length === 0) lines.push('rebuild with `npm run build:native` and look at its output')
  return lines
}
