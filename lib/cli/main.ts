#!/usr/bin/env node
/** The program `fsvideo`. */
import { run } from './run.js'

// Whoever reads our output may stop reading: a video that is being made is made all the same.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') process.exitCode = 1
  })

const code = await run(process.argv.slice(2))
process.exitCode ||= code
