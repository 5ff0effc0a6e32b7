/**
 * Animated WebP, a frame at a time: sharp makes each frame a still picture, and the few bytes that make an animation of
 * them are written here (container of RFC 9649, §2.7). libwebp's own animation encoder wants all frames in memory,
 * leaves blocks of earlier frames standing in slow gradients, and on a camera pan saves 2 % of the bytes.
 */

import { type FileHandle, open } from 'node:fs/promises'
import sharp from 'sharp'
import type { Clip, FrameSink } from './sink.js'

export class WebpSink implements FrameSink {
  readonly #clip: Clip
  readonly #file: Promise<FileHandle>
  #pending: Promise<unknown> = Promise.resolve()
  #frames = 0
  #bytes = 0

  constructor(scratch: string, clip: Clip) {
    this.#clip = clip
    this.#file = open(scratch, 'wx')
    this.#file.catch(() => {}) // write() has it
  }

  write(frame: Uint8Array): Promise<void> {
    const done = this.#add(frame)
    this.#pending = done
    return done
  }

  async end(): Promise<void> {
    const file = await this.#file
    // The header again, now that the length of the file is known.
    await file.write(this.#header(this.#bytes), 0, undefined, 0)
    await file.close()
  }

  async kill(): Promise<void> {
    await this.#pending.catch(() => {})
    await this.#file.then((file) => file.close()).catch(() => {})
  }

  async #add(frame: Uint8Array): Promise<void> {
    const { width, height, fps, quality } = this.#clip
    const file = await this.#file
    const still = sharp(frame, { raw: { width, height, channels: 3 } })
    const bitstream = lossyChunk(await still.webp({ quality, effort: 2 }).toBuffer())
    // Whole milliseconds a frame, rounded so that no error adds up.
    const at = (index: number) => Math.round((index * 1000) / fps)
    const duration = at(this.#frames + 1) - at(this.#frames)
    const doNotBlend = 2
    const place = [uint24(0), uint24(0), uint24(width - 1), uint24(height - 1), uint24(duration)]
    const animated = chunk('ANMF', [...place, Buffer.from([doNotBlend]), bitstream])
    await this.#append(file, this.#frames === 0 ? Buffer.concat([this.#header(0), animated]) : animated)
    this.#frames++
  }

  async #append(file: FileHandle, bytes: Buffer): Promise<void> {
    await file.writeFile(bytes)
    this.#bytes += bytes.length
  }

  /** Everything before the first frame, for a file of `bytes` in all. */
  #header(bytes: number): Buffer {
    const { width, height } = this.#clip
    const isAnimated = 2
    const canvas = [Buffer.from([isAnimated, 0, 0, 0]), uint24(width - 1), uint24(height - 1)]
    const [background, endlessly] = [Buffer.alloc(4), Buffer.alloc(2)]
    const riff = Buffer.from('RIFF....WEBP', 'latin1')
    riff.writeUInt32LE(Math.max(0, bytes - 8), 4)
    return Buffer.concat([riff, chunk('VP8X', canvas), chunk('ANIM', [background, endlessly])])
  }
}

/** The `VP8 ` chunk, head and all, of a still WebP file. */
function lossyChunk(still: Buffer): Buffer {
  for (let at = 12; at < still.length; ) {
    const end = at + 8 + still.readUInt32LE(at + 4)
    if (still.toString('latin1', at, at + 4) === 'VP8 ') return still.subarray(at, end + (end % 2))
    at = end + (end % 2)
  }
  throw new Error('a still WebP picture without a VP8 chunk')
}

/** A RIFF chunk: name, length, content. An odd length would need a byte more; none here is odd. */
function chunk(name: string, content: Buffer[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0)
  const head = Buffer.from(`${name}....`, 'latin1')
  head.writeUInt32LE(length, 4)
  return Buffer.concat([head, ...content])
}

function uint24(value: number): Buffer {
  const bytes = Buffer.alloc(3)
  bytes.writeUIntLE(value, 0, 3)
  return bytes
}
