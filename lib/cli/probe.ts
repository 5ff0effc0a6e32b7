/**
 * Questions to programs that may crash or hang, as drivers of broken GPUs do: asked in a child process with a time limit. Whatever
 * the child does, there is an answer, and nothing of it keeps this process alive.
 */
import { spawn } from 'node:child_process'

export interface Answer {
  /** What it wrote, when it ended well. */
  output?: string
  /** What went wrong otherwise, in words. */
  failure?: string
}

const maxOutput = 1 << 20

/** Runs a program and gives what it writes to stdout, or why that failed: within `limitMs`, and a moment after an abort. Never rejects. */
export function probe(
  program: string,
  args: readonly string[],
  { limitMs, signal }: { limitMs: number; signal?: AbortSignal },
): Promise<Answer> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that what it started ends with it.
      detached: process.platform !== 'win32',
      windowsHide: true,
    })
    let [output, errors] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output = (output + text).slice(0, maxOutput)
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors = (errors + text).slice(0, maxOutput)
    })
    const answer = (given: Answer) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stopped)
      // A process that hangs inside the kernel does not even heed SIGKILL: it is not waited for.
      kill(child)
      for (const stream of [child.stdout, child.stderr]) stream.destroy()
      child.unref()
      resolve(given)
    }
    const stopped = () => answer({ failure: 'interrupted' })
    const timer = setTimeout(() => answer({ failure: `no answer within ${limitMs / 1000} s` }), limitMs)
    if (signal?.aborted) return stopped()
    signal?.addEventListener('abort', stopped)
    child.on('error', (error: NodeJS.ErrnoException) =>
      answer({ failure: error.code === 'ENOENT' ? 'not installed' : error.message }),
    )
    child.on('close', (code, by) => {
      if (code === 0) return answer({ output })
      const said = (errors || output).trim()
      answer({ failure: `${by ? `ended by ${by}` : `ended with code ${code}`}${said && `: ${said}`}` })
    })
  })
}

function kill({ pid, exitCode, signalCode }: ReturnType<typeof spawn>): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, 'SIGKILL')
  } catch {
    // It ended in between.
  }
}
