/** What judges the engine is judged here: against truth, against the Python side's numbers, and against hand-computed values. */
import path from 'node:path'
import sharp from 'sharp'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caption } from '../bench/evaluate/captions.js'
import { shapeOf } from '../bench/evaluate/classifier.js'
import { mean, median, proportion, student } from '../bench/evaluate/intervals.js'
import { type Clip, poses, type RenderedClip, render } from '../bench/evaluate/render.js'
import {
  type Direction,
  directionNames,
  kinds,
  motions,
  type Scene,
  type Shape,
  sceneOf,
} from '../bench/evaluate/scenes.js'
import { judge, psnr, quality, ssim } from '../bench/evaluate/scores.js'
import { writeStrip } from '../bench/evaluate/strip.js'
import { follow } from '../bench/evaluate/tracker.js'
import { backwards, frameAt, goldens, near, rearranged } from './clips.js'
import { Random } from './numbers.js'
import { temporaryFolder } from './pipeline-model.js'

/** Scenes of one shape, each motion in turn. */
const ofEveryMotion = (rounds: number): Scene[] =>
  Array.from({ length: rounds * motions.length }, (_, i) =>
    sceneOf(900 + i, { motion: motions[i % motions.length], count: 1 }),
  )

const tracker = suite('evaluate: tracker and classifier')

tracker('finds the true centre in every frame of every motion', () => {
  for (const scene of ofEveryMotion(2)) {
    const found = follow(render(scene, 128), scene)
    for (const [t, truth] of poses(scene.shapes[0]!).entries()) {
      near(found[t]!.x, truth.x, 0.01, `${caption(scene)}, frame ${t}: x`)
      near(found[t]!.y, truth.y, 0.01, `${caption(scene)}, frame ${t}: y`)
    }
  }
})

tracker('loses a shape that is not there', () => {
  const scene = sceneOf(11, { motion: 'still', count: 1 })
  const [found] = follow(render({ ...scene, shapes: [] }, 64, { only: [0] }), scene)
  assert.ok(Number.isNaN(found!.x) && Number.isNaN(found!.y) && found!.area < 0.002)
  assert.is(shapeOf(found!), undefined)
  const verdict = judge(render({ ...scene, shapes: [] }, 64), scene)
  assert.equal(verdict, { colour: false, shape: false, position: Infinity })
})

tracker('does not take another colour for the shape', () => {
  const scene = sceneOf(12, { motion: 'left', count: 1 })
  const plain = { ...scene, background: { from: [128, 128, 128], to: [128, 128, 128], angle: 0 } } as Scene
  const painted = (rgb: Shape['rgb']): Scene => ({ ...plain, shapes: [{ ...scene.shapes[0]!, rgb }] })
  assert.is(judge(render(painted([45, 85, 225]), 64), painted([225, 40, 40])).colour, false)
  assert.is(judge(render(painted([45, 85, 225]), 64), painted([45, 85, 225])).colour, true)
})

tracker('the classifier names every kind at any turn', () => {
  const random = new Random(3)
  for (const kind of kinds)
    for (let i = 0; i < 8; i++) {
      const { shapes, ...rest } = sceneOf(100 + i, { motion: 'still', count: 1 })
      const shape = { ...shapes[0]!, shape: kind, angle: 2 * Math.PI * random.uniform() }
      const scene = { ...rest, shapes: [shape] }
      const [found] = follow(render(scene, 128, { only: [0] }), scene)
      assert.is(shapeOf(found!), kind, `${kind}, turned by ${shape.angle}`)
    }
})

tracker.run()

const scores = suite('evaluate: scores')

scores('a true clip is judged right in everything', () => {
  for (const scene of ofEveryMotion(2)) {
    const { direction, colour, shape, position } = judge(render(scene, 128), scene)
    assert.is(direction, directionNames.includes(scene.shapes[0]!.motion as Direction) ? true : undefined)
    assert.ok(colour && shape && position < 0.01, caption(scene))
  }
})

scores(
  'a clip backwards, a picture that stands, a short way and a way aside are in the wrong direction',
  () => {
    for (const [i, motion] of directionNames.entries()) {
      const scene = sceneOf(300 + i, { motion, count: 1 })
      const clip = render(scene, 64)
      assert.is(judge(backwards(clip), scene).direction, false, `${motion} backwards`)
      assert.is(
        judge(
          rearranged(clip, () => 0),
          scene,
        ).direction,
        false,
        `${motion} without moving`,
      )
      const part = (most: number) => rearranged(clip, (t) => Math.min(t, most))
      assert.is(judge(part(6), scene).direction, false, `6 / 16 of the way ${motion}`)
      assert.is(judge(part(7), scene).direction, true, `7 / 16 of the way ${motion}`)
      const beside = directionNames.filter((name) => name !== motion)
      for (const name of beside) {
        const [shape] = scene.shapes
        const middle = { ...scene, shapes: [{ ...shape!, start: [0.5, 0.5] as const, radius: 0.1 }] }
        const elsewhere = { ...middle, shapes: [{ ...middle.shapes[0]!, motion: name }] }
        assert.is(judge(render(elsewhere, 64), middle).direction, false, `${name} for ${motion}`)
      }
    }
  },
)

scores('a shape that changes its kind or its size is not kept', () => {
  const scene = sceneOf(20, { motion: 'still', count: 1 })
  const other = (change: Partial<Shape>) => ({ ...scene, shapes: [{ ...scene.shapes[0]!, ...change }] })
  const kind = scene.shapes[0]!.shape === 'star' ? 'circle' : 'star'
  const changed = judge(render(other({ shape: kind }), 128), scene)
  assert.is(changed.shape, false)
  assert.is(judge(render(other({ radius: 2 * scene.shapes[0]!.radius }), 128), scene).colour, false)
  const moved = other({ start: [scene.shapes[0]!.start[0] + 0.05, scene.shapes[0]!.start[1]] })
  near(judge(render(moved, 128), scene).position, 0.05, 0.003)
})

/** `quality` and `judge` of the Python side: golden scene n, its frames moved on by one, against itself. */
const fromPython = [
  {
    n: 1,
    psnr: 25.346263,
    maskPsnr: 14.780201,
    firstPsnr: 100,
    ssim: 0.933642,
    position: 8.460629620436087e-5,
  },
  {
    n: 3,
    psnr: 31.030831,
    maskPsnr: 23.205849,
    firstPsnr: 20.91809,
    ssim: 0.966167,
    position: 0.00045667844456937195,
  },
  {
    n: 6,
    psnr: 23.286862,
    maskPsnr: 14.726791,
    firstPsnr: 16.737032,
    ssim: 0.910253,
    position: 0.03181802997944914,
  },
]

scores('are those of the Python side', () => {
  for (const { n, position, ...expected } of fromPython) {
    const { scene, size } = goldens[n]!
    const truth = render(scene, size)
    const late = rearranged(truth, (t) => (t + 16) % 17)
    const found = quality(late, truth)
    for (const [name, value] of Object.entries(expected))
      near(found[name as keyof typeof found], value, name === 'ssim' ? 1e-5 : 1e-4, `${n} ${name}`)
    near(judge(truth, scene).position, position, 1e-6)
  }
  assert.is(judge(render(goldens[6]!.scene, goldens[6]!.size), goldens[6]!.scene).shape, false) // overlapped
})

/** One frame of 7 x 7 pixels, grey. */
function tile(value: (i: number) => number, mask: (i: number) => number = () => 0): RenderedClip {
  const pixels = Uint8Array.from({ length: 3 * 49 }, (_, k) => value(Math.floor(k / 3)))
  return { size: 7, frames: 1, pixels, mask: Float32Array.from({ length: 49 }, (_, i) => mask(i)) }
}

scores('are what a hand computes', () => {
  near(psnr(0.01), 20, 1e-9)
  assert.is(psnr(0), 100)
  // One pixel of 49 is wrong by 51 / 255 = 0.2, and lies half in the mask, with one whole pixel that is right.
  const truth = tile(
    () => 102,
    (i) => (i === 0 ? 0.5 : i === 1 ? 1 : 0),
  )
  const output = tile((i) => (i === 0 ? 153 : 102))
  const found = quality(output, truth)
  near(found.psnr, -10 * Math.log10(0.04 / 49), 1e-9)
  near(found.firstPsnr, found.psnr, 1e-12)
  near(found.maskPsnr, -10 * Math.log10((0.5 * 0.04) / 1.5), 1e-9)
  // Flat pictures of 0.2 and 0.6: only the means differ.
  near(
    ssim(
      tile(() => 51),
      tile(() => 153),
    ),
    (0.24 + 1e-4) / (0.4 + 1e-4),
    1e-12,
  )
  assert.is(ssim(truth, truth), 1)
  // Black with one white pixel, at two places: mean 1 / 49 each, mean square 1 / 49, product 0.
  const [m, c1, c2] = [1 / 49, 1e-4, 9e-4]
  const expected = ((2 * m * m + c1) * (-2 * m * m + c2)) / ((2 * m * m + c1) * (2 * (m - m * m) + c2))
  near(
    ssim(
      tile((i) => (i === 3 ? 255 : 0)),
      tile((i) => (i === 40 ? 255 : 0)),
    ),
    expected,
    1e-12,
  )
})

scores.run()

const intervals = suite('evaluate: intervals')

intervals("Wilson's, as published", () => {
  const ten = proportion([...Array(8).fill(true), false, false])
  near(ten.value, 0.8, 1e-12)
  near(ten.low, 0.4902, 1e-4)
  near(ten.high, 0.9433, 1e-4)
  const all = proportion(Array(200).fill(true))
  near(all.low, 0.98115, 1e-5)
  near(all.high, 1, 1e-12)
})

intervals("Student's, as in the tables", () => {
  for (const [freedom, value] of [
    [1, 12.7062],
    [3, 3.18245],
    [4, 2.77645],
    [10, 2.22814],
    [30, 2.04227],
    [199, 1.97196],
  ] as const)
    near(student(freedom), value, 1e-3, `${freedom} degrees of freedom`)
  const five = mean([1, 2, 3, 4, 5])
  near(five.value, 3, 1e-12)
  near(five.high - 3, 2.77645 * Math.sqrt(2.5 / 5), 1e-3)
  near(five.low + five.high, 6, 1e-12)
})

intervals("a median's, by ranks, and lost shapes count", () => {
  const hundred = Array.from({ length: 100 }, (_, i) => ((i * 37) % 100) + 1)
  assert.equal(median(hundred), { value: 50.5, low: 40, high: 61, count: 100 })
  assert.is(median([1, Infinity, 2]).value, 2)
  assert.is(median([Infinity, Infinity, 2]).value, Infinity)
})

intervals.run()

const strip = suite('evaluate: strip')

strip('shows every fourth frame of truth, reconstruction and generated clip', async () => {
  const file = path.join(temporaryFolder('strip'), 'strip.png')
  const truth = render(sceneOf(1), 16)
  const generated = backwards(truth)
  await writeStrip(file, [{ truth, reconstruction: truth, generated }])
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true })
  assert.equal([info.width, info.height, info.channels], [16 * 5, 16 * 3, 3])
  for (let j = 0; j < 16; j++) {
    const row = (clip: Clip, frame: number) => [...frameAt(clip, frame).subarray(j * 48, j * 48 + 48)]
    const shown = (r: number, i: number) => {
      const from = (r * 16 + j) * 240 + i * 48
      return [...data.subarray(from, from + 48)]
    }
    assert.equal(shown(0, 1), row(truth, 4))
    assert.equal(shown(2, 1), row(truth, 12))
  }
})

strip.run()
