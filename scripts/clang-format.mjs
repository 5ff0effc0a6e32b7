// Lays out the C++ sources with the clang-format of node_modules; with --check only says which differ.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const files = ['csrc', 'test/native', 'test/simulator', 'bench'].flatMap((folder) =>
  readdirSync(path.join(root, folder), { recursive: true })
    .filter((name) => /\.(cpp|h|cu|cuh)$/.test(name))
    .map((name) => path.join(folder, name)),
)
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i']
const run = spawnSync(
  process.execPath,
  [path.join(root, 'node_modules/clang-format/index.js'), ...mode, ...files],
  {
    stdio: 'inherit',
    cwd: root,
  },
)
process.exit(run.status ?? 1)
