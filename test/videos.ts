/** What the tests of videos share: clips, an ffmpeg that reads them back or fails, and a folder for each test. */
import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { FSVideoError } from '../lib/errors.js'
import { findFfmpeg } from '../lib/media/ffmpeg.js'
import { openVideo, type VideoOptions } from '../lib/media/video.js'

const run = promisify(execFile)
export const named = process.env.FSVIDEO_FFMPEG
export const ffmpeg = await findFfmpeg()
export const hasFfprobe = await run('ffprobe', ['-version']).then(
  () => true,
  () => false,
)

/** A suite whose tests write into `at.folder`, which is looked at, and have their tools in `at.tools`; both are new for each. */
export function videoSuite(name: string) {
  const test = suite(name)
  const at = { folder: '', tools: '' }
  const unheard: unknown[] = []
  const onUnheard = (reason: unknown) => unheard.push(reason)
  test.before(() => void process.on('unhandledRejection', onUnheard))
  test.before.each(async () => {
    at.tools = await mkdtemp(join(tmpdir(), 'fsvideo-video-'))
    at.folder = join(at.tools, 'out')
    await mkdir(at.folder)
  })
  test.after.each(async () => {
    useFfmpeg(named)
    await rm(at.tools, { recursive: true, force: true })
  })
  test.after(() => void process.off('unhandledRejection', onUnheard))
  const runAll = () => {
    test('no promise of all these was rejected unheard', () => assert.equal(unheard, []))
    test.run()
  }
  return { test, at, runAll }
}

export function useFfmpeg(binary: string | undefined): void {
  if (binary === undefined) delete process.env.FSVIDEO_FFMPEG
  else process.env.FSVIDEO_FFMPEG = binary
}

export const small: VideoOptions = { width: 96, height: 64, fps: 24 }

/** Smooth waves of three colours that move: frame `n` of `width` x `height`. */
export function wave(n: number, { width, height }: { width: number; height: number } = small): Uint8Array {
  const frame = new Uint8Array(width * height * 3)
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      frame[i++] = 128 + 100 * Math.sin((x + 3 * n) / 20)
      frame[i++] = 128 + 100 * Math.cos((y - 2 * n) / 18)
      frame[i++] = 128 + 100 * Math.sin((x + y + 2 * n) / 30)
    }
  return frame
}

export function psnr(a: Uint8Array, b: Uint8Array): number {
  assert.is(a.length, b.length)
  const squares = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0)
  return 10 * Math.log10((255 ** 2 * a.length) / squares)
}

/** Writes `count` frames through one buffer that is used again after every write. */
export async function writeWaves(
  path: string | undefined,
  count: number,
  options: Partial<VideoOptions> = {},
) {
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
export async function decode(path: string, frameBytes: number): Promise<Uint8Array[]> {
  const args = ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
  const { stdout, stderr } = await run(ffmpeg!.binary, args, { encoding: 'buffer', maxBuffer: 2 ** 30 })
  assert.is(stderr.toString(), '')
  assert.is(stdout.length % frameBytes, 0)
  return Array.from({ length: stdout.length / frameBytes }, (_, i) =>
    stdout.subarray(i * frameBytes, (i + 1) * frameBytes),
  )
}

export async function probe(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', path])
  return JSON.parse(stdout).streams[0]
}

export function sameFrames(frames: Uint8Array[], count: number, least: number, clip = small): void {
  assert.is(frames.length, count)
  frames.forEach((frame, n) => {
    const quality = psnr(frame, wave(n, clip))
    assert.ok(quality > least, `frame ${n}: ${quality.toFixed(1)} dB`)
  })
}

export async function failure(work: Promise<unknown>): Promise<FSVideoError> {
  try {
    await work
  } catch (error) {
    return error as FSVideoError
  }
  throw new Error('did not fail')
}

/** An executable in `tools` that answers as an ffmpeg with every encoder, and then does what `script` says. */
export async function fakeFfmpeg(tools: string, script: string): Promise<string> {
  const path = join(tools, 'ffmpeg')
  const listing = ' V....D libx264 x\\n V....D libvpx-vp9 x\\n'
  await writeFile(
    path,
    `#!/bin/sh\nif [ "$1" = -encoders ]; then printf '${listing}'; exit 0; fi\n${script}\n`,
  )
  await chmod(path, 0o755)
  return path
}
