/** Pictures in: every format and every kind of pixel ends as the same sRGB bytes, and everything else is refused by name. */

import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FSVideoError } from '../lib/errors.js'
import {
  clipPixels,
  cropImage,
  fitImage,
  type Image,
  type ImageSource,
  loadImage,
  padReplicate,
  probeImage,
} from '../lib/media/image.js'

const test = suite('media-image')
let folder: string
test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fsvideo-image-'))
})
test.after(() => rm(folder, { recursive: true }))

/** A smooth colour field: red grows to the right, green downwards, blue along the diagonal. */
function field(width: number, height: number, channels: 3 | 4 = 3): Uint8Array {
  const data = new Uint8Array(width * height * channels)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) data.set(colourAt(x / width, y / height), (y * width + x) * channels)
  if (channels === 4) for (let i = 3; i < data.length; i += 4) data[i] = 128
  return data
}
const colourAt = (u: number, v: number) => [30 + 190 * u, 40 + 170 * v, 60 + 60 * (u + v)].map(Math.round)

const encoder = (width = 96, height = 64) =>
  sharp(field(width, height), { raw: { width, height, channels: 3 } })

function meanError(a: Uint8Array, b: Uint8Array): number {
  assert.is(a.length, b.length)
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length
}

const pixel = ({ data, width }: Image, x: number, y: number) => [
  ...data.subarray((y * width + x) * 3).subarray(0, 3),
]

/** A PNG of the given size whose pixels are missing: all that can be known of it stands in the header. */
function pngHeader(width: number, height: number): Uint8Array {
  const chunk = (type: string, content: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), content])
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)]
    length.writeUInt32BE(content.length)
    check.writeUInt32BE(crc32(body))
    return Buffer.concat([length, body, check])
  }
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0])
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', Buffer.from([0])),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

async function refusal(work: () => Promise<unknown>): Promise<FSVideoError> {
  try {
    await work()
  } catch (error) {
    assert.instance(error, FSVideoError)
    return error as FSVideoError
  }
  throw new Error('was not refused')
}

async function refusesImage(source: ImageSource, got: RegExp, expected: RegExp): Promise<void> {
  const error = await refusal(() => loadImage(source))
  assert.is(error.code, 'ERR_FSVIDEO_IMAGE')
  assert.is(error.field, 'image')
  assert.match(String(error.got), got)
  assert.match(error.expected!, expected)
}

for (const [format, options, tolerance] of [
  ['png', {}, 0],
  ['tiff', { compression: 'lzw' }, 0],
  ['jpeg', { quality: 95 }, 1.5],
  ['webp', { quality: 95 }, 1.5],
  ['avif', { quality: 90 }, 1.5],
  ['gif', {}, 6],
] as const)
  test(`${format}: the same pixels from a path, a file URL, bytes and an ArrayBuffer`, async () => {
    const path = join(folder, `field.${format}`)
    const bytes = await encoder().toFormat(format, options).toBuffer()
    await writeFile(path, bytes)
    const image = await loadImage(path)
    assert.equal([image.width, image.height], [96, 64])
    assert.is(image.data.constructor, Uint8Array)
    assert.ok(
      meanError(image.data, field(96, 64)) <= tolerance,
      `mean error ${meanError(image.data, field(96, 64))}`,
    )
    const again = [pathToFileURL(path), bytes, new Uint8Array(bytes).buffer]
    for (const source of again) assert.equal(await loadImage(source), image)
    assert.equal(await probeImage(path), { width: 96, height: 64 })
  })

test('a file that was replaced is read anew', async () => {
  const path = join(folder, 'twice.png')
  await encoder(32, 32).toFile(path)
  await loadImage(path)
  await encoder(48, 48).negate().toFile(path)
  const image = await loadImage(path)
  assert.is(image.width, 48)
  assert.equal(pixel(image, 0, 0), [225, 215, 195])
})

test('EXIF orientation 6: the picture is turned, in its size too', async () => {
  const turned = await encoder().withMetadata({ orientation: 6 }).png().toBuffer()
  const upright = await encoder().rotate(90).raw().toBuffer()
  const image = await loadImage(turned)
  assert.equal([image.width, image.height], [64, 96])
  assert.is(meanError(image.data, upright), 0)
  assert.equal(await probeImage(turned), { width: 64, height: 96 })
})

test('alpha is laid over white, or over the colour asked for', async () => {
  const source = { data: field(32, 32, 4), width: 32, height: 32, channels: 4 as const }
  const png = await sharp(source.data, { raw: source }).png().toBuffer()
  for (const input of [png, source])
    for (const [background, behind] of [
      [undefined, [255, 255, 255]],
      ['#204060', [0x20, 0x40, 0x60]],
      [{ r: 10, g: 200, b: 0 }, [10, 200, 0]],
    ] as const) {
      const image = await loadImage(input, background ? { background } : {})
      const half = colourAt(16 / 32, 8 / 32).map((value, c) => (value * 128 + behind[c]! * 127) / 255)
      pixel(image, 16, 8).forEach((value, c) => {
        assert.ok(Math.abs(value - half[c]!) <= 1.01, `${value} for ${half[c]}`)
      })
    }
})

test('grey, 16 bit, 16-bit grey with alpha, palette and CMYK become 8-bit RGB', async () => {
  const grey = await loadImage(await encoder().greyscale().toColourspace('b-w').png().toBuffer())
  assert.is(grey.data.length, 96 * 64 * 3)
  const [r, g, b] = pixel(grey, 40, 40)
  // 109, 146, 125 there: a luminance of 0.253 in linear light, 138 on the sRGB curve.
  assert.ok(r === g && g === b && Math.abs(r! - 138) <= 1, `${r} ${g} ${b}`)

  const deep = await encoder().toColourspace('rgb16').png().toBuffer()
  assert.is((await sharp(deep).metadata()).depth, 'ushort')
  assert.ok(meanError((await loadImage(deep)).data, field(96, 64)) <= 0.5)

  const deepGrey = await encoder().ensureAlpha(0).toColourspace('grey16').png().toBuffer()
  assert.is((await sharp(deepGrey).metadata()).channels, 2)
  assert.equal(pixel(await loadImage(deepGrey), 5, 5), [255, 255, 255])

  const palette = await loadImage(await encoder().png({ palette: true }).toBuffer())
  assert.ok(meanError(palette.data, field(96, 64)) <= 6)

  const cmyk = await encoder().toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer()
  assert.is((await sharp(cmyk).metadata()).space, 'cmyk')
  const image = await loadImage(cmyk)
  assert.is(image.data.length, 96 * 64 * 3)
  // CMYK has fewer colours: near is all that can be asked, and an inverted or 4-channel reading is far off.
  assert.ok(meanError(image.data, field(96, 64)) <= 20)
})

test('an animation gives its first frame', async () => {
  const frames = [field(32, 32), field(32, 32).map((value) => 255 - value)]
  const raw = { width: 32, height: 64, channels: 3, pageHeight: 32 } as const
  const webp = await sharp(Buffer.concat(frames), { raw }).webp({ lossless: true }).toBuffer()
  assert.is((await sharp(webp).metadata()).pages, 2)
  const image = await loadImage(webp)
  assert.equal([image.width, image.height], [32, 32])
  assert.is(meanError(image.data, frames[0]!), 0)
})

test('an image is an image source, unchanged', async () => {
  const image = { data: field(20, 18), width: 20, height: 18 }
  assert.equal(await loadImage(image), image)
})

test('files that are not there, not readable as a file, or no picture', async () => {
  await symlink(join(folder, 'gone.png'), join(folder, 'link.png'))
  await refusesImage(join(folder, 'no.png'), /no\.png" does not exist/, /readable file/)
  await refusesImage(join(folder, 'link.png'), /does not exist/, /readable file/)
  await refusesImage('', /does not exist/, /readable file/)
  await refusesImage('a\0b', /cannot be read/, /readable file/)
  await refusesImage(folder, /is a folder/, /JPEG, PNG/)
  await refusesImage('/dev/zero', /no regular file|does not exist/, /./)
  await refusesImage(new Uint8Array(0), /is empty/, /JPEG, PNG/)
  const text = join(folder, 'text.png')
  await writeFile(text, 'This is no picture, whatever its name says.')
  await refusesImage(text, /text\.png" is no picture/, /JPEG, PNG/)
  await refusesImage(
    Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>'),
    /is svg/,
    /JPEG, PNG/,
  )
})

for (const format of ['png', 'jpeg', 'webp', 'avif', 'tiff', 'gif'] as const)
  test(`a truncated ${format}`, async () => {
    const bytes = await encoder(320, 240).toFormat(format).toBuffer()
    for (const share of [0.3, 0.95])
      await refusesImage(
        bytes.subarray(0, Math.floor(bytes.length * share)),
        /is no picture|cannot be decoded/,
        /JPEG, PNG/,
      )
  })

test('bytes after the end of a JPEG do no harm', async () => {
  const bytes = Buffer.concat([await encoder().jpeg().toBuffer(), Buffer.alloc(1000, 7)])
  assert.is((await loadImage(bytes)).width, 96)
})

test('sizes are judged by the header, before any pixel', async () => {
  for (const [width, height] of [
    [1, 1],
    [15, 400],
    [400, 15],
    [30000, 30000],
    [16385, 100],
    [10001, 10000],
  ] as const) {
    // These pixels do not exist: only a decision by the header can name the size.
    for (const read of [loadImage, probeImage]) {
      const error = await refusal(() => read(pngHeader(width, height)))
      assert.is(error.code, 'ERR_FSVIDEO_IMAGE')
      assert.is(error.field, 'image')
      assert.is(error.got, `${width}x${height}`)
      assert.match(error.expected!, /16 to 16384 pixels a side and at most 100 megapixels/)
    }
  }
  assert.equal(await probeImage(pngHeader(16384, 6000)), { width: 16384, height: 6000 })
  assert.is((await loadImage(await encoder(16, 16).png().toBuffer())).width, 16)
})

test('sources, pixels and colours of the wrong type', async () => {
  const good = { data: field(16, 16), width: 16, height: 16 }
  const cases: [unknown, string][] = [
    [7, 'image'],
    [null, 'image'],
    [{}, 'image'],
    [new URL('http://example.org/a.png'), 'image'],
    [new URL('file://elsewhere/a.png'), 'image'],
    [{ ...good, data: [...good.data] }, 'image.data'],
    [{ ...good, width: 17 }, 'image.data'],
    [{ ...good, width: Number.NaN }, 'image.data'],
    [{ ...good, channels: 2 }, 'image.channels'],
  ]
  for (const [source, name] of cases) {
    const error = await refusal(() => loadImage(source as ImageSource))
    assert.is(error.code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
    assert.is(error.field, name)
  }
  for (const background of ['nonsense', 7, {}]) {
    const error = await refusal(() => loadImage(good, { background: background as string }))
    assert.is(error.field, 'background')
  }
  const error = await refusal(() => loadImage({ data: new Uint8Array(12 * 12 * 3), width: 12, height: 12 }))
  assert.is(error.got, '12x12')
})

test('fitImage cover: exact size, aspect kept, the middle', async () => {
  const image = { data: field(400, 200), width: 400, height: 200 }
  for (const [width, height] of [
    [64, 64],
    [100, 200],
    [512, 384],
  ] as const) {
    const fitted = await fitImage(image, width, height, 'cover')
    assert.equal([fitted.width, fitted.height, fitted.data.length], [width, height, width * height * 3])
    // The centre stays the centre; the left edge is where the crop begins.
    const scale = Math.max(width / 400, height / 200)
    const left = 0.5 - width / (400 * scale) / 2
    for (const [x, y, u, v] of [
      [width >> 1, height >> 1, 0.5, 0.5],
      [2, height >> 1, left + 2 / (400 * scale), 0.5],
    ] as const)
      pixel(fitted, x, y).forEach((value, c) => {
        assert.ok(Math.abs(value - colourAt(u, v)[c]!) <= 3, `${width}x${height} at ${x},${y}: ${value}`)
      })
  }
  assert.is(await fitImage(image, 400, 200), image)
})

test('fitImage pad: the whole picture, and bars of the colour', async () => {
  const image = { data: field(400, 200), width: 400, height: 200 }
  const fitted = await fitImage(image, 128, 128, 'pad', { background: '#102030' })
  assert.equal([fitted.width, fitted.height], [128, 128])
  assert.equal(pixel(fitted, 64, 10), [0x10, 0x20, 0x30])
  assert.equal(pixel(fitted, 64, 117), [0x10, 0x20, 0x30])
  pixel(fitted, 2, 64).forEach((value, c) => {
    assert.ok(Math.abs(value - colourAt(2 / 128, 0.5)[c]!) <= 3)
  })
  assert.equal(pixel(await fitImage(image, 128, 128, 'pad'), 0, 0), [0, 0, 0])
})

test('padReplicate repeats the edges, cropImage is its inverse', async () => {
  const image = { data: field(50, 30), width: 50, height: 30 }
  const padded = await padReplicate(image, 64, 128)
  assert.equal([padded.width, padded.height], [64, 128])
  for (const [x, y] of [
    [0, 0],
    [49, 29],
    [63, 10],
    [20, 127],
    [63, 127],
  ] as const)
    assert.equal(pixel(padded, x, y), pixel(image, Math.min(x, 49), Math.min(y, 29)))
  assert.equal(cropImage(padded, 50, 30), image)
  assert.is(await padReplicate(image, 50, 30), image)
  assert.is(cropImage(image, 50, 30), image)
})

test('clipPixels: the whole picture at 224x224, bicubic with antialiasing', async () => {
  const image = { data: field(640, 427), width: 640, height: 427 }
  const seen = await clipPixels(image)
  assert.equal([seen.width, seen.height], [224, 224])
  for (const [x, y] of [
    [2, 2],
    [221, 2],
    [112, 112],
    [2, 221],
    [221, 221],
  ] as const)
    pixel(seen, x, y).forEach((value, c) => {
      assert.ok(Math.abs(value - colourAt((x + 0.5) / 224, (y + 0.5) / 224)[c]!) <= 2)
    })
  // One-pixel stripes at a third of the size: sampled they would be black and white, averaged they are grey.
  const stripes = { data: new Uint8Array(672 * 672 * 3), width: 672, height: 672 }
  stripes.data.forEach((_, i) => {
    stripes.data[i] = Math.floor(i / 3) % 2 ? 255 : 0
  })
  const grey = await clipPixels(stripes)
  assert.ok(
    grey.data.every((value) => value > 90 && value < 165),
    'stripes alias',
  )
})

test('sizes and modes of fitting are checked', async () => {
  const image = { data: field(32, 32), width: 32, height: 32 }
  const cases: [() => Promise<unknown>, string][] = [
    [() => fitImage(image, 0, 32), 'width'],
    [() => fitImage(image, 32, 1.5), 'height'],
    [() => fitImage(image, 32, 20000), 'height'],
    [() => fitImage(image, 16, 16, 'stretch' as 'cover'), 'mode'],
    [() => fitImage(image, 16, 16, 'pad', { background: 'no colour' }), 'background'],
    [() => padReplicate(image, 31, 64), 'width'],
    [() => padReplicate(image, 64, 31), 'height'],
    [async () => cropImage(image, 33, 32), 'width'],
    [async () => cropImage(image, 32, Number.NaN), 'height'],
    [() => fitImage({ ...image, height: 31 }, 16, 16), 'image.data'],
  ]
  for (const [work, name] of cases) {
    const error = await refusal(work)
    assert.is(error.code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
    assert.is(error.field, name)
  }
})

test('the photo of the demo', async () => {
  const photo = await loadImage(new URL('../models/samples/rocket.jpg', import.meta.url))
  assert.equal([photo.width, photo.height], [640, 427])
  const fitted = await fitImage(photo, 512, 384)
  const sky = pixel(fitted, 256, 60)
  assert.ok(sky[2]! > sky[1]! && sky[1]! > sky[0]!, `blue above: ${sky}`)
})

test.run()
