/** From scores of clips to rows: means, shares and medians with their intervals, and whether thresholds are met. */
import type { Configuration, Group, Threshold } from './configurations.js'
import { type Estimate, mean, median, proportion } from './intervals.js'
import type { Judgement, Quality } from './scores.js'

/**
 * Of one clip. The position is in pixels of the whole pipeline's output, also where a clip is smaller; `obeyed`: the direction of an
 * exchanged prompt.
 */
export type ClipScores = Partial<Quality & Judgement & { obeyed: boolean }>
export type ScoreName = keyof ClipScores
export type Scores = Partial<Record<ScoreName, Estimate>>

export interface Row {
  name: string
  group: Group
  scores: Scores
  /** The tracker's scores of the same scenes' true clips, encoded and decoded. */
  ceiling?: Scores
  /** A clip. */
  seconds: { median: number; p10: number; p90: number }
  /** Bytes on the device, of weights too. */
  peakBytes: number
  thresholds: { threshold: Threshold; met: boolean }[]
}

/** A row that could not be, and why. */
export interface AbsentRow {
  name: string
  group: Group
  absent: string
}

const estimators: { readonly [S in ScoreName]-?: (clips: readonly ClipScores[]) => Estimate | undefined } = {
  psnr: means('psnr'),
  maskPsnr: means('maskPsnr'),
  firstPsnr: means('firstPsnr'),
  ssim: means('ssim'),
  direction: shares('direction'),
  colour: shares('colour'),
  shape: shares('shape'),
  obeyed: shares('obeyed'),
  position: (clips) => of(clips, 'position', median),
}

export const scoreNames = Object.keys(estimators) as ScoreName[]

export function summarise(clips: readonly ClipScores[]): Scores {
  return Object.fromEntries(
    scoreNames.map((name) => [name, estimators[name](clips)]).filter(([, estimate]) => estimate),
  )
}

/** By the score itself; its interval stands beside it in the table. */
export function judgeThresholds({ thresholds = [] }: Configuration, scores: Scores): Row['thresholds'] {
  return thresholds.map((threshold) => {
    const { score, atLeast = -Infinity, atMost = Infinity } = threshold
    const { value } = scores[score]!
    return { threshold, met: value >= atLeast && value <= atMost }
  })
}

function means(name: 'psnr' | 'maskPsnr' | 'firstPsnr' | 'ssim') {
  return (clips: readonly ClipScores[]) => of(clips, name, mean)
}

function shares(name: 'direction' | 'colour' | 'shape' | 'obeyed') {
  return (clips: readonly ClipScores[]) => of(clips, name, proportion)
}

function of<S extends ScoreName>(
  clips: readonly ClipScores[],
  name: S,
  estimate: (values: NonNullable<ClipScores[S]>[]) => Estimate,
): Estimate | undefined {
  const values = clips.map((clip) => clip[name]).filter((value) => value !== undefined)
  return values.length > 0 ? estimate(values as NonNullable<ClipScores[S]>[]) : undefined
}
