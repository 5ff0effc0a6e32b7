/**
 * The large networks as calls of ops, with their sizes from the shipped configurations: what is measured, and how often a network makes each
 * call, so that the times of its kernels can be summed up. It follows lib/models/dit.ts and lib/models/autoencoder-blocks.ts.
 */
import { join } from 'node:path'
import { packageRoot } from '../addon.js'
import { readJson } from '../json-file.js'
import { type DecoderConfig, type DITConfig, parseDecoderConfig, parseDITConfig } from '../models/config.js'
import { attentionOf, convOf, type Goal, matmulOf, onCard, plainOf } from './builders.js'
import type { Spec } from './spec.js'

export interface Call {
  spec: Spec
  goals: readonly Goal[]
  /** In a forward of a DIT with bf16 linears, or one pass of a decoder; 0 for what is only measured. */
  calls: number
  /** The same with fp8 linears, where that differs. */
  fp8?: number
}

const notInFp8 = (...calls: Call[]): Call[] => calls.map((each) => ({ ...each, fp8: 0 }))
const call = (calls: number, spec: Spec, ...goals: Goal[]): Call => ({ spec, goals, calls })

/** The base DIT sees 384 x 640 pixels, alone and as two samples of a batch; the refiner 768 x 1280 and 1024 x 1536. */
export const tokenCounts = [
  { tokens: 1860, batch: 1 },
  { tokens: 1860, batch: 2 },
  { tokens: 7440, batch: 1 },
  { tokens: 11904, batch: 1 },
] as const
export interface Tokens {
  tokens: number
  batch: number
}

/** Of 121 frames of 768 x 1280. */
export const latentSize = [768 / 64, 1280 / 64] as const
export const latentFrames = 31
/** Latent frames that a decoder takes at once (lib/planner.ts). */
export const chunks = { standard: 4, lite: 1 } as const

const config = async <C>(
  model: string,
  network: string,
  parse: (json: unknown, field: string) => C,
): Promise<C> =>
  parse(await readJson(join(packageRoot, 'models', model, network, 'config.json'), 2 ** 20), network)

export async function configurations() {
  const large = 'fsvideo-14b'
  const [dit, demo, standard, lite, demoDecoder] = await Promise.all([
    config(large, 'transformer', parseDITConfig),
    config('shapes', 'transformer', parseDITConfig),
    config(large, 'decoder', parseDecoderConfig),
    config(large, 'decoder_lite', parseDecoderConfig),
    config('shapes', 'decoder', parseDecoderConfig),
  ])
  return { dit, demo, standard, lite, demoDecoder }
}

/** All blocks of a DIT on `batch` samples of `tokens` tokens; small layers around them are left out. */
export function blockCalls(c: DITConfig, { tokens, batch }: Tokens, fp8: boolean): Call[] {
  const { dim, ffnDim, heads, layers } = c
  const headDim = dim / heads
  const rows = batch * tokens
  /** `times` a block: a layer of the bf16 network, and one of the fp8 network that takes its place. */
  const layer = (times: number, n: number, k: number, epilogue: 'bias' | 'gelu' | 'gate', inFp8 = times) => {
    const spec = { op: 'linear', m: rows, n, k, epilogue } as const
    const wide = call(
      times * layers,
      { ...spec, dtype: 'bf16' },
      onCard('torch', epilogue === 'bias' ? 1 : 1.1),
    )
    if (!fp8) return [wide]
    const narrow = call(0, { ...spec, dtype: 'f8e4m3' }, onCard('torch', 1), onCard('bf16', 1.6))
    return [
      { ...wide, fp8: 0 },
      { ...narrow, fp8: inFp8 * layers },
    ]
  }
  const cross = (keys: number): Call =>
    call(layers, { op: 'attention', dtype: 'bf16', batch, queries: tokens, keys, heads, headDim })
  // Block i reads i + 1 states, its input for the router and writes one: together in units of the largest bank.
  const states = c.layers - 1
  let banks = 0
  for (let i = 1; i < layers; i++) banks += (i + 1 + 2) / (states + 2)
  const calls: Call[] = [
    ...layer(4, dim, dim, 'bias'),
    ...layer(0, ffnDim, dim, 'bias'),
    ...layer(0, dim, ffnDim, 'bias'),
    ...layer(1, ffnDim, dim, 'gelu', 0), // in fp8 it quantises what goes down
    ...layer(2, dim, dim, 'gate'),
    ...layer(1, dim, ffnDim, 'gate'),
    call(layers, attentionOf('bf16', tokens, heads, headDim, batch), onCard('torch', 1)),
    cross(c.textLen),
    ...(c.imageLen === null ? [] : [cross(c.imageLen)]),
    ...notInFp8(
      call(
        banks,
        { op: 'layerMemory', dtype: 'bf16', states, tokens: rows, dim },
        onCard('copy', 0.85),
        onCard('torch', 5),
      ),
    ),
    // In fp8 the norms quantise their results, but what a router reads is bf16 first.
    {
      ...call(3 * layers, plainOf('normModulate', 'bf16', 1, rows, dim), onCard('copy', 0.85)),
      fp8: layers - 1,
    },
    call(3 * layers, { op: 'qkNormRope', dtype: 'bf16', tokens: rows, heads, headDim }, onCard('copy', 0.85)),
  ]
  if (c.imageLen !== null) calls.push(call(layers, plainOf('combine', 'bf16', 1, rows, dim)))
  if (!fp8) return calls
  // Memory and what goes up quantise their results; what attention gives to both o, and what a router has read, is quantised after it.
  const only = (times: number, spec: Spec): Call => ({ ...call(0, spec), fp8: times })
  return [
    ...calls,
    only(layers, { op: 'linearFp8', dtype: 'f8e4m3', m: rows, n: ffnDim, k: dim, epilogue: 'gelu' }),
    only(banks, { op: 'layerMemoryFp8', dtype: 'bf16', states, tokens: rows, dim }),
    only(2 * layers + 1, plainOf('normModulateFp8', 'bf16', 1, rows, dim)),
    only(3 * layers - 1, plainOf('quantizeFp8', 'bf16', 1, rows, dim)),
  ]
}

/** One pass of a decoder over `latents` latent frames of `size`. */
export function decoderCalls(c: DecoderConfig, size: readonly [number, number], latents: number): Call[] {
  const last = c.widths.length - 1
  const calls: Call[] = []
  const add = (times: number, spec: Spec, ...goals: Goal[]) => calls.push(call(times, spec, ...goals))
  let grid: readonly [number, number, number] = [latents, ...size]
  add(1, convOf('bf16', grid, c.latentChannels, c.widths[last]!))
  for (let s = last; s >= 0; s--) {
    const [channels, below] = [c.widths[s]!, c.widths[Math.min(s + 1, last)]!]
    const tokens = grid[1] * grid[2]
    if (c.firstFrameAttentionStages.includes(s)) {
      const [heads, headDim] = [below / c.crossHeadDim, c.crossHeadDim]
      const queries = grid[0] * tokens
      add(2, matmulOf('bf16', queries, below, below))
      add(1, { op: 'attention', dtype: 'bf16', batch: 1, queries, keys: tokens, heads, headDim })
    }
    if (s < last) {
      const time = c.temporalStages.includes(s) ? 2 : 1
      const shuffled = channels * time * 4
      const kernel = [time > 1 ? 3 : c.resampleTimeKernel, 3, 3] as const
      add(1, convOf('bf16', grid, below, shuffled, { kernel }))
      const [frames, height, width] = grid
      const moved = { frames, height, width, channels: shuffled, out: channels, time, space: 2 }
      add(1, { op: 'shuffle3d', dtype: 'bf16', ...moved })
      grid = [frames * time, height * 2, width * 2]
    }
    const [frames, height, width] = grid
    const depth = c.depths[s]!
    const norm = plainOf('pixelNorm', 'bf16', 1, frames, height, width, channels)
    if (s < c.attentionFromStage) {
      const goals = channels >= 128 ? [onCard('torch', 1.5), onCard('gemm', 0.55)] : []
      add(s === 0 ? 1 : 0, norm, onCard('copy', 0.85))
      add(0, convOf('bf16', grid, channels, channels), ...goals)
      add(depth, convOf('bf16', grid, channels, channels, { fused: true }))
      add(depth, convOf('bf16', grid, channels, channels, { norm: true }))
      continue
    }
    const rows = frames * height * width
    const heads = (channels / c.headDim) * (1 + c.qkvScales.length)
    const hidden = 2 * c.gluExpand * channels
    add(2 * depth, norm, onCard('copy', 0.85))
    add(depth, matmulOf('bf16', rows, 3 * channels, channels))
    for (const kernel of c.qkvScales) {
      const spatial = { kernel: [1, kernel, kernel] as const, groups: 3 * channels }
      add(depth, convOf('bf16', grid, 3 * channels, 3 * channels, spatial))
      const point = { kernel: [1, 1, 1] as const, groups: (3 * channels) / c.headDim }
      add(depth, convOf('bf16', grid, 3 * channels, 3 * channels, point))
    }
    const attention = { frames, tokens: height * width, heads, headDim: c.headDim }
    add(depth, { op: 'linearAttention', dtype: 'bf16', ...attention })
    add(depth, matmulOf('bf16', rows, channels, (1 + c.qkvScales.length) * channels))
    add(depth, matmulOf('bf16', rows, hidden, channels))
    add(depth, convOf('bf16', grid, hidden, hidden, { groups: hidden }))
    add(depth, plainOf('glu', 'bf16', 1, frames, height, width, hidden))
    add(depth, matmulOf('bf16', rows, channels, hidden / 2))
  }
  add(1, convOf('bf16', grid, c.widths[0]!, c.outChannels))
  return calls
}
