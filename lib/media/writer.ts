/**
 * Guards the caller's file while an encoder works. Frames go to a scratch name beside the target, which is renamed
 * when all is well: an abort, a dying encoder or a full disk leaves no half file, and an older file of that name as it
 * was. One state machine for every encoder: open, then finished or stopped, and stopped means cleaned up.
 */

import { rmSync } from 'node:fs'
import { access, mkdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FSVideoError, invalid, show } from '../errors.js'
import { type Encoder, frameFile, type Output, type VideoFormat } from './output.js'
import { MemorySink, scratchFrame } from './plain-sinks.js'
import { type Clip, type FrameSink, outputError } from './sink.js'

export interface VideoWriter {
  readonly format: VideoFormat
  readonly encoder: Encoder
  /** What will differ from the request, in sentences. */
  readonly notes: readonly string[]
  /**
   * Takes the next frame, [height, width, 3] of sRGB. Resolves when the encoder is ready for another; the frame's
   * memory may then be used again. Frames keep the order of the calls. A failure is also the failure of every later
   * call, so a promise that nobody waits for loses nothing.
   */
  write(frame: Uint8Array): Promise<void>
  /** Completes the file and puts it in place. At least one frame must have been written. */
  finish(): Promise<VideoFile>
  /** Stops the encoder and removes what it wrote. Does nothing after `finish` or a failure. Never rejects. */
  abort(reason?: unknown): Promise<void>
}

/** What was written. */
export interface VideoFile {
  format: VideoFormat
  encoder: Encoder
  /** Absolute; a `png` output's pattern; absent for `frames`. */
  path?: string
  /** Of the file, or of all frames together. */
  bytes: number
  /** How many. */
  frames: number
  /** As written: H.264 has even sides only. */
  width: number
  height: number
  fps: number
  /** What differs from the request, in sentences. */
  notes: string[]
  /** The frames themselves, for format `frames`: [height, width, 3] each. */
  images?: Uint8Array[]
}

/** Writers that are not done, for a process that exits without having told them. */
const unfinished = new Map<string, FrameSink>()
process.on('exit', () => {
  for (const [scratch, sink] of unfinished) {
    void sink.kill()
    rmSync(scratch, { recursive: true, force: true })
  }
})

export class ScratchWriter implements VideoWriter {
  readonly format: VideoFormat
  readonly encoder: Encoder
  readonly notes: string[] = []
  readonly #output: Output
  readonly #clip: Clip
  readonly #coded: Clip
  readonly #sink: FrameSink
  readonly #signal: AbortSignal | undefined
  #frames = 0
  /** All tasks so far, in order. */
  #tail: Promise<unknown> = Promise.resolve()
  #finishing: Promise<VideoFile> | undefined
  #stopping: Promise<void> | undefined
  /** Set when the file is about to take its place: an abort comes too late. */
  #publishing = false
  /** Rejects once the writer is stopped and cleaned up, so that nobody waits for an encoder that is gone. */
  readonly #stopped: Promise<never>
  #reject!: (reason: unknown) => void

  /** @param coded the clip as the sink has it, at most one column and one row larger than `clip` */
  constructor(output: Output, clip: Clip, coded: Clip, sink: FrameSink, signal: AbortSignal | undefined) {
    this.format = output.format
    this.encoder = output.encoder
    this.#output = output
    this.#clip = clip
    this.#coded = coded
    this.#sink = sink
    this.#signal = signal
    this.#stopped = handled(
      new Promise<never>((_, reject) => {
        this.#reject = reject
      }),
    )
    if (this.#isPadded) {
      const [is, asked] = [coded, clip].map(({ width, height }) => `${width}x${height}`)
      this.notes.push(
        `H.264 has even sides only: ${asked} is written as ${is}, its last column or row repeated`,
      )
    }
    if (output.scratch) unfinished.set(output.scratch, sink)
    signal?.addEventListener('abort', this.#onAbort)
  }

  write(frame: Uint8Array): Promise<void> {
    const { width, height } = this.#clip
    if (!(frame instanceof Uint8Array) || frame.length !== width * height * 3)
      return Promise.reject(invalid('frame', frame, `a Uint8Array of ${width} * ${height} * 3 bytes`))
    if (this.#finishing)
      return Promise.reject(
        new FSVideoError('ERR_FSVIDEO_DISPOSED', 'the video is finished: it takes no more frames'),
      )
    return this.#inOrder(async () => {
      await this.#sink.write(this.#isPadded ? repeatEdges(frame, this.#clip, this.#coded) : frame)
      this.#frames++
    })
  }

  finish(): Promise<VideoFile> {
    this.#finishing ??= this.#inOrder(async () => {
      if (this.#frames === 0) throw outputError('no frame was written', 0, 'at least one frame')
      await this.#sink.end()
      return this.#publish()
    })
    return this.#finishing
  }

  async abort(reason: unknown = new DOMException('The video was aborted', 'AbortError')): Promise<void> {
    if (this.#publishing) await this.#finishing?.catch(() => {})
    else await this.#stop(reason)
  }

  readonly #onAbort = () => void this.abort(this.#signal!.reason)

  get #isPadded(): boolean {
    return this.#coded.width !== this.#clip.width || this.#coded.height !== this.#clip.height
  }

  /** Runs a task after all earlier ones. Its failure stops the writer; a writer that is stopped runs no more tasks. */
  #inOrder<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(async () => {
      if (this.#stopping) return this.#stopped
      try {
        const value = await task()
        // An encoder that was stopped may well have said yes.
        return this.#stopping ? this.#stopped : value
      } catch (error) {
        void this.#stop(error instanceof FSVideoError ? error : this.#diskError(error))
        return this.#stopped
      }
    })
    this.#tail = handled(result)
    return handled(Promise.race([result, this.#stopped]))
  }

  /** The first reason counts. The encoder ends and the scratch goes before anybody learns of it. */
  #stop(reason: unknown): Promise<void> {
    this.#stopping ??= (async () => {
      await this.#sink.kill()
      const { scratch } = this.#output
      if (scratch) await rm(scratch, { recursive: true, force: true, maxRetries: 3 }).catch(() => {})
      this.#close()
      this.#reject(reason)
    })()
    return this.#stopping
  }

  #diskError(cause: unknown): FSVideoError {
    const { code, message } = cause as NodeJS.ErrnoException
    const { path } = this.#output
    return outputError(
      `${show(path)} cannot be written: ${message}`,
      code ?? message,
      'a disk that takes the video',
      cause,
    )
  }

  async #publish(): Promise<VideoFile> {
    const { path, scratch } = this.#output
    const { format, encoder, notes } = this
    const { width, height, fps } = this.#coded
    const file: VideoFile = { format, encoder, bytes: 0, frames: this.#frames, width, height, fps, notes }
    if (this.#sink instanceof MemorySink) {
      this.#publishing = true
      file.images = this.#sink.frames
      file.bytes = file.frames * width * height * 3
    } else {
      file.path = path!
      const moves =
        format === 'png' ? frameMoves(scratch!, path!, file.frames) : [{ from: scratch!, to: path! }]
      for (const { from } of moves) file.bytes += (await stat(from)).size
      if (file.bytes === 0) throw outputError(`${encoder} wrote nothing`, '0 bytes', 'a complete video')
      if (this.#stopping) return this.#stopped
      this.#publishing = true
      await this.#move(moves)
    }
    this.#close()
    return file
  }

  async #move(moves: { from: string; to: string }[]): Promise<void> {
    const { format, path, scratch } = this.#output
    if (format !== 'png') return rename(moves[0]!.from, moves[0]!.to)
    await mkdir(dirname(path!), { recursive: true })
    for (const { from, to } of moves) await rename(from, to)
    await rm(scratch!, { recursive: true, force: true })
    const next = frameFile(path!, moves.length + 1)
    const isThere = await access(next).then(
      () => true,
      () => false,
    )
    if (isThere) this.notes.push(`frames of an older video were left in place, from ${show(next)} on`)
  }

  #close(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if (this.#output.scratch) unfinished.delete(this.#output.scratch)
  }
}

function frameMoves(folder: string, pattern: string, frames: number): { from: string; to: string }[] {
  return Array.from({ length: frames }, (_, i) => ({
    from: join(folder, scratchFrame(i + 1)),
    to: frameFile(pattern, i + 1),
  }))
}

/** A frame with its last column and row repeated once where `to` has one more. */
function repeatEdges(frame: Uint8Array, from: Clip, to: Clip): Uint8Array {
  const padded = new Uint8Array(to.width * to.height * 3)
  const [row, paddedRow] = [from.width * 3, to.width * 3]
  for (let y = 0; y < to.height; y++) {
    const line = frame.subarray(Math.min(y, from.height - 1) * row).subarray(0, row)
    padded.set(line, y * paddedRow)
    if (paddedRow > row) padded.set(line.subarray(row - 3), y * paddedRow + row)
  }
  return padded
}

/** The same promise; its rejection is not "unhandled" when nobody waits, as a later call reports it too. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
