/**
 * The one error class of the package. Every failure that a caller can act upon carries a stable `code`;
 * messages say what was given and what is allowed. Aborts are not here: they reject with `signal.reason`.
 */

export type ErrorCode =
  | 'ERR_FSVIDEO_INVALID_ARGUMENT' // a value of the request or of an op: see field, got, expected
  | 'ERR_FSVIDEO_IMAGE' // a picture that is missing, unreadable, or no picture
  | 'ERR_FSVIDEO_OUTPUT' // a place that cannot be written, or an encoder that failed
  | 'ERR_FSVIDEO_MODEL_FILE' // a model folder or a safetensors file that is not as it must be
  | 'ERR_FSVIDEO_NO_BINARY' // the native addon did not load
  | 'ERR_FSVIDEO_NO_DEVICE' // the named device is not there
  | 'ERR_FSVIDEO_UNSUPPORTED_DEVICE'
  | 'ERR_FSVIDEO_OUT_OF_MEMORY' // see needed, available (bytes)
  | 'ERR_FSVIDEO_NON_FINITE' // NaN or infinity in a network: see stage, step, layer
  | 'ERR_FSVIDEO_DISPOSED'
  | 'ERR_FSVIDEO_DEVICE_LOST'
  | 'ERR_FSVIDEO_INTERNAL'

export interface ErrorDetail {
  /** Dotted name of the offending argument, e.g. `size.width` or `linear.weight`. */
  field?: string
  /** What was given. */
  got?: unknown
  /** What is allowed, in words. */
  expected?: string
  /** Bytes. */
  needed?: number
  /** Bytes. */
  available?: number
  stage?: string
  step?: number
  /** A DIT's block by number, otherwise the layer's name in the weights. */
  layer?: number | string
  cause?: unknown
}

export class FSVideoError extends Error {
  readonly code: ErrorCode
  readonly field?: string
  readonly got?: unknown
  readonly expected?: string
  readonly needed?: number
  readonly available?: number
  readonly stage?: string
  readonly step?: number
  readonly layer?: number | string

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    const { cause, ...fields } = detail
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'FSVideoError'
    this.code = code
    Object.assign(this, fields)
  }
}

/** A short, safe rendering of any value for a message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (value === null || typeof value !== 'object') return String(value)
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${value.byteLength} bytes)`
  if (Array.isArray(value))
    return `[${value.slice(0, 8).map(show).join(', ')}${value.length > 8 ? ', ...' : ''}]`
  return `a ${value.constructor?.name ?? 'object'}`
}

/** `field must be <expected>, got <value>`. */
export function invalid(field: string, got: unknown, expected: string): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', `${field} must be ${expected}, got ${show(got)}`, {
    field,
    got,
    expected,
  })
}
