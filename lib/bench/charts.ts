/**
 * The charts of a report as SVG, by vega-lite without a canvas: a roofline, and a ladder of ratios to the peers (of a prediction: of shares
 * of the rates). vega is no dependency of this package: whoever wants charts installs it.
 */
import type { TopLevelSpec } from 'vega-lite'
import { FSVideoError } from '../errors.js'
import { rates } from './rates.js'
import { type Measurement, type PeerName, type Prediction, peerTitles, type Report } from './report.js'

export type Theme = 'light' | 'dark'

/** Kinds of ops, in the colours of Okabe and Ito, which everybody can tell apart, on both grounds. */
const kinds = {
  linear: '#0072b2',
  attention: '#d55e00',
  conv3d: '#009e73',
  'layer memory': '#cc79a7',
  norm: '#e69f00',
  other: '#8a8f98',
} as const
type KindOfOp = keyof typeof kinds

function kindOf(op: string): KindOfOp {
  if (op === 'linear' || op === 'conv3d') return op
  if (op === 'attention' || op === 'linearAttention') return 'attention'
  if (op === 'layerMemory') return 'layer memory'
  return /[nN]orm/.test(op) ? 'norm' : 'other'
}

const inks: Readonly<Record<Theme, { ink: string; faint: string; ground: string }>> = {
  light: { ink: '#24292f', faint: '#d8dee4', ground: '#ffffff' },
  dark: { ink: '#d7dde3', faint: '#343b43', ground: '#15191e' },
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT where vega is not installed. */
export async function requireCharts(): Promise<void> {
  try {
    await Promise.all([import('vega'), import('vega-lite')])
  } catch (cause) {
    const expected = 'the packages vega and vega-lite'
    const message = `--report draws with ${expected}, which are not installed: npm install vega vega-lite`
    throw new FSVideoError('ERR_FSVIDEO_INVALID_ARGUMENT', message, { field: '--report', expected, cause })
  }
}

async function draw(spec: TopLevelSpec, theme: Theme): Promise<string> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')])
  const { ink, faint, ground } = inks[theme]
  const line = { domainColor: ink, tickColor: ink, labelColor: ink, titleColor: ink, gridColor: faint }
  const config = {
    background: ground,
    font: 'system-ui, sans-serif',
    view: { stroke: 'transparent' },
    axis: { ...line, labelLimit: 320, labelFontSize: 11, titleFontSize: 12 },
    legend: { labelColor: ink, titleColor: ink },
    header: { labelColor: ink, titleColor: ink },
    title: { color: ink, anchor: 'start', fontSize: 14 },
    text: { color: ink },
    rule: { color: ink },
  } as const
  const { spec: compiled } = compile({ ...spec, config })
  const view = new vega.View(vega.parse(compiled), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

/** A grid of all of a logarithmic axis's ticks hides the points. */
const powersOfTen = { values: Array.from({ length: 13 }, (_, i) => 10 ** (i - 7)), format: '~g' }

/** Cases made to be small say nothing about rates. */
const isDrawn = ({ groups }: { groups: readonly string[] }): boolean =>
  groups.some((group) => group !== 'tiny')

interface Roof {
  name: string
  tflops: number
}

function roofsOf(report: Report): { copyGBs: number; roofs: Roof[] } {
  if (report.kind === 'prediction')
    return {
      copyGBs: rates.copy.value,
      roofs: [
        { name: 'bf16', tflops: rates.bf16.value },
        { name: 'fp8', tflops: rates.f8e4m3.value },
      ],
    }
  const roofs = Object.entries(report.ceilings.gemm).map(([name, { tflops }]) => ({ name, tflops }))
  return { copyGBs: report.ceilings.copyGBs, roofs }
}

/** TFLOP/s over FLOPs a byte, both logarithmic, below what copy and GEMM of the run allow. */
export function rooflineSpec(report: Report): TopLevelSpec {
  const { copyGBs, roofs } = roofsOf(report)
  const points = report.rows
    .filter(({ flops, bytes }) => flops > 0 && bytes > 0)
    .filter(isDrawn)
    .map(({ name, spec, flops, bytes, tflops }) => ({
      name,
      kind: kindOf(spec.op),
      intensity: flops / bytes,
      tflops,
    }))
  const intensities = points.map(({ intensity }) => intensity)
  const from = Math.min(0.1, ...intensities) / 1.5
  const to = Math.max(1000, ...intensities) * 1.5
  const lines = roofs.flatMap(({ name, tflops }) =>
    [from, (1e3 * tflops) / copyGBs, to].map((intensity) => ({
      roof: name,
      intensity,
      tflops: Math.min(tflops, (copyGBs * intensity) / 1e3),
    })),
  )
  const knees = roofs.map(({ name, tflops }) => ({
    intensity: (1e3 * tflops) / copyGBs,
    tflops,
    label: `${name} ${Number(tflops.toPrecision(3))} TFLOP/s`,
  }))
  const x = {
    field: 'intensity',
    type: 'quantitative',
    scale: { type: 'log', domain: [from, to] as number[], nice: false },
    axis: powersOfTen,
    title: 'FLOPs a byte, as the contract counts them',
  } as const
  const y = {
    field: 'tflops',
    type: 'quantitative',
    scale: { type: 'log' },
    axis: powersOfTen,
    title: 'TFLOP/s',
  } as const
  const what = report.kind === 'prediction' ? 'predicted' : 'measured'
  return {
    title: `Roofline, ${what}: copy ${Number(copyGBs.toPrecision(3))} GB/s`,
    width: 620,
    height: 380,
    layer: [
      {
        data: { values: lines },
        mark: { type: 'line', strokeWidth: 1.5, color: '#8a8f98' },
        encoding: { x, y, detail: { field: 'roof' } },
      },
      {
        data: { values: knees },
        mark: { type: 'text', align: 'right', baseline: 'bottom', dx: -2, dy: -2, fontSize: 11 },
        encoding: { x, y, text: { field: 'label' } },
      },
      {
        data: { values: points },
        mark: { type: 'point', filled: true, size: 55, opacity: 0.85 },
        encoding: {
          x,
          y,
          color: {
            field: 'kind',
            type: 'nominal',
            scale: { domain: Object.keys(kinds), range: Object.values(kinds) },
            title: null,
          },
          tooltip: { field: 'name' },
        },
      },
    ],
  }
}

interface Step {
  name: string
  value: number
  least: number
  most: number
  series: string
}

function stepsOf(report: Report): { steps: Step[]; title: string; axis: string } {
  if (report.kind === 'prediction') return predictedSteps(report)
  const steps = report.rows.filter(isDrawn).flatMap(({ name, peers }) =>
    Object.entries(peers).map(([peer, { ratio }]) => ({
      name,
      value: ratio.median,
      least: ratio.least,
      most: ratio.most,
      series: peerTitles[peer as PeerName],
    })),
  )
  return { steps, ...ladderTitles(report) }
}

function ladderTitles({ peers }: Measurement): { title: string; axis: string } {
  const names = Object.keys(peers).map((name) => peerTitles[name as PeerName])
  return {
    title: names.length > 0 ? `Ours beside ${names.join(' and ')}` : 'No peer was there',
    axis: 'their time / ours: right of 1 we are faster; bars from the least to the most of the rounds',
  }
}

function predictedSteps({ rows }: Prediction): { steps: Step[]; title: string; axis: string } {
  const steps = rows.filter(isDrawn).map(({ name, spec, tflops, gbs, bound }) => {
    const gemm = spec.dtype === 'f8e4m3' ? rates.f8e4m3.value : rates.bf16.value
    const value = bound === 'tensor cores' ? tflops / gemm : gbs / rates.copy.value
    return { name, value, least: value, most: value, series: bound }
  })
  return {
    steps,
    title: 'Predicted share of the GEMM rate (tensor cores) or of the copy rate (all others)',
    axis: 'share of the rate',
  }
}

/** A line a case: its ratio with the spread of the rounds, and a rule at 1. */
export function ladderSpec(report: Report): TopLevelSpec {
  const { steps, title, axis } = stepsOf(report)
  const order = [...new Set(steps.map(({ name }) => name))]
  const y = { field: 'name', type: 'nominal', sort: order, title: null } as const
  const colour = {
    field: 'series',
    type: 'nominal',
    legend: { title: null, symbolOpacity: 1 },
    scale: { range: Object.values(kinds) },
  } as const
  const values = steps.flatMap(({ least, most }) => [least, most])
  // Ratios are as far from 1 as their inverses; shares begin at 0.
  const ratios = report.kind === 'measurement'
  const domain = [ratios ? Math.min(0.8, ...values) / 1.1 : 0, Math.max(ratios ? 1.25 : 1, ...values) * 1.1]
  const x = {
    type: 'quantitative',
    scale: { type: ratios ? ('log' as const) : ('linear' as const), domain, nice: false },
    axis: {
      orient: 'top',
      format: '~g',
      ...(ratios && { values: [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 25, 50, 100] }),
    },
    title: axis,
  } as const
  return {
    title,
    width: 420,
    height: { step: 15 },
    data: { values: steps },
    layer: [
      { mark: { type: 'rule', strokeDash: [4, 3] }, encoding: { x: { datum: 1 } } },
      {
        mark: { type: 'rule', strokeWidth: 3, opacity: 0.5 },
        encoding: {
          y,
          x: { field: 'least', ...x },
          x2: { field: 'most' },
          color: colour,
        },
      },
      {
        mark: { type: 'point', filled: true, size: 45, opacity: 1 },
        encoding: { y, x: { field: 'value', ...x }, color: colour },
      },
    ],
  }
}

export const drawRoofline = (report: Report, theme: Theme): Promise<string> =>
  draw(rooflineSpec(report), theme)
export const drawLadder = (report: Report, theme: Theme): Promise<string> => draw(ladderSpec(report), theme)
