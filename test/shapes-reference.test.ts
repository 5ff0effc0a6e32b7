/**
 * The trained model in the engine against the reference on the same noise (reference/trained_golden.py): long chains of weights that
 * were not drawn at random, with the numbers of steps and the guidance that the model is used with.
 */
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { addon, packageRoot } from '../lib/addon.js'
import { Device } from '../lib/device.js'
import { loadTokenizer, readModelFolder } from '../lib/model-folder.js'
import { Networks } from '../lib/networks.js'
import { createSolver, gridSchedule } from '../lib/sampling/index.js'
import { Stages } from '../lib/stages.js'
import { Tensor } from '../lib/tensor.js'
import { relativeL2 } from './goldens.js'

const folder = process.env.FSVIDEO_SHAPES ?? path.join(packageRoot, 'models/shapes')
const golden =
  process.env.FSVIDEO_SHAPES_GOLDEN ?? path.join(packageRoot, 'reference/trained/shapes.safetensors')
const stride = 5

const test = suite('the trained model against the reference')
const device = await Device.open('cpu')
test.after(() => device.dispose())

/** `square_picture` of reference/trained_golden.py in 8 bits. */
function squarePicture(side: number): Tensor {
  const pixels = new Uint8Array(3 * side * side)
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const inside = y >= (side * 5) / 16 && y < (side * 11) / 16 && x >= side / 8 && x < side / 2
      pixels.set(inside ? [225, 40, 40] : [205, 200, 190], 3 * (y * side + x))
    }
  return device.tensor(pixels, [1, 1, side, side, 3])
}

async function last(steps: AsyncGenerator<unknown, Tensor>): Promise<Tensor> {
  for (;;) {
    const { value, done } = await steps.next()
    if (done) return value
  }
}

test('final latents to 1e-4, frames to 45 dB', async () => {
  const file = addon().openSafetensors(golden)
  const metadata = <T>(key: string): T => JSON.parse(file.metadata[key]!) as T
  const expected = (name: string) => new Tensor(device, addon().mapTensor(device.native, file.handle, name))
  const [side, seed] = [metadata<number>('side'), metadata<number>('seed')]

  const model = await readModelFolder(folder)
  const ids = (await loadTokenizer(model)).encode(metadata('prompt'), model.transformer.textLen)
  assert.equal([...ids], [...((await expected('in.prompt_ids').read()) as Int32Array)])
  const networks = await Networks.load(model, { device, dtype: 'f32' })
  const stages = new Stages(networks, model.scheduler)
  const baseLatents = expected('out.base_latents')

  const picture = stages.encodePicture(squarePicture(side), squarePicture(side / 2), baseLatents.dim(1))
  const conditions = {
    ...picture,
    text: stages.encodeText([ids]),
    negative: stages.encodeText([ids.slice(-1)]),
  }
  const { base, refiner } = model.scheduler
  const sampler = (options: typeof base | typeof refiner) => ({
    solver: options.solver,
    schedule: gridSchedule({ ...options, grid: createSolver(options.solver).grid }),
    seeds: [seed],
  })
  const close = async (got: Tensor, name: string, limit: number) => {
    const error = relativeL2(await got.toFloat32(), await expected(`out.${name}`).toFloat32())
    assert.ok(error <= limit, `${name} is off by ${error.toExponential(1)}, more than ${limit}`)
  }
  const guided = { guidanceScale: base.guidanceScale, frames: baseLatents.dim(1) }
  const half = await last(stages.denoise(conditions, { ...sampler(base), ...guided }))
  await close(half, 'base_latents', 1e-4)
  const refined = await last(
    stages.refine(stages.upsample(half), conditions, {
      ...sampler(refiner),
      guidanceScale: 1,
      fromNoise: refiner.sigmaStart === 1,
    }),
  )
  await close(refined, 'refined', 1e-4)

  const raw = networks.encoder.denormalize(refined)
  const frames: Float32Array[] = []
  for (const chunk of networks.decoderFor('standard').decode(raw, picture.features, { seed }))
    frames.push(await chunk.toFloat32())
  const video = Float32Array.from(frames.flatMap((chunk) => [...chunk]))
  const kept = await expected('out.video_every5').toFloat32()
  let [i, square] = [0, 0]
  for (let t = 0; t < model.scheduler.frames; t += 4)
    for (let y = 0; y < side; y += stride)
      for (let x = 0; x < side; x += stride)
        for (let c = 0; c < 3; c++) square += (video[((t * side + y) * side + x) * 3 + c]! - kept[i++]!) ** 2
  assert.is(i, kept.length)
  const decibels = -10 * Math.log10(square / i / 4) // of a range of 2
  assert.ok(decibels >= 45, `frames agree to ${decibels.toFixed(1)} dB`)
  networks.dispose()
})

test.run()
