/**
 * Reads a trace as a viewer does and complains of what one would drop or draw wrongly: the JSON object form of Chrome's trace event
 * format, with complete slices, counters and metadata.
 */
import * as assert from 'uvu/assert'

export interface Slice {
  name: string
  cat: string
  tid: number
  ts: number
  dur: number
  args: Record<string, unknown>
  /** Names of the slices around it, the outermost first. */
  inside: string[]
}

export interface ReadTrace {
  /** By the name of the track. */
  tracks: Map<string, Slice[]>
  counters: Map<string, { ts: number; value: number }[]>
}

/** Microseconds that rounding to nanoseconds may shift an edge by. */
const grain = 2e-3

export function readTrace(text: string): ReadTrace {
  const file = JSON.parse(text)
  assert.ok(Array.isArray(file.traceEvents), 'an object with traceEvents')
  assert.ok(['ms', 'ns'].includes(file.displayTimeUnit))
  const names = new Map<number, string>()
  const byTrack = new Map<number, Slice[]>()
  const counters: ReadTrace['counters'] = new Map()
  for (const event of file.traceEvents) {
    const what = JSON.stringify(event)
    assert.ok(typeof event.name === 'string' && event.name !== '', what)
    assert.ok(Number.isInteger(event.pid), what)
    if (event.ph === 'M') {
      assert.ok(['process_name', 'thread_name', 'thread_sort_index'].includes(event.name), what)
      if (event.name === 'thread_name') names.set(event.tid, event.args.name)
      if (event.name === 'thread_sort_index') assert.ok(Number.isInteger(event.args.sort_index), what)
      continue
    }
    assert.ok(Number.isFinite(event.ts) && event.ts >= 0, what)
    if (event.ph === 'C') {
      const [value, ...others] = Object.values(event.args)
      assert.ok(typeof value === 'number' && Number.isFinite(value) && others.length === 0, what)
      const list = counters.get(event.name) ?? []
      counters.set(event.name, [...list, { ts: event.ts, value }])
      continue
    }
    assert.is(event.ph, 'X', what)
    assert.ok(Number.isInteger(event.tid) && Number.isFinite(event.dur) && event.dur >= 0, what)
    const slice: Slice = { args: {}, ...event, inside: [] }
    byTrack.set(event.tid, [...(byTrack.get(event.tid) ?? []), slice])
  }
  for (const list of counters.values())
    for (const [i, { ts }] of list.entries()) assert.ok(i === 0 || ts >= list[i - 1]!.ts, 'counters go on')
  const tracks: ReadTrace['tracks'] = new Map()
  for (const [tid, slices] of byTrack) {
    const name = names.get(tid)
    assert.ok(name, `track ${tid} has a name`)
    tracks.set(name!, nested(slices))
  }
  return { tracks, counters }
}

/** Slices of a track either follow or contain each other. */
function nested(slices: Slice[]): Slice[] {
  const end = ({ ts, dur }: Slice) => ts + dur
  // Of two alike the first in the file is the outer one.
  const sorted = slices
    .map((slice, i) => ({ slice, i }))
    .sort((a, b) => a.slice.ts - b.slice.ts || b.slice.dur - a.slice.dur || a.i - b.i)
    .map(({ slice }) => slice)
  const open: Slice[] = []
  for (const slice of sorted) {
    while (open.length > 0 && end(open.at(-1)!) <= slice.ts + grain / 2) open.pop()
    const around = open.at(-1)
    assert.ok(
      !around || end(slice) <= end(around) + grain,
      `${slice.name} ends ${around && end(slice) - end(around)} us behind ${around?.name}`,
    )
    slice.inside = open.map(({ name }) => name)
    open.push(slice)
  }
  return sorted
}
