/**
 * The outputs that need no video encoder: PNG frames and animated WebP through sharp, raw bytes, and memory.
 */

import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Clip, FrameSink } from './sink.js'

/** `00000001.png` and so on in the scratch folder; `video.ts` gives them their names. Lossless. */
export class PngSink implements FrameSink {
  readonly #folder: string
  readonly #clip: Clip
  readonly #ready: Promise<unknown>
  #frames = 0
  #pending: Promise<unknown> = Promise.resolve()

  constructor(folder: string, clip: Clip) {
    this.#folder = folder
    this.#clip = clip
    this.#ready = mkdir(folder)
    this.#ready.catch(() => {}) // write() has it
  }

  async write(frame: Uint8Array): Promise<void> {
    await this.#ready
    const { width, height } = this.#clip
    this.#pending = sharp(frame, { raw: { width, height, channels: 3 } })
      .png({ compressionLevel: 6 })
      .toFile(join(this.#folder, scratchFrame(++this.#frames)))
    await this.#pending
  }

  async end(): Promise<void> {}

  /** A frame being written would appear in the folder after it was removed. */
  async kill(): Promise<void> {
    await Promise.allSettled([this.#ready, this.#pending])
  }
}

/** The name in the scratch folder of frame 1, 2, ... */
export function scratchFrame(index: number): string {
  return `${String(index).padStart(8, '0')}.png`
}

/** Keeps all frames (3 bytes a pixel) until the end: libwebp's animation is made in one go. */
export class WebpSink implements FrameSink {
  readonly #scratch: string
  readonly #clip: Clip
  #frames: Uint8Array[] = []
  #stopped = false
  #file: Promise<void> = Promise.resolve()

  constructor(scratch: string, clip: Clip) {
    this.#scratch = scratch
    this.#clip = clip
  }

  async write(frame: Uint8Array): Promise<void> {
    this.#frames.push(frame.slice())
  }

  async end(): Promise<void> {
    const { width, height, fps, quality } = this.#clip
    const count = this.#frames.length
    const tall = Buffer.concat(this.#frames)
    this.#frames = []
    // Whole milliseconds a frame, rounded so that no error adds up.
    const at = (frame: number) => Math.round((frame * 1000) / fps)
    const delay = Array.from({ length: count }, (_, i) => at(i + 1) - at(i))
    const raw = { width, height: height * count, channels: 3, pageHeight: height } as const
    const webp = await sharp(tall, { raw, limitInputPixels: false })
      .webp({ quality, delay, loop: 0, effort: 2 })
      .toBuffer()
    if (this.#stopped) return
    this.#file = writeFile(this.#scratch, webp)
    await this.#file
  }

  /** libwebp cannot be interrupted: its result is dropped when it comes. */
  async kill(): Promise<void> {
    this.#stopped = true
    this.#frames = []
    await this.#file.catch(() => {})
  }
}

/** Frames one after the other, rgb24, nothing else: `ffmpeg -f rawvideo -pixel_format rgb24 -video_size WxH -i`. */
export class RawSink implements FrameSink {
  readonly #file: Promise<FileHandle>
  #pending: Promise<unknown> = Promise.resolve()

  constructor(scratch: string) {
    this.#file = open(scratch, 'w')
    this.#file.catch(() => {}) // write() has it
  }

  async write(frame: Uint8Array): Promise<void> {
    const file = await this.#file
    this.#pending = file.writeFile(frame)
    await this.#pending
  }

  async end(): Promise<void> {
    await (await this.#file).close()
  }

  async kill(): Promise<void> {
    await this.#pending.catch(() => {})
    await this.#file.then((file) => file.close()).catch(() => {})
  }
}

/** Copies of the frames, for a caller that wants no file. */
export class MemorySink implements FrameSink {
  frames: Uint8Array[] = []

  async write(frame: Uint8Array): Promise<void> {
    this.frames.push(frame.slice())
  }

  async end(): Promise<void> {}

  async kill(): Promise<void> {
    this.frames = []
  }
}
