/**
 * NVTX ranges as a profiler sees them: a small tool in the place of Nsight is injected into a process that is traced. Needs a build
 * with the toolkit's headers; where there are none, there is nothing to test.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packageRoot } from '../lib/addon.js'
import { onCpu, testDevice } from './devices.js'
import { temporaryFolder } from './pipeline-model.js'

const include = [process.env.CUDA_PATH, process.env.CUDA_HOME, '/usr/local/cuda']
  .map((root) => root && path.join(root, 'include'))
  .find((folder) => folder && existsSync(path.join(folder, 'nvtx3/nvToolsExt.h')))
const test = suite('nvtx')

if (include)
  test('a profiler sees stages, steps, layers and ops of what is traced, closed in their order', () => {
    const folder = temporaryFolder('nvtx')
    const [tool, output] = [path.join(folder, 'tool.so'), path.join(folder, 'output')]
    const source = path.join(packageRoot, 'test/fixtures/nvtx-tool.cpp')
    const built = spawnSync('g++', ['-shared', '-fPIC', '-isystem', include, source, '-o', tool])
    assert.is(built.status, 0, String(built.stderr))
    const program = path.join(packageRoot, 'test/fixtures/nvtx-work.ts')
    execFileSync(process.execPath, ['--import', import.meta.resolve('tsx'), program, testDevice], {
      env: { ...process.env, NVTX_INJECTION64_PATH: tool, NVTX_TOOL_OUTPUT: output },
    })
    const lines = readFileSync(output, 'utf8').trim().split('\n')
    const indented: string[] = []
    let depth = 0
    for (const line of lines) {
      if (line === 'pop') depth--
      else indented.push(`${'.'.repeat(depth++)}${line.replace('push ', '')}`)
      assert.ok(depth >= 0)
    }
    assert.is(depth, 0, 'all are closed')
    const step = (i: number, ...rows: string[]) => [`.step ${i}`, ...rows]
    const layer = ['..layer', '...linear']
    // A card launches the second and third replay at once.
    const replay = onCpu ? layer : ['..graph']
    assert.equal(indented, [
      'fill',
      'stage',
      ...step(0, ...layer),
      ...step(1, ...replay),
      ...step(2, ...replay),
    ])
  })

test.run()
