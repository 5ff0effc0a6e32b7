/**
 * Reading JSON that people write by hand: each field says what it accepts and what it is when absent, and whatever else stands
 * in the file is refused by name. config.ts describes every component of a model folder with these.
 */
import { FSVideoError, show } from '../errors.js'

/** Gives a value its type, or throws ERR_FSVIDEO_MODEL_FILE naming `field`. */
export type Reader<T> = (value: unknown, field: string) => T
/** How a field is read, and what it is when it is absent. */
export type Field<T> = readonly [read: Reader<T>, fallback: T]
type Fields = Record<string, Field<unknown>>
/** What reading an object of fields gives. */
export type Read<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends readonly [Reader<infer T>, unknown] ? T : never
}

/** The error for a value that a model's file should not have. */
export function modelFile(field: string, got: unknown, expected: string): FSVideoError {
  return new FSVideoError(
    'ERR_FSVIDEO_MODEL_FILE',
    `${field} must be ${expected}, got ${got === undefined ? 'nothing' : show(got)}`,
    { field, got, expected },
  )
}

function reader<T>(expected: string, accepts: (value: unknown) => boolean): Reader<T> {
  return (value, field) => {
    if (!accepts(value)) throw modelFile(field, value, expected)
    return value as T
  }
}

export const flag: Reader<boolean> = reader('true or false', (value) => typeof value === 'boolean')
export const text: Reader<string> = reader('a string', (value) => typeof value === 'string')

export function integer(least = 1, most = 2 ** 31 - 1): Reader<number> {
  const range = most === 2 ** 31 - 1 ? `of at least ${least}` : `from ${least} to ${most}`
  return reader(
    `an integer ${range}`,
    (value) => Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most,
  )
}

/** `above` is not included, the other bounds are. */
export function number(bounds: { above?: number; least?: number; most?: number } = {}): Reader<number> {
  const {
    above = Number.NEGATIVE_INFINITY,
    least = Number.NEGATIVE_INFINITY,
    most = Number.MAX_VALUE,
  } = bounds
  const words = Object.entries(bounds).map(
    ([bound, limit]) => `${bound === 'above' ? '' : 'at '}${bound} ${limit}`,
  )
  return reader(
    ['a number', words.join(' and ')].join(' ').trimEnd(),
    (value) =>
      typeof value === 'number' && Number.isFinite(value) && value > above && value >= least && value <= most,
  )
}

export function choice<const T extends readonly string[]>(...names: T): Reader<T[number]> {
  return reader(`one of ${names.map(show).join(', ')}`, (value) => names.includes(value as string))
}

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, field) => (value === null ? null : read(value, field))
}

export function list<T>(element: Reader<T>): Reader<readonly T[]> {
  return (value, field) => {
    if (!Array.isArray(value)) throw modelFile(field, value, 'a list')
    return value.map((item, i) => element(item, `${field}[${i}]`))
  }
}

export type Triple = readonly [time: number, height: number, width: number]

/** Three integers, in the order time, height, width. */
export function triple(least: number): Reader<Triple> {
  const read = list(integer(least))
  return (value, field) => {
    const [time, height, width, ...more] = read(value, field)
    if (time === undefined || height === undefined || width === undefined || more.length > 0)
      throw modelFile(field, value, 'three integers')
    return [time, height, width]
  }
}

/** Keys are written in camelCase here and stand in the file in snake_case. */
export function object<F extends Fields>(fields: F): Reader<Read<F>> {
  const keys = new Map(Object.keys(fields).map((key) => [snakeCase(key), key]))
  const known = [...keys.keys()].join(', ')
  return (value, field) => {
    if (value === null || typeof value !== 'object' || Array.isArray(value))
      throw modelFile(field, value, 'an object')
    const given = value as Record<string, unknown>
    for (const name of Object.keys(given))
      if (!keys.has(name)) throw modelFile(`${field}.${name}`, given[name], `absent; known are ${known}`)
    const entries = [...keys].map(([name, key]) => {
      const [read, fallback] = fields[key]!
      return [key, given[name] === undefined ? fallback : read(given[name], `${field}.${name}`)]
    })
    return Object.fromEntries(entries)
  }
}

const snakeCase = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
