/** A picture for looking at: of each scene some frames of the truth, of its reconstruction and of what was generated. */
import sharp from 'sharp'
import type { Clip } from './render.js'

export interface Example {
  truth: Clip
  reconstruction: Clip
  generated: Clip
}

/** Every fourth frame of the examples, one scene below the other. */
export async function writeStrip(path: string, examples: readonly Example[]): Promise<void> {
  const rows = examples.flatMap(({ truth, reconstruction, generated }) => [truth, reconstruction, generated])
  const { size, frames } = rows[0]!
  const shown = Array.from({ length: Math.ceil(frames / 4) }, (_, i) => 4 * i)
  const width = size * shown.length
  const pixels = new Uint8Array(width * size * rows.length * 3)
  for (const [r, clip] of rows.entries())
    for (const [i, frame] of shown.entries())
      for (let j = 0; j < size; j++) {
        const from = (frame * size + j) * size * 3
        const to = ((r * size + j) * width + i * size) * 3
        pixels.set(clip.pixels.subarray(from, from + size * 3), to)
      }
  await sharp(pixels, { raw: { width, height: size * rows.length, channels: 3 } })
    .png()
    .toFile(path)
}
