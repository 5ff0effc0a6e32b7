/** What the tests of the evaluation share: the Python side's golden scenes, and clips of rearranged frames. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import * as assert from 'uvu/assert'
import type { Clip } from '../bench/evaluate/render.js'
import type { Scene } from '../bench/evaluate/scenes.js'
import { packageRoot } from '../lib/addon.js'

interface Golden {
  size: number
  frames: number
  scene: Scene
  caption: string
  last: number[][]
  pixels: [frame: number, row: number, column: number, r: number, g: number, b: number][]
}
export const goldens: Golden[] = JSON.parse(
  readFileSync(path.join(packageRoot, 'reference/training/scenes.json'), 'utf8'),
)

export const near = (actual: number, expected: number, tolerance: number, what?: string) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what ?? ''} ${actual}, not ${expected}`)

export function frameAt({ size, pixels }: Clip, frame: number): Uint8Array {
  return pixels.subarray(frame * size * size * 3, (frame + 1) * size * size * 3)
}

export function rearranged(clip: Clip, order: (frame: number) => number): Clip {
  const frames = Array.from({ length: clip.frames }, (_, t) => frameAt(clip, order(t)))
  return { ...clip, pixels: Buffer.concat(frames) }
}

export const backwards = (clip: Clip): Clip => rearranged(clip, (t) => clip.frames - 1 - t)
