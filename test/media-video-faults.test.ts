/**
 * Videos that cannot be written, or not to the end: whatever goes wrong is a typed error that leaves the folder as it was. What needs
 * ffmpeg is tested to be refused where there is none.
 */
import { spawn } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import { H264Sink } from '../lib/media/h264.js'
import { checkOutput, openVideo, type VideoFormat, type VideoOptions } from '../lib/media/video.js'
import { failure, fakeFfmpeg, named, small, useFfmpeg, videoSuite, wave } from './videos.js'

const videos = videoSuite('media-video-faults')
const { test, at } = videos

test('outputs that cannot be are refused before any work', async () => {
  await writeFile(join(at.folder, 'file.mp4'), '')
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
    const where = typeof path === 'string' ? join(at.folder, path).replace(/.*(?=\/dev\/null$)/, '') : path
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
  assert.equal(await readdir(at.folder), ['file.mp4'])
})

test('a folder that cannot be written', async () => {
  // Root may write where permission bits say no; /proc takes no files from anybody.
  const sealed = join(at.folder, 'sealed')
  await mkdir(sealed, { mode: 0o555 })
  const closed = process.getuid?.() === 0 ? '/proc' : sealed
  const error = await failure(checkOutput(join(closed, 'out.mp4')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.is(error.got, closed)
  assert.match(error.expected!, /folder that (can be written|exists)/)
})

test('webm without ffmpeg is refused, mp4 is not', async () => {
  useFfmpeg('none')
  const error = await failure(checkOutput(join(at.folder, 'a.webm')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.equal([error.field, error.got], ['format', 'webm'])
  assert.match(error.expected!, /needs ffmpeg with libvpx-vp9/)
  assert.is((await checkOutput(join(at.folder, 'a.mp4'))).encoder, 'h264-mp4-encoder')
})

test('an ffmpeg that was asked for and does not run is no silent fallback', async () => {
  useFfmpeg(join(at.folder, 'no-such-ffmpeg'))
  const error = await failure(checkOutput(join(at.folder, 'a.mp4')))
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.match(error.message, /FSVIDEO_FFMPEG=.*no-such-ffmpeg does not run/)
})

test('options and frames of the wrong kind', async () => {
  const path = join(at.folder, 'a.rgb')
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
  const writer = await openVideo(join(at.folder, 'none.webp'), small)
  const error = await failure(writer.finish())
  assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
  assert.is(error.expected, 'at least one frame')
  assert.equal(await readdir(at.folder), [])
})

test('ffmpeg dies in the middle: its last words, no file, the older one as it was', async () => {
  const path = join(at.folder, 'video.mp4')
  await writeFile(path, 'the older file')
  // The output is the last argument: it is begun, so that there is something to clean.
  useFfmpeg(
    await fakeFfmpeg(
      at.tools,
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
  assert.equal(await readdir(at.folder), ['video.mp4'])
  assert.is(await readFile(path, 'utf8'), 'the older file')
})

test('ffmpeg fails at the very end, or says all is well and wrote nothing', async () => {
  for (const [script, words] of [
    ['cat > /dev/null; echo "Could not write trailer" >&2; exit 1', /exit code 1:\nCould not write trailer/],
    ['cat > /dev/null; kill -9 $$', /ended by SIGKILL/],
    ['cat > /dev/null', /cannot be written: ENOENT/],
    ['for last; do :; done; cat > /dev/null; : > "$last"', /wrote nothing/],
  ] as const) {
    useFfmpeg(await fakeFfmpeg(at.tools, script))
    const writer = await openVideo(join(at.folder, 'a.webm'), small)
    await writer.write(wave(0))
    const error = await failure(writer.finish())
    assert.is(error.code, 'ERR_FSVIDEO_OUTPUT')
    assert.match(error.message, words)
    assert.equal(await readdir(at.folder), [])
  }
})

test('a failure that nobody waits for is told by the next call', async () => {
  useFfmpeg(await fakeFfmpeg(at.tools, 'exit 9'))
  const writer = await openVideo(join(at.folder, 'a.mp4'), small)
  void writer.write(wave(0))
  void writer.write(wave(1))
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.match((await failure(writer.finish())).message, /exit code 9/)
})

test('write waits for a slow encoder; an abort ends one that hangs, with its children', async () => {
  const marker = join(at.tools, 'pid')
  useFfmpeg(await fakeFfmpeg(at.tools, `sleep 600 & echo $! > "${marker}"; wait`))
  const big = { ...small, width: 640, height: 480 }
  const writer = await openVideo(join(at.folder, 'a.mp4'), big)
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
  assert.equal(await readdir(at.folder), [])
})

test('the worker of the fallback fails: a typed error for every call, and no hang', async () => {
  const sink = new H264Sink(join(at.folder, 'a.mp4'), { width: 0, height: 0, fps: 24, quality: 80 })
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
      const [full, exited, interrupted] = ['full', 'exited', 'interrupted'].map((name) =>
        join(at.folder, name),
      )
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
  assert.equal(await program(join(at.folder, 'a.rgb'), 'finish').exit, { code: 0, last: 'done' })
  assert.equal(await readdir(at.folder), ['a.rgb'])
})

videos.runAll()
