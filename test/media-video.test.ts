/**
 * Videos out: every format is written and read back, and whatever goes wrong is a typed error that leaves the folder
 * as it was. Passes with ffmpeg and without: what needs it is then tested to be refused.
 */

import { execFile, spawn } from 'node:child_process'
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import sharp from 'sharp'
import ts from 'typescript'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { FSVideoError } from '../lib/errors.js'
import { findFfmpeg } from '../lib/media/ffmpeg.js'
import { H264Sink } from '../lib/media/h264.js'
import { checkOutput, openVideo, type VideoFormat, type VideoOptions } from '../lib/media/video.js'

const test = suite('media-video')
const run = promisify(execFile)
const named = process.env.FSVIDEO_FFMPEG
const ffmpeg = await findFfmpeg()
const hasVp9 = ffmpeg?.encoders.has('libvpx-vp9') ?? false
const hasFfprobe = await run('ffprobe', ['-version']).then(
  () => true,
  () => false,
)

const unhandled: unknown[] = []
const onUnhandled = (reason: unknown) => unhandled.push(reason)
/** Where a test writes, and where its tools are: not the same place, as the first is looked at. */
let folder: string
let tools: string
test.before(() => void process.on('unhandledRejection', onUnhandled))
test.before.each(async () => {
  tools = await mkdtemp(join(tmpdir(), 'fsvideo-video-'))
  folder = join(tools, 'out')
  await mkdir(folder)
})
test.after.each(async () => {
  useFfmpeg(named)
  await rm(tools, { recursive: true, force: true })
})
test.after(() => void process.off('unhandledRejection', onUnhandled))

function useFfmpeg(binary: string | undefined): void {
  if (binary === undefined) delete process.env.FSVIDEO_FFMPEG
  else process.env.FSVIDEO_FFMPEG = binary
}

const small: VideoOptions = { width: 96, height: 64, fps: 24 }

/** Smooth waves of three colours that move: frame `n` of `width` x `height`. */
function wave(n: number, { width, height }: { width: number; height: number } = small): Uint8Array {
  const frame = new Uint8Array(width * height * 3)
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      frame[i++] = 128 + 100 * Math.sin((x + 3 * n) / 20)
      frame[i++] = 128 + 100 * Math.cos((y - 2 * n) / 18)
      frame[i++] = 128 + 100 * Math.sin((x + y + 2 * n) / 30)
    }
  return frame
}

function psnr(a: Uint8Array, b: Uint8Array): number {
  assert.is(a.length, b.length)
  const squares = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0)
  return 10 * Math.log10((255 ** 2 * a.length) / squares)
}

/** Writes `count` frames through one buffer that is used again after every write. */
async function writeWaves(path: string | undefined, count: number, options: Partial<VideoOptions> = {}) {
  const clip = { ...small, ...options }
  const writer = await openVideo(path, clip)
  const buffer = new Uint8Array(clip.width * clip.height * 3)
  for (let n = 0; n < count; n++) {
    buffer.set(wave(n, clip))
    await writer.write(buffer)
    buffer.fill(0)
  }
  return writer.finish()
}

/** All frames of a video as ffmpeg decodes it. */
async function decode(path: string, frameBytes: number): Promise<Uint8Array[]> {
  const args = ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
  const { stdout, stderr } = await run(ffmpeg!.binary, args, { encoding: 'buffer', maxBuffer: 2 ** 30 })
  assert.is(stderr.toString(), '')
  assert.is(stdout.length % frameBytes, 0)
  return Array.from({ length: stdout.length / frameBytes }, (_, i) =>
    stdout.subarray(i * frameBytes, (i + 1) * frameBytes),
  )
}

async function probe(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', path])
  return JSON.parse(stdout).streams[0]
}

function sameFrames(frames: Uint8Array[], count: number, least: number, clip = small): void {
  assert.is(frames.length, count)
  frames.forEach((frame, n) => {
    const quality = psnr(frame, wave(n, clip))
    assert.ok(quality > least, `frame ${n}: ${quality.toFixed(1)} dB`)
  })
}

async function failure(work: Promise<unknown>): Promise<FSVideoError> {
  try {
    await work
  } catch (error) {
    return error as FSVideoError
  }
  throw new Error('did not fail')
}

/** An executable that answers as an ffmpeg with every encoder, and then does what `script` says. */
async function fakeFfmpeg(script: string): Promise<string> {
  const path = join(tools, 'ffmpeg')
  const listing = ' V....D libx264 x\\n V....D libvpx-vp9 x\\n'
  await writeFile(
    path,
    `#!/bin/sh\nif [ "$1" = -encoders ]; then printf '${listing}'; exit 0; fi\n${script}\n`,
  )
  await chmod(path, 0o755)
  return path
}

const mp4Writers = ffmpeg?.encoders.has('libx264') ? ['libx264', 'h264-mp4-encoder'] : ['h264-mp4-encoder']
for (const encoder of mp4Writers) {
  const choose = () => useFfmpeg(encoder === 'libx264' ? named : 'none')

  test(`mp4 by ${encoder}: read back`, async () => {
    choose()
    const path = join(folder, 'waves.mp4')
    const file = await writeWaves(path, 13)
    const { size } = await lstat(path)
    assert.equal(file, {
      ...{ format: 'mp4', encoder, path, bytes: size, frames: 13, width: 96, height: 64, fps: 24, notes: [] },
    })
    assert.equal(await readdir(folder), ['waves.mp4'])
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
    const file = await writeWaves(join(folder, 'odd.mp4'), 3, odd)
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
    const low = await writeWaves(join(folder, 'low.mp4'), 8, { quality: 10, fps: 12.5 })
    const high = await writeWaves(join(folder, 'high.mp4'), 8, { quality: 95, fps: 12.5 })
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
  const dist = join(folder, 'dist')
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

if (hasVp9) {
  test('webm: read back, odd sides as they are', async () => {
    const clip = { ...small, width: 95, height: 63 }
    const file = await writeWaves(join(folder, 'waves.webm'), 9, clip)
    assert.equal([file.encoder, file.width, file.height, file.notes], ['libvpx-vp9', 95, 63, []])
    sameFrames(await decode(file.path!, 95 * 63 * 3), 9, 30, clip)
    if (hasFfprobe) assert.is((await probe(file.path!)).codec_name, 'vp9')
  })
  test('webm: an abort leaves nothing, and an older file as it was', () => abortsCleanly('webm'))
}

test('webp: read back, with every frame and its time', async () => {
  const clip = { ...small, width: 95, height: 63 }
  const file = await writeWaves(join(folder, 'waves.webp'), 13, clip)
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
  assert.equal(await readdir(folder), ['waves.webp'])
})

test('png: a new folder, an existing folder, a pattern: the same pixels', async () => {
  await mkdir(join(folder, 'there'))
  for (const [path, format, third] of [
    ['new', 'png', 'new/0003.png'],
    ['slash/', undefined, 'slash/0003.png'],
    ['there', undefined, 'there/0003.png'],
    ['frame-%02d.png', undefined, 'frame-03.png'],
    ['%d.png', undefined, '3.png'],
  ] as const) {
    const file = await writeWaves(join(folder, path), 11, format ? { format } : {})
    const frame = await sharp(join(folder, third)).raw().toBuffer()
    assert.is(psnr(frame, wave(2)), Number.POSITIVE_INFINITY, path)
    assert.is(file.frames, 11)
    assert.ok(file.bytes > 11 * 100)
  }
  assert.equal((await readdir(join(folder, 'new'))).length, 11)
  assert.ok((await readdir(folder)).every((name) => !name.includes('.part')))
})

test('png: frames of a longer older video stay, and it says so', async () => {
  const older = await writeWaves(join(folder, '%04d.png'), 5)
  assert.equal(older.notes, [])
  const file = await writeWaves(join(folder, '%04d.png'), 3)
  assert.match(file.notes[0]!, /older video.*0004\.png/)
  assert.is((await readdir(folder)).length, 5)
})

test('rgb: the very bytes', async () => {
  const file = await writeWaves(join(folder, 'waves.rgb'), 4)
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
  const path = join(folder, `video.${format}`)
  await writeFile(path, 'the older file')
  const unchanged = async () => {
    assert.equal(await readdir(folder), [basename(path)])
    assert.is(await readFile(path, 'utf8'), 'the older file')
  }

  const writer = await openVideo(path, small)
  for (let n = 0; n < 3; n++) await writer.write(wave(n))
  assert.is((await readdir(folder)).includes(basename(path)), true)
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
  await mkdir(join(folder, 'frames'))
  await writeFile(join(folder, 'frames', '0001.png'), 'older')
  const writer = await openVideo(join(folder, 'frames'), small)
  await writer.write(wave(0))
  const pending = failure(writer.write(wave(1)))
  await writer.abort()
  assert.is((await pending).name, 'AbortError')
  assert.equal(await readdir(join(folder, 'frames')), ['0001.png'])
  assert.is(await readFile(join(folder, 'frames', '0001.png'), 'utf8'), 'older')
})

test('an abort after the end changes nothing', async () => {
  const control = new AbortController()
  const path = join(folder, 'kept.webp')
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
  await mkdir(join(folder, 'store'))
  await writeFile(join(folder, 'store', 'real.rgb'), 'x'.repeat(1e6))
  await symlink(join('store', 'real.rgb'), join(folder, 'link.rgb'))
  const writers = [
    await openVideo(join(folder, 'link.rgb'), small),
    await openVideo(join(folder, 'link.rgb'), small),
  ]
  await Promise.all(writers.map((writer, n) => writer.write(wave(n))))
  for (const writer of writers) await writer.finish()
  assert.ok((await lstat(join(folder, 'link.rgb'))).isSymbolicLink())
  assert.is(Buffer.compare(await readFile(join(folder, 'store', 'real.rgb')), wave(1)), 0)
  assert.equal(await readdir(join(folder, 'store')), ['real.rgb'])
})

test('outputs that cannot be are refused before any work', async () => {
  await writeFile(join(folder, 'file.mp4'), '')
  const cases: [string | URL | undefined, string | undefined, string, RegExp][] = [
    ['no/such/out.mp4', undefined, 'output', /folder that exists/],
    ['file.mp4/out.mp4', undefined, 'output', /folder that exists/],
    ['out.gif', undefined, 'output', /\.mp4, \.webm, \.webp, \.png, \.rgb/],
    ['out', undefined, 'output', /\.mp4/],
    ['out.mp4', 'avi', 'format', /mp4, webm/],
    ['out.png', undefined, 'output', /%04d\.png/],
    ['file.mp4', 'png', 'output', /%04d\.png/],
    ['.', 'mp4', 'output', /name of a file/],
    ['/dev/null', 'mp4', 'output', /name of a file/],
  ]
  for (const [path, format, field, expected] of cases) {
    const where = typeof path === 'string' ? join(folder, path).replace(/.*(?=\/dev\/null$)/, '') : path
    for (const attempt of [
      () => checkOutput(where, format as VideoFormat),
      () => openVideo(where, { ...small, format: format as VideoFormat }),
    ]) {
      const error = await failure(attempt())
      assert.is(error.code, 'ERR_FSVIDEO_OUTPUT', `${path} ${error.message}`)
      assert.is(error.field, field)
      assert.is.not(error.got, undefined)
      assert.match(error.expected!, expected)
    }
  }
  for (const path of [undefined, '', 7, new URL('http://example.org/a.mp4'), 'a\0.mp4'] as string[])
    assert.is((await failure(checkOutput(path, 'mp4'))).field, 'output')
  assert.equal(await readdir(folder), ['file.mp4'])
})

test('a folder that cannot be written', async () => {
  // Root may write where permission bits say no; /proc takes no files from anybody.
  const sealed = join(folder, 'sealed')
  await mkdir(sealed, { mode: 0o555 })
  const closed = process.getuid?.() === 0 ? '/proc' : sealed
  const error = await failure(checkOutput(join(closed, 'out.mp4')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.is(error.got, closed)
  assert.match(error.expected!, /folder that (can be written|exists)/)
})

test('webm without ffmpeg is refused, mp4 is not', async () => {
  useFfmpeg('none')
  const error = await failure(checkOutput(join(folder, 'a.webm')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.equal([error.field, error.got], ['format', 'webm'])
  assert.match(error.expected!, /needs ffmpeg with libvpx-vp9/)
  assert.is((await checkOutput(join(folder, 'a.mp4'))).encoder, 'h264-mp4-encoder')
})

test('an ffmpeg that was asked for and does not run is no silent fallback', async () => {
  useFfmpeg(join(folder, 'no-such-ffmpeg'))
  const error = await failure(checkOutput(join(folder, 'a.mp4')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.match(error.message, /FSVIDEO_FFMPEG=.*no-such-ffmpeg does not run/)
})

test('options and frames of the wrong kind', async () => {
  const path = join(folder, 'a.rgb')
  const cases: [Partial<Record<keyof VideoOptions, unknown>>, string][] = [
    [{ width: 0 }, 'width'],
    [{ width: 16384 }, 'width'],
    [{ height: 1.5 }, 'height'],
    [{ height: '64' }, 'height'],
    [{ fps: 0 }, 'fps'],
    [{ fps: Number.NaN }, 'fps'],
    [{ fps: 1000 }, 'fps'],
    [{ quality: 0 }, 'quality'],
    [{ quality: '80' }, 'quality'],
  ]
  for (const [wrong, field] of cases) {
    const error = await failure(openVideo(path, { ...small, ...wrong } as VideoOptions))
    assert.equal([error.code, error.field], ['ERR_FSVIDEO_INVALID_ARGUMENT', field])
  }
  const writer = await openVideo(path, small)
  for (const frame of [new Uint8Array(5), new Float32Array(96 * 64 * 3), undefined])
    assert.equal((await failure(writer.write(frame as Uint8Array))).field, 'frame')
  await writer.write(wave(0))
  assert.is((await writer.finish()).frames, 1)
})

test('a video without a frame is an error and no file', async () => {
  const writer = await openVideo(join(folder, 'none.webp'), small)
  const error = await failure(writer.finish())
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.is(error.expected, 'at least one frame')
  assert.equal(await readdir(folder), [])
})

test('ffmpeg dies in the middle: its last words, no file, the older one as it was', async () => {
  const path = join(folder, 'video.mp4')
  await writeFile(path, 'the older file')
  // The output is the last argument: it is begun, so that there is something to clean.
  useFfmpeg(
    await fakeFfmpeg(
      'for last; do :; done; echo half > "$last"; head -c 40000 > /dev/null; echo "No space left" >&2; exit 3',
    ),
  )
  const writer = await openVideo(path, small)
  const error = await failure(
    (async () => {
      for (let n = 0; n < 200; n++) await writer.write(wave(n))
    })(),
  )
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.match(error.message, /ffmpeg \(libx264\) ended with exit code 3:\nNo space left/)
  assert.is(await failure(writer.write(wave(0))), error)
  assert.is(await failure(writer.finish()), error)
  assert.equal(await readdir(folder), ['video.mp4'])
  assert.is(await readFile(path, 'utf8'), 'the older file')
})

test('ffmpeg fails at the very end, or says all is well and wrote nothing', async () => {
  for (const [script, words] of [
    ['cat > /dev/null; echo "Could not write trailer" >&2; exit 1', /exit code 1:\nCould not write trailer/],
    ['cat > /dev/null; kill -9 $$', /ended by SIGKILL/],
    ['cat > /dev/null', /cannot be written: ENOENT/],
    ['for last; do :; done; cat > /dev/null; : > "$last"', /wrote nothing/],
  ] as const) {
    useFfmpeg(await fakeFfmpeg(script))
    const writer = await openVideo(join(folder, 'a.webm'), small)
    await writer.write(wave(0))
    const error = await failure(writer.finish())
    assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
    assert.match(error.message, words)
    assert.equal(await readdir(folder), [])
  }
})

test('a failure that nobody waits for is told by the next call', async () => {
  useFfmpeg(await fakeFfmpeg('exit 9'))
  const writer = await openVideo(join(folder, 'a.mp4'), small)
  void writer.write(wave(0))
  void writer.write(wave(1))
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.match((await failure(writer.finish())).message, /exit code 9/)
})

test('write waits for a slow encoder; an abort ends one that hangs, with its children', async () => {
  const marker = join(tools, 'pid')
  useFfmpeg(await fakeFfmpeg(`sleep 600 & echo $! > "${marker}"; wait`))
  const big = { ...small, width: 640, height: 480 }
  const writer = await openVideo(join(folder, 'a.mp4'), big)
  let taken = false
  const pending = writer.write(wave(0, big)).then(() => {
    taken = true
  })
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.is(taken, false)
  const child = Number(await readFile(marker, 'utf8'))
  assert.ok(process.kill(child, 0))
  await writer.abort()
  assert.is((await failure(pending)).name, 'AbortError')
  // A killed process is gone, or a zombie until init reaps it.
  const state = await readFile(`/proc/${child}/stat`, 'utf8').catch(() => 'gone Z')
  assert.match(state, / Z/)
  assert.equal(await readdir(folder), [])
})

test('the worker of the fallback fails: a typed error for every call, and no hang', async () => {
  const sink = new H264Sink(join(folder, 'a.mp4'), { width: 0, height: 0, fps: 24, quality: 80 })
  const error = await failure(sink.write(new Uint8Array(0)).then(() => sink.end()))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.match(error.message, /the H\.264 encoder failed/)
  await sink.kill()
})

/** Runs `fixtures/write-video.ts`, under `ulimit -f` (blocks of 512 bytes) when a limit is given. */
function program(path: string, what: string, limit?: number) {
  const script = fileURLToPath(new URL('./fixtures/write-video.ts', import.meta.url))
  const quoted = [process.execPath, '--import', 'tsx', script, path, what]
    .map((word) => `'${word}'`)
    .join(' ')
  const child = spawn('sh', ['-c', `${limit === undefined ? '' : `ulimit -f ${limit};`} exec ${quoted}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  let stdout = ''
  const writing = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (stdout.includes('writing')) resolve()
    })
  })
  const exit = new Promise<{ code: number | null; last: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, last: stdout.trim().split('\n').at(-1)! }))
  })
  return { child, writing, exit }
}

if (process.platform !== 'win32')
  for (const [output, binary] of [
    ['a.mp4', named],
    ['a.mp4', 'none'],
    ['a.webp'],
    ['a.rgb'],
    ['frames/'],
  ] as const)
    test(`${output} ${binary ?? ''}: a full disk, a sudden exit, Ctrl-C: nothing is left`, async () => {
      useFfmpeg(binary)
      const [full, exited, interrupted] = ['full', 'exited', 'interrupted'].map((name) => join(folder, name))
      for (const each of [full, exited, interrupted]) await mkdir(each!)
      const runs = [
        program(join(full!, output), 'finish', 100),
        program(join(exited!, output), 'exit'),
        program(join(interrupted!, output), 'wait'),
      ]
      await runs[2]!.writing
      // As a terminal does: to the whole process group.
      process.kill(-runs[2]!.child.pid!, 'SIGINT')
      assert.equal(await Promise.all(runs.map((each) => each.exit)), [
        { code: 1, last: 'ERR_FSVIDEO_OUTPUT' },
        { code: 7, last: 'writing' },
        { code: 130, last: 'interrupted' },
      ])
      for (const each of [full, exited, interrupted]) assert.equal(await readdir(each!), [])
    })

test('the same program on a disk with room', async () => {
  assert.equal(await program(join(folder, 'a.rgb'), 'finish').exit, { code: 0, last: 'done' })
  assert.equal(await readdir(folder), ['a.rgb'])
})

test('no promise of all these was rejected unheard', () => assert.equal(unhandled, []))

test.run()
