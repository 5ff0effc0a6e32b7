/**
 * The child process behind the doctor's question whether a device works: opens the device named by its argument, computes on it,
 * and writes what it found as JSON; for the argument `cards`, what cards there are. If the addon or a driver crashes, this process
 * does and not the doctor.
 */
import { createRequire } from 'node:module'
import { addon } from '../addon.js'
import { Device } from '../device.js'
import * as ops from '../ops.js'

export interface DeviceReport {
  /** The binary that was loaded. */
  addon: string
  description: string
  /** Those of the CPU that this machine can run, the best last. */
  instructionSets: string[]
  /** A matrix product whose result is known came out right. */
  correct: boolean
}

async function report(name: string): Promise<DeviceReport> {
  const device = await Device.open(name)
  // Ones times ones: each element of the result is the length of the inner dimension, exactly.
  const [rows, inner, cols] = [64, 256, 64]
  const product = device.scope(() =>
    ops.linear(ops.fill(device, [rows, inner], 1, 'bf16'), ops.fill(device, [cols, inner], 1, 'bf16')),
  )
  const values = await product.toFloat32()
  const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) => path.endsWith('.node'))
  return {
    addon: loaded.join(', '),
    description: device.description,
    instructionSets: Device.instructionSets(),
    correct: values.length === rows * cols && values.every((value) => value === inner),
  }
}

try {
  const name = process.argv[2]!
  process.stdout.write(JSON.stringify(await (name === 'cards' ? addon().cards() : report(name))))
} catch (error) {
  process.stderr.write((error as Error).message)
  process.exitCode = 1
}
