/** What the tests of the pipeline share: models with random weights in a temporary folder, pictures, and pipelines that go away again. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { packageRoot } from '../lib/addon.js'
import { initModel } from '../lib/init.js'
import type { ComputeType } from '../lib/parameters.js'
import { Random } from './numbers.js'

const folders: string[] = []
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A folder that is removed when the process ends. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), `fsvideo-${name}-`))
  folders.push(folder)
  return folder
}

/** A model folder with random weights of models/<config>. */
export async function randomModel(
  config: 'tiny' | 'demo',
  options: { seed?: number; dtype?: ComputeType } = {},
): Promise<string> {
  const folder = path.join(temporaryFolder(config), 'model')
  await initModel(path.join(packageRoot, 'models', config), folder, { seed: 1, ...options })
  return folder
}

/** A picture of soft stripes and some noise: not symmetric, no two alike. */
export function picture(seed: number, width = 160, height = 120) {
  const random = new Random(seed)
  const data = new Uint8Array(width * height * 3)
  for (let i = 0; i < data.length; i++) {
    const [x, y, c] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3]
    data[i] = 128 + 80 * Math.sin(x / (5 + seed + c) + y / (9 + c)) + 30 * random.uniform()
  }
  return { data, width, height }
}
