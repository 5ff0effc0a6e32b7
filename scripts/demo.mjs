// `npm run demo`: the command line, run from its sources, with the model that ships with the package: a drawn circle
// and a sentence go in, a video of the circle doing what the sentence says comes out.
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { register } from 'tsx/esm/api'

register()
const { run } = await import('../lib/cli/run.ts')

process.chdir(path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..'))
const words = [
  ...['generate', '--model', 'models/shapes', '--image', 'models/samples/drawn-circle.png'],
  ...['--prompt', 'a large blue circle moves left', '--out', 'out/demo.mp4'],
]
const shown = words.map((word) => (/^[\w./:-]+$/.test(word) ? word : JSON.stringify(word))).join(' ')
process.stderr.write(`\n$ fsvideo ${shown}\n`)
mkdirSync('out', { recursive: true })
process.exitCode = await run(words)
