/** What `fsvideo generate` prints when it is done: lines for people, or one JSON document. */
import type { VideoFile } from '../media/video.js'
import type { FSVideoPipeline } from '../pipeline.js'
import type { ResolvedRequest } from '../requests.js'
import type { GenerationReport } from '../video.js'
import { bytes, columns, duration } from './format.js'
import type { GenerateOptions } from './generate-options.js'

export interface Result {
  given: GenerateOptions
  folder: string
  resolved: ResolvedRequest
  pipe: FSVideoPipeline
  file: VideoFile
  report: GenerationReport
  /** Reading the model. */
  loadMs: number
}

export function summary({ resolved, pipe, file, report, loadMs }: Result): string {
  const { stages, totalMs } = report.timings
  const timings = Object.entries({ load: loadMs, ...stages, total: loadMs + totalMs })
  const sampled = ({ schedule, solver }: ResolvedRequest['base' | 'refiner']) =>
    `${schedule.timesteps.length} steps ${solver}`
  return columns([
    ['path', file.path ?? ''],
    ['video', `${file.width}x${file.height}, ${file.frames} frames, ${file.fps} a second`],
    ['file', `${bytes(file.bytes)}, ${file.format} by ${file.encoder}`],
    ['seed', `${report.seed}`],
    ['base', `${sampled(resolved.base)}, guidance ${resolved.base.guidanceScale}`],
    ['refiner', sampled(resolved.refiner)],
    ['timings', timings.map(([stage, ms]) => `${stage} ${duration(ms)}`).join(', ')],
    ['memory', `peak ${bytes(report.memory.peak)}, planned ${bytes(report.memory.planned)}`],
    ['device', `${pipe.device.name}: ${pipe.device.description}`],
  ])
}

/** The whole result with what it was made of. A seed that a JSON number cannot hold is a string. */
export function document({ given, folder, resolved, pipe, file, report, loadMs }: Result): object {
  const { base, refiner, workSize, decoder } = resolved
  const { seed, warnings, memory } = report
  const sampled = ({ schedule, solver }: ResolvedRequest['base' | 'refiner']) => ({
    steps: schedule.timesteps.length,
    solver,
    sigmas: schedule.sigmas,
  })
  return {
    path: file.path,
    ...file,
    seed: seed <= Number.MAX_SAFE_INTEGER ? Number(seed) : `${seed}`,
    image: given.image,
    prompt: given.prompt,
    negativePrompt: given.negative,
    model: folder,
    dtype: pipe.stages.networks.precision,
    decoder,
    workSize,
    base: { ...sampled(base), guidanceScale: base.guidanceScale },
    refiner: sampled(refiner),
    timings: { loadMs, stages: report.timings.stages, totalMs: loadMs + report.timings.totalMs },
    warnings,
    memory,
    device: { name: pipe.device.name, description: pipe.device.description },
  }
}
