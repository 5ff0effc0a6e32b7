/**
 * Where a video goes: understands a path and a format, and finds out before any work starts whether the place can be
 * written and an encoder is there. Minutes of denoising must not end in "no such folder".
 */

import { access, constants, open, realpath, rm, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FSVideoError, invalid, show } from '../errors.js'
import { findFfmpeg } from './ffmpeg.js'
import { outputError } from './sink.js'

/**
 * `mp4`: H.264, yuv420p. `webm`: VP9. `webp`: animated. `png`: numbered files, in a folder or by a `%04d` pattern.
 * `rgb`: raw rgb24. `frames`: kept in memory, no file.
 */
export type VideoFormat = 'mp4' | 'webm' | 'webp' | 'png' | 'rgb' | 'frames'

export type Encoder = 'libx264' | 'libvpx-vp9' | 'h264-mp4-encoder' | 'libwebp' | 'libpng' | 'none'

/** A place that was found writable, and what will write there. */
export interface Output {
  format: VideoFormat
  encoder: Encoder
  /** The binary, for the encoders that are ffmpeg's. */
  ffmpeg?: string
  /** Absolute, links followed. Of `png`, the file of frame `%d`; absent for `frames`. */
  path?: string
  /** A name beside the target that nobody uses: a file, or a folder for `png`. On the same file system, so that a rename is enough. */
  scratch?: string
}

const fileFormats = ['mp4', 'webm', 'webp', 'png', 'rgb'] as const
const formats: readonly string[] = [...fileFormats, 'frames']
const numbered = /%(?:0?(\d{1,2}))?d/

/**
 * Checks an output before any work: the format is known, its folder is there and can be written (a file is made and
 * removed), nothing stands in the way, an encoder is there. A `png` path is a pattern (`out/%04d.png`) or a folder,
 * which may not exist yet.
 * @param format taken from the extension when not given; a folder means `png`
 * @throws FSVideoError `ERR_FSVIDEO_OUTPUT` with field `output` or `format`, got and expected
 */
export async function checkOutput(path: string | URL | undefined, format?: VideoFormat): Promise<Output> {
  if (format !== undefined && !formats.includes(format))
    throw formatError(format, `one of ${formats.join(', ')}`)
  if (format === 'frames') return { format, encoder: 'none' }
  const given = path instanceof URL && path.protocol === 'file:' ? fileURLToPath(path) : path
  if (typeof given !== 'string' || given === '' || given.includes('\0'))
    throw invalid('output', path, 'a path or a file: URL')
  const chosen = format ?? (await formatOf(given))
  const place = chosen === 'png' ? await checkFrames(given) : await checkFile(given)
  return { format: chosen, ...(await findEncoder(chosen)), ...place }
}

/** The file of frame `index` (1, 2, ...) of a `png` output. */
export function frameFile(pattern: string, index: number): string {
  return join(
    dirname(pattern),
    basename(pattern).replace(numbered, (_, digits?: string) =>
      String(index).padStart(Number(digits ?? 0), '0'),
    ),
  )
}

async function formatOf(path: string): Promise<VideoFormat> {
  if (/[/\\]$/.test(path) || (await kindOf(path)) === 'folder') return 'png'
  const extension = extname(path).slice(1).toLowerCase()
  if ((fileFormats as readonly string[]).includes(extension)) return extension as VideoFormat
  const expected = `a name that ends in ${fileFormats.map((each) => `.${each}`).join(', ')}, a folder, or a format`
  throw outputError(`cannot tell the format of ${show(path)}: expected ${expected}`, path, expected)
}

async function findEncoder(format: VideoFormat): Promise<Pick<Output, 'encoder' | 'ffmpeg'>> {
  if (format === 'webp') return { encoder: 'libwebp' }
  if (format === 'png') return { encoder: 'libpng' }
  if (format === 'rgb') return { encoder: 'none' }
  const ffmpeg = await findFfmpeg()
  const encoder = format === 'mp4' ? 'libx264' : 'libvpx-vp9'
  if (ffmpeg?.encoders.has(encoder)) return { encoder, ffmpeg: ffmpeg.binary }
  if (format === 'mp4') return { encoder: 'h264-mp4-encoder' }
  const reason = ffmpeg ? `${ffmpeg.binary} was built without ${encoder}` : 'there is no ffmpeg'
  throw formatError(format, `mp4, webp, png or rgb (webm needs ffmpeg with ${encoder}: ${reason})`)
}

async function checkFile(given: string): Promise<Pick<Output, 'path' | 'scratch'>> {
  // The rename at the end would otherwise replace a link, and not what it points to.
  const path = await realpath(given).catch(() => resolve(given))
  const kind = await kindOf(path)
  if (kind === 'folder') throw outputError(`${show(given)} is a folder`, given, 'the name of a file')
  if (kind === 'other') throw outputError(`${show(given)} is a device or a pipe`, given, 'the name of a file')
  if (kind === 'file') await checkReplaceable(path)
  return { path, scratch: await checkFolder(dirname(path), basename(path)) }
}

async function checkFrames(given: string): Promise<Pick<Output, 'path' | 'scratch'>> {
  const whole = resolve(given)
  if (numbered.test(basename(whole)))
    return { path: whole, scratch: await checkFolder(dirname(whole), basename(whole)) }
  const kind = await kindOf(whole)
  const single = kind !== 'folder' && extname(whole) !== ''
  if (kind === 'file' || kind === 'other' || single)
    throw outputError(
      `${show(given)} is not for frames`,
      given,
      'a folder, or a file name with a number such as %04d.png',
    )
  const parent = kind === 'folder' ? whole : dirname(whole)
  return { path: join(whole, '%04d.png'), scratch: await checkFolder(parent, basename(whole)) }
}

/** Makes and removes a file in the folder: permission bits do not tell of read-only mounts. Gives a scratch name there. */
async function checkFolder(folder: string, name: string): Promise<string> {
  if ((await kindOf(folder)) !== 'folder')
    throw outputError(`the folder ${show(folder)} does not exist`, folder, 'a folder that exists')
  const unique = Math.random().toString(36).slice(2, 10)
  const scratch = join(folder, `.${name.slice(0, 100)}.${process.pid}-${unique}.part`)
  try {
    await (await open(scratch, 'wx')).close()
    await rm(scratch)
    return scratch
  } catch (cause) {
    throw notWritable(folder, 'a folder that can be written', cause)
  }
}

async function checkReplaceable(path: string): Promise<void> {
  try {
    await access(path, constants.W_OK)
  } catch (cause) {
    throw notWritable(path, 'a file that may be replaced', cause)
  }
}

async function kindOf(path: string): Promise<'folder' | 'file' | 'other' | 'nothing'> {
  const info = await stat(path).catch(() => undefined)
  if (!info) return 'nothing'
  return info.isDirectory() ? 'folder' : info.isFile() ? 'file' : 'other'
}

function notWritable(path: string, expected: string, cause: unknown): FSVideoError {
  const code = (cause as NodeJS.ErrnoException).code
  return outputError(`${show(path)} cannot be written (${code})`, path, expected, cause)
}

function formatError(format: unknown, expected: string): FSVideoError {
  const message = `format must be ${expected}, got ${show(format)}`
  return new FSVideoError('ERR_FSVIDEO_OUTPUT', message, { field: 'format', got: format, expected })
}
