/** The scenes that the engine is scored on: against the Python side's, and that they are what they should be. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caption } from '../bench/evaluate/captions.js'
import { exchangedScene, generationScene, reconstructionScene } from '../bench/evaluate/held-out.js'
import { poses, render } from '../bench/evaluate/render.js'
import {
  colours,
  type Direction,
  directionNames,
  kinds,
  motions,
  type Scene,
  sceneOf,
} from '../bench/evaluate/scenes.js'
import { frameAt, goldens, near } from './clips.js'

const scenes = suite('evaluate: scenes')

scenes('the renderer gives the pixels, places and captions of the Python side', () => {
  assert.is(goldens.length, 7)
  for (const golden of goldens) {
    const clip = render(golden.scene, golden.size, { frames: golden.frames })
    for (const [frame, row, column, ...rgb] of golden.pixels) {
      const at = ((frame * golden.size + row) * golden.size + column) * 3
      for (let c = 0; c < 3; c++)
        near(clip.pixels[at + c]!, rgb[c]!, 1, `${golden.caption}: ${frame} ${row} ${column}`)
    }
    for (const [i, shape] of golden.scene.shapes.entries()) {
      const { x, y, radius, turn } = poses(shape, golden.frames).at(-1)!
      for (const [k, value] of [x, y, radius, turn].entries()) near(value, golden.last[i]![k]!, 1e-8)
    }
    assert.is(caption(golden.scene), golden.caption)
  }
})

scenes('nothing of a star is cut off on any side', () => {
  const { background, shapes } = sceneOf(7, { motion: 'still', count: 1 })
  const total = (angle: number) => {
    const star = { ...shapes[0]!, shape: 'star', start: [0.5, 0.5], angle, radius: 0.0999 } as const
    const { mask } = render({ background, shapes: [star], softness: 2.5, vignette: 0 }, 128, { only: [0] })
    return mask.reduce((sum, v) => sum + v, 0)
  }
  for (let i = 1; i < 4; i++) near(total((i * Math.PI) / 2), total(0), 1e-3)
})

scenes('single frames are those of the whole clip', () => {
  const scene = sceneOf(5)
  const clip = render(scene, 32)
  const some = render(scene, 32, { only: [16, 3] })
  assert.equal([...frameAt(some, 0)], [...frameAt(clip, 16)])
  assert.equal([...frameAt(some, 1)], [...frameAt(clip, 3)])
})

/** Scene 7 going left: scores of different days are of the same pictures. */
const seven: Scene = {
  background: { from: [114, 81, 128], to: [112, 114, 137], angle: 0.7428 },
  shapes: [
    {
      shape: 'star',
      colour: 'cyan',
      rgb: [48, 211, 210],
      size: 'large',
      motion: 'left',
      start: [0.6669, 0.4944],
      angle: 0,
      radius: 0.1685,
      travel: 0.3348,
    },
  ],
  softness: 1,
  vignette: 0,
}

scenes('a seed gives the same scene for ever, and another seed another one', () => {
  assert.equal(sceneOf(7, { motion: 'left', count: 1 }), seven)
  assert.is(new Set(Array.from({ length: 500 }, (_, i) => JSON.stringify(sceneOf(i)))).size, 500)
  assert.not.equal(sceneOf(1), sceneOf(2 ** 32 + 1))
  assert.not.equal(generationScene(0, 0), generationScene(1, 0))
  assert.not.equal(reconstructionScene(0, 0), reconstructionScene(0, 1))
})

scenes('shapes stay inside the picture, apart in the first frame, and stand out from the ground', () => {
  for (let seed = 0; seed < 400; seed++) {
    const { shapes, background } = sceneOf(seed)
    for (const shape of shapes) {
      for (const { x, y, radius } of poses(shape))
        for (const at of [x, y]) assert.ok(at - radius >= 0.0198 && at + radius <= 0.9802, `seed ${seed}`)
      for (const ground of [background.from, background.to]) {
        const difference = shape.rgb.reduce((sum, v, c) => sum + Math.abs(v - ground[c]!), 0)
        assert.ok(difference >= 150, `seed ${seed}: ${difference}`)
      }
    }
    const [a, b] = shapes
    if (a && b) {
      const between = Math.hypot(a.start[0] - b.start[0], a.start[1] - b.start[1])
      assert.ok(between >= 1.1 * (a.radius + b.radius))
      assert.is.not(a.colour, b.colour)
    }
  }
})

scenes('everything is drawn as often as in training', () => {
  const drawn = Array.from({ length: 4000 }, (_, seed) => sceneOf(seed))
  const shapes = drawn.map((scene) => scene.shapes[0]!) // large ones are redrawn more often behind them
  const shared = <T>(list: readonly T[], holds: (item: T) => boolean, expected: number, what: string) =>
    near(list.filter(holds).length / list.length, expected, 0.03, what)
  shared(drawn, (scene) => scene.shapes.length === 2, 0.25, 'two shapes')
  shared(drawn, (scene) => scene.softness > 1, 0.2, 'soft edges')
  shared(drawn, (scene) => scene.vignette > 0, 0.15, 'vignettes')
  shared(shapes, ({ size }) => size === 'large', 0.5, 'large')
  const named = (key: 'colour' | 'motion' | 'shape', names: readonly string[]) => {
    for (const name of names) shared(shapes, (shape) => shape[key] === name, 1 / names.length, name)
  }
  named('colour', Object.keys(colours))
  named('motion', motions)
  named('shape', kinds)
})

scenes('an exchanged prompt sends the shape elsewhere, in all seven other directions', () => {
  const others = new Set<Direction>()
  for (let i = 0; i < 200; i++) {
    const own = generationScene(0, i).shapes[0]!.motion
    const other = exchangedScene(0, i).shapes[0]!.motion as Direction
    assert.ok(directionNames.includes(other) && other !== own, `${i}: ${other}`)
    if (own === 'left') others.add(other)
  }
  assert.is(others.size, 7)
})

scenes.run()
