/**
 * The seam between `video.ts`, which guards the caller's file, and the encoders, which only turn frames into bytes at
 * a scratch path. Every encoder of this folder is one `FrameSink`.
 */

import { FSVideoError } from '../errors.js'

/** What an encoder has to know of a video. Frames are sRGB, [height, width, 3], 8 bits. */
export interface Clip {
  width: number
  height: number
  /** Frames a second. */
  fps: number
  /** 1 to 100, as of a JPEG. Encoders that lose nothing ignore it. */
  quality: number
}

export interface FrameSink {
  /** Takes one frame. Resolves when the next is welcome; from then on the frame's memory is the caller's again. */
  write(frame: Uint8Array): Promise<void>
  /** All frames are in: resolves when the output is complete at the scratch path. */
  end(): Promise<void>
  /** Stops at once, whatever is pending; resolves when nothing of the encoder runs or writes any more. Never rejects. */
  kill(): Promise<void>
}

export function outputError(message: string, got: unknown, expected: string, cause?: unknown): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_OUTPUT', message, { field: 'output', got, expected, cause })
}
