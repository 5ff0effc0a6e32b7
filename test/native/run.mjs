/**
 * Compiles and runs the plain C++ tests of this folder: each `*_test.cpp` and `*_fuzz.cpp` is a program that links the
 * `.cpp` twins of the headers under csrc that it includes, directly or not, and exits with 0 when all is well.
 *
 *   node test/native/run.mjs [--sanitize] [--quick] [name ...]
 *
 * `--sanitize` builds with ASan and UBSan, `--quick` gives fuzzers a tenth of their cases, names select programs.
 * Programs are kept in build-cmake/native-tests and rebuilt when a file they are made of is newer.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '../..')
const outDir = join(root, 'build-cmake/native-tests')

const { values: options, positionals: names } = parseArgs({
  options: { sanitize: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
  allowPositionals: true,
})

const flags = [
  '-std=c++20',
  '-O1',
  '-g',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-pthread',
  '-I',
  join(root, 'csrc'),
  '-I',
  here,
]
if (options.sanitize)
  flags.push('-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-omit-frame-pointer')

/** The file, every file of ours that it includes, and the .cpp twins of those headers, all transitively. */
function sourcesOf(file, found = new Set()) {
  if (found.has(file)) return found
  found.add(file)
  for (const [, name] of readFileSync(file, 'utf8').matchAll(/^\s*#include "([^"]+)"/gm)) {
    const header = [dirname(file), join(root, 'csrc')].map((folder) => join(folder, name)).find(existsSync)
    if (!header) throw new Error(`${relative(root, file)}: cannot find the included ${name}`)
    sourcesOf(header, found)
    const twin = header.replace(/\.h$/, '.cpp')
    if (existsSync(twin)) sourcesOf(twin, found)
  }
  return found
}

/** Compiles a test unless its program is newer than all it is made of; gives the program's path. */
async function build(name) {
  const program = join(outDir, options.sanitize ? `${name}-sanitize` : name)
  const sources = [...sourcesOf(join(here, `${name}.cpp`))]
  const newest = Math.max(
    ...[...sources, fileURLToPath(import.meta.url)].map((file) => statSync(file).mtimeMs),
  )
  if (existsSync(program) && statSync(program).mtimeMs > newest) return program
  const unfinished = `${program}.${process.pid}`
  const units = sources.filter((file) => file.endsWith('.cpp'))
  await promisify(execFile)(process.env.CXX ?? 'g++', [...flags, ...units, '-o', unfinished])
  renameSync(unfinished, program)
  return program
}

async function test(name) {
  try {
    const program = await build(name)
    const quick = options.quick && name.endsWith('_fuzz') ? ['20000'] : []
    await promisify(execFile)(program, quick, { maxBuffer: 1 << 26 })
    console.log(`${name}: ok`)
  } catch (error) {
    console.log(`${name}: FAILED${error.signal ? ` (${error.signal})` : ''}`)
    console.error(error.stderr || error.message)
    process.exitCode = 1
  }
}

const all = readdirSync(here)
  .filter((file) => /_(test|fuzz)\.cpp$/.test(file))
  .map((file) => file.replace(/\.cpp$/, ''))
for (const name of names)
  if (!all.includes(name)) throw new Error(`no test is called ${name}; there are ${all.join(', ')}`)

mkdirSync(outDir, { recursive: true })
const queue = (names.length > 0 ? names : all).values()
// Two at a time: compiling one source file takes about half a gigabyte.
await Promise.all(
  [0, 1].map(async () => {
    for (const name of queue) await test(name)
  }),
)
