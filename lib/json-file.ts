/** Small JSON files that strangers write: configurations and weight maps. Nothing is parsed that is larger than it can mean to be. */
import { readFile, stat } from 'node:fs/promises'
import { FSVideoError } from './errors.js'

/**
 * The value in a JSON file.
 * @throws ERR_FSVIDEO_MODEL_FILE, whose field is the path, for a file that is missing, larger than `maxBytes`, or not JSON.
 */
export async function readJson(path: string, maxBytes: number): Promise<unknown> {
  const expected = `a JSON file of at most ${maxBytes} bytes`
  const refuse = (got: unknown, why: string, cause?: unknown) =>
    new FSVideoError('ERR_FSVIDEO_MODEL_FILE', `${path} ${why}`, { field: path, got, expected, cause })
  let text: string
  try {
    const info = await stat(path)
    if (!info.isFile()) throw refuse('no file', 'is no file')
    if (info.size > maxBytes)
      throw refuse(info.size, `has ${info.size} bytes, more than the ${maxBytes} allowed`)
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof FSVideoError) throw cause
    const code = (cause as NodeJS.ErrnoException).code
    throw refuse(code, code === 'ENOENT' ? 'is missing' : `cannot be read: ${code}`, cause)
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw refuse('no JSON', `is not JSON: ${(cause as Error).message}`, cause)
  }
}
