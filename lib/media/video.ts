/**
 * Videos out: the last step of every request. `openVideo` gives a writer that takes frames as they are decoded, so
 * that encoding overlaps decoding. MP4 goes through ffmpeg, or a WebAssembly encoder where there is none; WebM
 * through ffmpeg; animated WebP and PNG frames through sharp; raw bytes and frames in memory need nobody.
 */

import { invalid } from '../errors.js'
import { type FfmpegEncoder, FfmpegSink } from './ffmpeg.js'
import { H264Sink } from './h264.js'
import { checkOutput, type Output, type VideoFormat } from './output.js'
import { MemorySink, PngSink, RawSink } from './plain-sinks.js'
import type { Clip, FrameSink } from './sink.js'
import { WebpSink } from './webp.js'
import { ScratchWriter, type VideoWriter } from './writer.js'

export { checkOutput, type Encoder, type Output, type VideoFormat } from './output.js'
export type { VideoFile, VideoWriter } from './writer.js'

export interface VideoOptions {
  /** Of every frame, in pixels. */
  width: number
  height: number
  /** Frames a second, need not be whole. */
  fps: number
  /** Taken from the file's extension when not given. */
  format?: VideoFormat
  /** 1 to 100, for mp4, webm and webp. 80 when not said. */
  quality?: number
  /** Stops the writer; pending calls reject with its reason. */
  signal?: AbortSignal
}

/**
 * Opens a video for writing. `path` is ignored for format `frames`.
 * @throws FSVideoError `ERR_FSVIDEO_OUTPUT` as `checkOutput`, and from `write` and `finish` when the encoder or the
 * disk fails; `ERR_FSVIDEO_INVALID_ARGUMENT` for options and frames; the signal's reason.
 */
export async function openVideo(path: string | URL | undefined, options: VideoOptions): Promise<VideoWriter> {
  const { signal, format } = options
  signal?.throwIfAborted()
  const clip = checkClip(options)
  const output = await checkOutput(path, format)
  signal?.throwIfAborted()
  // H.264 with 4:2:0 colour has no odd sides.
  const even = (side: number) => (output.format === 'mp4' ? side + (side % 2) : side)
  const coded = { ...clip, width: even(clip.width), height: even(clip.height) }
  return new ScratchWriter(output, clip, coded, openSink(output, coded), signal)
}

function checkClip({ width, height, fps, quality = 80 }: VideoOptions): Clip {
  const side = (value: number) => Number.isInteger(value) && value >= 1 && value <= 16383
  if (!side(width)) throw invalid('width', width, 'an integer from 1 to 16383')
  if (!side(height)) throw invalid('height', height, 'an integer from 1 to 16383')
  if (!(typeof fps === 'number' && fps > 0 && fps <= 240))
    throw invalid('fps', fps, 'a number above 0, at most 240')
  if (!(typeof quality === 'number' && quality >= 1 && quality <= 100))
    throw invalid('quality', quality, 'a number from 1 to 100')
  return { width, height, fps, quality }
}

function openSink({ format, encoder, ffmpeg, scratch = '' }: Output, clip: Clip): FrameSink {
  if (ffmpeg) return new FfmpegSink(ffmpeg, encoder as FfmpegEncoder, scratch, clip)
  if (encoder === 'h264-mp4-encoder') return new H264Sink(scratch, clip)
  if (format === 'webp') return new WebpSink(scratch, clip)
  if (format === 'png') return new PngSink(scratch, clip)
  if (format === 'rgb') return new RawSink(scratch)
  return new MemorySink()
}
