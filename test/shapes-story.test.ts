/**
 * The shipped model as its user sees it: one picture, three prompts, three directions, seen by the tracker of `npm run evaluate`. And the
 * same story told by a model in which one network is broken or one stage left out: then it must not come out. (That what a stage gives is
 * also right is test/shapes-reference.test.ts.)
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caption } from '../bench/evaluate/captions.js'
import { type Clip, render } from '../bench/evaluate/render.js'
import type { Motion, Scene } from '../bench/evaluate/scenes.js'
import { judge, quality } from '../bench/evaluate/scores.js'
import { packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { FSVideoPipeline } from '../lib/index.js'
import { readModelFolder } from '../lib/model-folder.js'
import * as ops from '../lib/ops.js'
import type { Stage, Stages } from '../lib/stages.js'
import type { Tensor } from '../lib/tensor.js'

const folder = process.env.FSVIDEO_SHAPES ?? path.join(packageRoot, 'models/shapes')
const motions: readonly Motion[] = ['left', 'up', 'down and right']
const model = await readModelFolder(folder)
const device = await Device.open('cpu')
const scratch = await mkdtemp(path.join(tmpdir(), 'fsvideo-story-'))

const test = suite('the story of a square')
test.after(async () => {
  device.dispose()
  await rm(scratch, { recursive: true })
})

const scene = (motion: Motion): Scene => ({
  background: { from: [205, 200, 190], to: [186, 194, 206], angle: 0.6 },
  shapes: [
    {
      ...{ shape: 'square', colour: 'red', rgb: [225, 40, 40], size: 'large', radius: 0.17 },
      ...{ motion, start: [0.5, 0.5], travel: 0.3, angle: 0 },
    },
  ],
  softness: 1,
  vignette: 0,
})

interface Telling {
  /** Steps that each sampler has told of. */
  steps: Partial<Record<Stage, number>>
  direction: boolean
  colour: boolean
  /** dB, of the first frame. */
  firstPsnr: number
  /** Of the whole clip. */
  ssim: number
}

interface Changes {
  /** What the model is told instead. */
  prompted?(motion: Motion): Motion
  /** What is done to the stages. */
  stages?(stages: Stages): void
}

/** What becomes of the picture, a telling a motion. */
async function tell(
  from: string,
  { prompted = (motion) => motion, stages }: Changes = {},
): Promise<Telling[]> {
  const pipe = await FSVideoPipeline.fromPretrained(from, { device })
  stages?.(pipe.stages)
  const tellings: Telling[] = []
  for (const motion of motions) {
    const picture = render(scene(motion), 512, { only: [0] })
    const image = { data: picture.pixels, width: 512, height: 512, channels: 3 as const }
    const steps: Telling['steps'] = {}
    const { frames, width, height } = await pipe.generate({
      image,
      prompt: caption(scene(prompted(motion))),
      seed: 3,
      onStep: ({ stage, step }) => {
        steps[stage] = step
      },
    })
    assert.is(width, height)
    const clip: Clip = { size: width, frames: frames.length, pixels: Buffer.concat(frames) }
    const { direction, colour } = judge(clip, scene(motion))
    const { firstPsnr, ssim } = quality(clip, render(scene(motion), width))
    tellings.push({ steps, direction: direction!, colour, firstPsnr, ssim })
  }
  await pipe.dispose()
  return tellings
}

const allSteps = JSON.stringify({ denoise: 30, refine: 8 })
const comesOut = ({ steps, direction, colour, firstPsnr, ssim }: Telling): boolean =>
  JSON.stringify(steps) === allSteps && direction && colour && firstPsnr > 28.2 && ssim > 0.84

/** The model with the weights of one component in another order, each tensor in itself. */
async function shuffled(component: string): Promise<string> {
  const to = path.join(scratch, component)
  await cp(folder, to, { recursive: true })
  const file = path.join(to, component, 'model.safetensors')
  const bytes = await readFile(file)
  const start = 8 + Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.subarray(8, start).toString()) as Record<
    string,
    { data_offsets: [number, number] }
  >
  for (const { data_offsets } of Object.values(header)) {
    if (!data_offsets) continue
    const [begin, end] = data_offsets
    const halves = new Uint16Array(
      bytes.buffer.slice(bytes.byteOffset + start + begin, bytes.byteOffset + start + end),
    )
    let state = 1
    for (let i = halves.length - 1; i > 0; i--) {
      state = (state * 48271) % 2147483647
      const j = state % (i + 1)
      ;[halves[i], halves[j]] = [halves[j]!, halves[i]!]
    }
    bytes.set(new Uint8Array(halves.buffer), start + begin)
  }
  await writeFile(file, bytes)
  return to
}

test('one picture, three prompts, three directions', async () => {
  const tellings = await tell(folder)
  assert.ok(tellings.every(comesOut), JSON.stringify(tellings))
})

test('another prompt is another story', async () => {
  const next = (motion: Motion) => motions[(motions.indexOf(motion) + 1) % motions.length]!
  const tellings = await tell(folder, { prompted: next })
  assert.ok(!tellings.some(({ direction }) => direction), JSON.stringify(tellings))
})

for (const component of model.networks) {
  if (component === 'decoder_lite') continue // not asked for
  test(`not without the weights of ${component}`, async () => {
    const tellings = await tell(await shuffled(component))
    assert.ok(!tellings.every(comesOut), JSON.stringify(tellings))
  })
}

/** A sampler that takes no step. */
const idle = <Args extends unknown[]>(make: (...args: Args) => Tensor) =>
  async function* (...args: Args): AsyncGenerator<never, Tensor, void> {
    yield* []
    return make(...args)
  }

/** Each stage replaced by the least that fits in its place. */
const without: Readonly<Record<string, (stages: Stages) => void>> = {
  denoise(stages) {
    stages.denoise = idle(({ low: { shape } }, { seeds, frames }) =>
      ops.randn(device, [shape[0]!, frames, ...shape.slice(2)], { seeds, stream: 0n }),
    )
  },
  upsample(stages) {
    const { encoder } = stages.networks
    stages.upsample = (low) =>
      device.scope(() => ops.shuffle3d(encoder.denormalize(low), { space: 2, channels: low.dim(-1) }))
  },
  refine(stages) {
    const { encoder } = stages.networks
    stages.refine = idle((upsampled) => encoder.normalize(upsampled))
  },
}

for (const [stage, leaveOut] of Object.entries(without))
  test(`not without the stage ${stage}`, async () => {
    const tellings = await tell(folder, { stages: leaveOut })
    assert.ok(!tellings.every(comesOut), JSON.stringify(tellings))
  })

test.run()
