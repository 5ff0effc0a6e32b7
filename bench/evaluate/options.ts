/** What was typed behind `npm run evaluate --`, checked. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { findModel } from '../../lib/cli/model-name.js'
import { FSVideoError, invalid } from '../../lib/errors.js'
import { type Configuration, configurations, type Group, groups } from './configurations.js'

export const usage = `Usage: npm run evaluate -- [options]

  --model DIR      a model folder; models/shapes when left out
  --plain DIR      a transformer trained without layer memory; transformer_plain
                   in the model folder when left out
  --count N        clips of each row; 200 when left out
  --only LIST      of ${groups.join(', ')}; all when left out
  --filter REGEX   of the rows' names
  --seed N         which held-out scenes and noise; 0 when left out
  --device NAME    auto when left out
  --json FILE      the report as JSON
  --strip FILE     a PNG of some clips of the row "full"
`

export interface EvaluateOptions {
  model: string
  /** Folder of a transformer. */
  plain?: string
  count: number
  seed: number
  device: string
  json?: string
  strip?: string
  rows: readonly Configuration[]
}

/** Most clips of a row: beyond it scenes of one `--seed` would be another's. */
const mostClips = 10_000

/** undefined where help was asked for. Throws ERR_FSVIDEO_INVALID_ARGUMENT. */
export async function readOptions(words: readonly string[]): Promise<EvaluateOptions | undefined> {
  const { values } = typed(words)
  if (values.help) return undefined
  const model = await findModel(values.model, '--model')
  const { device, json, strip } = values
  return {
    model,
    plain: await findPlain(values.plain, model),
    count: wholeNumber('--count', values.count, 2, mostClips),
    seed: wholeNumber('--seed', values.seed, 0, 1_000_000),
    device,
    json,
    strip,
    rows: choose(values.only, values.filter),
  }
}

function typed(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      options: {
        model: { type: 'string', default: 'models/shapes' },
        count: { type: 'string', default: '200' },
        only: { type: 'string', default: groups.join() },
        filter: { type: 'string', default: '' },
        seed: { type: 'string', default: '0' },
        device: { type: 'string', default: 'auto' },
        plain: { type: 'string' },
        json: { type: 'string' },
        strip: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (cause) {
    const { message } = cause as Error
    throw new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, { field: 'arguments', cause })
  }
}

function wholeNumber(field: string, text: string, least: number, most: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most))
    throw invalid(field, text, `a whole number from ${least} to ${most}`)
  return value
}

async function findPlain(given: string | undefined, model: string): Promise<string | undefined> {
  const folder = given ?? join(model, 'transformer_plain')
  const there = await stat(join(folder, 'config.json')).catch(() => undefined)
  if (there) return folder
  if (given === undefined) return undefined
  throw invalid('--plain', given, 'a folder of a transformer, with config.json')
}

function choose(only: string, filter: string): Configuration[] {
  const wanted = only.split(',')
  for (const group of wanted)
    if (!groups.includes(group as Group)) throw invalid('--only', group, `of ${groups.join(', ')}`)
  const pattern = expression(filter)
  const rows = configurations.filter(({ name, group }) => wanted.includes(group) && pattern.test(name))
  if (rows.length === 0)
    throw invalid('--filter', filter, `a part of ${configurations.map(({ name }) => name).join(' | ')}`)
  return rows
}

function expression(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch {
    throw invalid('--filter', text, 'a regular expression')
  }
}
