/**
 * Layer memory (FSVideo eq. 6-8) against the equations: router softmax, mixing before or after the norm, modulation; and that a
 * token's bits depend on nothing but the token.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Device } from '../lib/device.js'
import * as ops from '../lib/ops.js'
import type { DType } from '../lib/tensor.js'
import { openTestDevice } from './devices.js'
import {
  accurate,
  addProducts,
  exact,
  f32,
  judge,
  judgeFp8,
  Random,
  type Round,
  roundingOf,
  sameBits,
  upload,
} from './numbers.js'

interface Case {
  batch: number
  tokens: number
  channels: number
  count: number
  bias?: boolean
  modulated?: boolean
}

const cases: Case[] = [
  { batch: 1, tokens: 1, channels: 1, count: 1 },
  { batch: 2, tokens: 3, channels: 37, count: 5, bias: true, modulated: true },
  { batch: 1, tokens: 9, channels: 300, count: 20, bias: true },
  { batch: 3, tokens: 5, channels: 128, count: 64, bias: true, modulated: true },
  { batch: 2, tokens: 11, channels: 515, count: 3, modulated: true },
  { batch: 1, tokens: 17, channels: 256, count: 7, modulated: true },
  { batch: 1, tokens: 3, channels: 5120, count: 41, bias: true, modulated: true },
]

/** Numbers of one case; states differ in mean and spread. */
function draw({ batch, tokens, channels, count, bias, modulated }: Case, dtype: DType) {
  const random = new Random(batch * 1000 + tokens * 100 + channels + count)
  const size = batch * tokens * channels
  return {
    states: Array.from({ length: count }, (_, i) => random.array(size, dtype, 1 + i / 4, i / 3 - 1)),
    input: random.array(size, dtype),
    router: random.array(count * channels, dtype, 1 / Math.sqrt(channels)),
    bias: bias ? random.array(count) : undefined,
    scale: modulated ? random.array(batch * channels, 'f32', 0.3) : undefined,
    shift: modulated ? random.array(batch * channels) : undefined,
  }
}
type Drawn = ReturnType<typeof draw>

function layerNorm(row: readonly number[], r: Round): number[] {
  const mean = r(row.reduce((sum, x) => r(sum + x), 0) / row.length)
  const squares = row.reduce((sum, x) => r(sum + r(r(x - mean) * r(x - mean))), 0)
  const deviation = r(Math.sqrt(r(r(squares / row.length) + 1e-6)))
  return row.map((x) => r(r(x - mean) / deviation))
}

/** { memory, weights } by the equations, every operation rounded by `r`. */
function reference({ batch, tokens, channels, count }: Case, drawn: Drawn, norm: string, r: Round) {
  const memory: number[] = []
  const weights: number[] = []
  for (let b = 0; b < batch; b++)
    for (let n = 0; n < tokens; n++) {
      const at = (b * tokens + n) * channels
      const logits = Array.from({ length: count }, (_, i) => {
        const logit = addProducts(r, 0, channels, drawn.input, at, drawn.router, i * channels)
        return r(logit + (drawn.bias?.[i] ?? 0))
      })
      const largest = Math.max(...logits)
      const powers = logits.map((x) => r(Math.exp(r(x - largest))))
      const total = powers.reduce((sum, x) => r(sum + x), 0)
      const w = powers.map((x) => r(x / total))
      weights.push(...w)
      const rows = drawn.states.map((state) => state.slice(at, at + channels))
      const mixed = (norm === 'pre_mix' ? rows.map((row) => layerNorm(row, r)) : rows).reduce<number[]>(
        (sum, row, i) => row.map((x, c) => r((sum[c] ?? 0) + r(w[i]! * x))),
        [],
      )
      const normed = norm === 'pre_mix' ? mixed : layerNorm(mixed, r)
      for (let c = 0; c < channels; c++) {
        const scale = drawn.scale?.[b * channels + c] ?? 0
        memory.push(r(r(normed[c]! * r(1 + scale)) + (drawn.shift?.[b * channels + c] ?? 0)))
      }
    }
  return { memory, weights }
}

function place(device: Device, { batch, tokens, channels, count }: Case, drawn: Drawn, dtype: DType) {
  const shape = [batch, tokens, channels]
  const vector = (values: number[] | undefined, ...s: number[]) => values && upload(device, values, s)
  return {
    states: drawn.states.map((state) => upload(device, state, shape, dtype)),
    input: upload(device, drawn.input, shape, dtype),
    router: upload(device, drawn.router, [count, channels], dtype),
    options: {
      routerBias: vector(drawn.bias, count),
      scale: vector(drawn.scale, batch, channels),
      shift: vector(drawn.shift, batch, channels),
    },
  }
}

const memory = suite('layer memory')
let device: Device
memory.before(async () => {
  device = await openTestDevice()
})
memory.after(() => device?.dispose())

for (const dtype of ['f32', 'bf16'] as const)
  for (const norm of ['post_mix', 'pre_mix'] as const)
    for (const c of cases)
      memory(`${dtype} ${norm} ${JSON.stringify(c)}`, async () => {
        const drawn = draw(c, dtype)
        const { states, input, router, options } = place(device, c, drawn, dtype)
        const result = ops.layerMemoryWithWeights(states, input, router, { ...options, norm })
        const truth = reference(c, drawn, norm, exact)
        const plain = reference(c, drawn, norm, f32)
        assert.is(result.memory.dtype, dtype)
        const rounded = plain.memory.map(roundingOf(dtype))
        accurate(await result.memory.toFloat32(), truth.memory, rounded, 'memory')
        accurate(await result.weights.toFloat32(), truth.weights, plain.weights, 'weights')
        await sameBits(
          ops.layerMemory(states, input, router, { ...options, norm }),
          result.memory,
          'without weights',
        )
        await judgeFp8(
          ops.layerMemoryFp8(states, input, router, { ...options, norm }),
          [c.batch, c.tokens, c.channels],
          (r) => (r === exact ? truth : plain).memory,
          'in fp8',
        )
      })

memory('of no tokens is empty', async () => {
  const c = { batch: 2, tokens: 0, channels: 8, count: 3 }
  const { states, input, router } = place(device, c, draw(c, 'f32'), 'f32')
  assert.equal([...ops.layerMemory(states, input, router).shape], [2, 0, 8])
})

memory('with a router that is sure of one state is the norm of that state', async () => {
  const c = { batch: 1, tokens: 5, channels: 96, count: 4 }
  const drawn = draw(c, 'f32')
  const { states, input, router } = place(device, c, drawn, 'f32')
  const routerBias = upload(device, [0, 0, 1e4, 0], [4])
  for (const norm of ['post_mix', 'pre_mix'] as const) {
    const result = ops.layerMemory(states, input, router, { routerBias, norm })
    await judge(
      result,
      [1, 5, 96],
      (r) => {
        const rows = Array.from({ length: 5 }, (_, n) => drawn.states[2]!.slice(n * 96, (n + 1) * 96))
        return rows.flatMap((row) => layerNorm(row, r))
      },
      norm,
    )
  }
})

memory("a token's bits depend neither on its batch nor on the threads", async () => {
  const c = { batch: 3, tokens: 13, channels: 200, count: 6, bias: true, modulated: true }
  const drawn = draw(c, 'bf16')
  const single = await openTestDevice({ threads: 1 })
  const many = await openTestDevice({ threads: 5 })
  try {
    for (const norm of ['post_mix', 'pre_mix'] as const) {
      const run = (on: Device) => {
        const { states, input, router, options } = place(on, c, drawn, 'bf16')
        return ops.layerMemory(states, input, router, { ...options, norm })
      }
      const whole = run(single)
      await sameBits(run(many), whole, 'threads')
      for (let b = 0; b < c.batch; b++) {
        const part = (values: number[] | undefined, size: number) => values?.slice(b * size, (b + 1) * size)
        const alone = { ...c, batch: 1 }
        const numbers: Drawn = {
          ...drawn,
          states: drawn.states.map((state) => part(state, 13 * 200)!),
          input: part(drawn.input, 13 * 200)!,
          scale: part(drawn.scale, 200),
          shift: part(drawn.shift, 200),
        }
        const { states, input, router, options } = place(single, alone, numbers, 'bf16')
        const one = ops.layerMemory(states, input, router, { ...options, norm })
        await sameBits(one, whole.slice(0, b, b + 1), `sample ${b}`)
      }
    }
  } finally {
    single.dispose()
    many.dispose()
  }
})

memory.run()
