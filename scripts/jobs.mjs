// Commands that run beside one another, for the scripts of this folder.
import { spawn } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')

/**
 * Runs a command in the project's folder, `limit` ms at most. Resolves with its exit code (or the name of the signal or error that
 * ended it), all that it wrote, and the seconds it took.
 */
export function run(command, args, { env = {}, limit } = {}) {
  return new Promise((resolve) => {
    const start = performance.now()
    const child = spawn(command, args, { cwd: root, timeout: limit, env: { ...process.env, ...env } })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    child.on('error', (error) => resolve({ code: error.code, output: error.message, seconds: 0 }))
    child.on('close', (code, signal) => {
      resolve({ code: signal ?? code, output, seconds: (performance.now() - start) / 1e3 })
    })
  })
}

/** Calls work(item) for all items, `jobs` at once, and done(result) in the items' order. */
export async function inParallel(
  items,
  work,
  done = () => {},
  jobs = Math.min(2, os.availableParallelism()),
) {
  const results = new Array(items.length)
  let next = 0
  let reported = 0
  const worker = async () => {
    while (next < items.length) {
      const i = next++
      results[i] = await work(items[i])
      while (results[reported]) done(results[reported++])
    }
  }
  await Promise.all(Array.from({ length: jobs }, worker))
}
