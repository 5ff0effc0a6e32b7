/**
 * `fsvideo doctor`: one report on the machine, the build and the programs it uses, to paste into an issue. What may crash is
 * asked in child processes with a time limit, so that the report is always written.
 */
import { readFile } from 'node:fs/promises'
import os from 'node:os'
import { extname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Cards, packageRoot } from '../addon.js'
import { findFfmpeg } from '../media/ffmpeg.js'
import { command } from './command.js'
import type { DeviceReport } from './device-probe.js'
import { bytes, columns } from './format.js'
import { type Answer, probe } from './probe.js'
import { version } from './run.js'

/** What the report says of one thing; with a problem, this package does not work here. */
interface Finding {
  rows: (readonly [name: string, text: string])[]
  problem?: string
}

const limitMs = 10_000

export const doctor = command({
  name: 'doctor',
  about:
    'Reports on this machine, this build and the programs it uses, to paste into an issue. Exit code 1 if something that is needed does not work.',
  positionals: [],
  options: {},
  async run(_given, _positionals, { signal }) {
    const findings = await Promise.all([
      host(),
      cpuDevice(signal),
      cards(signal),
      gpu(signal),
      ffmpeg(),
      imageLibrary(),
      environment(),
    ])
    signal.throwIfAborted()
    const problems = findings.flatMap(({ problem }) => problem ?? [])
    const verdict = problems.length ? problems.join('\n') : 'everything that is needed works'
    process.stdout.write(columns([...findings.flatMap(({ rows }) => rows), ['result', verdict]]))
    return problems.length ? 1 : undefined
  },
})

async function host(): Promise<Finding> {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const libc = header.glibcVersionRuntime ? `, glibc ${header.glibcVersionRuntime}` : ''
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '')
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(release)?.[1] ?? os.version()
  const cpus = os.cpus()
  const sources = extname(import.meta.url) === '.ts' ? ', run from its sources' : ''
  return {
    rows: [
      ['fsvideo', `${await version()}${sources}`],
      ['node', `${process.version}, Node-API ${process.versions.napi}`],
      ['system', `${name}, ${os.type()} ${os.release()} ${os.arch()}${libc}`],
      [
        'cpu',
        `${cpus[0]?.model.trim() ?? 'unknown'}, ${cpus.length} processors, ${os.availableParallelism()} for this process`,
      ],
      ['memory', `${bytes(os.totalmem())}, ${bytes(process.availableMemory())} available to this process`],
    ],
  }
}

async function cpuDevice(signal: AbortSignal): Promise<Finding> {
  const { output, failure } = await probeDevice('cpu', signal)
  if (output === undefined)
    return {
      rows: [['addon', failure!]],
      problem: 'the native addon does not work: see addon above',
    }
  const { addon, description, instructionSets, correct } = JSON.parse(output) as DeviceReport
  return {
    rows: [
      ['addon', relative(packageRoot, addon)],
      ['instructions', instructionSets.join(', ')],
      ['cpu device', `${description}; ${correct ? 'computes correctly' : 'computes wrongly'}`],
    ],
    problem: correct ? undefined : 'the CPU computes wrongly: please report this',
  }
}

/** What the CUDA backend finds, and whether it computes there. */
async function cards(signal: AbortSignal): Promise<Finding> {
  const { output, failure } = await probeDevice('cards', signal)
  if (output === undefined) return { rows: [['backends', `cpu; cuda: ${failure}`]] }
  const { kind, runtime, driver, problem, list } = JSON.parse(output) as Cards
  if (problem) return { rows: [['backends', `cpu; ${problem}`]] }
  const works = await Promise.all(list.map((_, index) => probeDevice(`${kind}:${index}`, signal)))
  const state = ({ output, failure }: Answer) => {
    if (output === undefined) return failure!
    return (JSON.parse(output) as DeviceReport).correct ? 'computes correctly' : 'computes wrongly'
  }
  const rows = list.map(({ name, capability, freeBytes, totalBytes }, index) => {
    const memory = `${bytes(freeBytes)} of ${bytes(totalBytes)} free`
    return [
      `${kind}:${index}`,
      `${name}, compute capability ${capability}, ${memory}; ${state(works[index]!)}`,
    ]
  }) as Finding['rows']
  const bad = rows.filter(([, text]) => !text.endsWith('computes correctly')).map(([name]) => name)
  return {
    rows: [['backends', `cpu, ${kind} ${runtime} (driver for CUDA ${driver})`], ...rows],
    problem: bad.length ? `${bad.join(' and ')} cannot be used: see above` : undefined,
  }
}

function probeDevice(name: string, signal: AbortSignal) {
  const extension = extname(fileURLToPath(import.meta.url))
  const loader = extension === '.ts' ? ['--import', import.meta.resolve('tsx')] : []
  const script = fileURLToPath(new URL(`./device-probe${extension}`, import.meta.url))
  return probe(process.execPath, [...loader, script, name], { limitMs, signal })
}

/** Whether there is a GPU, also where this build could not use it. */
async function gpu(signal: AbortSignal): Promise<Finding> {
  const query = ['--query-gpu=name,memory.total,compute_cap,driver_version', '--format=csv,noheader']
  const { output, failure } = await probe('nvidia-smi', query, { limitMs, signal })
  const driver = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => '')
  const gpus = output?.trim().split('\n') ?? []
  return {
    rows: [
      ['gpu', output === undefined ? `none found: nvidia-smi ${failure}` : gpus.join('\n')],
      [
        'gpu driver',
        driver.split('\n')[0]!.replace('NVRM version: ', '').replace(/ +/g, ' ') || 'none loaded',
      ],
    ],
  }
}

async function ffmpeg(): Promise<Finding> {
  const text = await findFfmpeg().then(
    (found) => {
      if (!found) return 'none: MP4 is written without it, WebM is not'
      const has = ['libx264', 'libvpx-vp9'].map(
        (name) => `${name} ${found.encoders.has(name) ? 'yes' : 'no'}`,
      )
      return `${found.version} (${found.binary}), ${has.join(', ')}`
    },
    (error: Error) => error.message,
  )
  return { rows: [['ffmpeg', text]] }
}

async function imageLibrary(): Promise<Finding> {
  try {
    const { default: sharp } = await import('sharp')
    return { rows: [['sharp', `${sharp.versions.sharp}, libvips ${sharp.versions.vips}`]] }
  } catch (error) {
    return {
      rows: [['sharp', (error as Error).message.trim()]],
      problem: 'sharp does not load: no picture can be read. See sharp above',
    }
  }
}

async function environment(): Promise<Finding> {
  const ours = Object.entries(process.env).filter(([name, value]) => value && name.startsWith('FSVIDEO_'))
  const text = ours.map(([name, value]) => `${name}=${value}`).join('\n')
  return { rows: [['environment', text || 'no FSVIDEO_ variables']] }
}
