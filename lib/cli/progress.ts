/**
 * How far the work is, on stderr. On a terminal: a bar of the stage that is under way, redrawn in place, with a clock that ticks
 * also while a step takes long. Otherwise, and for every stage that is done: one line.
 */
import type { WriteStream } from 'node:tty'
import { duration } from './format.js'

export interface ProgressOutput extends Pick<WriteStream, 'write'> {
  isTTY?: boolean
  columns?: number
}

interface Stage {
  name: string
  began: number
  step: number
  steps: number
  unit: string
}

const redrawMs = 100
const nameWidth = 8
const clearRest = '\x1b[K'
const clearLine = `\r${clearRest}`

export class Progress {
  readonly #output: ProgressOutput
  readonly #live: boolean
  readonly #timer?: NodeJS.Timeout
  #stage?: Stage

  constructor(output: ProgressOutput = process.stderr) {
    this.#output = output
    this.#live = output.isTTY === true && process.env.TERM !== 'dumb'
    if (this.#live) this.#timer = setInterval(() => this.#draw(), redrawMs).unref()
  }

  /** A stage starts. Steps that have a `unit` are counted aloud. */
  begin(name: string, steps: number, unit = ''): void {
    this.#stage = { name, began: performance.now(), step: 0, steps, unit }
    this.#draw()
  }

  /** So many steps of the stage that was begun last are done. */
  step(step: number): void {
    this.#stage!.step = step
    this.#draw()
  }

  /** The stage is done: its bar becomes a line. `elapsedMs` where somebody measured better than from `begin` to here. */
  end(elapsedMs?: number): void {
    const { name, began, steps, unit } = this.#stage!
    this.#stage = undefined
    const amount = unit && `${steps} ${unit}`
    const ms = elapsedMs ?? performance.now() - began
    this.#print(`${name.padEnd(nameWidth)}  ${amount.padEnd(14)}  ${duration(ms)}`)
  }

  /** A line above the bar. */
  note(text: string): void {
    this.#print(text)
    this.#draw()
  }

  /** Takes the bar away. */
  close(): void {
    clearInterval(this.#timer)
    if (this.#live && this.#stage) this.#output.write(clearLine)
    this.#stage = undefined
  }

  #print(line: string): void {
    this.#output.write(`${this.#live ? clearLine : ''}${line}\n`)
  }

  #draw(): void {
    if (this.#live && this.#stage) this.#output.write(`\r${this.#bar(this.#stage)}${clearRest}`)
  }

  /** One column short of the terminal's width: some terminals wrap a full line. */
  #bar({ name, began, step, steps, unit }: Stage): string {
    const elapsed = performance.now() - began
    const left = step > 0 && step < steps ? `${clock((elapsed * (steps - step)) / step)} left` : ''
    const amount = unit && `${step}/${steps} ${unit}`
    const tail = `${amount.padStart(14)}  ${clock(elapsed)}  ${left.padEnd(10)}`
    const room = (this.#output.columns || 80) - 1
    const cells = room - nameWidth - tail.length - 6
    const line =
      cells < 4
        ? `${name} ${amount} ${clock(elapsed)}`
        : `${name.padEnd(nameWidth)}  [${ruler(step / steps, cells)}]  ${tail}`
    return line.slice(0, room).trimEnd()
  }
}

/** `=====>    ` */
function ruler(share: number, cells: number): string {
  const done = Math.round(share * cells)
  if (done === 0) return ' '.repeat(cells)
  return `${'='.repeat(done - 1)}${done < cells ? '>' : '='}`.padEnd(cells)
}

/** "0:03", "1:02:03" */
function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  const two = (n: number) => String(n).padStart(2, '0')
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}
