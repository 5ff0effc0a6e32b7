/**
 * Renders a scene: a port of reference/training/render.py, whose head states the formulas and whose pixels
 * (reference/training/scenes.json) it is tested against. Pure: the same scene, frame and size give the same picture.
 */
import { directionOf, type Kind, type Scene, type Shape } from './scenes.js'

/** Of a clip. */
export const clipFrames = 17

/** A video of square pictures: RGB bytes [frames, size, size, 3]. */
export interface Clip {
  readonly size: number
  readonly frames: number
  readonly pixels: Uint8Array
}

/** With the largest coverage of its shapes [frames, size, size]. */
export interface RenderedClip extends Clip {
  readonly mask: Float32Array
}

export interface Pose {
  x: number
  y: number
  radius: number
  turn: number
}

/** Where a shape is at progress u from 0 to 1. */
export function poseAt(shape: Shape, u: number): Pose {
  const { radius, motion, travel, angle } = shape
  const [x, y] = shape.start
  const [dx, dy] = directionOf(motion) ?? [0, motion === 'bounce' ? -1 : 0]
  const way = motion === 'bounce' ? Math.abs(Math.sin(2 * Math.PI * u)) : u
  const scale = motion === 'grow' ? 1 + 0.7 * u : motion === 'shrink' ? 1 - 0.5 * u : 1
  return {
    x: x + way * travel * dx,
    y: y + way * travel * dy,
    radius: radius * scale,
    turn: motion === 'rotate' ? angle + 0.75 * Math.PI * u : angle,
  }
}

/** Where a shape is in every frame. */
export function poses(shape: Shape, frames = clipFrames): Pose[] {
  return Array.from({ length: frames }, (_, f) => poseAt(shape, progress(f, frames)))
}

const progress = (frame: number, frames: number): number => (frames > 1 ? frame / (frames - 1) : 0)

const wedge = Math.PI / 5
/** Of the star's edge, for an outer radius of 1: from a tip to the notch beside it. */
const edge = { x: 0.5 * Math.cos(wedge) - 1, y: 0.5 * Math.sin(wedge) }
const edgeLength = Math.hypot(edge.x, edge.y)

/** Signed distance of a point in the shape's own frame, negative inside. */
function distance(kind: Kind, p: number, q: number, r: number): number {
  if (kind === 'circle') return Math.sqrt(p * p + q * q) - r
  if (kind === 'square') return Math.max(Math.abs(p), Math.abs(q)) - 0.87 * r
  if (kind === 'triangle') return Math.max(0.866025404 * Math.abs(p) - 0.5 * q, q) - 0.575 * r
  const rho = Math.sqrt(p * p + q * q)
  const around = Math.atan2(p, -q) + wedge
  const psi = Math.abs(around - 2 * wedge * Math.floor(around / (2 * wedge)) - wedge)
  return (edge.y * (rho * Math.cos(psi) - 1.15 * r) - edge.x * rho * Math.sin(psi)) / edgeLength
}

/** A part of a picture: rows from `top`, columns from `left`, and how much of each pixel is covered. */
export interface Coverage {
  top: number
  left: number
  rows: number
  columns: number
  alpha: Float64Array
}

/** What a shape in a pose covers; nothing outside of the window. */
export function coverage(kind: Kind, pose: Pose, size: number, softness: number): Coverage {
  const { x, y, radius, turn } = pose
  const reach = 1.16 * radius + softness / size
  const inside = (at: number) => Math.min(Math.max(Math.trunc(at), 0), size)
  const [top, left] = [inside((y - reach) * size), inside((x - reach) * size)]
  const rows = inside((y + reach) * size + 2) - top
  const columns = inside((x + reach) * size + 2) - left
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)]
  const alpha = new Float64Array(rows * columns)
  for (let j = 0; j < rows; j++) {
    const dy = (top + j + 0.5) / size - y
    for (let i = 0; i < columns; i++) {
      const dx = (left + i + 0.5) / size - x
      const s = distance(kind, dx * cos + dy * sin, dy * cos - dx * sin, radius)
      alpha[j * columns + i] = Math.min(Math.max(0.5 - (s * size) / softness, 0), 1)
    }
  }
  return { top, left, rows, columns, alpha }
}

/** The background [size, size, 3] before any shape and vignette. */
export function ground({ background: { from, to, angle } }: Scene, size: number): Float64Array {
  const pixels = new Float64Array(size * size * 3)
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)]
  const at = (i: number) => (i + 0.5) / size - 0.5
  for (let j = 0, k = 0; j < size; j++)
    for (let i = 0; i < size; i++) {
      const ramp = Math.min(Math.max(0.5 + 0.7 * (at(i) * cos + at(j) * sin), 0), 1)
      for (let c = 0; c < 3; c++) pixels[k++] = from[c]! + (to[c]! - from[c]!) * ramp
    }
  return pixels
}

/** What the vignette leaves of each pixel [size, size]. */
export function shade({ vignette }: Scene, size: number): Float64Array {
  const at = (i: number) => (i + 0.5) / size - 0.5
  return Float64Array.from(
    { length: size * size },
    (_, k) => 1 - 2 * vignette * (at(k % size) ** 2 + at(Math.floor(k / size)) ** 2),
  )
}

/** All frames of a scene's clip, or those of the list `only`. */
export function render(
  scene: Scene,
  size: number,
  { frames = clipFrames, only }: { frames?: number; only?: readonly number[] } = {},
): RenderedClip {
  const chosen = only ?? Array.from({ length: frames }, (_, f) => f)
  const area = size * size
  const pixels = new Uint8Array(chosen.length * area * 3)
  const mask = new Float32Array(chosen.length * area)
  const empty = ground(scene, size)
  const light = shade(scene, size)
  for (const [t, frame] of chosen.entries()) {
    const picture = empty.slice()
    const covered = mask.subarray(t * area, (t + 1) * area)
    for (const shape of scene.shapes) {
      const pose = poseAt(shape, progress(frame, frames))
      lay(picture, covered, coverage(shape.shape, pose, size, scene.softness), shape.rgb, size)
    }
    const bytes = pixels.subarray(t * area * 3, (t + 1) * area * 3)
    for (let k = 0; k < bytes.length; k++)
      bytes[k] = Math.floor(picture[k]! * light[Math.floor(k / 3)]! + 0.5)
  }
  return { size, frames: chosen.length, pixels, mask }
}

/** Lays a shape over a picture. */
function lay(
  picture: Float64Array,
  covered: Float32Array,
  { top, left, rows, columns, alpha }: Coverage,
  rgb: readonly number[],
  size: number,
): void {
  for (let j = 0; j < rows; j++)
    for (let i = 0; i < columns; i++) {
      const a = alpha[j * columns + i]!
      const at = (top + j) * size + left + i
      for (let c = 0; c < 3; c++) picture[3 * at + c]! += (rgb[c]! - picture[3 * at + c]!) * a
      covered[at] = Math.max(covered[at]!, a)
    }
}
