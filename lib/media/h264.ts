/**
 * MP4 without ffmpeg: a WebAssembly H.264 encoder in a worker thread. About 20 frames a second at 832x480, several
 * times slower than x264 and two to three times its bytes, but there wherever Node is. Holds the encoded file in memory
 * until the end.
 */

import { writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { type Clip, type FrameSink, outputError } from './sink.js'

/**
 * The worker stands beside this file, in dist and in the sources. The sources are run by tsx, which on Node 20 does not
 * reach into worker threads: there the thread has to call it first.
 */
function workerEntry(): URL {
  const extension = extname(fileURLToPath(import.meta.url))
  const file = new URL(`./h264-worker${extension}`, import.meta.url)
  if (extension === '.js') return file
  const loader = import.meta.resolve('tsx/esm/api')
  const entry = `import { register } from '${loader}'; register(); await import('${file}')`
  return new URL(`data:text/javascript,${encodeURIComponent(entry)}`)
}

/** One clip of even width and height. One frame is encoded while the caller makes the next. */
export class H264Sink implements FrameSink {
  readonly #scratch: string
  readonly #worker: Worker
  readonly #died: Promise<never>
  #answer: Promise<unknown> = Promise.resolve()
  #file: Promise<void> = Promise.resolve()

  constructor(scratch: string, clip: Clip) {
    this.#scratch = scratch
    // Its own stdout and stderr: results are all that may be on ours.
    this.#worker = new Worker(workerEntry(), { workerData: clip, execArgv: [], stdout: true, stderr: true })
    this.#died = new Promise((_, reject) => {
      const failed = (reason: string, cause?: unknown) =>
        reject(outputError(`the H.264 encoder failed: ${reason}`, reason, 'a complete video', cause))
      this.#worker.on('error', (error) => failed(error.message, error))
      this.#worker.on('messageerror', (error) => failed(error.message, error))
      this.#worker.on('exit', (code) => failed(`its thread ended with code ${code}`))
    })
    this.#died.catch(() => {}) // whoever waits for an answer has it
  }

  async write(frame: Uint8Array): Promise<void> {
    await this.#answer
    const copy = frame.slice()
    this.#answer = this.#ask(copy, [copy.buffer])
    this.#answer.catch(() => {}) // the next call has it
  }

  async end(): Promise<void> {
    await this.#answer
    const file = (await this.#ask('end', [])) as Uint8Array
    this.#file = writeFile(this.#scratch, file)
    await this.#file
  }

  async kill(): Promise<void> {
    await this.#worker.terminate()
    await this.#file.catch(() => {})
  }

  #ask(message: unknown, transfer: ArrayBuffer[]): Promise<unknown> {
    const answer = new Promise((resolve) => this.#worker.once('message', resolve))
    this.#worker.postMessage(message, transfer)
    return Promise.race([answer, this.#died])
  }
}
