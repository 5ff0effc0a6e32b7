/**
 * Videos out: every format is written and read back, and an abort leaves the folder as it was. Passes with ffmpeg and without.
 */
import { execFile } from 'node:child_process'
import { lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import sharp from 'sharp'
import ts from 'typescript'
import * as assert from 'uvu/assert'
import { openVideo, type VideoFormat } from '../lib/media/video.js'
import {
  decode,
  failure,
  ffmpeg,
  hasFfprobe,
  named,
  probe,
  psnr,
  sameFrames,
  small,
  useFfmpeg,
  videoSuite,
  wave,
  writeWaves,
} from './videos.js'

const videos = videoSuite('media-video')
const { test, at } = videos
const run = promisify(execFile)

const mp4Writers = ffmpeg?.encoders.has('libx264') ? ['libx264', 'h264-mp4-encoder'] : ['h264-mp4-encoder']
for (const encoder of mp4Writers) {
  const choose = () => useFfmpeg(encoder === 'libx264' ? named : 'none')

  test(`mp4 by ${encoder}: read back`, async () => {
    choose()
    const path = join(at.folder, 'waves.mp4')
    const file = await writeWaves(path, 13)
    const { size } = await lstat(path)
    assert.equal(file, {
      ...{ format: 'mp4', encoder, path, bytes: size, frames: 13, width: 96, height: 64, fps: 24, notes: [] },
    })
    assert.equal(await readdir(at.folder), ['waves.mp4'])
    await checkMp4(path, 13)
    if (!ffmpeg) return
    sameFrames(await decode(path, 96 * 64 * 3), 13, 30)
    if (!hasFfprobe) return
    const stream = await probe(path)
    const { codec_name, width, height, pix_fmt, color_space, nb_frames, avg_frame_rate } = stream
    assert.equal(
      { codec_name, width, height, pix_fmt, color_space, nb_frames, avg_frame_rate },
      {
        ...{ codec_name: 'h264', width: 96, height: 64, pix_fmt: 'yuv420p', color_space: 'bt709' },
        ...{ nb_frames: '13', avg_frame_rate: '24/1' },
      },
    )
  })

  test(`mp4 by ${encoder}: odd sides get one more column and row, and say so`, async () => {
    choose()
    const odd = { width: 95, height: 63 }
    const file = await writeWaves(join(at.folder, 'odd.mp4'), 3, odd)
    assert.equal([file.width, file.height], [96, 64])
    assert.match(file.notes[0]!, /95x63 is written as 96x64/)
    if (!ffmpeg) return
    const frames = await decode(file.path!, 96 * 64 * 3)
    assert.is(frames.length, 3)
    for (const [n, frame] of frames.entries()) {
      const asked = await sharp(wave(n, odd), { raw: { ...odd, channels: 3 } })
        .extend({ right: 1, bottom: 1, extendWith: 'copy' })
        .raw()
        .toBuffer()
      assert.ok(psnr(frame, asked) > 30)
    }
  })

  test(`mp4 by ${encoder}: quality counts, rates need not be whole`, async () => {
    choose()
    const low = await writeWaves(join(at.folder, 'low.mp4'), 8, { quality: 10, fps: 12.5 })
    const high = await writeWaves(join(at.folder, 'high.mp4'), 8, { quality: 95, fps: 12.5 })
    assert.ok(high.bytes > 1.5 * low.bytes, `${high.bytes} and ${low.bytes} bytes`)
    if (hasFfprobe) assert.is((await probe(high.path!)).avg_frame_rate, '25/2')
  })

  test(`mp4 by ${encoder}: an abort leaves nothing, and an older file as it was`, async () => {
    choose()
    await abortsCleanly('mp4')
  })
}

/** What every player relies on: the index stands before the data, and its offsets meet the data. */
async function checkMp4(path: string, frames: number): Promise<void> {
  const bytes = await readFile(path)
  const order: string[] = []
  let data = [0, 0]
  for (let at = 0; at < bytes.length; at += bytes.readUInt32BE(at)) {
    const type = bytes.toString('latin1', at + 4, at + 8)
    order.push(type)
    if (type === 'mdat') data = [at + 8, at + bytes.readUInt32BE(at)]
  }
  assert.ok(order.indexOf('moov') < order.indexOf('mdat') && order[0] === 'ftyp', order.join())
  const sizes = bytes.indexOf('stsz') + 12
  assert.is(bytes.readUInt32BE(sizes), frames)
  const first = bytes.readUInt32BE(bytes.indexOf('stco') + 12)
  assert.is(first, data[0])
  const total = Array.from({ length: frames }, (_, i) => bytes.readUInt32BE(sizes + 4 + 4 * i)).reduce(
    (a, b) => a + b,
  )
  assert.ok(first + total <= data[1]!)
  assert.ok(bytes.includes('colrnclx'))
}

test('mp4: the compiled package finds its worker too', async () => {
  const dist = join(at.folder, 'dist')
  await mkdir(join(dist, 'media'), { recursive: true })
  await symlink(fileURLToPath(new URL('../node_modules', import.meta.url)), join(dist, 'node_modules'))
  await writeFile(join(dist, 'package.json'), '{ "type": "module" }')
  const lib = fileURLToPath(new URL('../lib/', import.meta.url))
  const media = (await readdir(join(lib, 'media'))).map((name) => `media/${name}`)
  for (const name of ['errors.ts', ...media]) {
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
    const { outputText } = ts.transpileModule(await readFile(join(lib, name), 'utf8'), { compilerOptions })
    await writeFile(join(dist, name.replace('.ts', '.js')), outputText)
  }
  const program = `import { openVideo } from './media/video.js'
    const writer = await openVideo('out.mp4', { width: 32, height: 32, fps: 4 })
    for (const grey of [0, 200]) await writer.write(new Uint8Array(32 * 32 * 3).fill(grey))
    console.log((await writer.finish()).encoder)`
  await writeFile(join(dist, 'main.js'), program)
  const { stdout } = await run(process.execPath, ['main.js'], {
    cwd: dist,
    env: { ...process.env, FSVIDEO_FFMPEG: 'none', NODE_OPTIONS: '' },
  })
  assert.is(stdout, 'h264-mp4-encoder\n')
  await checkMp4(join(dist, 'out.mp4'), 2)
})

if (ffmpeg?.encoders.has('libvpx-vp9')) {
  test('webm: read back, odd sides as they are', async () => {
    const clip = { ...small, width: 95, height: 63 }
    const file = await writeWaves(join(at.folder, 'waves.webm'), 9, clip)
    assert.equal([file.encoder, file.width, file.height, file.notes], ['libvpx-vp9', 95, 63, []])
    sameFrames(await decode(file.path!, 95 * 63 * 3), 9, 30, clip)
    if (hasFfprobe) assert.is((await probe(file.path!)).codec_name, 'vp9')
  })
  test('webm: an abort leaves nothing, and an older file as it was', () => abortsCleanly('webm'))
}

test('webp: read back, with every frame and its time', async () => {
  const clip = { ...small, width: 95, height: 63 }
  const file = await writeWaves(join(at.folder, 'waves.webp'), 13, clip)
  assert.is(file.encoder, 'libwebp')
  const { pages, delay, loop, width, pageHeight } = await sharp(file.path!, { pages: -1 }).metadata()
  assert.equal([pages, width, pageHeight, loop], [13, 95, 63, 0])
  assert.equal([...new Set(delay)].sort(), [41, 42])
  assert.is(
    delay!.reduce((a, b) => a + b),
    Math.round((13 * 1000) / 24),
  )
  const tall = await sharp(file.path!, { pages: -1 }).removeAlpha().raw().toBuffer()
  const bytes = 95 * 63 * 3
  const frames = Array.from({ length: tall.length / bytes }, (_, i) =>
    tall.subarray(i * bytes, (i + 1) * bytes),
  )
  sameFrames(frames, 13, 30, clip)
  assert.equal(await readdir(at.folder), ['waves.webp'])
})

test('png: a new folder, an existing folder, a pattern: the same pixels', async () => {
  await mkdir(join(at.folder, 'there'))
  for (const [path, format, third] of [
    ['new', 'png', 'new/0003.png'],
    ['slash/', undefined, 'slash/0003.png'],
    ['there', undefined, 'there/0003.png'],
    ['frame-%02d.png', undefined, 'frame-03.png'],
    ['%d.png', undefined, '3.png'],
  ] as const) {
    const file = await writeWaves(join(at.folder, path), 11, format ? { format } : {})
    const frame = await sharp(join(at.folder, third)).raw().toBuffer()
    assert.is(psnr(frame, wave(2)), Number.POSITIVE_INFINITY, path)
    assert.is(file.frames, 11)
    assert.ok(file.bytes > 11 * 100)
  }
  assert.equal((await readdir(join(at.folder, 'new'))).length, 11)
  assert.ok((await readdir(at.folder)).every((name) => !name.includes('.part')))
})

test('png: frames of a longer older video stay, and it says so', async () => {
  const older = await writeWaves(join(at.folder, '%04d.png'), 5)
  assert.equal(older.notes, [])
  const file = await writeWaves(join(at.folder, '%04d.png'), 3)
  assert.match(file.notes[0]!, /older video.*0004\.png/)
  assert.is((await readdir(at.folder)).length, 5)
})

test('rgb: the very bytes', async () => {
  const file = await writeWaves(join(at.folder, 'waves.rgb'), 4)
  const all = Buffer.concat([0, 1, 2, 3].map((n) => wave(n)))
  assert.is(Buffer.compare(await readFile(file.path!), all), 0)
  assert.is(file.bytes, all.length)
})

test('frames: copies in memory, no path needed', async () => {
  const file = await writeWaves(undefined, 4, { format: 'frames' })
  assert.equal([file.path, file.bytes, file.images!.length], [undefined, 4 * 96 * 64 * 3, 4])
  file.images!.forEach((image, n) => {
    assert.is(Buffer.compare(image, wave(n)), 0)
  })
})

/** Aborts in the middle, by call and by signal, over a file that must survive. */
async function abortsCleanly(format: VideoFormat): Promise<void> {
  const path = join(at.folder, `video.${format}`)
  await writeFile(path, 'the older file')
  const unchanged = async () => {
    assert.equal(await readdir(at.folder), [basename(path)])
    assert.is(await readFile(path, 'utf8'), 'the older file')
  }

  const writer = await openVideo(path, small)
  for (let n = 0; n < 3; n++) await writer.write(wave(n))
  assert.is((await readdir(at.folder)).includes(basename(path)), true)
  await writer.abort()
  await unchanged()
  for (const late of [writer.write(wave(3)), writer.finish()])
    assert.is((await failure(late)).name, 'AbortError')
  await writer.abort()

  const control = new AbortController()
  const reason = new Error('enough')
  const signalled = await openVideo(path, { ...small, signal: control.signal })
  await signalled.write(wave(0))
  const pending = [signalled.write(wave(1)), signalled.write(wave(2)), signalled.finish()]
  control.abort(reason)
  for (const outcome of await Promise.allSettled(pending))
    assert.is(outcome.status === 'rejected' && outcome.reason, reason)
  await unchanged()
  assert.is(await failure(openVideo(path, { ...small, signal: control.signal })), reason)
}

for (const format of ['webp', 'rgb'] as const)
  test(`${format}: an abort leaves nothing, and an older file as it was`, () => abortsCleanly(format))

test('png: an abort leaves nothing, and older frames as they were', async () => {
  await mkdir(join(at.folder, 'frames'))
  await writeFile(join(at.folder, 'frames', '0001.png'), 'older')
  const writer = await openVideo(join(at.folder, 'frames'), small)
  await writer.write(wave(0))
  const pending = failure(writer.write(wave(1)))
  await writer.abort()
  assert.is((await pending).name, 'AbortError')
  assert.equal(await readdir(join(at.folder, 'frames')), ['0001.png'])
  assert.is(await readFile(join(at.folder, 'frames', '0001.png'), 'utf8'), 'older')
})

test('an abort after the end changes nothing', async () => {
  const control = new AbortController()
  const path = join(at.folder, 'kept.webp')
  const writer = await openVideo(path, { ...small, signal: control.signal })
  await writer.write(wave(0))
  const file = await writer.finish()
  control.abort()
  await writer.abort()
  assert.is((await lstat(path)).size, file.bytes)
  assert.is(await writer.finish(), file)
  assert.is((await failure(writer.write(wave(1)))).code, 'ERR_FSVIDEO_DISPOSED')
})

test('a link is followed, a replaced file is replaced whole, two writers of one file do not mix', async () => {
  await mkdir(join(at.folder, 'store'))
  await writeFile(join(at.folder, 'store', 'real.rgb'), 'x'.repeat(1e6))
  await symlink(join('store', 'real.rgb'), join(at.folder, 'link.rgb'))
  const writers = [
    await openVideo(join(at.folder, 'link.rgb'), small),
    await openVideo(join(at.folder, 'link.rgb'), small),
  ]
  await Promise.all(writers.map((writer, n) => writer.write(wave(n))))
  for (const writer of writers) await writer.finish()
  assert.ok((await lstat(join(at.folder, 'link.rgb'))).isSymbolicLink())
  assert.is(Buffer.compare(await readFile(join(at.folder, 'store', 'real.rgb')), wave(1)), 0)
  assert.equal(await readdir(join(at.folder, 'store')), ['real.rgb'])
})

videos.runAll()
