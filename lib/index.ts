/** The package's face: `import { FSVideoPipeline } from 'fsvideo'`. The kernels alone are in `fsvideo/kernels`. */

export type { MemoryUse } from './addon.js'
export { Device, type DeviceOptions } from './device.js'
export { type ErrorCode, FSVideoError } from './errors.js'
export { type InitOptions, initModel, type ModelInfo, modelInfo } from './init.js'
export type { ImageSource } from './media/image.js'
export type { VideoFile } from './media/video.js'
export {
  type DoneEvent,
  type FrameEvent,
  FSVideoPipeline,
  type LatentPreview,
  type PipelineOptions,
  type Plan,
  type ProgressEvent,
  type StreamEvent,
} from './pipeline.js'
export type { GenerateRequest, HostTensor, StepEvent, Warning } from './requests.js'
export { type Conditions, type SamplingOptions, type Stage, Stages } from './stages.js'
export { Tensor } from './tensor.js'
export { type GenerationReport, type SaveOptions, type Timings, Video } from './video.js'
