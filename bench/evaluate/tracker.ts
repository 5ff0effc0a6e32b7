/**
 * The colour tracker (track and follow in reference/training/score.py). It knows a scene's ground and the colour of its first shape: a
 * pixel belongs to the shape by how far it lies on the way from the ground to that colour.
 */
import { type Clip, ground, shade } from './render.js'
import type { Scene } from './scenes.js'

/** The shape in one frame. */
export interface Track {
  /** In parts of the side; NaN where the shape is lost. */
  x: number
  y: number
  /** In parts of the picture. */
  area: number
  /** [size, size], from 0 to 1. */
  mask: Float64Array
}

/** A smaller area is none. */
export const leastArea = 0.002
/** How far along the way from ground to colour a pixel must lie. */
const leastShare = 0.4
/** How far beside it, summed over the channels of 0 to 255. */
const mostAside = 100

/** The first shape in every frame. */
export function follow({ size, frames, pixels }: Clip, scene: Scene): Track[] {
  const back = ground(scene, size)
  const light = shade(scene, size)
  for (let k = 0; k < back.length; k++) back[k]! *= light[Math.floor(k / 3)]!
  const bytes = size * size * 3
  return Array.from({ length: frames }, (_, t) =>
    track(pixels.subarray(t * bytes, (t + 1) * bytes), size, scene.shapes[0]!.rgb, back),
  )
}

/** Where a colour is in a frame in front of the ground `back`. */
function track(frame: Uint8Array, size: number, rgb: readonly number[], back: Float64Array): Track {
  const mask = new Float64Array(size * size)
  let [total, sumX, sumY] = [0, 0, 0]
  for (let at = 0; at < mask.length; at++) {
    const share = belonging(frame, rgb, back, 3 * at)
    mask[at] = share
    total += share
    sumX += (share * ((at % size) + 0.5)) / size
    sumY += (share * (Math.floor(at / size) + 0.5)) / size
  }
  const area = total / mask.length
  const lost = area < leastArea
  return { x: lost ? Number.NaN : sumX / total, y: lost ? Number.NaN : sumY / total, area, mask }
}

/** By how much the pixel whose red stands at `k` belongs to the colour. */
function belonging(frame: Uint8Array, rgb: readonly number[], back: Float64Array, k: number): number {
  let [dot, square] = [0, 0]
  for (let c = 0; c < 3; c++) {
    const way = rgb[c]! - back[k + c]!
    dot += (frame[k + c]! - back[k + c]!) * way
    square += way * way
  }
  const along = dot / square
  if (!(along > leastShare)) return 0
  let aside = 0
  for (let c = 0; c < 3; c++)
    aside += Math.abs(frame[k + c]! - back[k + c]! - along * (rgb[c]! - back[k + c]!))
  return aside < mostAside ? Math.min(along, 1) : 0
}
