/** The outputs without a container: PNG frames through sharp, raw bytes, and memory. */

import { type FileHandle, mkdir, open } from 'node:fs/promises'
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
      .png({ compressionLevel: 3, adaptiveFiltering: true })
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
