/** Where a run took place: enough to tell whether two runs may be compared. */
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../addon.js'
import { type Device, devices } from '../device.js'

/** What nvidia-smi says; clocks while a large product ran. */
export interface Gpu {
  name: string
  driver: string
  smMHz: number
  memoryMHz: number
  mostSmMHz: number
  watts: number
  mostWatts: number
  celsius: number
}

export interface Machine {
  cpu: string
  threads: number
  /** As `Device.open` names it, and as it describes itself. */
  deviceName: string
  device: string
  node: string
  /** CUDA version of the driver. */
  cuda?: string
  gpu?: Gpu
}

export async function machineOf(device: Device): Promise<Machine> {
  const card = (await devices()).find(({ name }) => name === device.name)
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    threads: Number(/(\d+) threads?/.exec(device.description)?.[1] ?? os.availableParallelism()),
    deviceName: device.name,
    device: device.description,
    node: process.version,
    ...(card?.driver && !device.name.startsWith('sim') && { cuda: card.driver }),
  }
}

/** Clocks, power and driver of card number `index`, now; undefined where nvidia-smi is not there or answers otherwise. */
export async function gpuNow(index: number): Promise<Gpu | undefined> {
  const fields = [
    'name',
    'driver_version',
    'clocks.sm',
    'clocks.mem',
    'clocks.max.sm',
    'power.draw',
    'power.limit',
    'temperature.gpu',
  ]
  const query = [`--id=${index}`, `--query-gpu=${fields}`, '--format=csv,noheader,nounits']
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', query, { timeout: 10_000 })
    return parseGpu(stdout)
  } catch {
    return undefined
  }
}

/** One line of nvidia-smi's CSV; undefined if it is none. */
export function parseGpu(line: string): Gpu | undefined {
  const [name, driver, ...rest] = line.trim().split(/\s*,\s*/)
  if (!name || !driver || rest.length !== 6) return undefined
  const [smMHz, memoryMHz, mostSmMHz, watts, mostWatts, celsius] = rest.map(Number)
  return {
    name,
    driver,
    smMHz: smMHz!,
    memoryMHz: memoryMHz!,
    mostSmMHz: mostSmMHz!,
    watts: watts!,
    mostWatts: mostWatts!,
    celsius: celsius!,
  }
}

/** Of the sources, with a `+` where they have been changed since; or the package's version. */
export function commitNow(): string {
  const git = (...words: string[]) =>
    execFileSync('git', ['-C', packageRoot, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  try {
    const clean = git('status', '--porcelain', '--untracked-files=no') === ''
    return `${git('rev-parse', '--short', 'HEAD')}${clean ? '' : '+'}`
  } catch {
    return `v${JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).version}`
  }
}

/** Bytes that inputs must be rotated through so that the last level of cache holds none of them: twice its size. */
export function bytesBeyondCache(device: Device): number {
  const mebibyte = 2 ** 20
  if (device.name !== 'cpu') return 256 * mebibyte // the largest L2 there is has 126 MB
  let largest = 32 * mebibyte
  for (let index = 0; index < 8; index++) {
    try {
      const size = readFileSync(`/sys/devices/system/cpu/cpu0/cache/index${index}/size`, 'utf8')
      largest = Math.max(largest, Number.parseInt(size, 10) * 1024)
    } catch {
      break
    }
  }
  return Math.min(2 * largest, 512 * mebibyte)
}
