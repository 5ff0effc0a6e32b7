/**
 * The cases: every op at the shapes that matter, in groups. Sizes of the networks come from their configurations, so that a case is what
 * the network really asks for; figures to reach are those that the project has set itself, per kind of device.
 */
import { attentionOf, convOf, type Goal, matmulOf, onCard, onCpu, plainOf } from './builders.js'
import {
  blockCalls,
  type Call,
  chunks,
  configurations,
  decoderCalls,
  latentSize,
  tokenCounts,
} from './networks.js'
import { type Float, nameOf, type PlainOp, type Spec } from './spec.js'

export const groups = {
  basic: 'the matrix kernels at small and large sizes, on any device',
  demo: 'every op as the demo model (models/shapes) asks for it',
  dit: 'the 14B DIT at 1860, 3720 (two samples), 7440 and 11904 tokens',
  standard: 'the Standard decoder at 768x1280, four latent frames at once',
  lite: 'the Lite decoder at 768x1280, one latent frame at once',
  glue: 'what is between the large kernels, at the sizes of the 14B model',
  tiny: 'every op once, of a size that a simulated card can bear',
  requests: 'whole requests: of the 14B model with random weights, on a CPU of the demo model',
} as const
export type Group = keyof typeof groups

export interface Case {
  name: string
  groups: readonly Group[]
  spec: Spec
  goals: readonly Goal[]
}

type Entry = readonly [spec: Spec, ...goals: Goal[]]
const entryOf = ({ spec, goals }: Call): Entry => [spec, ...goals]

const basic: readonly Entry[] = [
  [matmulOf('bf16', 2048, 4096, 1024), onCpu('onednn', 0.9)],
  [matmulOf('bf16', 1860, 13824, 5120), onCpu('onednn', 0.9)],
  [matmulOf('bf16', 1860, 5120, 5120)],
  [matmulOf('f32', 2048, 4096, 1024)],
  [convOf('bf16', [8, 32, 32], 128, 128), onCpu('onednn', 1)],
  [convOf('bf16', [17, 128, 128], 16, 16), onCpu('onednn', 1)],
  [convOf('bf16', [9, 64, 64], 32, 32), onCpu('onednn', 1)],
  [convOf('bf16', [5, 32, 32], 64, 64), onCpu('onednn', 1)],
  [convOf('f32', [8, 32, 32], 128, 128)],
  [attentionOf('bf16', 1860, 40, 128), onCpu('torch', 1.5), onCard('torch', 1)],
  [attentionOf('f32', 1860, 40, 128)],
  [
    { op: 'layerMemory', dtype: 'bf16', states: 20, tokens: 1860, dim: 5120 },
    onCpu('copy', 0.6),
    onCard('copy', 0.85),
  ],
  [plainOf('normModulate', 'bf16', 1, 1860, 5120), onCard('copy', 0.85)],
]

/** The ops that move, draw and convert, on a sheet of `rows` x `channels`, and images of `height` x `width`. */
function ofGlue(
  rows: number,
  channels: number,
  [height, width]: readonly [number, number],
  dtype: Float,
): Entry[] {
  const sheet = (op: PlainOp): Entry => [plainOf(op, dtype, 1, rows, channels)]
  return [
    ...(
      ['combine', 'randn', 'fill', 'cast', 'concat', 'affine', 'activate', 'glu', 'allFinite'] as const
    ).map(sheet),
    ...(
      ['slice', 'quantizeFp8', 'dequantizeFp8', 'normModulate', 'normModulateFp8', 'pixelNorm'] as const
    ).map(sheet),
    [plainOf('groupNorm', dtype, 1, 4, height / 4, width / 4, Math.max(32, channels >> 3))],
    [plainOf('permute', dtype, 1, rows, 8, channels / 8)],
    [plainOf('embedding', dtype, 8192, channels)],
    [plainOf('modulation', 'f32', 6, channels)],
    [plainOf('packLinear', dtype, channels, channels)],
    [plainOf('fromRgb8', dtype, 1, 1, height, width, 3)],
    [plainOf('toRgb8', dtype, 1, 1, height, width, 3)],
    [plainOf('dynamicMask', dtype, 1, 1, Math.max(1, height >> 6), Math.max(1, width >> 6), 128)],
    [
      {
        op: 'unshuffle3d',
        dtype,
        frames: 4,
        height: height / 4,
        width: width / 4,
        channels: 32,
        out: 64,
        time: 2,
        space: 2,
      },
    ],
  ]
}

function tiny(): Entry[] {
  const [rows, dim, heads, headDim] = [48, 256, 2, 128] as const
  const layer = (dtype: Float | 'f8e4m3', epilogue: 'bias' | 'gelu' | 'gate'): Entry => [
    { op: 'linear', dtype, m: 160, n: 256, k: dim, epilogue },
  ]
  return [
    layer('bf16', 'bias'),
    layer('bf16', 'gelu'),
    layer('bf16', 'gate'),
    layer('f8e4m3', 'bias'),
    [{ op: 'linearFp8', dtype: 'f8e4m3', m: 160, n: 256, k: dim, epilogue: 'gelu' }],
    layer('f32', 'bias'),
    [attentionOf('bf16', 200, heads, headDim)],
    [{ op: 'layerMemory', dtype: 'bf16', states: 5, tokens: rows, dim }],
    [{ op: 'layerMemoryFp8', dtype: 'bf16', states: 5, tokens: rows, dim }],
    [{ op: 'qkNormRope', dtype: 'bf16', tokens: rows, heads, headDim }],
    [{ op: 'linearAttention', dtype: 'bf16', frames: 2, tokens: 64, heads: 2, headDim: 32 }],
    [convOf('bf16', [2, 16, 16], 64, 64)],
    [convOf('bf16', [2, 16, 16], 64, 64, { norm: true })],
    [convOf('bf16', [2, 16, 16], 64, 64, { groups: 64 })],
    [
      {
        op: 'shuffle3d',
        dtype: 'bf16',
        frames: 1,
        height: 8,
        width: 8,
        channels: 128,
        out: 16,
        time: 2,
        space: 2,
      },
    ],
    ...ofGlue(rows, dim, [64, 64], 'bf16'),
  ]
}

/** All cases, each once, with all groups that it is in. */
export async function allCases(): Promise<Case[]> {
  const { dit, demo, standard, lite, demoDecoder } = await configurations()
  const entries: Record<Exclude<Group, 'requests'>, readonly Entry[]> = {
    basic,
    // 17 frames of 256 x 256, as `npm run demo` makes them: the refiner's tokens and all five latent frames.
    demo: [
      ...blockCalls(demo, { tokens: 5 * 4 * 4, batch: 1 }, false).map(entryOf),
      ...decoderCalls(demoDecoder, [4, 4], 5).map(entryOf),
      ...ofGlue(80, 192, [256, 256], 'bf16'),
    ],
    dit: tokenCounts.flatMap((size) => blockCalls(dit, size, true).map(entryOf)),
    standard: decoderCalls(standard, latentSize, chunks.standard).map(entryOf),
    lite: decoderCalls(lite, latentSize, chunks.lite).map(entryOf),
    glue: ofGlue(7440, dit.dim, [768, 1280], 'bf16'),
    tiny: tiny(),
  }
  const cases = new Map<string, Case>()
  for (const group of Object.keys(entries) as (keyof typeof entries)[])
    for (const [spec, ...goals] of entries[group]) {
      const name = nameOf(spec)
      const known = cases.get(name)
      if (known && JSON.stringify(known.spec) !== JSON.stringify(spec))
        throw new Error(`two cases are called ${name}`)
      const merged = [...(known?.groups ?? []), group]
      cases.set(name, {
        name,
        spec,
        groups: [...new Set(merged)],
        goals: unique([...(known?.goals ?? []), ...goals]),
      })
    }
  return [...cases.values()]
}

function unique(goals: readonly Goal[]): Goal[] {
  return [...new Map(goals.map((goal) => [JSON.stringify(goal), goal])).values()]
}
