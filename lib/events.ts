/** What a generation tells while it goes: the items of `pipeline.stream`. */
import type { Stage } from './stages.js'
import type { GenerationReport } from './video.js'

/** Latents as they look at a step, f32 [B, T, h, w, C]. */
export interface LatentPreview {
  data: Float32Array
  shape: readonly number[]
}

export interface ProgressEvent {
  type: 'progress'
  stage: Stage
  /** Parts of the stage that are done, from 1: steps of a sampler, frames of the decoder. */
  step: number
  steps: number
  elapsedMs: number
  /** Of samplers. */
  sigma?: number
  timestep?: number
  /** The data prediction of this step. To be called before the next event is asked for. */
  preview?(): Promise<LatentPreview>
}

export interface FrameEvent {
  type: 'frame'
  sample: number
  index: number
  width: number
  height: number
  /** sRGB, [height, width, 3]. */
  data: Uint8Array
}

export interface DoneEvent {
  type: 'done'
  /** One a sample. */
  reports: GenerationReport[]
}

export type StreamEvent = ProgressEvent | FrameEvent | DoneEvent
