// `npm run check:cuda`: what a kernel must be before any GPU sees it. Compiles every .cu for Hopper, for the portable family and for
// a Blackwell card, and fails on a spill, on a C75xx note of ptxas (a wgmma serialised, a setmaxnreg ignored), and when registers or
// stack of a kernel are not those of csrc/cuda/kernels.table, so that every change of them shows in review. `--update` rewrites the
// table. Results are kept in build-cmake/gates by the content of all that a file includes.
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const tableFile = path.join(root, 'csrc/cuda/kernels.table')
const cache = path.join(root, 'build-cmake/gates')
/** The families' own architectures are in the table; the last must only compile well. */
const architectures = ['sm_90a', 'sm_80', 'sm_100f']
const flags = ['-std=c++20', '-O3', '--expt-relaxed-constexpr', '-DFSV_CUDA=1', '-I', path.join(root, 'csrc')]
const sources = readdirSync(path.join(root, 'csrc/cuda'), { recursive: true })
  .filter((name) => name.endsWith('.cu'))
  .map((name) => path.join(root, 'csrc/cuda', name))
  .concat(path.join(root, 'test/simulator/wrappers.cu'))
  .sort()
/** Small launchers are compiled together, as in the addon. */
const units = JSON.parse(readFileSync(path.join(root, 'csrc/cuda/units.json'), 'utf8')).map((names, i) => ({
  file: path.join(cache, `unit_${i}.cu`),
  includes: names.map((name) => `cuda/launch/${name}.cu`),
}))
const together = units.flatMap(({ includes }) => includes.map((name) => path.join(root, 'csrc', name)))
const files = [...units.map(({ file }) => file), ...sources.filter((file) => !together.includes(file))]
/** Not part of the addon: must compile well, and their registers interest nobody. */
const isListed = (file) => !/probe|wrappers/.test(path.relative(root, file))

const nvcc = ['nvcc', '/usr/local/cuda/bin/nvcc'].find(
  (program) => spawnSync(program, ['--version']).status === 0,
)
if (!nvcc) {
  console.log('check:cuda: no nvcc here, so no kernel was compiled and no gate was tried')
  process.exit(0)
}
const release = /release (\d+\.\d+)/.exec(spawnSync(nvcc, ['--version'], { encoding: 'utf8' }).stdout)?.[1]

/** The file and every file of ours that it includes. */
function sourcesOf(file, found = new Set()) {
  if (found.has(file)) return found
  found.add(file)
  for (const [, name] of readFileSync(file, 'utf8').matchAll(/^\s*#\s*include "([^"]+)"/gm)) {
    const header = [path.dirname(file), path.join(root, 'csrc')]
      .map((dir) => path.join(dir, name))
      .find(existsSync)
    if (header) sourcesOf(header, found)
  }
  return found
}

/** What ptxas says of a file on an architecture: [{name, registers, stack, spills}], its notes, and the error if it does not compile. */
async function compile(file, architecture) {
  const hash = createHash('sha256').update(JSON.stringify([release, architecture, flags.slice(0, -1)]))
  for (const source of [...sourcesOf(file)].sort()) hash.update(readFileSync(source))
  const kept = path.join(cache, `${hash.digest('hex')}.json`)
  if (existsSync(kept)) return JSON.parse(readFileSync(kept, 'utf8'))
  const args = [...flags, `-arch=${architecture}`, '-cubin', '-Xptxas', '-v', '-o', os.devNull, file]
  const { stderr, error } = await promisify(execFile)(nvcc, args, { maxBuffer: 1 << 28 }).catch((error) => ({
    stderr: error.stderr,
    error: error.message,
  }))
  const kernels = []
  for (const [, name, properties, used] of stderr.matchAll(
    /Compiling entry function '(\S+)' for[\s\S]*?Function properties for \S+\n(.*)\n.*?(Used .*)/g,
  )) {
    const [, stack, stores, loads] =
      /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(properties)
    const registers = Number(/Used (\d+) registers/.exec(used)[1])
    kernels.push({ name, registers, stack: Number(stack), spills: Number(stores) + Number(loads) })
  }
  const notes = stderr.split('\n').filter((line) => /C75\d\d/.test(line))
  const result = { kernels, notes, ...(error && { error: stderr || error }) }
  if (!error) writeFileSync(kept, JSON.stringify(result))
  return result
}

/** `gemm_sm90<Tile<128, 256>>` of `void fsv::cuda::kernels::gemm_sm90<fsv::cuda::kernels::Tile<128, 256>>(…)`. */
function shortNames(mangled) {
  const { stdout } = spawnSync('c++filt', ['--no-params', ...mangled], { encoding: 'utf8' })
  return stdout
    .trim()
    .split('\n')
    .map((name) => name.replace(/^void /, '').replace(/(?:\w+|\(anonymous namespace\))::/g, ''))
}

mkdirSync(cache, { recursive: true })
for (const { file, includes } of units)
  writeFileSync(file, includes.map((name) => `#include "${name}"\n`).join(''))
const faults = []
const rows = []
const jobs = architectures.flatMap((architecture) => files.map((file) => ({ file, architecture }))).values()
await Promise.all(
  Array.from({ length: Math.min(2, os.availableParallelism()) }, async () => {
    for (const { file, architecture } of jobs) {
      const { kernels, notes, error } = await compile(file, architecture)
      const where = `${path.relative(root, file)} for ${architecture}`
      if (error) faults.push(`${where} does not compile:\n${error}`)
      faults.push(...notes.map((note) => `${where}: ${note.trim()}`))
      if (kernels.length === 0) continue
      const names = shortNames(kernels.map(({ name }) => name))
      for (const [i, { registers, stack, spills }] of kernels.entries()) {
        if (spills > 0) faults.push(`${where}: ${names[i]} spills ${spills} bytes`)
        if (architecture !== architectures.at(-1) && isListed(file))
          rows.push([names[i], architecture, `${registers} registers`, `${stack} bytes of stack`].join('  '))
      }
    }
  }),
)

const head = `# Kernels as ptxas of nvcc ${release} makes them. Written by \`npm run check:cuda -- --update\`.`
const table = `${[head, ...new Set(rows.sort())].join('\n')}\n`
if (process.argv.includes('--update')) writeFileSync(tableFile, table)
const committed = existsSync(tableFile) ? readFileSync(tableFile, 'utf8') : ''
if (committed.split('\n', 1)[0] !== head) {
  console.log(
    `check:cuda: ${path.relative(root, tableFile)} is of another nvcc than ${release} and was not compared`,
  )
} else if (committed !== table) {
  const [before, after] = [committed, table].map((text) => new Set(text.trim().split('\n')))
  faults.push(
    `${path.relative(root, tableFile)} is not what the kernels are (\`npm run check:cuda -- --update\` rewrites it):`,
    ...[...before].filter((row) => !after.has(row)).map((row) => `  - ${row}`),
    ...[...after].filter((row) => !before.has(row)).map((row) => `  + ${row}`),
  )
}
for (const fault of faults) console.error(fault)
console.log(
  `check:cuda: ${sources.length} files, ${rows.length} kernels, ${faults.length ? 'NOT as they must be' : 'no spill, no C75xx note'}`,
)
process.exitCode = faults.length ? 1 : 0
