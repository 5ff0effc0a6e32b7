/** `npm run evaluate`: what may be asked for, that the engine is asked for what a row says, and that the report tells it. */
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { configurations } from '../bench/evaluate/configurations.js'
import { Engine, type Request } from '../bench/evaluate/engine.js'
import { Evaluation } from '../bench/evaluate/evaluation.js'
import type { Report } from '../bench/evaluate/index.js'
import { type EvaluateOptions, readOptions } from '../bench/evaluate/options.js'
import { render } from '../bench/evaluate/render.js'
import { judgeThresholds, type Row, summarise } from '../bench/evaluate/results.js'
import { sceneOf } from '../bench/evaluate/scenes.js'
import { tableOf } from '../bench/evaluate/table.js'
import { Device, FSVideoError, ops } from '../lib/kernels.js'
import { Stages } from '../lib/stages.js'
import { randomModel, temporaryFolder } from './pipeline-model.js'

const named = (name: string) => configurations.find((row) => row.name === name)!

const options = suite('evaluate: options')

options('everything that was typed is read', async () => {
  const read = await readOptions(
    '--model tiny --count 20 --only generation,ablations --filter ^base --seed 3 --json a.json'.split(' '),
  )
  assert.is(read?.count, 20)
  assert.is(read?.seed, 3)
  assert.is(read?.json, 'a.json')
  assert.is(read?.plain, undefined)
  assert.equal(
    read?.rows.map(({ name }) => name),
    ['base only', 'base by Euler', 'base in 8 steps'],
  )
  assert.is((await readOptions(['--model', 'tiny']))?.rows.length, configurations.length)
  assert.is(await readOptions(['--help']), undefined)
})

options('bad input is refused by name', async () => {
  const refused = {
    '--model nowhere': '--model',
    '--count 1': '--count',
    '--count 2.5': '--count',
    '--seed -1': 'arguments',
    '--seed=x': '--seed',
    '--only everything': '--only',
    '--filter [': '--filter',
    '--filter nothing': '--filter',
    '--plain nowhere': '--plain',
    '--cuont 5': 'arguments',
  }
  for (const [words, field] of Object.entries(refused)) {
    const model = words.startsWith('--model') ? [] : ['--model', 'tiny']
    try {
      await readOptions([...model, ...words.split(' ')])
    } catch (error) {
      assert.instance(error, FSVideoError, words)
      assert.is((error as FSVideoError).code, 'ERR_FSVIDEO_INVALID_ARGUMENT', words)
      assert.is((error as FSVideoError).field, field, words)
      continue
    }
    assert.unreachable(`${words} was not refused`)
  }
})

options.run()

const engine = suite('evaluate: engine')
let device: Device
let model: string
let opened: Engine
const scene = sceneOf(4, { motion: 'left', count: 1 })
const first = render(scene, 128, { only: [0] })
const request: Request = {
  image: { data: first.pixels, width: 128, height: 128 },
  prompt: 'a star moves left',
  seed: 5,
  width: 128,
  height: 128,
  frames: 5,
  steps: 2,
  refinerSteps: 1,
  decoder: 'lite',
}
engine.before(async () => {
  model = await randomModel('demo')
  const encoder = path.join(model, 'encoder', 'config.json')
  const config = JSON.parse(await readFile(encoder, 'utf8'))
  const statistics = { latents_mean: Array(128).fill(0.5), latents_std: Array(128).fill(2) }
  await writeFile(encoder, JSON.stringify({ ...config, ...statistics }))
  device = await Device.open('cpu')
  opened = await Engine.open(model, device, 'f32')
})
engine.after(async () => {
  await opened.close()
  device.dispose()
})

engine('gives the clip of the public pipeline, and what it took', async () => {
  const made = await opened.generate(request)
  const video = await opened.pipeline.generate(request)
  assert.equal([made.clip.size, made.clip.frames], [128, 5])
  assert.ok(Buffer.concat(video.frames).equals(made.clip.pixels))
  assert.ok(made.seconds > 0 && made.peakBytes > device.memory().inUse)
})

engine('decodes what the base alone makes at half the size, of the same noise', async () => {
  const before = device.memory().inUse
  const { clip } = await opened.generateBase(request)
  assert.equal([clip.size, clip.frames], [64, 5])
  assert.is(device.memory().inUse, before)
  const again = await opened.generateBase(request)
  assert.ok(Buffer.from(again.clip.pixels).equals(clip.pixels))
})

engine('decodes the base latents that the whole pipeline goes on from', async () => {
  const { stages } = opened.pipeline
  let decoded: Promise<Float32Array> | undefined
  stages.decode = function (latents, ...rest) {
    decoded = latents.toFloat32()
    return Stages.prototype.decode.call(this, latents, ...rest)
  }
  try {
    await opened.generateBase({ ...request, solver: 'euler' })
  } finally {
    stages.decode = Stages.prototype.decode
  }
  let expected: Float32Array = new Float32Array()
  for await (const event of opened.pipeline.stream({ ...request, solver: 'euler' }))
    if (event.type === 'progress' && event.stage === 'denoise') expected = (await event.preview!()).data
  const found = await decoded!
  assert.is(found.length, expected.length)
  assert.ok(found.every((v, k) => Math.abs(v - expected[k]!) < 1e-4 * (1 + Math.abs(v))))
})

engine('reconstructs a clip as encoder and decoder do, without noise', async () => {
  const truth = render(scene, 64, { frames: 5 })
  const before = device.memory().inUse
  const { clip } = await opened.reconstruct(truth, 'standard')
  assert.is(device.memory().inUse, before)
  const { encoder } = opened.pipeline.stages.networks
  const pixels = device.scope(() => {
    const { latents, features } = encoder.encode(
      ops.fromRgb8(device.tensor(truth.pixels, [1, 5, 64, 64, 3]), 'f32'),
    )
    const [frames] = [...opened.pipeline.stages.networks.decoderFor('standard').decode(latents, features)]
    return ops.toRgb8(frames!)
  })
  const expected = (await pixels.read()) as Uint8Array
  pixels.dispose()
  // Normalising and back may round a latent otherwise.
  assert.is(clip.pixels.length, expected.length)
  assert.ok(clip.pixels.every((v, k) => Math.abs(v - expected[k]!) <= 1))
})

engine('puts another transformer in the place of the model’s own', async () => {
  const other = path.join(await randomModel('demo', { seed: 2 }), 'transformer')
  const plain = path.join(temporaryFolder('plain'), 'transformer')
  await mkdir(path.dirname(plain), { recursive: true })
  await cp(other, plain, { recursive: true })
  const clips = []
  for (const folder of [path.join(model, 'transformer'), plain]) {
    const mixed = await Engine.open(model, device, 'f32', folder)
    clips.push((await mixed.generate(request)).clip)
    await mixed.close()
  }
  const { clip } = await opened.generate(request)
  assert.ok(Buffer.from(clip.pixels).equals(clips[0]!.pixels))
  assert.not(Buffer.from(clip.pixels).equals(clips[1]!.pixels))
})

engine(
  'a row has the scores of its group, those of the same scenes reconstructed, and what it cost',
  async () => {
    const rows = [named('Lite'), named('prompts exchanged')]
    const told: string[] = []
    const asked = { model, count: 1, seed: 0, device: 'cpu', rows }
    const done = await new Evaluation(asked, device, (line) => told.push(line)).run()
    const [lite, exchanged] = done as [Row, Row]
    assert.equal([lite.name, exchanged.name], ['Lite', 'prompts exchanged'])
    assert.equal(Object.keys(lite.scores), ['psnr', 'maskPsnr', 'firstPsnr', 'ssim'])
    assert.is(lite.ceiling, undefined)
    const judged = ['firstPsnr', 'direction', 'colour', 'shape', 'position']
    assert.equal(Object.keys(exchanged.ceiling!), judged)
    assert.equal(Object.keys(exchanged.scores).sort(), [...judged, 'obeyed'].sort())
    for (const row of [lite, exchanged]) {
      assert.ok(row.seconds.median > 0 && row.peakBytes > 0)
      assert.is(row.scores.firstPsnr!.count, 1)
    }
    assert.is(exchanged.thresholds.length, 1)
    assert.match(told[0]!, /^autoencoder, Lite: 1 of 1/)
  },
)

engine.run()

const report = suite('evaluate: report')

report('thresholds are met by the score itself', () => {
  const clips = (right: number) => Array.from({ length: 20 }, (_, i) => ({ direction: i < right }))
  const [exchanged] = judgeThresholds(named('prompts exchanged'), summarise(clips(5)))
  assert.is(exchanged!.met, true)
  assert.is(judgeThresholds(named('prompts exchanged'), summarise(clips(6)))[0]!.met, false)
  const told = { ...named('full'), thresholds: [{ score: 'direction', atLeast: 0.85 } as const] }
  assert.is(judgeThresholds(told, summarise(clips(17)))[0]!.met, true)
  assert.is(judgeThresholds(told, summarise(clips(16)))[0]!.met, false)
})

report('rows that cannot be say why, and all fits 80 columns', async () => {
  const clip = { psnr: 28.1, maskPsnr: 22.2, firstPsnr: 27.7, ssim: 0.931 }
  const judged = { direction: true, colour: true, shape: false, position: Infinity }
  const cpu = await Device.open('cpu')
  const absent: EvaluateOptions = {
    model: 'nowhere',
    count: 2,
    seed: 0,
    device: 'cpu',
    rows: [named('no layer memory')],
  }
  const rows = [
    ...configurations.slice(0, -1).map((row): Row => {
      const scores = summarise(Array.from({ length: 200 }, () => ({ ...clip, ...judged })))
      return {
        name: row.name,
        group: row.group,
        scores,
        ceiling: row.group === 'autoencoder' ? undefined : scores,
        seconds: { median: 112.5, p10: 101.25, p90: 120.75 },
        peakBytes: 149e6,
        thresholds: judgeThresholds(row, scores),
      }
    }),
    ...(await new Evaluation(absent, cpu, () => {}).run()),
  ]
  cpu.dispose()
  const machine = { cpu: 'a processor', device: 'avx512, 2 threads', node: 'v20.0.0' }
  const facts = { date: '2026-01-02T03:04:05Z', commit: 'abc1234', model: 'models/shapes', count: 200 }
  const full: Report = { ...facts, machine, seed: 0, rows, peakBytes: 1e9 }
  const lines = tableOf(full)
  for (const line of lines) assert.ok(line.length <= 80, `${line.length} columns: ${line}`)
  const text = lines.join('\n')
  for (const { name } of configurations) assert.ok(text.includes(name), name)
  assert.match(text, /no layer memory +absent: no transformer_plain in the model, no --plain/)
  assert.match(text, /MISSED generation, full: shape +0\.00 \(0\.00-0\.02\)/)
  assert.match(text, /met {4}generation, full: 1st dB +27\.7 \(27\.7-27\.7\) +>= 25/)
  assert.match(text, /MISSED generation, prompts exchanged: direction +1\.00 \(0\.98-1\.00\) +<= 0\.25/)
})

report.run()
