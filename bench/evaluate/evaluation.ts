/** Runs the rows: every clip of a row through the engine, scored beside its reconstruction. */
import sharp from 'sharp'
import type { Device } from '../../lib/index.js'
import { quantile } from '../../lib/statistics.js'
import { caption } from './captions.js'
import type { Configuration } from './configurations.js'
import { Engine, type Made, type Request } from './engine.js'
import { exchangedScene, generationScene, reconstructionScene } from './held-out.js'
import type { EvaluateOptions } from './options.js'
import { type Clip, clipFrames, render } from './render.js'
import { type AbsentRow, type ClipScores, judgeThresholds, type Row, summarise } from './results.js'
import type { Scene } from './scenes.js'
import { firstPsnr, judge, quality } from './scores.js'
import type { Example } from './strip.js'

/** Pixels a side of the whole pipeline's output. */
export const outputSize = 128
/** Clips that `--strip` shows. */
const exampleCount = 8

export class Evaluation {
  /** Of the row `full`. */
  readonly examples: Example[] = []
  readonly #options: EvaluateOptions
  readonly #device: Device
  readonly #progress: (line: string) => void
  #engine?: { key: string; engine: Engine }
  /** Scores of reconstructions by what they depend on: rows share them. */
  readonly #ceilings = new Map<string, ClipScores[]>()

  constructor(options: EvaluateOptions, device: Device, progress: (line: string) => void) {
    this.#options = options
    this.#device = device
    this.#progress = progress
  }

  /** All rows, in the order of the table; run by engine, so that each is loaded once. */
  async run(): Promise<(Row | AbsentRow)[]> {
    const { rows } = this.#options
    const done = new Map<Configuration, Row | AbsentRow>()
    try {
      for (const key of new Set(rows.map(engineKey)))
        for (const row of rows.filter((row) => engineKey(row) === key)) done.set(row, await this.#row(row))
    } finally {
      await this.#engine?.engine.close()
    }
    return rows.map((row) => done.get(row)!)
  }

  async #row(row: Configuration): Promise<Row | AbsentRow> {
    const { name, group } = row
    if (row.plain && this.#options.plain === undefined)
      return { name, group, absent: 'no transformer_plain in the model, no --plain' }
    const engine = await this.#open(row)
    if (!engine.has(row.decoder)) return { name, group, absent: `the model has no ${row.decoder} decoder` }
    const made: Made[] = []
    const clips: ClipScores[] = []
    for (let i = 0; i < this.#options.count; i++) {
      const { scores, ...rest } = await this.#clip(engine, row, i)
      clips.push(scores)
      made.push(rest)
      this.#tell(row, i, rest.seconds)
    }
    const scores = summarise(clips)
    const seconds = made.map((clip) => clip.seconds)
    return {
      name,
      group,
      scores,
      ceiling: group === 'autoencoder' ? undefined : summarise(await this.#ceiling(engine, row)),
      seconds: {
        median: quantile(seconds, 0.5),
        p10: quantile(seconds, 0.1),
        p90: quantile(seconds, 0.9),
      },
      peakBytes: Math.max(...made.map((clip) => clip.peakBytes)),
      thresholds: judgeThresholds(row, scores),
    }
  }

  async #open(row: Configuration): Promise<Engine> {
    const key = engineKey(row)
    if (this.#engine?.key === key) return this.#engine.engine
    await this.#engine?.engine.close()
    this.#engine = undefined
    const { model, plain } = this.#options
    const engine = await Engine.open(model, this.#device, row.dtype, row.plain ? plain : undefined)
    this.#engine = { key, engine }
    return engine
  }

  async #clip(engine: Engine, row: Configuration, i: number): Promise<Made & { scores: ClipScores }> {
    const { seed } = this.#options
    if (row.group === 'autoencoder') {
      const truth = render(reconstructionScene(seed, i), outputSize)
      const made = await engine.reconstruct(truth, row.decoder)
      return { ...made, scores: quality(made.clip, truth) }
    }
    const scene = generationScene(seed, i)
    const told = row.exchanged ? exchangedScene(seed, i) : scene
    const request: Request = {
      image: await firstFrame(scene),
      prompt: caption(told),
      seed: i,
      width: outputSize,
      height: outputSize,
      frames: clipFrames,
      decoder: row.decoder,
      ...row.request,
    }
    const made = await (row.baseOnly ? engine.generateBase(request) : engine.generate(request))
    if (this.#options.strip && row.name === 'full' && i < exampleCount) {
      const truth = render(scene, outputSize)
      const { clip: reconstruction } = await engine.reconstruct(truth, row.decoder)
      this.examples.push({ truth, reconstruction, generated: made.clip })
    }
    const scores = scoresOf(made.clip, scene)
    if (row.exchanged) scores.obeyed = obeys(made.clip, scene, told)
    return { ...made, scores }
  }

  async #ceiling(engine: Engine, row: Configuration): Promise<ClipScores[]> {
    const size = row.baseOnly ? outputSize / engine.pipeline.model.latentUpsampler.scale : outputSize
    const key = [size, row.dtype, row.decoder].join()
    const known = this.#ceilings.get(key)
    if (known) return known
    const clips: ClipScores[] = []
    for (let i = 0; i < this.#options.count; i++) {
      const scene = generationScene(this.#options.seed, i)
      const { clip, seconds } = await engine.reconstruct(render(scene, size), row.decoder)
      clips.push(scoresOf(clip, scene))
      this.#tell({ ...row, name: `ceiling of ${row.name}` }, i, seconds)
    }
    this.#ceilings.set(key, clips)
    return clips
  }

  #tell({ group, name }: Configuration, i: number, seconds: number): void {
    const { count } = this.#options
    if ((i + 1) % 10 === 0 || i + 1 === count)
      this.#progress(`${group}, ${name}: ${i + 1} of ${count}, ${seconds.toFixed(2)} s a clip`)
  }
}

const engineKey = ({ dtype, plain = false }: Configuration): string => `${dtype} ${plain}`

/** A PNG, as a user would give it. */
async function firstFrame(scene: Scene): Promise<Uint8Array> {
  const { size, pixels } = render(scene, outputSize, { only: [0] })
  return sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toBuffer()
}

/** Whether the picture's shape goes where another scene's goes. */
function obeys(clip: Clip, scene: Scene, told: Scene): boolean | undefined {
  const { motion } = told.shapes[0]!
  return judge(clip, { ...scene, shapes: [{ ...scene.shapes[0]!, motion }] }).direction
}

function scoresOf(clip: Clip, scene: Scene): ClipScores {
  const first = render(scene, clip.size, { only: [0] })
  const { position, ...rest } = judge(clip, scene)
  return { ...rest, position: position * outputSize, firstPsnr: firstPsnr(clip, first) }
}
