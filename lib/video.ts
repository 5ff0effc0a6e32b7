/** What a generation gives: frames in memory, what was decided on the way, and a way to a file. */
import type { VideoFormat } from './media/output.js'
import { openVideo, type VideoFile } from './media/video.js'
import type { Warning } from './requests.js'
import type { Stage } from './stages.js'

export interface Timings {
  /** Milliseconds a stage, and of all. Stages that overlap count what was waited for. */
  stages: Partial<Record<Stage, number>>
  totalMs: number
}

export interface GenerationReport {
  seed: bigint
  /** What of the request was changed. */
  warnings: readonly Warning[]
  timings: Timings
  /** Bytes on the device: what was planned, and the peak that was measured. */
  memory: { planned: number; peak: number }
}

export interface SaveOptions {
  format?: VideoFormat
  /** 1 to 100. */
  quality?: number
  signal?: AbortSignal
}

export class Video {
  readonly width: number
  readonly height: number
  readonly fps: number
  /** sRGB, [height, width, 3] each. */
  readonly frames: readonly Uint8Array[]
  readonly report: GenerationReport

  constructor(
    size: { width: number; height: number },
    fps: number,
    frames: readonly Uint8Array[],
    report: GenerationReport,
  ) {
    this.width = size.width
    this.height = size.height
    this.fps = fps
    this.frames = frames
    this.report = report
  }

  /** Writes an MP4, WebM, animated WebP, PNG frames or raw RGB, by extension. Throws ERR_FSVIDEO_OUTPUT. */
  async save(path: string, options: SaveOptions = {}): Promise<VideoFile> {
    const { width, height, fps } = this
    const writer = await openVideo(path, { width, height, fps, ...options })
    try {
      for (const frame of this.frames) await writer.write(frame)
      return await writer.finish()
    } catch (error) {
      await writer.abort(error)
      throw error
    }
  }
}
