/** Names the shape of a mask: the one whose coverage, at the mask's place and area and at any turn, differs least from it. */
import { coverage } from './render.js'
import type { Kind } from './scenes.js'
import { leastArea, type Track } from './tracker.js'

/** Area of a shape of radius 1. */
const fills: Readonly<Record<Kind, number>> = {
  circle: Math.PI,
  square: 3.0276,
  triangle: 1.7181,
  star: 1.9431,
}
/** Over a third of a circle, after which a triangle looks the same; a square and a star do so sooner. */
const turns = Array.from({ length: 8 }, (_, i) => (i * Math.PI) / 12)

/** undefined where there is next to nothing. */
export function shapeOf({ mask, area, x, y }: Track): Kind | undefined {
  if (area < leastArea) return undefined
  const size = Math.sqrt(mask.length)
  const energy = mask.reduce((sum, v) => sum + v * v, 0)
  let best: { error: number; kind?: Kind } = { error: Infinity }
  for (const [kind, fill] of Object.entries(fills) as [Kind, number][])
    for (const turn of kind === 'circle' ? [0] : turns) {
      const pose = { x, y, radius: Math.sqrt(area / fill), turn }
      const { top, left, rows, columns, alpha } = coverage(kind, pose, size, 1)
      let error = energy
      for (let k = 0; k < alpha.length; k++) {
        const v = mask[(top + Math.floor(k / columns)) * size + left + (k % columns)]!
        error += (v - alpha[k]!) ** 2 - v * v
      }
      if (rows > 0 && error < best.error) best = { error, kind }
    }
  return best.kind
}
