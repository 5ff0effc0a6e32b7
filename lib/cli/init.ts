/** `fsvideo init`: a model folder with random weights, so that everything runs without a checkpoint. */
import { statfs } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { FSVideoError } from '../errors.js'
import { initModel, modelInfo } from '../init.js'
import type { ComputeType } from '../parameters.js'
import { command } from './command.js'
import { bytes, columns, count } from './format.js'
import { findModel } from './model-name.js'
import { Progress } from './progress.js'

export const init = command({
  name: 'init',
  about:
    'Makes a model folder with random weights: everything runs, and the pictures are noise. CONFIG is a folder of configurations or the name of a shipped one (tiny, demo, fsvideo-14b); DIR must not exist or be empty.',
  positionals: ['CONFIG', 'DIR'],
  options: {
    seed: { value: 'N', help: 'the same seed gives the same weights; 0 when left out' },
    dtype: { value: 'T', help: 'what weights are stored as: bf16 (when left out) or f32' },
  },
  async run({ seed, dtype = 'bf16' }, [config, dir], { signal }) {
    const folder = await findModel(config!, 'CONFIG')
    const { parameters } = await modelInfo(folder)
    const size = parameters * (dtype === 'f32' ? 4 : 2)
    await checkSpace(dir!, size)
    const progress = new Progress()
    try {
      progress.begin('write', Math.ceil(size / 1e6), 'MB')
      await initModel(folder, dir!, {
        seed: seedOf(seed),
        dtype: dtype as ComputeType,
        signal,
        onProgress: ({ writtenBytes }) => progress.step(Math.ceil(writtenBytes / 1e6)),
      })
      progress.end()
    } finally {
      progress.close()
    }
    process.stdout.write(
      columns([
        ['path', resolve(dir!)],
        ['parameters', `${count(parameters)}, ${bytes(size)} ${dtype}`],
        ['seed', seed ?? '0'],
      ]),
    )
    return undefined
  },
})

/** What is no number stays as it is: `initModel` refuses it and says what is allowed. */
function seedOf(text: string | undefined): bigint | undefined {
  return (text !== undefined && /^\d+$/.test(text) ? BigInt(text) : text) as bigint | undefined
}

/** The full model takes 81 GB: better to know before they are written. */
async function checkSpace(dir: string, needed: number): Promise<void> {
  const disk = await statfs(dirname(resolve(dir))).catch(() => undefined)
  const available = disk ? disk.bavail * disk.bsize : Number.POSITIVE_INFINITY
  if (needed <= available) return
  const message = `${dir} needs ${bytes(needed)}, and ${bytes(available)} are free there`
  throw new FSVideoError('ERR_FSVIDEO_OUTPUT', message, {
    field: 'DIR',
    got: available,
    expected: `${needed} bytes of free space`,
    needed,
    available,
  })
}
