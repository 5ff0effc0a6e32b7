/** Parts of the command line that can be judged without running it: the bar, the table of options, numbers, and questions to programs that hang. */
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, helpOf, parse } from '../lib/cli/command.js'
import { bytes, columns, count, duration, wrap } from '../lib/cli/format.js'
import { probe } from '../lib/cli/probe.js'
import { Progress } from '../lib/cli/progress.js'
import { suggest } from '../lib/options.js'
import { refuses } from './refusals.js'

const test = suite('command line, parts')

const clearRest = '\x1b[K'
const codes = new RegExp(`([\r\n]|${clearRest.replace('[', '\\[')})`)

/** What a terminal shows after each write: `\r` and "clear to the end of the line" are all that the bar uses. */
class Screen {
  readonly isTTY: boolean
  readonly columns: number
  lines = ['']
  widest = 0
  constructor(isTTY: boolean, columns = 80) {
    this.isTTY = isTTY
    this.columns = columns
  }
  write(text: string): boolean {
    let column = this.lines.at(-1)!.length
    for (const part of text.split(codes)) {
      const line = this.lines.at(-1)!
      if (part === '\r') column = 0
      else if (part === '\n') {
        this.lines.push('')
        column = 0
      } else if (part === clearRest) this.lines[this.lines.length - 1] = line.slice(0, column)
      else {
        this.lines[this.lines.length - 1] = line.slice(0, column) + part + line.slice(column + part.length)
        column += part.length
        this.widest = Math.max(this.widest, column)
      }
    }
    return true
  }
  get bar(): string {
    return this.lines.at(-1)!
  }
}

function generation(screen: Screen): Progress {
  const progress = new Progress(screen)
  progress.begin('encode', 3)
  progress.step(3)
  progress.end(230)
  progress.begin('denoise', 30, 'steps')
  return progress
}

test('on a terminal the bar grows in place and becomes a line', () => {
  const screen = new Screen(true)
  const progress = generation(screen)
  assert.match(screen.bar, /^denoise {3}\[ +\] +0\/30 steps {2}0:00$/)
  const cells = screen.bar.indexOf(']') - screen.bar.indexOf('[') - 1
  progress.step(15)
  assert.match(screen.bar, /^denoise {3}\[=+> +\] +15\/30 steps {2}0:00 {2}0:00 left$/)
  assert.is(screen.bar.split('=').length, Math.round(cells / 2))
  progress.note('warning: something')
  assert.match(screen.bar, /^denoise/)
  progress.step(30)
  assert.match(screen.bar, /\[=+\]/)
  progress.end(1500)
  progress.close()
  assert.equal(screen.lines, [
    'encode                    0.23 s',
    'warning: something',
    'denoise   30 steps        1.50 s',
    '',
  ])
})

test('the bar leaves the last column free, and gives way where there is no room', () => {
  for (const width of [200, 80, 60, 40, 20]) {
    const screen = new Screen(true, width)
    const progress = generation(screen)
    for (let step = 1; step <= 30; step++) {
      progress.step(step)
      assert.ok(screen.bar.length < width, `${screen.bar.length} of ${width}`)
      assert.match(screen.bar, /^denoise/)
    }
    assert.is(screen.bar.includes('['), width >= 60, `${width} columns`)
    progress.close()
    assert.is(screen.bar, '')
  }
})

test('the clock of a bar ticks during a long step', async () => {
  const screen = new Screen(true)
  const progress = generation(screen)
  await new Promise((resolve) => setTimeout(resolve, 1150))
  assert.match(screen.bar, /0\/30 steps {2}0:01$/)
  progress.close()
})

test('elsewhere a stage is one line and nothing is redrawn', () => {
  const screen = new Screen(false)
  const written: string[] = []
  const write = screen.write.bind(screen)
  screen.write = (text) => {
    written.push(text)
    return write(text)
  }
  const progress = generation(screen)
  for (let step = 1; step <= 30; step++) progress.step(step)
  progress.end(61_000)
  progress.close()
  assert.equal(written, ['encode                    0.23 s\n', 'denoise   30 steps        1 min 01 s\n'])
})

test('numbers are short and round upwards into the next unit', () => {
  assert.equal([0, 999, 1000, 9994, 9996, 99_940, 99_960, 999_499, 999_500, 2.5e9].map(bytes), [
    '0 B',
    '999 B',
    '1.00 kB',
    '9.99 kB',
    '10.0 kB',
    '99.9 kB',
    '100 kB',
    '999 kB',
    '1.00 MB',
    '2.50 GB',
  ])
  assert.equal([12, 15_209_024, 40_740_991_180].map(count), ['12', '15.2 M', '40.7 B'])
  assert.equal([4, 9990, 9996, 59_940, 59_960, 3_599_400, 3_599_600, 7_500_000].map(duration), [
    '0.00 s',
    '9.99 s',
    '10.0 s',
    '59.9 s',
    '1 min 00 s',
    '59 min 59 s',
    '1 h 00 min',
    '2 h 05 min',
  ])
})

test('text is wrapped and long words are not cut', () => {
  assert.equal(wrap('a bb ccc', 4), ['a bb', 'ccc'])
  assert.equal(wrap('a longword b', 4), ['a', 'longword', 'b'])
  assert.equal(wrap('one\ntwo', 80), ['one', 'two'])
  const table = columns([
    ['a', 'word '.repeat(30).trim()],
    ['name', 'x\ny'],
  ])
  const lines = table.split('\n')
  assert.ok(lines.every((line) => line.length <= 80))
  assert.is(lines[0]!.indexOf('word'), 6)
  assert.is(lines[1]!.indexOf('word'), 6)
  assert.equal(lines.slice(-3), ['name  x', '      y', ''])
})

const sample: Command = {
  name: 'sample',
  about: 'Does nothing.',
  positionals: ['DIR'],
  options: { size: { value: 'N', help: 'how many' }, json: { help: 'as JSON' } },
  otherNames: { width: 'size' },
  run: async () => undefined,
}
const refused = (...words: string[]) =>
  refuses(() => parse(sample, words), 'ERR_FSVIDEO_INVALID_ARGUMENT', undefined, words.join(' '))

test('options are read in every spelling, and what is not understood is refused', async () => {
  const expected = { given: { size: '-1', json: true }, positionals: ['here'] }
  assert.equal(parse(sample, ['here', '--size', '-1', '--json']), expected)
  assert.equal(parse(sample, ['--json', '--size=-1', 'here']), expected)
  assert.equal(parse(sample, ['--size=--json', '--', '--here']), {
    given: { size: '--json' },
    positionals: ['--here'],
  })
  assert.equal(parse(sample, ['-h']).given, { help: true })

  assert.is((await refused('here', '--json=1')).field, '--json')
  assert.is((await refused('here', '--size')).field, '--size')
  assert.is((await refused('here', '--size', '--json')).field, '--size')
  assert.match((await refused('here', '--size', '1', '--size', '2')).message, 'twice')
  assert.match((await refused('here', '--isze', '1')).message, 'did you mean --size?')
  assert.match((await refused('here', '--width', '1')).message, 'did you mean --size?')
  assert.match((await refused('here', '--toString')).message, '--help lists them')
  assert.match((await refused('here', '-s')).message, '-s is no option')
  assert.match((await refused()).message, 'takes DIR, got nothing')
  assert.match((await refused('here', 'there')).message, 'got "here" "there"')
  assert.match(
    helpOf(sample),
    /^Usage: fsvideo sample DIR \[options\]\n\nDoes nothing\.\n\n {2}--size N {2}how many\n/,
  )
})

test('two letters that changed places are one slip', () => {
  assert.is(suggest('stpes', ['steps', 'seed']), 'steps')
  assert.is(suggest('tsesp', ['steps', 'seed']), undefined)
})

test('a question to a program is answered whatever the program does', async () => {
  const node = (code: string, limitMs = 20_000, signal?: AbortSignal) =>
    probe(process.execPath, ['-e', code], { limitMs, signal })
  assert.equal(await node('console.log("well")'), { output: 'well\n' })
  assert.equal(await node('console.error("no GPU"); process.exit(3)'), {
    failure: 'ended with code 3: no GPU',
  })
  assert.match((await node('process.abort()')).failure ?? '', /^ended by SIGABRT/)
  assert.equal(await probe('fsvideo-no-such-program', [], { limitMs: 1000 }), { failure: 'not installed' })

  const began = performance.now()
  const hang = 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)'
  assert.equal(await node(hang, 200), { failure: 'no answer within 0.2 s' })
  assert.equal(await node(hang, 20_000, AbortSignal.timeout(200)), { failure: 'interrupted' })
  assert.equal(await node(hang, 20_000, AbortSignal.abort()), { failure: 'interrupted' })
  assert.ok(performance.now() - began < 5000)
})

test('a program that hangs is ended with all that it started', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fsvideo-probe-'))
  try {
    const [program, trace] = [join(folder, 'driver-tool'), join(folder, 'trace')]
    await writeFile(
      program,
      `#!/bin/sh\necho begun > ${trace}\n(sleep 1; echo survived >> ${trace}) &\nwait\n`,
    )
    await chmod(program, 0o755)
    assert.match((await probe(program, [], { limitMs: 500 })).failure ?? '', 'no answer')
    await new Promise((resolve) => setTimeout(resolve, 1000))
    assert.is(await readFile(trace, 'utf8'), 'begun\n')
  } finally {
    await rm(folder, { recursive: true })
  }
})

test.run()
