/**
 * Videos through the ffmpeg of the machine: raw RGB into its standard input, a file at its end. The first choice for
 * MP4 (x264) and the only one for WebM (VP9). `FSVIDEO_FFMPEG` names another binary; `none` does without.
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { type Clip, type FrameSink, outputError } from './sink.js'

export interface Ffmpeg {
  binary: string
  version: string
  /** Names of its video encoders. */
  encoders: ReadonlySet<string>
}

const found = new Map<string, Ffmpeg>()

/**
 * Asks ffmpeg what it can encode (once a binary: about 50 ms). Undefined where there is none.
 * @throws FSVideoError `ERR_FSVIDEO_OUTPUT` (field `output`) when `FSVIDEO_FFMPEG` names something that does not run.
 */
export async function findFfmpeg(): Promise<Ffmpeg | undefined> {
  const named = process.env.FSVIDEO_FFMPEG
  if (named === 'none') return undefined
  const binary = named || 'ffmpeg'
  const key = `${binary}\0${process.env.PATH}`
  const known = found.get(key)
  if (known) return known
  try {
    const { stdout, stderr } = await promisify(execFile)(binary, ['-encoders'], { timeout: 20_000 })
    const version = /^ffmpeg version (\S+)/m.exec(stderr)?.[1] ?? 'unknown'
    // ' V....D libx264              libx264 H.264 / AVC ...'
    const encoders = new Set([...stdout.matchAll(/^ V\S* (\S+)/gm)].map((line) => line[1]!))
    const ffmpeg = { binary, version, encoders }
    found.set(key, ffmpeg)
    return ffmpeg
  } catch (cause) {
    if (!named) return undefined
    const message = `FSVIDEO_FFMPEG=${named} does not run: ${(cause as Error).message}`
    throw outputError(message, named, "an ffmpeg binary, or 'none'", cause)
  }
}

/** The pixels' way to the screen, written into the file: players guess it from the size otherwise, and guess wrong. */
const colour = [
  ...[
    '-vf',
    'scale=in_range=full:out_range=tv:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p',
  ],
  ...['-colorspace', 'bt709', '-color_primaries', 'bt709', '-color_trc', 'bt709', '-color_range', 'tv'],
]

/** Constant quality on the encoder's own scale: 80 gives crf 18 (x264) and 27 (VP9), both visually lossless. */
const encoderOptions = {
  libx264: (quality: number) => [
    ...['-preset', 'veryfast', '-crf', `${Math.round(51 - 0.41 * quality)}`],
    ...['-movflags', '+faststart', '-f', 'mp4'],
  ],
  'libvpx-vp9': (quality: number) => [
    ...['-crf', `${Math.round(63 - 0.45 * quality)}`, '-b:v', '0'],
    ...['-deadline', 'good', '-cpu-used', '4', '-row-mt', '1', '-f', 'webm'],
  ],
}

export type FfmpegEncoder = keyof typeof encoderOptions

/** One clip through one ffmpeg process. `scratch` is an absolute path. x264 needs even sides. */
export class FfmpegSink implements FrameSink {
  readonly #encoder: FfmpegEncoder
  readonly #child: ChildProcess
  readonly #exit: Promise<string | undefined>
  #stderr = ''

  constructor(
    binary: string,
    encoder: FfmpegEncoder,
    scratch: string,
    { width, height, fps, quality }: Clip,
  ) {
    const input = ['-f', 'rawvideo', '-pixel_format', 'rgb24', '-video_size', `${width}x${height}`]
    const args = [
      ...['-hide_banner', '-loglevel', 'error', ...input, '-framerate', `${fps}`, '-i', 'pipe:0'],
      ...[...colour, '-c:v', encoder, ...encoderOptions[encoder](quality), '-y', scratch],
    ]
    this.#encoder = encoder
    // A process group of its own: Ctrl-C on the terminal is for us, and we tell ffmpeg.
    this.#child = spawn(binary, args, {
      stdio: ['pipe', 'ignore', 'pipe'],
      detached: process.platform !== 'win32',
    })
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4096)
    })
    this.#child.stdin!.on('error', () => {}) // write() has it from its callback
    this.#exit = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message))
      this.#child.on('close', (code, signal) => {
        if (code !== 0) resolve(signal ? `was ended by ${signal}` : `ended with exit code ${code}`)
        else resolve(undefined)
      })
    })
  }

  /** Resolves when the pipe has taken the whole frame: that is the back-pressure of a slow encoder. */
  async write(frame: Uint8Array): Promise<void> {
    const error = await new Promise<Error | null | undefined>((taken) =>
      this.#child.stdin!.write(frame, taken),
    )
    if (!error) return
    // The pipe broke. The reason is in stderr, complete once the process is gone.
    const mercy = setTimeout(() => this.#signal('SIGKILL'), 5000)
    const reason = (await this.#exit) ?? 'ended before the last frame'
    clearTimeout(mercy)
    throw this.#failure(reason, error)
  }

  async end(): Promise<void> {
    this.#child.stdin!.end()
    const reason = await this.#exit
    if (reason !== undefined) throw this.#failure(reason)
  }

  async kill(): Promise<void> {
    this.#child.stdin!.destroy()
    this.#signal('SIGKILL')
    await this.#exit
  }

  /** To the whole group, as the binary may be a script around ffmpeg. */
  #signal(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child
    if (pid === undefined || exitCode !== null || signalCode !== null) return
    try {
      process.kill(process.platform === 'win32' ? pid : -pid, signal)
    } catch {
      // It ended in between.
    }
  }

  #failure(reason: string, cause?: unknown) {
    const lines = this.#stderr.trim().split('\n').slice(-5).join('\n')
    return outputError(
      `ffmpeg (${this.#encoder}) ${reason}${lines && `:\n${lines}`}`,
      reason,
      'a complete video',
      cause,
    )
  }
}
