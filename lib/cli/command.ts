/**
 * What a command of the command line is: its name, arguments and options in one table, from which come both the reading of
 * what was typed and the help. Nothing that was typed is ignored: an option that is unknown, given twice or without its value is
 * an error that names what was probably meant.
 */
import { parseArgs } from 'node:util'
import { FSVideoError, show } from '../errors.js'
import { suggest } from '../options.js'
import { columns, lineWidth, wrap } from './format.js'

export interface Option {
  /** What stands for its value in the help; a flag has none. */
  readonly value?: string
  readonly help: string
}

export type Options = Readonly<Record<string, Option>>

/** What was typed: the value of each option, `true` for a flag. */
export type Given<O extends Options> = {
  readonly [K in keyof O]?: O[K] extends { value: string } ? string : true
}

export interface Context {
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}

export interface Command<O extends Options = Options> {
  readonly name: string
  /** One sentence. */
  readonly about: string
  /** Names of what must be given without `--`, in order; `[NAME]` may be left out. */
  readonly positionals: readonly string[]
  readonly options: O
  /** Options without which nothing can be done. */
  readonly required?: readonly (keyof O & string)[]
  /** Names by which other programs know an option, in lower-case letters and digits. */
  readonly otherNames?: Readonly<Record<string, keyof O & string>>
  /** What the help says below the options. */
  readonly notes?: string
  /** Writes results to stdout and all else to stderr. Gives the exit code where it is not 0. */
  run(given: Given<O>, positionals: readonly string[], context: Context): Promise<number | undefined>
}

/** Holds `run` to the options of the same table. */
export function command<const O extends Options>(definition: Command<O>): Command {
  return definition as unknown as Command
}

/** Every command has it. */
const help = { help: { help: 'print this' } } as const satisfies Options

/**
 * Reads the words behind a command's name. Whether a value is a good one is for the command to say.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT
 */
export function parse(
  { name: commandName, positionals: wanted, options, otherNames }: Command,
  words: readonly string[],
): { given: Given<Options>; positionals: string[] } {
  const all: Options = { ...options, ...help }
  const kinds = Object.entries(all).map(([name, { value }]) => [
    name,
    { type: value ? ('string' as const) : ('boolean' as const), ...(name === 'help' && { short: 'h' }) },
  ])
  // Not strict: its messages know no better name, and a value such as -1 would be none.
  const { tokens } = parseArgs({
    args: [...words],
    options: Object.fromEntries(kinds),
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const given: Record<string, string | true> = {}
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const { name, value, inlineValue } = token
    const option = Object.hasOwn(all, name) ? all[name] : undefined
    if (!option) throw unknownOption(token.rawName, name, commandName, Object.keys(all), otherNames)
    if (Object.hasOwn(given, name)) throw misused(name, 'is given twice', value, 'given once')
    if (!option.value && value !== undefined)
      throw misused(name, `takes no value, got ${show(value)}`, value, 'no value')
    if (option.value && (value === undefined || (!inlineValue && value.startsWith('--'))))
      throw misused(name, `needs a value: ${option.help}`, value, option.value)
    given[name] = value ?? true
  }
  const least = wanted.filter((name) => !name.startsWith('[')).length
  if (!given.help && (positionals.length < least || positionals.length > wanted.length)) {
    const expected = wanted.length ? wanted.join(' ') : 'options only'
    const got = positionals.length ? positionals.map((word) => show(word)).join(' ') : 'nothing'
    const message = `${commandName} takes ${expected}, got ${got}`
    throw new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, { field: 'arguments', got, expected })
  }
  return { given: given as Given<Options>, positionals }
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT for a required option that is not there. */
export function requireOptions({ required = [], options }: Command, given: Given<Options>): void {
  for (const name of required)
    if (given[name] === undefined)
      throw misused(name, `is missing: ${options[name]!.help}`, undefined, options[name]!.help)
}

function misused(name: string, what: string, got: unknown, expected: string): FSVideoError {
  const field = `--${name}`
  return new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', `${field} ${what}`, { field, got, expected })
}

function unknownOption(
  raw: string,
  name: string,
  commandName: string,
  known: string[],
  otherNames?: Readonly<Record<string, string>>,
): FSVideoError {
  const meant = suggest(name, known, otherNames)
  const expected = known.map((option) => `--${option}`).join(', ')
  const hint = meant ? `did you mean --${meant}?` : `fsvideo ${commandName} --help lists them`
  return new FSVideoError(
    'ERR_FSVIDEO_INVALID_ARGUMENT',
    `${raw} is no option of fsvideo ${commandName}: ${hint}`,
    {
      field: raw,
      got: raw,
      expected,
    },
  )
}

/** `fsvideo <command> --help`. */
export function helpOf({ name, about, positionals, options, required = [], notes }: Command): string {
  const label = (option: string, { value }: Option) => `--${option}${value ? ` ${value}` : ''}`
  const musts = required.map((option) => label(option, options[option]!))
  const usage = ['fsvideo', name, ...positionals, ...musts, '[options]'].join(' ')
  const rows = Object.entries<Option>({ ...options, ...help }).map(
    ([option, entry]) => [label(option, entry), entry.help] as const,
  )
  const text = (paragraph: string) => `${wrap(paragraph, lineWidth).join('\n')}\n`
  return [`Usage: ${usage}\n`, text(about), columns(rows, '  '), notes ? text(notes) : undefined]
    .filter((part) => part !== undefined)
    .join('\n')
}
