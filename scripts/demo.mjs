// `npm run demo`: two commands of the command line, run from its sources. Makes the demo model once, then a video of the
// photo in models/samples through all its networks, with guidance and refiner.
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { register } from 'tsx/esm/api'

register()
const { run } = await import('../lib/cli/run.ts')

process.chdir(path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..'))
const model = 'out/models/demo'
const prompt = 'the rocket lifts off'

async function fsvideo(...words) {
  const shown = words.map((word) => (/^[\w./:-]+$/.test(word) ? word : JSON.stringify(word))).join(' ')
  process.stderr.write(`\n$ fsvideo ${shown}\n`)
  const code = await run(words)
  if (code !== 0) process.exit(code)
}

mkdirSync(path.dirname(model), { recursive: true })
if (!existsSync(model)) await fsvideo('init', 'demo', model)
await fsvideo(
  ...['generate', '--model', model, '--image', 'models/samples/rocket.jpg', '--prompt', prompt],
  ...['--size', '384x256', '--out', 'out/demo.mp4'],
)
process.stderr.write(
  '\nThe weights of this model are random, so the picture is noise: what is real is the way there, through every network.\n',
)
