/** The peers: oneDNN in a small C++ program, PyTorch in a Python process that stays. Absent ones are named, not guessed. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import path from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { packageRoot } from '../lib/addon.js'

export interface PeerSample {
  medianMs: number
  p10Ms: number
  p90Ms: number
  reps: number
}

export interface Peer {
  /** "oneDNN 2.6.3" */
  readonly version: string
  /** Times one case for about `seconds`. */
  measure(name: string, seconds: number): Promise<PeerSample>
  close(): void
}

export type PeerResult = { peer: Peer } | { absent: string }

/** Builds bench/onednn/peer.cpp where libdnnl's headers are there. */
export function openOneDnn(threads: number): PeerResult {
  const source = path.join(packageRoot, 'bench/onednn/peer.cpp')
  const program = path.join(packageRoot, 'build-cmake/bench/onednn-peer')
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    mkdirSync(path.dirname(program), { recursive: true })
    const args = ['-O2', '-std=c++17', '-fopenmp', source, '-ldnnl', '-o', program]
    const built = spawnSync('g++', args, { encoding: 'utf8' })
    if (built.status !== 0)
      return { absent: `oneDNN: ${firstError(built.stderr)} (Debian: apt-get install libdnnl-dev)` }
  }
  const env = { ...process.env, OMP_NUM_THREADS: String(threads) }
  const measure = async (name: string, seconds: number): Promise<PeerSample> =>
    JSON.parse(execFileSync(program, ['--seconds', String(seconds), name], { encoding: 'utf8', env }))
  const version = execFileSync(program, ['--version'], { encoding: 'utf8', env }).trim()
  return { peer: { version, measure, close() {} } }
}

/** Starts bench/torch/peer.py with the first Python that has torch; FSVIDEO_PYTHON names one. */
export async function openTorch(threads: number): Promise<PeerResult> {
  const candidates = process.env.FSVIDEO_PYTHON
    ? [process.env.FSVIDEO_PYTHON]
    : ['python3', '/usr/bin/python3']
  const python = candidates.find((name) => spawnSync(name, ['-c', 'import torch']).status === 0)
  if (!python)
    return { absent: `PyTorch: no torch for ${candidates.join(', ')} (FSVIDEO_PYTHON names an interpreter)` }
  const child = spawn(python, [path.join(packageRoot, 'bench/torch/peer.py'), String(threads)])
  child.stderr.resume()
  const peer = new TorchPeer(child, createInterface(child.stdout))
  await peer.ready()
  return { peer }
}

class TorchPeer implements Peer {
  version = 'PyTorch'
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>

  constructor(child: ChildProcessWithoutNullStreams, lines: Interface) {
    this.#child = child
    this.#lines = lines[Symbol.asyncIterator]()
  }

  async ready(): Promise<void> {
    this.version = (await this.#next()).version
  }

  async measure(name: string, seconds: number): Promise<PeerSample> {
    this.#child.stdin.write(`${JSON.stringify({ case: name, seconds })}\n`)
    return this.#next()
  }

  async #next() {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the PyTorch peer ended')
    return JSON.parse(value)
  }

  close(): void {
    this.#child.stdin.end()
  }
}

function firstError(output: string): string {
  return output.split('\n').find((line) => line.includes('error')) ?? 'g++ failed'
}
