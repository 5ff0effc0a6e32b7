/**
 * Solvers against problems with a known answer, on plain numbers. `denoise` below is the loop of
 * lib/sampling/solver.ts with one-element tensors.
 */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FSVideoError } from '../lib/errors.js'
import {
  checkGuidanceScale,
  createSolver,
  customSchedule,
  dataPrediction,
  gridSchedule,
  guidanceCoefficients,
  isGuided,
  type KeptTensor,
  type Schedule,
  type Solver,
  type SolverName,
  shiftSigma,
  solverNames,
  type Term,
  unipc,
} from '../lib/sampling/index.js'

type Velocity = (x: number, sigma: number) => number

/** Runs a plan and returns x_0 … x_N as the loop sees them (before correction), and the data predictions. */
function denoise(
  solver: Solver,
  schedule: Schedule,
  start: number,
  velocity: Velocity,
  noise = () => Number.NaN,
) {
  const kept: Record<KeptTensor, number> = {
    x: start,
    lastX: Number.NaN, // reading a tensor that does not exist yet would show
    m0: Number.NaN,
    m1: Number.NaN,
    m2: Number.NaN,
    noise: Number.NaN,
  }
  const combine = (terms: readonly Term[]) => {
    kept.noise = noise()
    return terms.reduce((total, { tensor, coefficient }) => total + coefficient * kept[tensor], 0)
  }
  const states = [start]
  const predictions: number[] = []
  for (const step of solver.plan(schedule)) {
    const [one, minusSigma] = dataPrediction(step.sigma)
    kept.m2 = kept.m1
    kept.m1 = kept.m0
    kept.m0 = one! * kept.x + minusSigma! * velocity(kept.x, step.sigma)
    if (step.corrector) kept.x = combine(step.corrector)
    const next = combine(step.predictor)
    kept.lastX = kept.x
    kept.x = next
    states.push(next)
    predictions.push(kept.m0)
  }
  return { states, predictions, sample: kept.x }
}

/** Data x̂0 ~ N(mean, deviation²): the flow is known in closed form, (x − αμ)/S(σ) being constant along it. */
const mean = 0.7
const deviation = 0.4
const spread = (sigma: number) => Math.hypot((1 - sigma) * deviation, sigma)
const gaussian: Velocity = (x, sigma) => {
  const alpha = 1 - sigma
  const data = mean + ((alpha * deviation ** 2) / spread(sigma) ** 2) * (x - alpha * mean)
  return (x - data) / sigma
}
const exact = (x: number, from: number, to: number) =>
  (1 - to) * mean + (spread(to) * (x - (1 - from) * mean)) / spread(from)

/** Slope of log error over log steps, from 40 to 640 steps; the error is that at the last level above 0. */
function orderOfConvergence(solver: Solver, schedule: (steps: number) => Schedule): number {
  const error = (steps: number) => {
    const plan = schedule(steps)
    const { states } = denoise(solver, plan, 1.3, gaussian)
    const end = plan.sigmas.length - 2
    return Math.abs(states[end]! - exact(1.3, plan.sigmas[0]!, plan.sigmas[end]!))
  }
  return Math.log(error(40) / error(640)) / Math.log(16)
}

/** From σ = 0.9 to 0.05 in equal strides of λ, the variable that UniPC expands in. */
const equalStrides = (steps: number): Schedule => {
  const lambda = (sigma: number) => Math.log((1 - sigma) / sigma)
  const [from, to] = [lambda(0.9), lambda(0.05)]
  return customSchedule(
    Array.from({ length: steps + 1 }, (_, i) => 1 / (1 + Math.exp(from + ((to - from) * i) / steps))),
  )
}
const linearGrid = (steps: number) => gridSchedule({ steps, shift: 1, grid: 'linear', sigmaStart: 0.9 })

/** UniPC as a running algorithm with its linear systems solved by elimination, after the paper and not after our plan. */
function referenceUnipc(
  { sigmas }: Schedule,
  start: number,
  velocity: Velocity,
): { states: number[]; last: number } {
  const lambda = sigmas.map((sigma) => Math.log(1 - sigma) - Math.log(sigma))
  const outputs: number[] = []
  const states = [start]
  let x = start
  let lastSample = Number.NaN
  let lastOrder = 0
  const steps = sigmas.length - 1
  const update = (s: number, t: number, order: number, from: number, withOutput?: number) => {
    const h = lambda[t]! - lambda[s]!
    const hh = -h
    const B = Math.expm1(hh)
    const m = outputs[s]!
    const ratios: number[] = []
    const differences: number[] = []
    for (let k = 1; k < order; k++) {
      const r = (lambda[s - k]! - lambda[s]!) / h
      ratios.push(r)
      differences.push((outputs[s - k]! - m) / r)
    }
    ratios.push(1)
    if (withOutput !== undefined) differences.push(withOutput - m)
    // the rows R[j] = ratios^j and right hand sides b[j] = h φ_{j+1} (j+1)! / B
    const rows: number[][] = []
    let phi = B / hh - 1
    let factorial = 1
    for (let j = 1; j <= order; j++) {
      rows.push([...ratios.map((r) => r ** (j - 1)), (phi * factorial) / B])
      factorial *= j + 1
      phi = phi / hh - 1 / factorial
    }
    let rho = gaussianElimination(rows)
    if (withOutput === undefined) rho = order === 2 ? [0.5] : []
    else if (order === 1) rho = [0.5]
    const residual = differences.reduce((total, d, k) => total + rho[k]! * d, 0)
    return (sigmas[t]! / sigmas[s]!) * from - (1 - sigmas[t]!) * (B * m + B * residual)
  }
  for (let i = 0; i < steps; i++) {
    const output = x - sigmas[i]! * velocity(x, sigmas[i]!)
    if (i > 0) x = update(i - 1, i, lastOrder, lastSample, output)
    outputs.push(output)
    const order = Math.min(2, steps - i, i + 1)
    lastSample = x
    lastOrder = order
    x = sigmas[i + 1] === 0 ? output : update(i, i + 1, order, x)
    states.push(x)
  }
  return { states, last: x }
}

function gaussianElimination(augmented: number[][]): number[] {
  const rows = augmented.map((row) => [...row])
  const n = rows.length
  for (let column = 0; column < n; column++) {
    for (let row = 0; row < n; row++) {
      if (row === column) continue
      const factor = rows[row]![column]! / rows[column]![column]!
      for (let k = column; k <= n; k++) rows[row]![k]! -= factor * rows[column]![k]!
    }
  }
  return rows.map((row, k) => row[n]! / row[k]!)
}

const near = (got: number, expected: number, tolerance: number, what: string) =>
  assert.ok(Math.abs(got - expected) <= tolerance, `${what}: ${got}, expected ${expected} ± ${tolerance}`)

const refused = (field: string, act: () => unknown) => {
  try {
    act()
  } catch (error) {
    assert.instance(error, FSVideoError)
    assert.is((error as FSVideoError).code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
    assert.is((error as FSVideoError).field, field)
    return
  }
  assert.unreachable(`${field} was accepted`)
}

const sigmas = suite('sampling: noise levels')

sigmas('the refiner grid is that of the specification', () => {
  const { sigmas, timesteps } = gridSchedule({ steps: 8, shift: 5, grid: 'linear' })
  assert.equal(
    sigmas.map((sigma) => Number(sigma.toFixed(3))),
    [1, 0.972, 0.938, 0.893, 0.833, 0.75, 0.625, 0.417, 0],
  )
  assert.is(timesteps.length, 8)
  near(timesteps[4]!, 833.333333, 1e-5, 'timestep 4')
})

sigmas('the unshifted linear grid is 1, (N−1)/N, …, 1/N, 0', () => {
  assert.equal(gridSchedule({ steps: 4, shift: 1, grid: 'linear' }).sigmas, [1, 0.75, 0.5, 0.25, 0])
})

sigmas("Wan's grid starts at 0.999; the timesteps are 1000 σ, not rounded", () => {
  const { sigmas, timesteps } = gridSchedule({ steps: 30, shift: 5, grid: 'wan' })
  assert.is(sigmas.length, 31)
  near(sigmas[0]!, (5 * 0.999) / (1 + 4 * 0.999), 1e-15, 'first')
  near(sigmas[29]!, (5 * 0.0333) / (1 + 4 * 0.0333), 1e-12, 'last but one')
  assert.is(sigmas[30], 0)
  assert.equal(
    timesteps,
    sigmas.slice(0, 30).map((sigma) => 1000 * sigma),
  )
  near(timesteps[0]!, 999.79983987, 1e-6, 'first timestep')
})

sigmas('every grid falls strictly from its start to 0, at the extremes too', () => {
  for (const grid of ['wan', 'linear'] as const) {
    for (const steps of [1, 2, 1000]) {
      for (const shift of [0.01, 0.1, 1, 7, 100]) {
        for (const sigmaStart of [undefined, 1, 0.3]) {
          const { sigmas } = gridSchedule({ steps, shift, grid, sigmaStart })
          assert.is(sigmas.length, steps + 1)
          assert.is(sigmas[steps], 0)
          assert.ok(sigmas[0]! <= 1)
          for (let i = 0; i < steps; i++)
            assert.ok(sigmas[i]! > sigmas[i + 1]!, `${grid} ${steps} ${shift} at ${i}`)
        }
      }
    }
  }
})

sigmas('sigmaStart scales the grid before the shift', () => {
  const { sigmas } = gridSchedule({ steps: 4, shift: 3, grid: 'linear', sigmaStart: 0.8 })
  const expected = [0.8, 0.6, 0.4, 0.2].map((sigma) => (3 * sigma) / (1 + 2 * sigma))
  for (const [i, sigma] of expected.entries()) near(sigmas[i]!, sigma, 1e-15, `level ${i}`)
  const wan = gridSchedule({ steps: 4, shift: 1, grid: 'wan', sigmaStart: 0.5 })
  near(wan.sigmas[0]!, 0.4995, 1e-15, "Wan's start")
  near(shiftSigma(0.5, 3), 0.75, 1e-15, 'shift')
})

sigmas('a custom list is used as it is, with its closing 0 or without', () => {
  const expected = { sigmas: [0.9, 0.5, 0.1, 0], timesteps: [900, 500, 100] }
  assert.equal(customSchedule([0.9, 0.5, 0.1]), expected)
  assert.equal(customSchedule([0.9, 0.5, 0.1, 0]), expected)
})

sigmas('bad numbers are refused by name', () => {
  const good = { steps: 8, shift: 5, grid: 'linear' as const }
  for (const steps of [0, -1, 1.5, 1001, Number.NaN, Infinity, '8', undefined]) {
    refused('steps', () => gridSchedule({ ...good, steps: steps as number }))
  }
  for (const shift of [0, -1, 0.009, 101, Number.NaN, Infinity, '5', undefined]) {
    refused('shift', () => gridSchedule({ ...good, shift: shift as number }))
  }
  for (const sigmaStart of [0, 1e-7, -0.5, 1.01, Number.NaN, '1', null]) {
    refused('sigmaStart', () => gridSchedule({ ...good, sigmaStart: sigmaStart as number }))
  }
  refused('grid', () => gridSchedule({ ...good, grid: 'karras' as 'wan' }))
  refused('sigmas', () => customSchedule([]))
  refused('sigmas', () => customSchedule([0]))
  refused('sigmas', () => customSchedule('0.5' as unknown as number[]))
  refused('sigmas', () => customSchedule(Array.from({ length: 1001 }, (_, i) => 1 - i / 1002)))
  refused('sigmas[0]', () => customSchedule([1.1, 0.5]))
  refused('sigmas[1]', () => customSchedule([0.9, 0.9]))
  refused('sigmas[1]', () => customSchedule([0.9, 0.9 - 1e-7]))
  refused('sigmas[2]', () => customSchedule([0.9, 0.5, 0.6]))
  refused('sigmas[1]', () => customSchedule([0.9, Number.NaN, 0.1]))
  refused('sigmas[1]', () => customSchedule([0.9, 0, 0.1]))
})

sigmas.run()

const solvers = suite('sampling: solvers')

solvers('a name that no solver has is refused', () => {
  for (const name of ['heun', '', 'toString', undefined])
    refused('solver', () => createSolver(name as SolverName))
  for (const name of solverNames) assert.is(createSolver(name).name, name)
})

solvers('the last step returns the data prediction exactly', () => {
  for (const name of solverNames) {
    for (const steps of [1, 2, 3, 8]) {
      const { sample, predictions } = denoise(
        createSolver(name),
        gridSchedule({ steps, shift: 5, grid: 'wan' }),
        1.3,
        gaussian,
        () => 0.25,
      )
      assert.is(sample, predictions.at(-1), `${name}, ${steps} steps`)
    }
  }
})

solvers('with one true m and ε every step lands on α m + σ ε', () => {
  const [data, noise] = [0.31, -1.7]
  const schedules = [
    gridSchedule({ steps: 30, shift: 5, grid: 'wan' }),
    gridSchedule({ steps: 8, shift: 5, grid: 'linear' }), // starts at σ = 1, where λ is −∞
    gridSchedule({ steps: 1000, shift: 100, grid: 'linear' }), // strides small enough for the series
    customSchedule([1, 0.99, 0.4, 0.399, 0.1]),
  ]
  for (const name of solverNames) {
    for (const schedule of schedules) {
      const first = schedule.sigmas[0]!
      const { states } = denoise(
        createSolver(name),
        schedule,
        (1 - first) * data + first * noise,
        (x, sigma) => (x - data) / sigma,
        () => noise,
      )
      for (const [i, sigma] of schedule.sigmas.entries()) {
        near(states[i]!, (1 - sigma) * data + sigma * noise, 1e-12, `${name} at σ = ${sigma}`)
      }
    }
  }
})

solvers('Euler is the plain x + (σ′ − σ) v', () => {
  const schedule = gridSchedule({ steps: 8, shift: 5, grid: 'linear' })
  const { states } = denoise(createSolver('euler'), schedule, 1.3, gaussian)
  let x = 1.3
  for (let i = 0; i < 8; i++) {
    x += (schedule.sigmas[i + 1]! - schedule.sigmas[i]!) * gaussian(x, schedule.sigmas[i]!)
    near(states[i + 1]!, x, 1e-14, `state ${i + 1}`)
  }
})

solvers('renoise mixes m and fresh noise, and noise alone is asked for in no other solver', () => {
  const steps = createSolver('renoise').plan(gridSchedule({ steps: 4, shift: 1, grid: 'linear' }))
  assert.equal(
    steps.map(({ predictor }) => predictor.map(({ tensor, coefficient }) => [tensor, coefficient])),
    [
      [
        ['m0', 0.25],
        ['noise', 0.75],
      ],
      [
        ['m0', 0.5],
        ['noise', 0.5],
      ],
      [
        ['m0', 0.75],
        ['noise', 0.25],
      ],
      [['m0', 1]],
    ],
  )
  for (const name of ['euler', 'unipc'] as const) {
    for (const { corrector = [], predictor } of createSolver(name).plan(linearGrid(9))) {
      assert.not.ok([...corrector, ...predictor].some(({ tensor }) => tensor === 'noise'))
    }
  }
})

solvers('UniPC equals a running reference implementation', () => {
  for (const schedule of [
    gridSchedule({ steps: 30, shift: 5, grid: 'wan' }),
    gridSchedule({ steps: 50, shift: 3, grid: 'wan' }),
    gridSchedule({ steps: 2, shift: 1, grid: 'wan' }),
    customSchedule([0.98, 0.9, 0.89, 0.5, 0.2, 0.19, 0.03]),
  ]) {
    const ours = denoise(createSolver('unipc'), schedule, 1.3, gaussian)
    const reference = referenceUnipc(schedule, 1.3, gaussian)
    for (const [i, state] of reference.states.entries()) near(ours.states[i]!, state, 1e-10, `state ${i}`)
    near(ours.sample, reference.last, 1e-10, 'sample')
  }
})

solvers('UniPC from σ = 1 is the limit of starting ever closer to it', () => {
  const from = (first: number) =>
    denoise(createSolver('unipc'), customSchedule([first, 0.9, 0.7, 0.5, 0.2]), 1.3, gaussian).sample
  const distances = [1e-2, 1e-4, 1e-8, 1e-15].map((gap) => Math.abs(from(1 - gap) - from(1)))
  for (let i = 1; i < 4; i++) assert.ok(distances[i]! < distances[i - 1]!, `distances ${distances}`)
  assert.ok(distances[3]! < 1e-3, `distances ${distances}`)
})

solvers('orders of convergence: Euler 1, UniPC of order p p+1 thanks to its corrector', () => {
  near(orderOfConvergence(createSolver('euler'), equalStrides), 1, 0.05, 'Euler')
  near(orderOfConvergence(unipc(1), equalStrides), 2, 0.05, 'UniPC of order 1')
  near(orderOfConvergence(unipc(2), equalStrides), 3, 0.05, 'UniPC of order 2')
  // towards σ = 0 the strides of λ on an even grid of σ stay long, which costs UniPC an order
  near(orderOfConvergence(createSolver('euler'), linearGrid), 1, 0.05, 'Euler, even σ')
  near(orderOfConvergence(createSolver('unipc'), linearGrid), 2, 0.05, 'UniPC of order 2, even σ')
})

solvers.run()

const guidance = suite('sampling: guidance')

guidance('joins the data prediction', () => {
  const [x, conditional, unconditional, sigma, scale] = [0.4, -1.1, 0.3, 0.8, 5]
  const guided = unconditional + scale * (conditional - unconditional)
  const [c, u] = guidanceCoefficients(scale)
  near(c * conditional + u * unconditional, guided, 1e-14, 'velocity')
  const [ofX, ofC, ofU] = dataPrediction(sigma, scale)
  near(ofX! * x + ofC! * conditional + ofU! * unconditional, x - sigma * guided, 1e-14, 'm')
  assert.equal(dataPrediction(sigma), [1, -0.8])
  assert.ok(isGuided(scale))
  assert.not.ok(isGuided(1))
})

guidance('a scale out of range is refused', () => {
  for (const scale of [0, 0.99, -5, 101, Number.NaN, Infinity, '5', undefined]) {
    refused('guidanceScale', () => checkGuidanceScale(scale))
  }
  refused('refinerGuidance', () => checkGuidanceScale(0, 'refinerGuidance'))
})

guidance.run()
