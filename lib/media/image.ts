/**
 * Pictures in. The first step of every request: a file, some bytes or raw pixels become 8-bit sRGB, row-major
 * [H, W, 3] in a plain Uint8Array, and are fitted to the size that the networks work at. All pixel work is done by
 * sharp (libvips) off the JS thread. The header is judged before a pixel is decoded, so a hostile picture costs a few
 * kilobytes of parsing and not its 30000x30000 pixels.
 */

import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import sharp, { type Metadata, type Sharp } from 'sharp'
import { FSVideoError, invalid, show } from '../errors.js'

/** An sRGB picture: `data[(y * width + x) * 3 + c]`. */
export interface Image {
  data: Uint8Array
  width: number
  height: number
}

/** Pixels that need no decoding: [H, W, 3] or [H, W, 4] (straight alpha), 8 bits, sRGB. 3 channels when not said. */
export interface RawPixels extends Image {
  channels?: 3 | 4
}

/** A path, a `file:` URL, the bytes of an image file, or raw pixels. */
export type ImageSource = string | URL | Uint8Array | ArrayBuffer | RawPixels

export interface LoadOptions {
  /** The colour behind transparent pixels: a CSS colour, or channels of 0..255. White when not said. */
  background?: Colour
}

export type Colour = string | { r: number; g: number; b: number }

/** What `loadImage` accepts. The smallest side that means anything at 64-fold compression, and the most a decoder may allocate. */
export const imageLimits = { minSide: 16, maxSide: 16384, maxPixels: 100e6, maxFileBytes: 2 ** 30 } as const

// SVG is left out on purpose: it has no pixels of its own and may name other files.
const decodable = ['jpeg', 'png', 'webp', 'heif', 'tiff', 'gif']
const aPicture = 'a JPEG, PNG, WebP, AVIF, TIFF or GIF picture'
const aSize = `${imageLimits.minSide} to ${imageLimits.maxSide} pixels a side and at most ${imageLimits.maxPixels / 1e6} megapixels`

/**
 * Reads a picture as sRGB [H, W, 3]: EXIF orientation applied, colour profile converted, alpha laid over
 * `background`, 16-bit, grey, palette and CMYK pictures converted, the first frame of an animation.
 * @throws FSVideoError `ERR_FSVIDEO_IMAGE` (field `image`) for a file that is missing, unreadable, truncated or no
 * picture, and for a size outside `imageLimits`; `ERR_FSVIDEO_INVALID_ARGUMENT` for a source or colour of another type.
 */
export async function loadImage(source: ImageSource, options: LoadOptions = {}): Promise<Image> {
  const background = checkColour('background', options.background ?? 'white')
  const opened = await open(source)
  await readHeader(opened)
  try {
    const { data, info } = await decoder(opened)
      .autoOrient()
      .flatten({ background })
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    return { data: bytesOf(data), width: info.width, height: info.height }
  } catch (cause) {
    throw imageError(
      opened.label,
      `${aPicture} that is whole`,
      `cannot be decoded: ${firstLine(cause)}`,
      cause,
    )
  }
}

/** The size that `loadImage` would give, from the header alone. Throws as `loadImage`, except for damage in the pixels. */
export async function probeImage(source: ImageSource): Promise<{ width: number; height: number }> {
  return readHeader(await open(source))
}

/**
 * The picture at exactly `width` x `height`, Lanczos-3 when it shrinks, bicubic when it grows.
 * `cover` fills the frame and crops what sticks out, equally on both sides; `pad` keeps the whole picture and fills the
 * rest with `background` (black when not said).
 */
export async function fitImage(
  image: Image,
  width: number,
  height: number,
  mode: 'cover' | 'pad' = 'cover',
  options: { background?: Colour } = {},
): Promise<Image> {
  checkSide('width', width)
  checkSide('height', height)
  if (mode !== 'cover' && mode !== 'pad') throw invalid('mode', mode, "'cover' or 'pad'")
  const background = checkColour('background', options.background ?? 'black')
  if (image.width === width && image.height === height) return image
  const fit = mode === 'cover' ? 'cover' : 'contain'
  return pixels(raw(image).resize(width, height, { fit, position: 'centre', kernel: 'lanczos3', background }))
}

/**
 * The picture in the top left corner of a larger frame, its last column and row repeated to the right and below.
 * This is how a size that is no multiple of 128 is worked (720x1280 as 768x1280); `cropImage` is the way back.
 */
export async function padReplicate(image: Image, width: number, height: number): Promise<Image> {
  checkSide('width', width, image.width)
  checkSide('height', height, image.height)
  if (image.width === width && image.height === height) return image
  return pixels(
    raw(image).extend({ right: width - image.width, bottom: height - image.height, extendWith: 'copy' }),
  )
}

/** The top left `width` x `height` of a picture or a decoded frame. Synchronous: one copy a row. */
export function cropImage(image: Image, width: number, height: number): Image {
  checkSide('width', width, 1, image.width)
  checkSide('height', height, 1, image.height)
  if (image.width === width && image.height === height) return image
  const data = new Uint8Array(width * height * 3)
  for (let y = 0; y < height; y++) {
    const start = y * image.width * 3
    data.set(image.data.subarray(start, start + width * 3), y * width * 3)
  }
  return { data, width, height }
}

/**
 * What CLIP sees: the whole picture, squeezed to 224x224 without a crop, bicubic (spec §8.3). The bicubic is the
 * antialiased Catmull-Rom one of PIL, which CLIP was trained with; Wan2.1's own script samples without antialiasing.
 */
export async function clipPixels(image: Image, side = 224): Promise<Image> {
  return pixels(raw(image).resize(side, side, { fit: 'fill', kernel: 'cubic' }))
}

/** A source that has been found readable and is not yet understood. `label` names it in errors. */
type Opened = { label: string; bytes: Uint8Array } | { label: string; pixels: Required<RawPixels> }

async function open(source: ImageSource): Promise<Opened> {
  if (typeof source === 'string') return openFile(source)
  if (source instanceof URL) {
    if (source.protocol !== 'file:' || source.host !== '')
      throw invalid('image', source.href, 'a file: URL of this machine')
    return openFile(fileURLToPath(source))
  }
  if (source instanceof ArrayBuffer) return openBytes(new Uint8Array(source))
  if (source instanceof Uint8Array) return openBytes(source)
  if (source !== null && typeof source === 'object' && 'data' in source) return openPixels(source)
  throw invalid('image', source, 'a path, a file: URL, the bytes of a picture, or { data, width, height }')
}

/**
 * The file is read whole and sharp is given its bytes: libvips caches by file name and would show the old picture
 * after the file was replaced.
 */
async function openFile(path: string): Promise<Opened> {
  const label = JSON.stringify(path)
  try {
    const info = await stat(path)
    // A FIFO or a device would be read for ever.
    if (!info.isFile())
      throw imageError(label, aPicture, `is ${info.isDirectory() ? 'a folder' : 'no regular file'}`)
    if (info.size > imageLimits.maxFileBytes)
      throw imageError(label, `${aPicture} of at most 1 GiB`, 'is too large')
    return openBytes(await readFile(path), label)
  } catch (cause) {
    if (cause instanceof FSVideoError) throw cause
    const code = (cause as NodeJS.ErrnoException).code
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? firstLine(cause)})`
    throw imageError(label, 'a readable file', reason, cause)
  }
}

function openBytes(bytes: Uint8Array, label = show(bytes)): Opened {
  if (bytes.byteLength === 0) throw imageError(label, aPicture, 'is empty')
  return { label, bytes }
}

function openPixels({ data, width, height, channels = 3 }: RawPixels): Opened {
  if (!(data instanceof Uint8Array)) throw invalid('image.data', data, 'a Uint8Array')
  if (channels !== 3 && channels !== 4) throw invalid('image.channels', channels, '3 or 4')
  if (data.length !== width * height * channels)
    throw invalid('image.data', data, `width * height * channels = ${width * height * channels} bytes`)
  return { label: 'pixels', pixels: { data, width, height, channels } }
}

function decoder(opened: Opened): Sharp {
  if ('bytes' in opened)
    // 'error' refuses damaged and truncated pixels, and lets harmless oddities pass (bytes after the end of a JPEG).
    return sharp(opened.bytes, { limitInputPixels: imageLimits.maxPixels, failOn: 'error' })
  const { data, width, height, channels } = opened.pixels
  return sharp(data, { raw: { width, height, channels } })
}

async function readHeader(opened: Opened): Promise<{ width: number; height: number }> {
  if ('pixels' in opened) return checkSize(opened.label, opened.pixels)
  let header: Metadata
  try {
    // No limit here: the size is judged below, where the message can say what it is.
    header = await sharp(opened.bytes, { limitInputPixels: false }).metadata()
  } catch (cause) {
    throw imageError(opened.label, aPicture, `is no picture: ${firstLine(cause)}`, cause)
  }
  if (!decodable.includes(header.format)) throw imageError(opened.label, aPicture, `is ${header.format}`)
  return checkSize(opened.label, header.autoOrient)
}

function checkSize(label: string, { width, height }: { width: number; height: number }) {
  const { minSide, maxSide, maxPixels } = imageLimits
  const sides = [width, height]
  if (
    sides.every((side) => Number.isInteger(side) && side >= minSide && side <= maxSide) &&
    width * height <= maxPixels
  )
    return { width, height }
  const got = `${width}x${height}`
  throw new FSVideoError('ERR_FSVIDEO_IMAGE', `image ${label} is ${got}, must be ${aSize}`, {
    field: 'image',
    got,
    expected: aSize,
  })
}

function raw({ data, width, height }: Image): Sharp {
  if (data.length !== width * height * 3) throw invalid('image.data', data, `${width}x${height}x3 bytes`)
  return sharp(data, { raw: { width, height, channels: 3 } })
}

async function pixels(pipeline: Sharp): Promise<Image> {
  const { data, info } = await pipeline.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  return { data: bytesOf(data), width: info.width, height: info.height }
}

/** A Buffer as a plain Uint8Array over the same memory: a Buffer's `slice` shares and its JSON is enormous. */
function bytesOf({ buffer, byteOffset, byteLength }: Buffer): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function checkSide(field: string, side: number, least = 1, most: number = imageLimits.maxSide): void {
  if (!Number.isInteger(side) || side < least || side > most)
    throw invalid(field, side, `an integer from ${least} to ${most}`)
}

/** sharp parses colours when it is called with one; asking it here keeps the failure away from the picture's own. */
function checkColour(field: string, colour: Colour): Colour {
  try {
    sharp({ create: { width: 1, height: 1, channels: 3, background: colour } })
    return colour
  } catch {
    throw invalid(field, colour, "a CSS colour such as 'white' or '#204060', or { r, g, b } of 0 to 255")
  }
}

function imageError(label: string, expected: string, reason: string, cause?: unknown): FSVideoError {
  const got = `${label} ${reason}`
  return new FSVideoError('ERR_FSVIDEO_IMAGE', `image ${got}`, { field: 'image', got, expected, cause })
}

function firstLine(cause: unknown): string {
  return String((cause as Error)?.message ?? cause).split('\n', 1)[0]!
}
