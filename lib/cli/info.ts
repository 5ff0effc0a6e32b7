/** `fsvideo info`: what a model folder holds, with or without weights. */
import { relative } from 'node:path'
import { type ModelInfo, modelInfo } from '../init.js'
import { command } from './command.js'
import { bytes, columns, count } from './format.js'
import { findModel } from './model-name.js'

export const info = command({
  name: 'info',
  about:
    'Tells what a model folder holds: its networks, their parameters and weights, and its sampling defaults. Weight files that are there are checked. MODEL is a folder or the name of a shipped configuration (tiny, demo, fsvideo-14b).',
  positionals: ['MODEL'],
  options: { json: { help: 'print one JSON document' } },
  async run({ json }, [name], { signal }) {
    const found = await modelInfo(await findModel(name!, 'MODEL'))
    signal.throwIfAborted()
    process.stdout.write(json ? `${JSON.stringify(found, null, 2)}\n` : table(found))
    return undefined
  },
})

function table({ folder, components, parameters, bytes: total, summary }: ModelInfo): string {
  const size = (n?: number, dtypes?: readonly string[]) =>
    n === undefined ? 'no weights' : `${bytes(n)} ${dtypes?.join(', ') ?? ''}`.trimEnd()
  return columns([
    ['model', relative('', folder) || folder],
    ['parameters', `${count(parameters)} (${parameters}), ${size(total)}`],
    ['sampling', summary],
    ...components.map(
      ({ name, class: className, parameters, bytes, dtypes, summary }) =>
        [name, `${className}, ${count(parameters)}, ${size(bytes, dtypes)}\n${summary}`] as const,
    ),
  ])
}
