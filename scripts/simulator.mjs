// Builds and runs the programs of the device simulator (test/simulator), then the mutants: each entry of
// test/simulator/mutants/<kernel>.json is a mistake to make in the sources of a kernel, and kernels/<kernel>.cpp built
// with it must fail, by the check that the entry names. FSV_SANITIZE=1 and FSV_UCONTEXT=1 build those variants.
//
//   node scripts/simulator.mjs [--only NAME] [--no-mutants] [--update]
//
// --update writes into the lists by which check each mutant was caught. `--only runner` tests this file alone.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { inParallel, root, run } from './jobs.mjs'

const folder = path.join(root, 'test/simulator')
const timeout = 120_000 // ms that a program may run

const { values: args } = parseArgs({
  options: {
    only: { type: 'string' },
    'no-mutants': { type: 'boolean', default: false },
    update: { type: 'boolean', default: false },
  },
})
const variants = ['FSV_SANITIZE', 'FSV_UCONTEXT'].filter((name) => process.env[name])
const build = path.join(
  root,
  'build',
  ['simulator', ...variants.map((v) => v.slice(4).toLowerCase())].join('-'),
)

function buildPrograms(targets) {
  const configure = ['-S', folder, '-B', build, ...variants.map((name) => `-D${name}=ON`)]
  if (!existsSync(path.join(build, 'CMakeCache.txt')) && spawnSync('ninja', ['--version']).status === 0) {
    configure.push('-G', 'Ninja')
  }
  const steps = [configure, ['--build', build, '--parallel', '2', ...targets.flatMap((t) => ['--target', t])]]
  for (const step of steps) {
    const { status, stdout, stderr } = spawnSync('cmake', step, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`cmake ${step.join(' ')}\n${stdout}${stderr}`)
  }
}

/** The check that a program's output says found something first. */
const kinds =
  'race|fence|bounds|alignment|uninitialised|protocol|deadlock|launch|exception|values|banks|traffic'
const kindOf = ({ code, output }) =>
  output.match(new RegExp(`\\b(${kinds})\\b`, 'i'))?.[1].toLowerCase() ??
  (typeof code === 'string' ? code : 'exit code')

// Not optimised: most mutants fail at once, and compiling them is what takes the time.
const compiler = process.env.CXX ?? 'g++'
const sanitize = variants.includes('FSV_SANITIZE') ? ['-fsanitize=address,undefined'] : []
const compile = ['-std=c++20', '-O0', '-w', '-pthread', ...sanitize, `-I${root}/csrc`, `-I${root}/test`]

/** What all tests include and no mutant of a kernel changes, compiled once; the header's path. */
let preludeMade
function prelude() {
  preludeMade ??= (async () => {
    const header = path.join(build, 'mutants/prelude.h')
    mkdirSync(path.dirname(header), { recursive: true })
    writeFileSync(
      header,
      '#include "cuda/ptx/ptx.cuh"\n#include "simulator/check.h"\n#include <algorithm>\n#include <random>\n',
    )
    await run(compiler, [...compile, '-x', 'c++-header', header, '-o', `${header}.gch`])
    return header
  })()
  return preludeMade
}

/** Makes one mistake in a copy of a source and runs the kernel's test with it; the copy comes first on the path. */
async function runMutant({ kernel, test, sources, mutant, index }) {
  const result = (state, detail = '') => ({ kernel, mutant, state, detail })
  const source = readFileSync(path.join(sources, mutant.file), 'utf8')
  const places = source.split(mutant.find).length - 1
  if (places !== 1) return result('stale', `its text occurs ${places} times in ${mutant.file}`)
  const place = path.join(build, 'mutants', `${kernel}-${index}`)
  const copy = path.join(place, path.relative('csrc', mutant.file))
  mkdirSync(path.dirname(copy), { recursive: true })
  writeFileSync(
    copy,
    source.replace(mutant.find, () => mutant.replace),
  )
  const program = path.join(place, 'program')
  const shared = mutant.file.startsWith('csrc/cuda/kernels/') ? ['-include', await prelude()] : []
  const includes = [place, path.join(sources, 'csrc')].map((folder) => `-I${folder}`)
  const libraries = ['libcases.a', 'libsimulator.a'].map((name) => path.join(build, name))
  const compiled = await run(compiler, [
    ...shared,
    ...includes,
    ...compile,
    test,
    ...libraries,
    '-o',
    program,
  ])
  if (compiled.code !== 0) return result('does not compile', compiled.output)
  const ran = await run(program, [], { limit: timeout, env: { FSVIDEO_FIRST_FAILURE: '1' } })
  rmSync(place, { recursive: true })
  if (ran.code === 0) return result('survived')
  const kind = ran.code === 'SIGTERM' ? 'timeout' : kindOf(ran)
  if (args.update) mutant.caught_by = kind
  if (mutant.caught_by.split('|').includes(kind)) return result('caught', kind)
  return result('other check', `${kind}: ${ran.output.split('\n')[0]}`)
}

const mutantsOf = (file, kernel, test, sources) =>
  JSON.parse(readFileSync(file, 'utf8')).map((mutant, index) => ({ kernel, test, sources, mutant, index }))

/** The mutants of a small kernel whose fates are known, one that changes nothing among them. */
async function checkRunner() {
  const fixture = path.join(folder, 'runner')
  const mutants = mutantsOf(
    path.join(fixture, 'mutants.json'),
    'runner',
    path.join(fixture, 'test.cpp'),
    fixture,
  )
  const wrong = []
  await inParallel(mutants, runMutant, ({ mutant, state, detail }) => {
    if (state !== mutant.state)
      wrong.push(`"${mutant.name}" is "${state}" and not "${mutant.state}" ${detail}`)
  })
  if (wrong.length) throw new Error(`the runner of mutants is broken: ${wrong.join('; ')}`)
}

async function main() {
  const list = (name, end) => {
    const place = path.join(folder, name)
    const files = existsSync(place) ? readdirSync(place).filter((file) => file.endsWith(end)) : []
    return files.map((file) => file.slice(0, -end.length)).filter((name) => !args.only || name === args.only)
  }
  const programs = ['tests', 'kernels'].flatMap((kind) => list(kind, '.cpp').map((name) => ({ kind, name })))
  if (!args.only || args.only === 'probe') programs.push({ kind: 'tests', name: 'probe' })
  const kernels = args['no-mutants'] ? [] : list('mutants', '.json')
  const checksItself = args.only ? args.only === 'runner' : !args['no-mutants'] && !args.update
  if (!programs.length && !checksItself) throw new Error(`no program is called ${args.only}`)
  buildPrograms(args.only ? ['cases', ...programs.map(({ kind, name }) => `${kind}.${name}`)] : [])

  const failures = []
  await inParallel(
    programs,
    async (program) => ({
      program,
      ...(await run(path.join(build, program.kind, program.name), [], { limit: timeout })),
    }),
    ({ program, code, output, seconds }) => {
      const name = `${program.kind}/${program.name}`
      if (code !== 0) failures.push(name)
      console.log(`${code === 0 ? 'ok  ' : 'FAIL'} ${name.padEnd(32)} ${seconds.toFixed(1).padStart(6)} s`)
      if (code !== 0) console.log(`${output}(${typeof code === 'string' ? code : `exit code ${code}`})`)
    },
  )

  if (checksItself) await checkRunner()
  if (kernels.length) {
    const mutants = kernels.flatMap((kernel) =>
      mutantsOf(
        path.join(folder, 'mutants', `${kernel}.json`),
        kernel,
        path.join(folder, 'kernels', `${kernel}.cpp`),
        root,
      ),
    )
    const table = new Map(kernels.map((kernel) => [kernel, new Map()]))
    await inParallel(mutants, runMutant, ({ kernel, mutant, state, detail }) => {
      const column = state === 'caught' ? detail : state
      table.get(kernel).set(column, (table.get(kernel).get(column) ?? 0) + 1)
      if (state === 'caught') return
      failures.push(`${kernel}: ${mutant.name}`)
      console.log(`FAIL mutant of ${kernel}, "${mutant.name}" (${mutant.caught_by}): ${state} ${detail}`)
    })
    for (const kernel of args.update ? kernels : []) {
      const list = mutants.filter((entry) => entry.kernel === kernel).map(({ mutant }) => mutant)
      writeFileSync(path.join(folder, 'mutants', `${kernel}.json`), `${JSON.stringify(list, null, 2)}\n`)
    }
    for (const [kernel, counts] of table) {
      const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
      const fates = [...counts].sort((a, b) => b[1] - a[1]).map(([kind, count]) => `${kind} ${count}`)
      console.log(`${kernel.padEnd(24)} ${String(total).padStart(3)} mutants: ${fates.join(', ')}`)
    }
  }
  if (failures.length) console.log(`\n${failures.length} failed: ${failures.join(', ')}`)
  process.exitCode = failures.length ? 1 : 0
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
