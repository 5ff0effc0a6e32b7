/**
 * A trace as a file that ui.perfetto.dev and chrome://tracing open: the trace event format of Chrome, in its JSON object form. The
 * device has a track on which stages, steps, layers and ops lie above each other, the host one with what it waited for, and
 * memory in use is a counter.
 */
import type { Trace } from './trace.js'

/** Times are microseconds. */
export type ChromeEvent =
  | { ph: 'M'; name: string; pid: number; tid?: number; args: Record<string, string | number> }
  | { ph: 'X'; name: string; cat: string; pid: number; tid: number; ts: number; dur: number; args?: object }
  | { ph: 'C'; name: string; pid: number; ts: number; args: Record<string, number> }

export interface ChromeTrace {
  displayTimeUnit: 'ms'
  traceEvents: ChromeEvent[]
  /** What was run, for whoever finds the file. */
  otherData: Readonly<Record<string, string | number>>
}

/** Something that the host did or waited for, on the clock of a trace. */
export interface HostSpan {
  name: string
  beginMs: number
  endMs: number
}

const pid = 1
const tracks = { host: 1, device: 2 }

export function chromeTrace(
  trace: Trace,
  {
    device,
    spans = [],
    about = {},
  }: { device: string; spans?: readonly HostSpan[]; about?: ChromeTrace['otherData'] },
): ChromeTrace {
  const ranges = trace.ranges()
  const origin = [...spans, ...trace.ops].reduce((least, { beginMs }) => Math.min(least, beginMs), Infinity)
  /** Whole nanoseconds, so that what touches on the device touches in the file. */
  const micro = (ms: number) => Math.round((ms - origin) * 1e6) / 1e3
  const slice = (name: string, cat: string, tid: number, beginMs: number, endMs: number, args?: object) => {
    const ts = micro(beginMs)
    const dur = Math.round((micro(endMs) - ts) * 1e3) / 1e3
    return { ph: 'X' as const, name, cat, pid, tid, ts, dur, ...(args && { args }) }
  }
  const track = (tid: number, name: string): ChromeEvent[] => [
    { ph: 'M', name: 'thread_name', pid, tid, args: { name } },
    { ph: 'M', name: 'thread_sort_index', pid, tid, args: { sort_index: tid } },
  ]
  const memory: ChromeEvent[] = []
  let before = -1
  for (const { beginMs, memoryBytes } of trace.ops) {
    if (memoryBytes === before) continue
    before = memoryBytes
    memory.push({ ph: 'C', name: 'memory in use', pid, ts: micro(beginMs), args: { bytes: memoryBytes } })
  }
  return {
    displayTimeUnit: 'ms',
    traceEvents: [
      { ph: 'M', name: 'process_name', pid, args: { name: 'fsvideo' } },
      ...track(tracks.host, 'host'),
      ...track(tracks.device, device),
      ...spans.map(({ name, beginMs, endMs }) => slice(name, 'host', tracks.host, beginMs, endMs)),
      ...ranges.map(({ name, beginMs, endMs }) => slice(name, 'range', tracks.device, beginMs, endMs)),
      ...trace.ops.map(({ name, shapes, flops, bytes, beginMs, endMs }) => {
        const seconds = (endMs - beginMs) / 1e3
        const rate = (amount: number) => (seconds > 0 ? Number((amount / seconds).toPrecision(4)) : 0)
        const args = { shapes, flops, bytes, 'FLOP/s': rate(flops), 'bytes/s': rate(bytes) }
        return slice(name, 'op', tracks.device, beginMs, endMs, args)
      }),
      ...memory,
    ],
    otherData: about,
  }
}
