/**
 * A case that is timed on a device of ours, by the device's own clock: the executor thread's on the CPU, events on a card, both through
 * the statistics of the op. Copies of its inputs, and the last results, take turns, so that no call finds its data in a cache
 * only because the call before it had them.
 */
import { type Device, ops, type Tensor } from '../kernels.js'
import { disposeOf, type Prepared, prepare } from './inputs.js'
import { contractName, type Spec } from './spec.js'

/** Queued behind one another, as in a network and as the peers are timed; a sample is their mean. */
const queued = 8
/** A call that takes longer is a sample alone. */
const longMs = 50
const mostCopies = 64
/** Written on a card before each sample: the card has work until all calls are queued, and its L2 holds nothing of them. */
const plugFloats = 2 ** 28

export class Subject {
  readonly spec: Spec
  /** Of one call, as the contract counts it. */
  readonly flops: number
  readonly bytes: number
  readonly #device: Device
  readonly #copies: Prepared[]
  readonly #results: (Tensor | Tensor[])[] = []
  #next = 0
  #calls = 1

  private constructor(
    device: Device,
    spec: Spec,
    copies: Prepared[],
    cost: { flops: number; bytes: number },
  ) {
    this.#device = device
    this.spec = spec
    this.#copies = copies
    this.flops = cost.flops
    this.bytes = cost.bytes
  }

  /** Makes as many copies of the inputs as fill `rotatedBytes`, in at most a quarter of the memory that is free. */
  static async open(device: Device, spec: Spec, rotatedBytes: number): Promise<Subject> {
    const before = device.memory().inUse
    const copies = [prepare(device, spec)]
    try {
      device.resetStats()
      const result = copies[0]!.call()
      await device.synchronize()
      const { flops, bytes } = device.stats()[contractName(spec.op)]!
      const each = Math.max(1, device.memory().inUse - before)
      disposeOf(result)
      const wanted = Math.min(mostCopies, Math.ceil(rotatedBytes / each))
      const count = Math.max(1, Math.min(wanted, Math.floor(device.freeMemory() / 4 / each)))
      while (copies.length < count) copies.push(prepare(device, spec, copies.length))
      await device.synchronize()
      return new Subject(device, spec, copies, { flops, bytes })
    } catch (error) {
      for (const { inputs } of copies) disposeOf(inputs)
      throw error
    }
  }

  /** Milliseconds a call, for about `seconds` but at least five samples, or three of calls that take seconds. */
  async sample(seconds: number): Promise<number[]> {
    const samples: number[] = []
    const end = performance.now() + 1e3 * seconds
    let least = 5
    while (performance.now() < end || samples.length < least) {
      const milliseconds = await this.#sample()
      samples.push(milliseconds)
      this.#calls = milliseconds < longMs ? queued : 1
      if (milliseconds > 1000) least = 3
    }
    return samples
  }

  async #sample(): Promise<number> {
    if (this.#device.name !== 'cpu') ops.fill(this.#device, [plugFloats], 0).dispose()
    const name = contractName(this.spec.op)
    // `fill` itself may be the case: its plug must be over before its statistics are read.
    if (name === 'fill') await this.#device.synchronize()
    const before = this.#device.stats()[name]!.seconds
    for (let i = 0; i < this.#calls; i++) this.#call()
    await this.#device.synchronize()
    return (1e3 * (this.#device.stats()[name]!.seconds - before)) / this.#calls
  }

  #call(): void {
    const copy = this.#next++ % this.#copies.length
    const last = this.#results[copy]
    if (last) disposeOf(last)
    this.#results[copy] = this.#copies[copy]!.call()
  }

  /** Gives all memory back. */
  dispose(): void {
    for (const result of this.#results) if (result) disposeOf(result)
    for (const { inputs } of this.#copies) disposeOf(inputs)
    this.#device.trim()
  }
}
