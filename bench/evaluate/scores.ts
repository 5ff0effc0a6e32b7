/**
 * Scores of one clip, as reference/training defines them: how near pictures are (losses.py) and whether the shape did what the sentence
 * said (judge in score.py).
 */
import { shapeOf } from './classifier.js'
import { type Clip, poses, type RenderedClip, render } from './render.js'
import { directionOf, type Scene } from './scenes.js'
import { follow } from './tracker.js'

export interface Quality {
  /** dB: of all pixels, of those of the shapes, and of the first frame. */
  psnr: number
  maskPsnr: number
  firstPsnr: number
  ssim: number
}

export interface Judgement {
  /** Absent where the shape should go in no direction. */
  direction?: boolean
  colour: boolean
  shape: boolean
  /** Between the shape's place in the last frame and where it should be, in parts of the side; infinite where it is lost. */
  position: number
}

/** Decibels of a mean squared error of values in [0, 1]; at most 100. */
export function psnr(square: number): number {
  return -10 * Math.log10(Math.max(square, 1e-10))
}

export function quality(output: Clip, truth: RenderedClip): Quality {
  const frame = truth.size * truth.size * 3
  let [all, inside, weight, first] = [0, 0, 0, 0]
  for (let k = 0; k < truth.pixels.length; k++) {
    const square = ((output.pixels[k]! - truth.pixels[k]!) / 255) ** 2
    const share = truth.mask[Math.floor(k / 3)]!
    all += square
    inside += square * share
    weight += share
    if (k < frame) first += square
  }
  return {
    psnr: psnr(all / truth.pixels.length),
    maskPsnr: psnr(inside / weight),
    firstPsnr: psnr(first / frame),
    ssim: ssim(output, truth),
  }
}

/** PSNR of the first frame alone. */
export function firstPsnr(output: Clip, truth: Clip): number {
  const frame = truth.size * truth.size * 3
  let sum = 0
  for (let k = 0; k < frame; k++) sum += ((output.pixels[k]! - truth.pixels[k]!) / 255) ** 2
  return psnr(sum / frame)
}

const side = 7

/** Mean SSIM of the frames' grey pictures over 7 x 7 windows of equal weight. */
export function ssim(a: Clip, b: Clip): number {
  const { size, frames } = a
  const area = size * size
  let total = 0
  for (let t = 0; t < frames; t++) {
    const [x, y] = [grey(a, t), grey(b, t)]
    const product = (u: Float64Array, v: Float64Array) => u.map((value, k) => value * v[k]!)
    const maps = [x, y, product(x, x), product(y, y), product(x, y)] as const
    total += meanSsim(...(maps.map((map) => windowMeans(map, size)) as Five))
  }
  return total / frames

  function grey({ pixels }: Clip, t: number): Float64Array {
    return Float64Array.from({ length: area }, (_, i) => {
      const k = 3 * (t * area + i)
      return (pixels[k]! + pixels[k + 1]! + pixels[k + 2]!) / (3 * 255)
    })
  }
}

type Five = [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]

function meanSsim(x: Float64Array, y: Float64Array, xx: Float64Array, yy: Float64Array, xy: Float64Array) {
  const [c1, c2] = [0.01 ** 2, 0.03 ** 2]
  let sum = 0
  for (let k = 0; k < x.length; k++) {
    const [mx, my] = [x[k]!, y[k]!]
    const above = (2 * mx * my + c1) * (2 * (xy[k]! - mx * my) + c2)
    sum += above / ((mx * mx + my * my + c1) * (xx[k]! - mx * mx + yy[k]! - my * my + c2))
  }
  return sum / x.length
}

/** Means of all windows that lie inside: [size, size] → [size - 6, size - 6]. */
function windowMeans(map: Float64Array, size: number): Float64Array {
  const inner = size - side + 1
  const rows = new Float64Array(size * inner)
  for (let j = 0; j < size; j++)
    for (let i = 0; i < inner; i++) {
      let sum = 0
      for (let d = 0; d < side; d++) sum += map[j * size + i + d]!
      rows[j * inner + i] = sum
    }
  const means = new Float64Array(inner * inner)
  for (let k = 0; k < means.length; k++) {
    let sum = 0
    for (let d = 0; d < side; d++) sum += rows[k + d * inner]!
    means[k] = sum / side ** 2
  }
  return means
}

/** A direction is right within 30 degrees and beyond 0.4 of the way. */
const limits = { cosine: Math.cos(Math.PI / 6), way: 0.4, area: [0.4, 2.5] } as const

/** Of the shapes in the last frame, in parts of the picture. */
function areaOf(scene: Scene, { size, frames }: Clip): number {
  const { mask } = render(scene, size, { frames, only: [frames - 1] })
  return mask.reduce((sum, v) => sum + v, 0) / mask.length
}

/** What became of a scene's first shape. */
export function judge(clip: Clip, scene: Scene): Judgement {
  const shape = scene.shapes[0]!
  const found = follow(clip, scene)
  const [first, last] = [found[0]!, found.at(-1)!]
  const truth = poses(shape, clip.frames)
  const [start, end] = [truth[0]!, truth.at(-1)!]
  const lost = Number.isNaN(last.x)
  const ratio = last.area / areaOf(scene, clip)
  const judgement: Judgement = {
    colour: !lost && ratio > limits.area[0] && ratio < limits.area[1],
    shape: shapeOf(last) === shape.shape,
    position: lost ? Infinity : Math.hypot(last.x - end.x, last.y - end.y),
  }
  const direction = directionOf(shape.motion)
  if (direction) {
    const [x, y] = [last.x - first.x, last.y - first.y]
    const length = Math.hypot(x, y)
    const along = x * direction[0] + y * direction[1]
    const wanted = Math.hypot(end.x - start.x, end.y - start.y)
    judgement.direction = along > limits.cosine * length && length > limits.way * wanted
  }
  return judgement
}
