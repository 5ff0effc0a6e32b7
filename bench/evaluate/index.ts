/**
 * `npm run evaluate`: what a model can do, by the engine on held-out scenes. Pictures go in and frames come out through the public
 * API; a tracker that knows the scenes judges the frames. Progress goes to stderr, the table to stdout.
 *
 *   npm run evaluate -- [--model DIR] [--count N] [--only LIST] [--json FILE] [--strip FILE.png]     (--help lists all)
 */
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import os from 'node:os'
import { relative } from 'node:path'
import { Device, FSVideoError } from '../../lib/index.js'
import { Evaluation } from './evaluation.js'
import { type EvaluateOptions, readOptions, usage } from './options.js'
import type { AbsentRow, Row } from './results.js'
import { type Example, writeStrip } from './strip.js'
import { tableOf } from './table.js'

export interface Report {
  date: string
  commit: string
  machine: { cpu: string; device: string; node: string }
  model: string
  count: number
  seed: number
  rows: (Row | AbsentRow)[]
  /** Of the process, resident. */
  peakBytes: number
}

async function evaluate(options: EvaluateOptions): Promise<{ report: Report; examples: Example[] }> {
  const { model, count, seed } = options
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const device = await Device.open(options.device)
  try {
    const evaluation = new Evaluation(options, device, (line) => process.stderr.write(`${line}\n`))
    const rows = await evaluation.run()
    const cpu = os.cpus()[0]?.model ?? 'unknown'
    const report = {
      date: new Date().toISOString(),
      commit,
      machine: { cpu, device: device.description, node: process.version },
      model: relative('', model) || model,
      count,
      seed,
      rows,
      peakBytes: process.resourceUsage().maxRSS * 1024,
    }
    return { report, examples: evaluation.examples }
  } finally {
    device.dispose()
  }
}

/** Throws ERR_FSVIDEO_OUTPUT where writing fails. */
async function written(field: string, got: string, work: Promise<void>): Promise<void> {
  await work.catch((cause: Error) => {
    const message = `${field} cannot be written: ${cause.message}`
    throw new FSVideoError('ERR_FSVIDEO_OUTPUT', message, { field, got, cause })
  })
}

try {
  const options = await readOptions(process.argv.slice(2))
  if (!options) process.stdout.write(usage)
  else {
    const { report, examples } = await evaluate(options)
    console.log(tableOf(report).join('\n'))
    const { json, strip } = options
    if (json) await written('--json', json, writeFile(json, `${JSON.stringify(report, null, 2)}\n`))
    if (strip && examples.length > 0) await written('--strip', strip, writeStrip(strip, examples))
  }
} catch (error) {
  if (!(error instanceof FSVideoError)) throw error
  process.stderr.write(`evaluate: ${error.message}\n  ${error.code}\n`)
  process.exitCode = error.code === 'ERR_FSVIDEO_INVALID_ARGUMENT' ? 2 : 1
}
