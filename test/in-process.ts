/** The command line without a child process: starting Node is most of the time of one. */
import { run } from '../lib/cli/run.js'

/** What `fsvideo` with these words writes where, and its exit code. */
export async function inProcess(
  words: readonly string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' }
  const restore = (['stdout', 'stderr'] as const).map((name) => {
    const { write } = process[name]
    process[name].write = (text: string | Uint8Array) => {
      written[name] += text
      return true
    }
    return () => {
      process[name].write = write
    }
  })
  try {
    return { code: await run(words), ...written }
  } finally {
    for (const undo of restore) undo()
  }
}
