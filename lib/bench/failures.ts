/** What could not be measured or predicted: told at the end, and no reason to stop. */
import { FSVideoError } from '../errors.js'

export interface Failure {
  name: string
  why: string
}

const fatal: ReadonlySet<string> = new Set(['ERR_FSVIDEO_DEVICE_LOST', 'ERR_FSVIDEO_DISPOSED'])

/** @throws `error` itself if it ends the run: of a device that is lost, and what is no error of the library (an abort, a fault of ours). */
export function failureOf(name: string, error: unknown): Failure {
  if (!(error instanceof FSVideoError) || fatal.has(error.code)) throw error
  return { name, why: error.message }
}
