/**
 * Weights on disk: one component's safetensors, whole or in shards, as the source that networks are built from, and the writer
 * of such files. What a file holds is compared with what the network will ask for in one go, before any tensor is touched; on
 * the CPU the tensors then are the mapped bytes themselves. File layout: models/FORMAT.md.
 */
import { randomBytes } from 'node:crypto'
import { open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, join, sep } from 'node:path'
import { addon, type FileEntry, type NativeFile } from './addon.js'
import type { Device } from './device.js'
import { FSVideoError, show } from './errors.js'
import { readJson } from './json-file.js'
import { Parameters, RecordedShapes, type TensorRequest, type WeightSource } from './parameters.js'
import { type DType, Tensor } from './tensor.js'

/** The weight map of a 14B model has 100 kB. */
const maxIndexBytes = 16 * 2 ** 20
/** Names in a message; the rest is only counted. */
const mostNamed = 10

interface Entry extends FileEntry {
  file: string
  handle: NativeFile
}

export class FileWeights implements WeightSource {
  /** What errors call these weights: the file, or the weight map. */
  readonly label: string
  readonly #device: Device
  readonly #entries: ReadonlyMap<string, Entry>
  readonly #asked = new Set<string>()

  private constructor(device: Device, label: string, entries: ReadonlyMap<string, Entry>) {
    this.#device = device
    this.label = label
    this.#entries = entries
  }

  /**
   * Opens the weights in a component's folder: `model` or `diffusion_pytorch_model`, `.safetensors` or
   * `.safetensors.index.json` with shards. Reads only headers.
   * @param variant The middle of names such as `diffusion_pytorch_model.fp16.safetensors`. Not needed where there is but one.
   * @throws ERR_FSVIDEO_MODEL_FILE for a file that is missing, ambiguous or damaged, a weight map that leads out of the folder or does
   * not agree with its shards.
   */
  static async open(
    folder: string,
    device: Device,
    options: { variant?: string } = {},
  ): Promise<FileWeights> {
    const path = join(folder, await findWeights(folder, options.variant))
    const entries = path.endsWith('.json') ? await openShards(folder, path) : openFile(path)
    return new FileWeights(device, path, entries)
  }

  /** Name, dtype and shape of every tensor in the files. */
  get entries(): FileEntry[] {
    return [...this.#entries.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }))
  }

  /**
   * Compares the files with everything that a network will ask for.
   * @param ignore Names that may be there without being asked for.
   * @throws ERR_FSVIDEO_MODEL_FILE with all that is wrong in one message; field, got and expected are of the first.
   */
  check(expected: readonly TensorRequest[], { ignore = [] }: { ignore?: readonly RegExp[] } = {}): void {
    const faults: Fault[] = []
    for (const request of expected) {
      const fault = faultOf(request, this.#entries.get(request.name))
      if (fault) faults.push(fault)
    }
    const names = new Set(expected.map(({ name }) => name))
    faults.push(...this.#extra(names, ignore))
    if (faults.length > 0) throw faulty(this.label, faults)
  }

  /** The tensor over the mapped bytes. Throws ERR_FSVIDEO_MODEL_FILE where it is missing or of another shape or dtype. */
  get(request: TensorRequest): Tensor {
    const entry = this.#entries.get(request.name)
    const fault = faultOf(request, entry)
    if (fault || !entry) throw faulty(this.label, [fault!])
    this.#asked.add(request.name)
    const stored = new Tensor(this.#device, addon().mapTensor(this.#device.native, entry.handle, entry.name))
    return sameShape(entry.shape, request.shape) ? stored : stored.reshape(...request.shape)
  }

  /** Throws ERR_FSVIDEO_MODEL_FILE if the files hold tensors that nobody asked for, other than those to ignore. */
  finish({ ignore = [] }: { ignore?: readonly RegExp[] } = {}): void {
    const extra = this.#extra(this.#asked, ignore)
    if (extra.length > 0) throw faulty(this.label, extra)
  }

  #extra(known: ReadonlySet<string>, ignore: readonly RegExp[]): Fault[] {
    return [...this.#entries.values()]
      .filter(({ name }) => !known.has(name) && !ignore.some((pattern) => pattern.test(name)))
      .map((entry) => ({ kind: 'not expected', name: entry.name, got: describe(entry), expected: 'absent' }))
  }
}

/** Everything that a network's constructor asks for, in its order; nothing is allocated. */
export function expectedTensors(meta: Device, build: (parameters: Parameters) => unknown): TensorRequest[] {
  const shapes = new RecordedShapes(meta)
  const parameters = new Parameters(meta, 'bf16', shapes)
  try {
    build(parameters)
  } finally {
    parameters.dispose()
  }
  return shapes.requests
}

type FaultKind = 'missing' | 'not expected' | 'of the wrong shape' | 'of the wrong dtype'
interface Fault {
  kind: FaultKind
  name: string
  got: string
  expected: string
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i])

const describe = ({ dtype, shape }: FileEntry): string => `${dtype} [${shape.join(', ')}]`

function faultOf({ name, shape }: TensorRequest, entry: FileEntry | undefined): Fault | undefined {
  // Row-wise fp8 is for matrices; a vector in fp8 would be useless.
  const dtypes: DType[] = shape.length === 2 ? ['f32', 'bf16', 'f8e4m3'] : ['f32', 'bf16']
  const expected = `${dtypes.join(' or ')} [${shape.join(', ')}]`
  if (!entry) return { kind: 'missing', name, got: 'nothing', expected }
  const got = describe(entry)
  if (!acceptsShape(name, shape, entry.shape)) return { kind: 'of the wrong shape', name, got, expected }
  if (!dtypes.includes(entry.dtype)) return { kind: 'of the wrong dtype', name, got, expected }
  return undefined
}

/** As asked; but a patch embedding may be stored as the 2D convolution that it is, without the kernel size 1 in time. */
function acceptsShape(name: string, wanted: readonly number[], stored: readonly number[]): boolean {
  if (sameShape(wanted, stored)) return true
  const flat = wanted.length === 5 && wanted[2] === 1 && name.endsWith('patch_embedding.weight')
  return flat && sameShape(wanted.toSpliced(2, 1), stored)
}

function faulty(label: string, faults: readonly Fault[]): FSVideoError {
  const kinds = new Map<FaultKind, Fault[]>()
  for (const fault of faults) kinds.set(fault.kind, [...(kinds.get(fault.kind) ?? []), fault])
  const parts = [...kinds].map(([kind, list]) => {
    const named = list.slice(0, mostNamed).map((fault) => nameFault(fault))
    const rest = list.length > mostNamed ? ` and ${list.length - mostNamed} more` : ''
    return `${list.length} ${list.length === 1 ? 'tensor is' : 'tensors are'} ${kind}: ${named.join(', ')}${rest}`
  })
  const { name: field, got, expected } = faults[0]!
  return modelFile(field, `${label} is not what config.json describes: ${parts.join('; ')}`, got, expected)
}

function nameFault({ kind, name, got, expected }: Fault): string {
  if (kind === 'missing' || kind === 'not expected') return name
  return `${name} is ${got} and must be ${expected}`
}

function modelFile(
  field: string,
  message: string,
  got: unknown,
  expected: string,
  cause?: unknown,
): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_MODEL_FILE', message, { field, got, expected, cause })
}

const weightFile =
  /^(?:model|diffusion_pytorch_model)(?:\.([\w-]+))?\.safetensors(?:\.index(?:\.([\w-]+))?\.json)?$/

/** Whether a component's folder has any weights. */
export async function hasWeights(folder: string): Promise<boolean> {
  return (await readdir(folder)).some((name) => weightFile.test(name))
}

/** The name of the file to open: the one without a variant, or else the only one. */
async function findWeights(folder: string, variant?: string): Promise<string> {
  const expected = 'model.safetensors, diffusion_pytorch_model.safetensors, or the .index.json of either'
  const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    throw modelFile(folder, `${folder} cannot be read: ${cause.code}`, cause.code, 'a folder', cause)
  })
  const all = names.flatMap((name) => {
    const match = weightFile.exec(name)
    return match ? [{ name, variant: match[1] ?? match[2] }] : []
  })
  const exact = all.filter((file) => file.variant === variant)
  const found = exact.length > 0 || variant !== undefined ? exact : all
  if (found.length === 1) return found[0]!.name
  const got = found.length === 0 ? 'none of them' : found.map(({ name }) => name).join(' and ')
  const which = variant === undefined ? '' : ` for variant ${show(variant)}`
  throw modelFile(
    folder,
    `${folder} must have one weight file${which} (${expected}), has ${got}`,
    got,
    expected,
  )
}

function openFile(path: string): Map<string, Entry> {
  const { handle, entries } = addon().openSafetensors(path)
  return new Map(entries.map((entry) => [entry.name, { ...entry, file: path, handle }]))
}

/** The tensors of all shards, each where the weight map says. */
async function openShards(folder: string, path: string): Promise<Map<string, Entry>> {
  const map = await readWeightMap(path)
  const shards = new Map<string, Map<string, Entry>>()
  for (const name of new Set(map.values())) shards.set(name, openFile(await locateShard(folder, path, name)))

  const entries = new Map<string, Entry>()
  const absent: string[] = []
  for (const [tensor, shard] of map) {
    const entry = shards.get(shard)!.get(tensor)
    if (entry) entries.set(tensor, entry)
    else absent.push(tensor)
  }
  const unmapped = [...shards].flatMap(([shard, held]) =>
    [...held.keys()].filter((tensor) => map.get(tensor) !== shard),
  )
  if (absent.length + unmapped.length === 0) return entries
  const list = (names: string[]) =>
    `${names.slice(0, mostNamed).join(', ')}${names.length > mostNamed ? ` and ${names.length - mostNamed} more` : ''}`
  const parts = [
    ...(absent.length ? [`${absent.length} tensors are not in the shard it names: ${list(absent)}`] : []),
    ...(unmapped.length ? [`${unmapped.length} tensors of shards are not in it: ${list(unmapped)}`] : []),
  ]
  const [field, got] = absent.length ? [absent[0]!, 'nothing'] : [unmapped[0]!, 'a tensor that is not mapped']
  throw modelFile(
    field,
    `${path} does not agree with its shards: ${parts.join('; ')}`,
    got,
    'in map and shard alike',
  )
}

async function readWeightMap(path: string): Promise<Map<string, string>> {
  const index = await readJson(path, maxIndexBytes)
  const map = (index as { weight_map?: unknown } | null)?.weight_map
  const shape = 'an object of tensor names and file names'
  if (map === null || typeof map !== 'object' || Array.isArray(map))
    throw modelFile('weight_map', `weight_map of ${path} must be ${shape}, got ${show(map)}`, map, shape)
  for (const [tensor, file] of Object.entries(map))
    if (typeof file !== 'string')
      throw modelFile(
        `weight_map.${tensor}`,
        `weight_map of ${path}: ${tensor} must have a file name, got ${show(file)}`,
        file,
        'a file name',
      )
  return new Map(Object.entries(map as Record<string, string>))
}

/** The path of a shard, which must lie in the folder, also where links are followed. */
async function locateShard(folder: string, index: string, name: string): Promise<string> {
  const expected = 'a file inside the folder'
  const refuse = (why: string, cause?: unknown) =>
    modelFile('weight_map', `weight_map of ${index} names ${show(name)}, which ${why}`, name, expected, cause)
  let real: string
  try {
    real = await realpath(join(folder, name))
  } catch (cause) {
    throw refuse('does not exist', cause)
  }
  if (!real.startsWith((await realpath(folder)) + sep)) throw refuse('leads out of the folder')
  if (!(await stat(real)).isFile()) throw refuse('is no file')
  return real
}

/** A tensor to be written. */
export interface NewEntry extends FileEntry {
  /** Its elements, row-major; called when their place in the file has come. */
  data(): ArrayBufferView | Promise<ArrayBufferView>
}

/** A tensor of a device, to be written as it is. */
export function tensorEntry(name: string, tensor: Tensor): NewEntry {
  return { name, dtype: tensor.dtype, shape: [...tensor.shape], data: () => tensor.read() }
}

/**
 * Writes a safetensors file under a scratch name and renames it when it is whole. One tensor is in memory at a time.
 * @throws ERR_FSVIDEO_OUTPUT if the file cannot be written, ERR_FSVIDEO_INVALID_ARGUMENT for names, shapes and data that do not fit, and
 * what `data` throws; nothing is left behind then.
 */
export async function writeSafetensors(
  path: string,
  entries: readonly NewEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const rows = entries.map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] }))
  const { header, order } = addon().safetensorsHeader(rows, { format: 'pt', ...metadata })
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  const scratch = `${path}.${randomBytes(4).toString('hex')}.part`
  const file = await open(scratch, 'wx').catch((cause) => {
    throw cannotWrite(path, cause)
  })
  try {
    const write = (bytes: Uint8Array) =>
      file.writeFile(bytes).catch((cause) => {
        throw cannotWrite(path, cause)
      })
    await write(header)
    for (const name of order) {
      const entry = byName.get(name)!
      const { buffer, byteOffset, byteLength } = await entry.data()
      const bytes = bytesOf(entry)
      if (byteLength !== bytes)
        throw new FSVideoError(
          'ERR_FSVIDEO_INVALID_ARGUMENT',
          `${name} must have ${bytes} bytes as ${describe(entry)}, got ${byteLength}`,
          { field: name, got: byteLength, expected: `${bytes} bytes` },
        )
      await write(new Uint8Array(buffer, byteOffset, byteLength))
    }
    await file.close()
    await rename(scratch, path).catch((cause) => {
      throw cannotWrite(path, cause)
    })
  } catch (error) {
    await file.close()
    await rm(scratch, { force: true })
    throw error
  }
}

const bytesPerElement: Record<DType, number> = { f32: 4, i32: 4, bf16: 2, f8e4m3: 1, u8: 1 }

/** Size of a tensor's elements in a file. */
export function bytesOf({ dtype, shape }: { dtype: DType; shape: readonly number[] }): number {
  return shape.reduce((n, d) => n * d, bytesPerElement[dtype])
}

function cannotWrite(path: string, cause: NodeJS.ErrnoException): FSVideoError {
  return new FSVideoError(
    'ERR_FSVIDEO_OUTPUT',
    `${basename(path)} cannot be written to ${path}: ${cause.code}`,
    {
      field: path,
      got: cause.code,
      expected: 'a place that can be written',
      cause,
    },
  )
}
