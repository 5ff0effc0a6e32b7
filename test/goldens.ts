/**
 * The golden files that reference/make_goldens.py wrote: a network's configuration, weights, inputs and outputs, computed by an
 * independent PyTorch implementation. A golden is a source of weights, so the network under test is made just like from a
 * checkpoint.
 */
import path from 'node:path'
import * as assert from 'uvu/assert'
import { addon, packageRoot } from '../lib/addon.js'
import type { Device } from '../lib/device.js'
import { Parameters, type Precision, type TensorRequest, type WeightSource } from '../lib/parameters.js'
import { Tensor } from '../lib/tensor.js'

/** Largest relative L2 distance to a golden, a block or a whole network. */
/** Of fp8: three bits behind the first, in every product of a few layers. */
export const tolerance: Record<Precision, number> = { f32: 1e-5, bf16: 2e-2, fp8: 6e-2 }

export class Golden implements WeightSource {
  readonly name: string
  readonly device: Device
  /** As the component's config.json would say. */
  readonly config: unknown
  #file: ReturnType<ReturnType<typeof addon>['openSafetensors']>
  #weights: Golden
  #asked = new Set<string>()

  constructor(device: Device, name: string) {
    const folder = process.env.FSVIDEO_GOLDENS ?? path.join(packageRoot, 'reference', 'goldens')
    this.name = name
    this.device = device
    this.#file = addon().openSafetensors(path.join(folder, `${name}.safetensors`))
    this.config = this.metadata('config')
    const from = this.#file.metadata.weights_from && this.metadata('weights_from')
    this.#weights = typeof from === 'string' ? new Golden(device, from) : this
  }

  /** A value that stands beside the configuration, such as `seed` or `grid`. */
  metadata<T>(key: string): T {
    return JSON.parse(this.#file.metadata[key]!) as T
  }

  /** Names of the tensors whose names start so, in the file's order, without the prefix. */
  names(prefix: string): string[] {
    return this.#file.entries
      .map(({ name }) => name)
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length))
  }

  /** `in.<name>`, `out.<name>` or `weights.<name>`. */
  tensor(name: string): Tensor {
    return new Tensor(this.device, addon().mapTensor(this.device.native, this.#file.handle, name))
  }

  /** The weights, in the type to compute in. */
  parameters(dtype: Precision): Parameters {
    return new Parameters(this.device, dtype, this)
  }

  get({ name, shape }: TensorRequest): Tensor {
    const tensor = this.#weights.tensor(`weights.${name}`)
    assert.equal(tensor.shape, [...shape], `${this.name}: shape of ${name}`)
    assert.not(this.#asked.has(name), `${this.name}: ${name} was asked for twice`)
    this.#asked.add(name)
    return tensor
  }

  /** Lets the same weights be asked for again, by another network. */
  forget(): void {
    this.#asked.clear()
  }

  /** Fails unless every weight in the file has been asked for. */
  assertAllAsked(): void {
    const rest = this.#weights.names('weights.').filter((name) => !this.#asked.has(name))
    assert.equal(rest, [], `${this.name}: weights that nobody reads`)
  }

  /** Fails if the relative L2 distance of `got` to output `name` is not within the tolerance; disposes of `got`. */
  async assertClose(got: Tensor, name: string, dtype: Precision, limit = tolerance[dtype]): Promise<void> {
    const expected = this.tensor(`out.${name}`)
    assert.equal(got.shape, expected.shape, `${this.name}: shape of ${name}`)
    const error = relativeL2(await got.toFloat32(), await expected.toFloat32())
    got.dispose()
    if (dtype !== 'f32')
      process.stderr.write(`    ${dtype} ${this.name} ${name}: ${error.toExponential(1)}\n`)
    assert.ok(
      error <= limit,
      `${this.name}: ${name} in ${dtype} is off by ${error.toExponential(2)}, more than ${limit}`,
    )
  }
}

/** |a - b| / |b|; not a number where a is not. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let distance = 0
  let norm = 0
  for (let i = 0; i < b.length; i++) {
    distance += (a[i]! - b[i]!) ** 2
    norm += b[i]! ** 2
  }
  return Math.sqrt(distance / norm)
}
