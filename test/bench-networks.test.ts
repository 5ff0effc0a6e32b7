/**
 * The calls by which kernels are summed up to networks are those that the networks make: the contract's FLOPs and bytes of both, op by op,
 * on the planning device and at full size. And what is summed.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  blockCalls,
  type Call,
  chunks,
  configurations,
  decoderCalls,
  latentFrames,
  latentSize,
  tokenCounts,
} from '../lib/bench/networks.js'
import { costOf } from '../lib/bench/predict.js'
import { contractName, nameOf } from '../lib/bench/spec.js'
import { sumsOf } from '../lib/bench/sums.js'
import { Device } from '../lib/device.js'
import { Decoder } from '../lib/models/autoencoder.js'
import { DIT } from '../lib/models/dit.js'
import * as ops from '../lib/ops.js'
import { Parameters, RecordedShapes } from '../lib/parameters.js'

const test = suite('bench, networks')
let meta: Device
test.before(async () => {
  meta = await Device.open('meta')
})
test.after(() => meta.dispose())

type Costs = Record<string, { flops: number; bytes: number }>

function costsOf(calls: readonly Call[], times = 1, fp8 = false): Costs {
  const costs: Costs = {}
  for (const { spec, calls: wide, fp8: narrow = wide } of calls) {
    const count = fp8 ? narrow : wide
    const name = contractName(spec.op)
    const { flops, bytes } = costOf(meta, spec)
    costs[name] ??= { flops: 0, bytes: 0 }
    costs[name].flops += times * count * flops
    costs[name].bytes += times * count * bytes
  }
  return costs
}

/** That `summed` is within `share` of what ran, by the larger of what matters for the op. */
function close(ran: Costs, summed: Costs, shares: Record<string, number>, what: 'flops' | 'bytes'): void {
  for (const [op, share] of Object.entries(shares)) {
    const ratio = summed[op]![what] / ran[op]![what]
    assert.ok(Math.abs(ratio - 1) < share, `${op}: ${ratio.toFixed(4)} of the network's ${what}`)
  }
}

for (const precision of ['bf16', 'fp8'] as const)
  test(`a forward of the 14B DIT in ${precision}`, async () => {
    const { dit: config } = await configurations()
    const dit = new DIT(config, new Parameters(meta, precision, new RecordedShapes(meta)))
    for (const { tokens, batch } of tokenCounts.slice(1, 3)) {
      const [height, width] = tokens === 1860 ? [6, 10] : [12, 20]
      const size = [latentFrames, height!, width!] as const
      const zeros = (...shape: number[]) => ops.fill(meta, shape, 0, 'bf16')
      const text = zeros(batch, config.textLen, config.textDim)
      const image = zeros(batch, config.imageLen!, config.imageDim!)
      const conditioning = dit.prepare({ text, image, size })
      const latents = zeros(batch, ...size, config.inChannels)
      const timestep = ops.fill(meta, [batch, config.freqDim], 0)
      meta.resetStats()
      dit.forward(latents, timestep, conditioning).dispose()
      const ran = meta.stats()
      const fp8 = precision === 'fp8'
      const summed = costsOf(blockCalls(config, { tokens, batch }, fp8), 1, fp8)
      // What stands around the blocks (patches, time, head) is left out.
      close(ran, summed, { linear: 0.01, attention: 1e-9 }, 'flops')
      // Queries of the text are not turned, and the head has a norm too.
      close(ran, summed, { layer_memory: 0.01, norm_modulate: 0.02, qk_norm_rope: 0.02 }, 'bytes')
      if (fp8) close(ran, summed, { quantize_fp8: 1e-9 }, 'bytes')
      conditioning.dispose()
    }
  })

for (const name of ['standard', 'lite'] as const)
  test(`a decode of 121 frames of 768x1280, ${name}`, async () => {
    const config = (await configurations())[name]
    const decoder = new Decoder(config, new Parameters(meta, 'bf16', new RecordedShapes(meta)))
    const features = config.encoderWidths.map((width, stage) => {
      const down = 2 ** Math.min(stage + 1, config.encoderWidths.length - 1)
      const channels = config.encoderWidths[Math.min(stage + 1, config.encoderWidths.length - 1)] ?? width
      return ops.fill(meta, [1, 1, 768 / down, 1280 / down, channels], 0, 'bf16')
    })
    const latents = ops.fill(meta, [1, latentFrames, ...latentSize, config.latentChannels], 0, 'bf16')
    meta.resetStats()
    for (const frames of decoder.decode(latents, features, { chunk: chunks[name], seed: 1 })) frames.dispose()
    const ran = meta.stats()
    const summed = costsOf(decoderCalls(config, latentSize, chunks[name]), latentFrames / chunks[name])
    // Frames that stand before the first latent's own are decoded too, and dropped; keys and values of the first frame are left out.
    close(ran, summed, { conv3d: 0.05, linear: 0.05, attention: 0.01, linear_attention: 0.01 }, 'flops')
    // The shuffles that are measured have no shortcut to read; norms of queries and keys are left out.
    close(ran, summed, { glu: 0.01, shuffle3d: 0.13, pixel_norm: 0.13 }, 'bytes')
  })

test('a network is summed up only if all its calls have times, each as often as it is made', async () => {
  const { dit } = await configurations()
  const calls = blockCalls(dit, tokenCounts[0], true)
  const rows = calls.map(({ spec }) => ({ name: nameOf(spec), milliseconds: 1, flops: 10 }))
  const sums = await sumsOf(rows)
  assert.equal(
    sums.map(({ name }) => name),
    ['14B DIT forward bf16, 1860 tokens', '14B DIT forward fp8, 1860 tokens'],
  )
  const [wide, narrow] = sums
  const made = calls.reduce((sum, { calls }) => sum + calls, 0)
  assert.ok(Math.abs(wide!.milliseconds - made) < 1e-9 && Math.abs(wide!.flops - 10 * made) < 1e-8)
  assert.is(wide!.parts.linear, 8 * dit.layers)
  assert.is(narrow!.parts.linear, 7 * dit.layers)
  assert.equal(
    [
      narrow!.parts.linearFp8,
      narrow!.parts.normModulateFp8,
      narrow!.parts.quantizeFp8,
      narrow!.parts.normModulate,
    ],
    [dit.layers, 2 * dit.layers + 1, 3 * dit.layers - 1, dit.layers - 1],
  )
  assert.is(wide!.parts.quantizeFp8, undefined)
  const without = rows.filter(({ name }) => !name.startsWith('attention'))
  assert.equal(await sumsOf(without), [])
})

test.run()
