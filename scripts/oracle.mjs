// `npm run test:oracle`: tests the reference and the training code, remakes the golden files with the PyTorch that is installed and
// compares the engine with them; and asks the benchmarks' peer for every op.
// FSVIDEO_PYTHON names the interpreter; otherwise the first of python3 and /usr/bin/python3 that has torch is taken.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const hasTorch = (python) =>
  spawnSync(python, ['-c', 'import torch; print("torch", torch.__version__)'], {
    stdio: ['ignore', 'inherit', 'ignore'],
  }).status === 0
const candidates = process.env.FSVIDEO_PYTHON ? [process.env.FSVIDEO_PYTHON] : ['python3', '/usr/bin/python3']
const python = candidates.find(hasTorch)
if (!python) {
  console.error(
    `No Python with torch among: ${candidates.join(', ')}. Debian has python3-torch; FSVIDEO_PYTHON names another interpreter.`,
  )
  process.exit(1)
}
const folder = mkdtempSync(path.join(tmpdir(), 'fsvideo-goldens-'))
try {
  const steps = [
    [python, ['reference/check.py']],
    [python, ['-m', 'training.check'], 'reference'],
    [python, ['reference/make_goldens.py', '--out', folder]],
    [process.execPath, ['scripts/test.mjs', '(goldens.*|torch-peer)\\.test\\.ts$']],
  ]
  for (const [command, args, below = '.'] of steps) {
    const run = spawnSync(command, args, {
      stdio: 'inherit',
      cwd: path.join(root, below),
      env: { ...process.env, FSVIDEO_GOLDENS: folder, FSVIDEO_PYTHON: python },
    })
    if (run.status !== 0) process.exit(run.status ?? 1)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
