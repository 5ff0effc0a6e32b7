/** What is evaluated: a row of the table each. The first of a group is what the others of it are compared with. */
import type { GenerateRequest } from '../../lib/index.js'
import type { Precision } from '../../lib/parameters.js'
import type { ScoreName } from './results.js'

export const groups = ['autoencoder', 'generation', 'ablations'] as const
export type Group = (typeof groups)[number]

export type DecoderName = 'standard' | 'lite'

export interface Threshold {
  score: ScoreName
  atLeast?: number
  atMost?: number
}

export interface Configuration {
  name: string
  group: Group
  dtype: Precision
  decoder: DecoderName
  /** What base alone gives, at half the size. */
  baseOnly?: boolean
  /** The prompt of another scene, which goes elsewhere. */
  exchanged?: boolean
  /** The base that was trained without layer memory. */
  plain?: boolean
  /** What differs from the model's own defaults. */
  request?: Pick<GenerateRequest, 'solver' | 'steps'>
  thresholds?: readonly Threshold[]
}

const autoencoder: readonly Threshold[] = [
  { score: 'psnr', atLeast: 27 },
  { score: 'maskPsnr', atLeast: 21 },
  { score: 'ssim', atLeast: 0.92 },
]

const full = { group: 'ablations', dtype: 'f32', decoder: 'standard' } as const

export const configurations: readonly Configuration[] = [
  { name: 'Standard', group: 'autoencoder', dtype: 'f32', decoder: 'standard', thresholds: autoencoder },
  { name: 'Lite', group: 'autoencoder', dtype: 'f32', decoder: 'lite', thresholds: autoencoder },
  { name: 'Standard, bf16', group: 'autoencoder', dtype: 'bf16', decoder: 'standard' },
  { name: 'Lite, bf16', group: 'autoencoder', dtype: 'bf16', decoder: 'lite' },
  {
    ...full,
    name: 'full',
    group: 'generation',
    thresholds: [
      { score: 'firstPsnr', atLeast: 25 },
      { score: 'direction', atLeast: 0.85 },
      { score: 'colour', atLeast: 0.8 },
      { score: 'shape', atLeast: 0.6 },
    ],
  },
  {
    ...full,
    name: 'prompts exchanged',
    group: 'generation',
    exchanged: true,
    thresholds: [{ score: 'direction', atMost: 0.25 }],
  },
  { ...full, name: 'base only', baseOnly: true },
  { ...full, name: 'Lite decoder', decoder: 'lite' },
  { ...full, name: 'bf16', dtype: 'bf16' },
  { ...full, name: 'fp8', dtype: 'fp8' },
  { ...full, name: 'base by Euler', request: { solver: 'euler' } },
  { ...full, name: 'base in 8 steps', request: { steps: 8 } },
  { ...full, name: 'no layer memory', plain: true },
]
