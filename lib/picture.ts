/** A request's picture on its way to the networks: read, fitted to the size asked for, padded to the size that is worked, and halved. */
import { clipPixels, fitImage, type Image, loadImage, padReplicate } from './media/image.js'
import type { ModelFolder } from './model-folder.js'
import type { ResolvedRequest } from './requests.js'

/** A request's picture at every size that the networks want. */
export interface Picture {
  high: Image
  low: Image
  clip?: Image
}

export async function preparePicture(
  source: ResolvedRequest['images'][number],
  request: ResolvedRequest,
  model: ModelFolder,
): Promise<Picture> {
  const image = await loadImage(source)
  const fitted = await fitImage(image, request.size.width, request.size.height)
  const high = await padReplicate(fitted, request.workSize.width, request.workSize.height)
  const { scale } = model.latentUpsampler
  const low = await fitImage(high, high.width / scale, high.height / scale)
  const clip =
    model.imageEncoder && !request.imageEmbeds
      ? await clipPixels(image, model.imageEncoder.imageSize)
      : undefined
  return { high, low, clip }
}

/** What `preparePicture` gives, black: for a run that only plans. */
export function blankPicture({ workSize: { width, height } }: ResolvedRequest, model: ModelFolder): Picture {
  const blank = (w: number, h: number): Image => ({ width: w, height: h, data: new Uint8Array(w * h * 3) })
  const { scale } = model.latentUpsampler
  const side = model.imageEncoder?.imageSize
  return {
    high: blank(width, height),
    low: blank(width / scale, height / scale),
    clip: side ? blank(side, side) : undefined,
  }
}
