/**
 * The peers: oneDNN in a small C++ program, PyTorch in a Python process that stays and answers lines of JSON, on the CPU or on a card.
 * Absent ones are named, not guessed, and so is a case that a peer cannot do.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { packageRoot } from '../addon.js'
import type { Spec } from './spec.js'

export interface PeerSample {
  medianMs: number
  p10Ms: number
  p90Ms: number
  reps: number
  /** Which of its ways was the fastest. */
  way?: string
  /** Ways that do not work there, and why. */
  refused?: string[]
}

export interface Question {
  spec: Spec
  /** To be spent on it. */
  seconds: number
  /** Bytes that inputs and results must be rotated through, as ours are. */
  rotate: number
}

export interface Peer {
  /** "oneDNN 2.6.3" */
  readonly version: string
  /** Times one case, or says why it cannot. Never rejects: a peer that dies is absent from there on. */
  measure(question: Question): Promise<PeerSample | { absent: string }>
  close(): void
}

export type OpenedPeer = { peer: Peer } | { absent: string }

/** Builds bench/onednn/peer.cpp where libdnnl's headers are there. */
export function openOneDnn(threads: number): OpenedPeer {
  const source = path.join(packageRoot, 'bench/onednn/peer.cpp')
  if (!existsSync(source)) return { absent: 'oneDNN: this package came without bench/onednn/peer.cpp' }
  const cache = path.join(packageRoot, 'build-cmake')
  const folder = existsSync(cache)
    ? path.join(cache, 'bench')
    : mkdtempSync(path.join(os.tmpdir(), 'fsvideo-'))
  const program = path.join(folder, 'onednn-peer')
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    mkdirSync(folder, { recursive: true })
    const words = ['-O2', '-std=c++17', '-fopenmp', source, '-ldnnl', '-o', program]
    const built = spawnSync('g++', words, { encoding: 'utf8' })
    if (built.status !== 0)
      return { absent: `oneDNN: ${firstError(built.stderr)} (Debian: apt-get install libdnnl-dev)` }
  }
  const env = { ...process.env, OMP_NUM_THREADS: String(threads) }
  const ask = async (...words: string[]) => (await promisify(execFile)(program, words, { env })).stdout.trim()
  const version = spawnSync(program, ['--version'], { encoding: 'utf8', env })
  if (version.status !== 0) return { absent: `oneDNN: ${version.stderr || version.error?.message}` }
  return {
    peer: {
      version: version.stdout.trim(),
      async measure({ spec, seconds, rotate }) {
        const name = oneDnnCase(spec)
        if (!name) return { absent: 'oneDNN has no primitive for it' }
        try {
          return JSON.parse(await ask('--seconds', `${seconds}`, '--rotate', `${rotate}`, name))
        } catch (error) {
          return { absent: `oneDNN: ${(error as Error).message.split('\n').at(-1)}` }
        }
      },
      close() {},
    },
  }
}

/** What bench/onednn/peer.cpp calls a case: plain products and convolutions, with what oneDNN fuses left out on both sides. */
export function oneDnnCase(spec: Spec): string | undefined {
  if (spec.op === 'linear' && spec.epilogue === 'none')
    return `matmul:${spec.dtype}:${spec.m}x${spec.n}x${spec.k}`
  if (spec.op !== 'conv3d' || spec.groups !== 1 || spec.fused || spec.norm) return undefined
  const { dtype, frames, height, width, channels, out, kernel } = spec
  return `conv:${dtype}:1x${frames}x${height}x${width}x${channels}:${out}x${kernel.join('x')}`
}

/** Starts bench/torch/peer.py with the first Python that has torch (for a card: a torch with CUDA); FSVIDEO_PYTHON names one. */
export async function openTorch(device: string, threads: number): Promise<OpenedPeer> {
  const script = path.join(packageRoot, 'bench/torch/peer.py')
  if (!existsSync(script)) return { absent: 'PyTorch: this package came without bench/torch/peer.py' }
  const named = process.env.FSVIDEO_PYTHON
  const candidates = named ? [named] : ['python3', '/usr/bin/python3']
  const refusals: string[] = []
  for (const python of candidates) {
    const peer = new TorchPeer(spawn(python, [script, device, String(threads)]))
    const refusal = await peer.ready()
    if (refusal === undefined) return { peer }
    refusals.push(`${python}: ${refusal}`)
  }
  return { absent: `PyTorch: ${refusals.join('; ')} (FSVIDEO_PYTHON names an interpreter)` }
}

class TorchPeer implements Peer {
  version = 'PyTorch'
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #ended: Promise<unknown>
  #errors = ''

  constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-4000)
    })
    this.#ended = new Promise((resolve) => {
      child.on('close', resolve)
      child.on('error', ({ message }) => {
        this.#errors ||= message
        resolve(message)
      })
    })
    child.stdin.on('error', () => {}) // it is gone, which the next answer says
  }

  /** Why it cannot be used; undefined when it can. */
  async ready(): Promise<string | undefined> {
    const answer = await this.#next()
    if (answer.absent !== undefined) return answer.absent
    this.version = answer.version
    return undefined
  }

  async measure(question: Question): Promise<PeerSample | { absent: string }> {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`)
    return this.#next()
  }

  async #next() {
    const { value, done } = await this.#lines.next()
    if (!done) return JSON.parse(value)
    await this.#ended
    const last = this.#errors.trim().split('\n').at(-1)
    return { absent: `it ended${last ? `: ${last}` : ''}` }
  }

  close(): void {
    this.#child.stdin.end()
  }
}

function firstError(output: string | null): string {
  return output?.split('\n').find((line) => line.includes('error')) ?? 'there is no g++ that works'
}
