/**
 * Layers by their names: ranges in traces, and the way to find the layer in which a value ceased to be finite. Networks without a flag
 * of their own for every layer (the DIT has one) say here what each layer gave; nobody listens, and nothing is computed, but while a
 * stage that has failed is run once more.
 */
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'

let layers: { name: string; finite: Promise<unknown> }[] | undefined

/** `x` is what the layer `name` gave, or undefined where it gives nothing yet. */
export function gave<T extends Tensor | undefined>(name: string, x: T): T {
  if (layers && x) {
    const flag = ops.allFinite(x)
    layers.push({ name, finite: flag.read() })
    flag.dispose()
  }
  return x
}

/** Runs a layer: a range of its name in traces, and what it gives is watched. */
export function layer<T extends Tensor | undefined>(device: Device, name: string, run: () => T): T {
  return gave(name, device.range(name, run))
}

/** The first layer of what `run` queues whose output is not finite. `run` returns as soon as all of it is queued. */
export async function firstNotFinite(run: () => void): Promise<string | undefined> {
  layers = []
  const watched = layers
  try {
    run()
  } finally {
    layers = undefined
  }
  const flags = (await Promise.all(watched.map(({ finite }) => finite))) as Int32Array[]
  return watched[flags.findIndex(([finite]) => finite === 0)]?.name
}
