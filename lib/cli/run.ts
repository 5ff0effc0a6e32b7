/**
 * The command line as a function: from the words that were typed to an exit code. 0 done, 2 bad input, 130 interrupted, 1
 * anything else. Errors are a line or two on stderr with their code, and a stack only with FSVIDEO_DEBUG=1.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { packageRoot } from '../addon.js'
import { type ErrorCode, FSVideoError, show } from '../errors.js'
import { suggest } from '../options.js'
import { type Command, helpOf, parse, requireOptions } from './command.js'
import { columns } from './format.js'

/** Loaded when they are called: `--version` needs no image library. */
const commands: Readonly<Record<string, { about: string; load: () => Promise<Command> }>> = {
  generate: {
    about: 'make a video of a picture and a prompt',
    load: async () => (await import('./generate.js')).generate,
  },
  profile: {
    about: 'tell where the time of a generation goes',
    load: async () => (await import('./profile.js')).profileCommand,
  },
  info: {
    about: 'tell what a model folder holds',
    load: async () => (await import('./info.js')).info,
  },
  init: {
    about: 'make a model with random weights',
    load: async () => (await import('./init.js')).init,
  },
  bench: {
    about: 'measure the kernels beside other libraries and the roofline',
    load: async () => (await import('./bench.js')).bench,
  },
  doctor: {
    about: 'report on this machine and this build, to paste into an issue',
    load: async () => (await import('./doctor.js')).doctor,
  },
}

/** The caller can mend these by asking for something else. */
const badInput: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_FSVIDEO_INVALID_ARGUMENT',
  'ERR_FSVIDEO_IMAGE',
  'ERR_FSVIDEO_OUTPUT',
  'ERR_FSVIDEO_MODEL_FILE',
  'ERR_FSVIDEO_NO_DEVICE',
  'ERR_FSVIDEO_UNSUPPORTED_DEVICE',
])

const exitCodes = { done: 0, failed: 1, badInput: 2, interrupted: 130 } as const
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Runs one command, without the words `node` and `main.js`. The first interrupt aborts it, so that it can clean up; the second
 * ends the process. Never rejects.
 */
export async function run(words: readonly string[]): Promise<number> {
  const interruption = new AbortController()
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(exitCodes.interrupted)
    interruption.abort()
  }
  for (const signal of signals) process.on(signal, interrupt)
  try {
    return await dispatch(words, interruption.signal)
  } catch (error) {
    if (interruption.signal.aborted) {
      process.stderr.write('fsvideo: interrupted\n')
      return exitCodes.interrupted
    }
    process.stderr.write(`${describe(error)}\n`)
    return error instanceof FSVideoError && badInput.has(error.code) ? exitCodes.badInput : exitCodes.failed
  } finally {
    for (const signal of signals) process.off(signal, interrupt)
  }
}

async function dispatch(words: readonly string[], signal: AbortSignal): Promise<number> {
  const [first, ...rest] = words
  if (first === undefined) {
    process.stderr.write(overview())
    return exitCodes.badInput
  }
  if (first === '--help' || first === '-h') {
    process.stdout.write(overview())
    return exitCodes.done
  }
  if (first === '--version') {
    process.stdout.write(`${await version()}\n`)
    return exitCodes.done
  }
  if (!Object.hasOwn(commands, first)) throw unknownCommand(first)
  const command = await commands[first]!.load()
  const { given, positionals } = parse(command, rest)
  if (given.help) {
    process.stdout.write(helpOf(command))
    return exitCodes.done
  }
  requireOptions(command, given)
  const code = await command.run(given, positionals, { signal })
  return code ?? exitCodes.done
}

/** Of package.json. */
export async function version(): Promise<string> {
  return JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8')).version
}

function overview(): string {
  return [
    'Usage: fsvideo <command> [options]\n',
    'FSVideo image-to-video diffusion in the Node.js process.\n',
    columns(
      Object.entries(commands).map(([name, { about }]) => [name, about] as const),
      '  ',
    ),
    columns(
      [
        ['--help', 'print this; fsvideo <command> --help tells of one command'],
        ['--version', 'print the version'],
      ],
      '  ',
    ),
    'Exit codes: 0 done, 2 bad input, 130 interrupted, 1 anything else.\n',
  ].join('\n')
}

function unknownCommand(word: string): FSVideoError {
  const known = Object.keys(commands)
  const meant = suggest(word, known)
  const expected = `one of ${known.join(', ')}`
  const hint = meant ? `did you mean ${meant}?` : `it must be ${expected}`
  return new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', `${show(word)} is no command: ${hint}`, {
    field: 'command',
    got: word,
    expected,
  })
}

function describe(error: unknown): string {
  if (process.env.FSVIDEO_DEBUG === '1') return inspect(error)
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof FSVideoError) return `fsvideo: ${message}\n  ${error.code}`
  return `fsvideo: ${message}\n  FSVIDEO_DEBUG=1 shows where`
}
