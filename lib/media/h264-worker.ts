/**
 * The worker thread behind `h264.ts`: H.264 Baseline by minih264 compiled to WebAssembly, which computes
 * synchronously and so must not run on the main thread. Takes frames and the word `end`, answers each frame with
 * `taken` and the end with the file.
 */

import { parentPort, workerData } from 'node:worker_threads'
import minih264 from 'h264-mp4-encoder'
import { layOutMp4 } from './mp4-layout.js'
import type { Clip } from './sink.js'

const { width, height, fps, quality } = workerData as Clip

const encoder = await minih264.createH264MP4Encoder()
Object.assign(encoder, {
  width,
  height,
  frameRate: Math.max(1, Math.round(fps)), // for its rate control; the file's own times are set below
  speed: 5,
  // The same scale as x264's crf, with the encoder's own least value.
  quantizationParameter: Math.max(10, Math.round(51 - 0.41 * quality)),
  groupOfPictures: Math.max(1, Math.round(2 * fps)),
})
encoder.initialize()
const yuv = new Uint8Array((width * height * 3) / 2)

parentPort!.on('message', (message: Uint8Array | 'end') => {
  if (message !== 'end') {
    toYuv420(message)
    encoder.addFrameYuv(yuv)
    parentPort!.postMessage('taken')
    return
  }
  encoder.finalize()
  const file = layOutMp4(encoder.FS.readFile(encoder.outputFilename), fps)
  encoder.delete()
  parentPort!.postMessage(file)
  parentPort!.close()
})

/**
 * RGB [H, W, 3] to planar YUV 4:2:0, BT.709, limited range (Y 16..235, Cb and Cr 16..240), in 16.16 fixed point; a
 * chroma sample is the mean of its 2x2 pixels. The encoder's own RGBA door would need a fourth channel first and
 * uses the old BT.601 matrix.
 */
function toYuv420(rgb: Uint8Array): void {
  const pixels = width * height
  let cb = pixels
  let cr = pixels + pixels / 4
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      let r4 = 0
      let g4 = 0
      let b4 = 0
      for (let corner = 0; corner < 4; corner++) {
        const at = (y + (corner >> 1)) * width + x + (corner & 1)
        const r = rgb[3 * at]!
        const g = rgb[3 * at + 1]!
        const b = rgb[3 * at + 2]!
        yuv[at] = (11966 * r + 40254 * g + 4064 * b + 0x108000) >> 16
        r4 += r
        g4 += g
        b4 += b
      }
      yuv[cb++] = (-6596 * r4 - 22189 * g4 + 28785 * b4 + 0x2020000) >> 18
      yuv[cr++] = (28785 * r4 - 26145 * g4 - 2640 * b4 + 0x2020000) >> 18
    }
  }
}
