/** Sizes of networks from their configuration alone: constructed and run on the planning device, where nothing is allocated or computed. */
import { Device } from '../device.js'
import { Parameters, RecordedShapes } from '../parameters.js'

/** Any network: its constructor asks for every parameter once. */
export type Network<C, N> = new (config: C, parameters: Parameters) => N

/** Number of parameters of a network. */
export async function countParameters<C>(network: Network<C, unknown>, config: C): Promise<number> {
  const meta = await Device.open('meta')
  try {
    const shapes = new RecordedShapes(meta)
    new network(config, new Parameters(meta, 'bf16', shapes))
    return shapes.count
  } finally {
    meta.dispose()
  }
}
