/** Where a model named on the command line is: a folder, or one of the configurations that come with the package. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../addon.js'
import { FSVideoError, show } from '../errors.js'
import { suggest } from '../options.js'

const shipped = join(packageRoot, 'models')

/**
 * The folder that `name` stands for. A plain word that is both is the shipped configuration; `./word` is the folder.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT if it is neither.
 */
export async function findModel(name: string, field: string): Promise<string> {
  const names = await shippedModels()
  if (names.includes(name)) return join(shipped, name)
  if (await isFolder(name)) return name
  const meant = suggest(name, names)
  const expected = `a folder, or one of ${names.join(', ')}`
  const hint = meant ? ` (did you mean ${meant}?)` : ''
  const message = `${field} must be ${expected}, got ${show(name)}${hint}`
  throw new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, { field, got: name, expected })
}

async function shippedModels(): Promise<string[]> {
  const entries = await readdir(shipped)
  const models = await Promise.all(
    entries.map(async (name) => ((await isFile(join(shipped, name, 'model_index.json'))) ? name : undefined)),
  )
  return models.filter((name) => name !== undefined)
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false
}
