/**
 * Every op refuses arguments that break its contract (csrc/ops/ops.h) before any work, with one code and a message that names op and
 * argument, what was given and what is allowed; and counts its cost from shapes alone. On the planning device: nothing is computed.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Device } from '../lib/device.js'
import { FSVideoError } from '../lib/errors.js'
import * as ops from '../lib/ops.js'
import type { DType, Tensor } from '../lib/tensor.js'

const contract = suite('contract')
let device: Device
contract.before(async () => {
  device = await Device.open('meta')
})
contract.after(() => device?.dispose())

/** A tensor of a shape; zeros, if anything ever read it. */
const t = (shape: number[], dtype: DType = 'f32'): Tensor => ops.fill(device, shape, 0, dtype)

const ids = (...shape: number[]) => t(shape, 'i32')
const x = () => t([2, 3, 8])
const video = () => t([1, 4, 6, 6, 8])
const kernel = () => t([16, 8, 3, 3, 3])
const q = () => t([2, 5, 4, 8])
const activation = 'tanh' as ops.Activation
const nothing = undefined as unknown as Tensor

/** [what is called, "<field> must be <expected>, got <got>"] */
const refusals: Record<string, [() => unknown, string][]> = {
  linear: [
    [() => ops.linear(t([]), t([4, 8])), 'linear.x must be [..., K] f32 or bf16 or f8e4m3, got [] f32'],
    [
      () => ops.linear(ids(2, 8), t([4, 8])),
      'linear.x must be [..., K] f32 or bf16 or f8e4m3, got [2, 8] i32',
    ],
    [
      () => ops.linear(x(), nothing),
      'linear.weight must be [N, K] f32 or bf16 or f8e4m3, plain or packed_linear, got nothing',
    ],
    [() => ops.linear(x(), t([4, 7])), 'linear.weight must be [N, 8] f32 for this x, got [4, 7] f32'],
    [
      () => ops.linear(x(), t([4, 8], 'bf16')),
      'linear.weight must be [N, 8] f32 for this x, got [4, 8] bf16',
    ],
    [
      () => ops.linear(t([2, 8], 'bf16'), t([4, 8], 'f8e4m3')),
      'linear.weightScale must be [4] f32, got nothing',
    ],
    [
      () => ops.linear(t([2, 8], 'f8e4m3'), t([4, 8], 'bf16')),
      'linear.weight must be [N, 8] f8e4m3 for this x, got [4, 8] bf16',
    ],
    [
      () => ops.linear(t([2, 3, 8], 'f8e4m3'), t([4, 8], 'f8e4m3'), { xScale: t([2]), weightScale: t([4]) }),
      'linear.xScale must be [2, 3] or [2, 3, 1] f32, got [2] f32',
    ],
    [
      () => ops.linear(x(), t([4, 8]), { xScale: t([2, 3]) }),
      'linear.xScale must be nothing beside an x that is not f8e4m3, got [2, 3] f32',
    ],
    [
      () => ops.linear(x(), t([4, 8]), { weightScale: t([4]) }),
      'linear.weightScale must be nothing beside a weight that is not f8e4m3, got [4] f32',
    ],
    [() => ops.linear(x(), t([4, 8]), { bias: t([5]) }), 'linear.bias must be [4] f32, got [5] f32'],
    [
      () => ops.linear(x(), t([4, 8]), { residual: t([2, 3, 4], 'bf16') }),
      'linear.residual must be [2, 3, 4] f32, got [2, 3, 4] bf16',
    ],
    [
      () => ops.linear(x(), t([4, 8]), { gate: t([3, 4]) }),
      'linear.gate must be [2, 3, 4] f32 or [2, 4] f32, got [3, 4] f32',
    ],
    [() => ops.linear(x(), t([4, 8]), { dtype: 'u8' }), 'linear.dtype must be f32 or bf16, got "u8"'],
    [
      () => ops.linear(x(), t([4, 8]), { dtype: 'f8e4m3' }),
      'linear.dtype must be f32 or bf16; linearFp8 gives values and scales, got "f8e4m3"',
    ],
    [
      () => ops.linear(x(), ops.packConv3d(kernel())),
      'linear.weight must be [N, K] f32 or bf16 or f8e4m3, plain or packed_linear, got [16, 8, 3, 3, 3] f32 packed_conv',
    ],
    [
      () => ops.linear(ops.packLinear(t([4, 8])), t([4, 8])),
      'linear.x must be [..., K] f32 or bf16 or f8e4m3, got [4, 8] f32 packed_linear',
    ],
  ],
  attention: [
    [() => ops.attention(x(), q(), q()), 'attention.q must be [B, Nq, H, D] f32 or bf16, got [2, 3, 8] f32'],
    [
      () => ops.attention(q(), t([2, 7, 3, 8]), q()),
      'attention.k must be [2, 7, 4, 8] f32, got [2, 7, 3, 8] f32',
    ],
    [
      () => ops.attention(q(), t([2, 7, 4, 8]), t([2, 6, 4, 8])),
      'attention.v must be [2, 7, 4, 8] f32, got [2, 6, 4, 8] f32',
    ],
    [
      () => ops.attention(q(), q(), q(), { bias: t([4, 5, 4]) }),
      'attention.bias must be [4, 5, 5] f32, got [4, 5, 4] f32',
    ],
    [
      () => ops.attention(q(), q(), q(), { keyLengths: t([2]) }),
      'attention.keyLengths must be [2] i32, got [2] f32',
    ],
    [
      () => ops.attention(q(), q(), q(), { scale: Number.NaN }),
      'attention.scale must be a finite number, got NaN',
    ],
  ],
  linearAttention: [
    [
      () => ops.linearAttention(t([4, 20])),
      'linearAttention.qkv must be a last dimension that 3 divides, got [4, 20] f32',
    ],
    [
      () => ops.linearAttention(t([4, 96]), { headDim: 24 }),
      "linearAttention.headDim must be a divisor of 32, a third of qkv's last dimension, got 24",
    ],
    [
      () => ops.linearAttention(t([4, 96]), { eps: -1 }),
      'linearAttention.eps must be finite and at least 0, got -1',
    ],
  ],
  layerMemory: [
    [() => ops.layerMemory([], x(), t([1, 8])), 'layerMemory.states must be 1 to 64 tensors, got 0 tensors'],
    [
      () => ops.layerMemory([x(), t([2, 3, 7])], x(), t([2, 8])),
      'layerMemory.states[1] must be [2, 3, 8] f32, got [2, 3, 7] f32',
    ],
    [() => ops.layerMemory([x()], x(), t([2, 8])), 'layerMemory.router must be [1, 8] f32, got [2, 8] f32'],
    [
      () => ops.layerMemory([x()], t([2, 3, 8], 'bf16'), t([1, 8])),
      'layerMemory.routerInput must be [2, 3, 8] f32, got [2, 3, 8] bf16',
    ],
    [
      () => ops.layerMemory([x()], x(), t([1, 8]), { routerBias: t([2]) }),
      'layerMemory.routerBias must be [1] f32, got [2] f32',
    ],
    [
      () => ops.layerMemory([x()], x(), t([1, 8]), { scale: t([8]) }),
      'layerMemory.scale must be [2, 8] f32, got [8] f32',
    ],
    [
      () => ops.layerMemory([x()], x(), t([1, 8]), { eps: Number.POSITIVE_INFINITY }),
      'layerMemory.eps must be a finite number, got Infinity',
    ],
  ],
  normModulate: [
    [() => ops.normModulate(t([8])), 'normModulate.x must be [B, ..., C] f32 or bf16, got [8] f32'],
    [
      () => ops.normModulate(x(), { weight: t([8], 'bf16') }),
      'normModulate.weight must be [8] f32, got [8] bf16',
    ],
    [
      () => ops.normModulate(x(), { shift: t([3, 8]) }),
      'normModulate.shift must be [2, 8] f32, got [3, 8] f32',
    ],
    [() => ops.normModulate(x(), { dtype: 'i32' }), 'normModulate.dtype must be f32 or bf16, got "i32"'],
  ],
  qkNormRope: [
    [
      () => ops.qkNormRope(x(), { heads: 3 }),
      'qkNormRope.heads must be a divisor of 8, the channels of x, got 3',
    ],
    [
      () => ops.qkNormRope(x(), { heads: 0 }),
      'qkNormRope.heads must be a divisor of 8, the channels of x, got 0',
    ],
    [
      () => ops.qkNormRope(x(), { heads: 8, rotations: t([3, 0, 2]) }),
      'qkNormRope.heads must be such that heads have an even size, not 1, got 8',
    ],
    [
      () => ops.qkNormRope(x(), { heads: 2, rotations: t([2, 2, 2]) }),
      'qkNormRope.rotations must be [3, 2, 2] f32, got [2, 2, 2] f32',
    ],
  ],
  pixelNorm: [
    [() => ops.pixelNorm(t([])), 'pixelNorm.x must be [..., C] f32 or bf16, got [] f32'],
    [() => ops.pixelNorm(x(), { bias: t([7]) }), 'pixelNorm.bias must be [8] f32, got [7] f32'],
    [
      () => ops.pixelNorm(x(), { residual: t([2, 3, 8], 'bf16') }),
      'pixelNorm.residual must be [2, 3, 8] f32, got [2, 3, 8] bf16',
    ],
  ],
  groupNorm: [
    [
      () => ops.groupNorm(x(), { groups: 3 }),
      'groupNorm.groups must be a divisor of 8, the channels of x, got 3',
    ],
    [
      () => ops.groupNorm(x(), { groups: 2, weight: t([2]) }),
      'groupNorm.weight must be [8] f32, got [2] f32',
    ],
  ],
  conv3d: [
    [() => ops.conv3d(x(), kernel()), 'conv3d.x must be [B, T, H, W, C] f32 or bf16, got [2, 3, 8] f32'],
    [
      () => ops.conv3d(video(), t([16, 7, 3, 3, 3])),
      'conv3d.weight must be [O, 8, kt, kh, kw] f32 for this x and groups, got [16, 7, 3, 3, 3] f32',
    ],
    [
      () => ops.conv3d(video(), kernel(), { groups: 3 }),
      'conv3d.groups must be a divisor of 8, the channels of x, got 3',
    ],
    [
      () => ops.conv3d(video(), ops.packLinear(t([16, 8]))),
      'conv3d.weight must be [O, C / groups, kt, kh, kw] f32 or bf16, plain or packed_conv, got [16, 8] f32 packed_linear',
    ],
    [
      () => ops.conv3d(video(), kernel(), { stride: [1, 0, 1] }),
      'conv3d.strideH must be from 1 to 1048576, got 0',
    ],
    [
      () => ops.conv3d(video(), kernel(), { padTime: [-1, 0] }),
      'conv3d.padLeft must be from 0 to 1048576, got -1',
    ],
    [
      () => ops.conv3d(t([1, 2, 6, 6, 8]), kernel()),
      "conv3d.x must be at least the kernel's [3, 3, 3] in time, height and width with its padding, which make [2, 6, 6], got [1, 2, 6, 6, 8] f32",
    ],
    [
      () => ops.conv3d(t([1, 0, 6, 6, 8]), kernel(), { padTime: [2, 0] }),
      'conv3d.x must be at least one frame to pad with, got [1, 0, 6, 6, 8] f32',
    ],
    [
      () => ops.conv3d(video(), kernel(), { before: t([1, 2, 6, 5, 8]) }),
      'conv3d.before must be [1, 2, 6, 6, 8] f32, got [1, 2, 6, 5, 8] f32',
    ],
    [
      () => ops.conv3d(video(), kernel(), { noise: t([3, 4], 'bf16') }),
      'conv3d.noise must be [4, 4] f32, got [3, 4] bf16',
    ],
    [
      () => ops.conv3d(video(), kernel(), { residual: video() }),
      'conv3d.residual must be [1, 2, 4, 4, 16] f32, got [1, 4, 6, 6, 8] f32',
    ],
    [
      () => ops.conv3d(video(), kernel(), { groupCausal: { size: 2, first: 1 } }),
      'conv3d.groupSize must be 0 unless kt is 3, stride_t 1, pad_left and the frames of before 1 together, and pad_right 1, got 2',
    ],
    [
      () => ops.conv3d(video(), kernel(), { noiseWeight: Number.NaN }),
      'conv3d.noiseWeight must be a finite number, got NaN',
    ],
    [
      () => ops.conv3d(video(), kernel(), { norm: { weight: t([8]) } }),
      'conv3d.norm.weight must be [16] f32, got [8] f32',
    ],
    [
      () => ops.conv3d(video(), kernel(), { norm: { bias: t([16], 'bf16') } }),
      'conv3d.norm.bias must be [16] f32, got [16] bf16',
    ],
    [
      () => ops.conv3d(video(), kernel(), { norm: { eps: -1 } }),
      'conv3d.norm.eps must be finite and at least 0, got -1',
    ],
    [
      () => ops.conv3d(video(), kernel(), { norm: {}, activation: 'silu', residual: t([1, 2, 4, 4, 16]) }),
      'conv3d.residual must be nothing where there is a norm and an activation, got [1, 2, 4, 4, 16] f32',
    ],
  ],
  unshuffle3d: [
    [
      () => ops.unshuffle3d(video(), { time: 3 }),
      'unshuffle3d.time must be a divisor of 4, the frames of x with repeat_first, got 3',
    ],
    [
      () => ops.unshuffle3d(video(), { space: 4, channels: 8 }),
      'unshuffle3d.space must be a divisor of 6, the height of x, got 4',
    ],
    [
      () => ops.unshuffle3d(video(), { space: 2, channels: 5 }),
      'unshuffle3d.channels must be a divisor of 32, the channels of x times time * space^2, got 5',
    ],
    [
      () => ops.unshuffle3d(video(), { space: 2, shortcut: t([1, 4, 6, 6, 4]) }),
      'unshuffle3d.shortcut must be Cs * time * space^2 = Cs * 4 a multiple of channels 32, got [1, 4, 6, 6, 4] f32',
    ],
    [
      () => ops.unshuffle3d(t([1, 0, 6, 6, 8]), { repeatFirst: 1 }),
      'unshuffle3d.repeatFirst must be from 0 to 0, got 1',
    ],
  ],
  shuffle3d: [
    [
      () => ops.shuffle3d(video(), { space: 2, channels: 3 }),
      'shuffle3d.channels must be such that channels * time * space^2 = 12 is a multiple of the channels of x, 8, got 3',
    ],
    [
      () => ops.shuffle3d(video(), { space: 2, dropFirst: 5 }),
      'shuffle3d.dropFirst must be from 0 to 4, got 5',
    ],
    [
      () => ops.shuffle3d(video(), { space: 2, shortcut: t([1, 4, 6, 6, 3]) }),
      'shuffle3d.shortcut must be Cs a divisor of channels * time * space^2 = 8, got [1, 4, 6, 6, 3] f32',
    ],
  ],
  combine: [
    [
      () => ops.combine(Array.from({ length: 9 }, x), Array(9).fill(1)),
      'combine.terms must be 1 to 8 tensors, got 9 tensors',
    ],
    [
      () => ops.combine([x(), t([2, 3, 7])], [1, 1]),
      'combine.terms[1] must be [2, 3, 8] f32 or bf16, got [2, 3, 7] f32',
    ],
    [
      () => ops.combine([x(), ids(2, 3, 8)], [1, 1]),
      'combine.terms[1] must be [2, 3, 8] f32 or bf16, got [2, 3, 8] i32',
    ],
    [
      () => ops.combine([x(), x()], [1, Number.NaN]),
      'combine.coefficients[1] must be a finite number, got NaN',
    ],
    [() => ops.combine([x()], t([2])), 'combine.factors must be [1] f32, got [2] f32'],
  ],
  randn: [
    [() => ops.randn(device, [], { seeds: [] }), 'randn.shape must be [B, ...], got rank 0'],
    [
      () => ops.randn(device, [1, 4], { seeds: [1], offset: 6 }),
      'randn.offset must be a multiple of 4, got 6',
    ],
    [() => ops.randn(device, [1, 4], { seeds: [1], dtype: 'u8' }), 'randn.dtype must be f32 or bf16, got u8'],
  ],
  fill: [
    [
      () => ops.fill(device, [2 ** 40, 2 ** 40], 0),
      'fill.result must be no negative size and at most 9007199254740992 elements, got [1099511627776, 1099511627776]',
    ],
    [() => ops.fill(device, [2], 256, 'u8'), 'fill.value must be a whole number that u8 has, got 256'],
    [() => ops.fill(device, [2], 0.5, 'i32'), 'fill.value must be a whole number that i32 has, got 0.5'],
  ],
  cast: [
    [() => ops.cast(t([2], 'u8'), 'f32'), 'cast.x must be [...] f32 or bf16 or f8e4m3 or i32, got [2] u8'],
    [() => ops.cast(ids(2), 'bf16'), 'cast.dtype must be f32 or i32, got bf16'],
    [() => ops.cast(t([2], 'bf16'), 'i32'), 'cast.dtype must be f32 or bf16 or f8e4m3, got i32'],
  ],
  concat: [
    [() => ops.concat([x(), x()], 3), 'concat.axis must be from 0 to 2, got 3'],
    [
      () => ops.concat([x(), t([2, 4, 7])], 1),
      'concat.parts[1] must be [2, 3, 8] f32 but for the size of axis 1, got [2, 4, 7] f32',
    ],
    [
      () => ops.concat([x(), t([2, 4, 8], 'bf16')], 1),
      'concat.parts[1] must be [2, 3, 8] f32 but for the size of axis 1, got [2, 4, 8] bf16',
    ],
  ],
  slice: [
    [() => ops.slice(x(), 1, 0, 4), 'slice.end must be from 0 to 3, got 4'],
    [() => ops.slice(x(), 1, 2, 1), 'slice.start must be from 0 to 1, got 2'],
    [() => ops.slice(x(), 5, 0, 1), 'slice.axis must be from 0 to 2, got 5'],
  ],
  permute: [
    [() => ops.permute(x(), [0, 1, 1]), 'permute.order must be every axis once, got axis 1 twice'],
    [() => ops.permute(x(), [0, 1, 3]), 'permute.order must be from 0 to 2, got 3'],
  ],
  embedding: [
    [() => ops.embedding(x(), ids(3)), 'embedding.table must be [V, C] f32 or bf16, got [2, 3, 8] f32'],
    [() => ops.embedding(t([4, 8]), t([3])), 'embedding.ids must be [...] i32, got [3] f32'],
  ],
  modulation: [
    [
      () => ops.modulation(t([6, 8]), t([2, 47])),
      'modulation.embedding must be [2, 48] f32, got [2, 47] f32',
    ],
  ],
  affine: [
    [() => ops.affine(x(), t([7]), t([8])), 'affine.scale must be [8] f32, got [7] f32'],
    [() => ops.affine(x(), t([8]), nothing), 'affine.shift must be [8] f32, got nothing'],
  ],
  glu: [[() => ops.glu(t([2, 7])), 'glu.x must be an even last dimension, got [2, 7] f32']],
  rgb8: [
    [() => ops.fromRgb8(x()), 'fromRgb8.x must be [...] u8, got [2, 3, 8] f32'],
    [() => ops.toRgb8(t([3], 'u8')), 'toRgb8.x must be [...] f32 or bf16, got [3] u8'],
  ],
  fp8: [
    [() => ops.quantizeFp8(t([])), 'quantizeFp8.x must be [..., K] f32 or bf16, got [] f32'],
    [
      () => ops.dequantizeFp8(t([2, 8], 'f8e4m3'), t([3])),
      'dequantizeFp8.scales must be [2] or [2, 1] f32, got [3] f32',
    ],
  ],
  allFinite: [[() => ops.allFinite(ids(3)), 'allFinite.x must be [...] f32 or bf16, got [3] i32']],
  dynamicMask: [
    [
      () => ops.dynamicMask(video(), video(), { frames: 2, channels: 4 }),
      'dynamicMask.a must be one frame, got [1, 4, 6, 6, 8] f32',
    ],
    [
      () => ops.dynamicMask(t([1, 1, 6, 6, 8]), video(), { frames: 2, channels: 4 }),
      'dynamicMask.b must be [1, 1, 6, 6, 8] f32, got [1, 4, 6, 6, 8] f32',
    ],
    [
      () => {
        const a = t([1, 1, 6, 6, 8])
        return ops.dynamicMask(a, a, { frames: 0, channels: 4 })
      },
      'dynamicMask.frames must be from 1 to 9007199254740992, got 0',
    ],
    [
      () => {
        const a = t([1, 1, 6, 6, 8])
        return ops.dynamicMask(a, a, { frames: 2, channels: 4, lo: 0.75, hi: 0.5 })
      },
      'dynamicMask.hi must be finite and at least 0.75, got 0.5',
    ],
  ],
  pack: [
    [() => ops.packLinear(x()), 'pack.weight must be [N, K] f32 or bf16 or f8e4m3, got [2, 3, 8] f32'],
    [() => ops.packLinear(t([4, 8], 'f8e4m3')), 'pack.scales must be [4] f32, got nothing'],
    [
      () => ops.packLinear(t([4, 8]), t([4])),
      'pack.scales must be nothing beside a weight that is not f8e4m3, got [4] f32',
    ],
    [() => ops.packConv3d(kernel(), 3), 'pack.groups must be a divisor of 16, the output channels, got 3'],
  ],
}

for (const [name, list] of Object.entries(refusals))
  contract(`${name} says what is wrong`, () => {
    for (const [call, message] of list) {
      try {
        device.scope(call)
      } catch (error) {
        assert.instance(error, FSVideoError)
        const { code, message: text, field } = error as FSVideoError
        assert.is(text, message)
        assert.is(code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
        assert.is(field, message.split(' must be ')[0])
        continue
      }
      assert.unreachable(`accepted, should say: ${message}`)
    }
  })

contract('an unknown activation is refused wherever one is taken', () => {
  for (const call of [
    () => ops.activate(x(), activation),
    () => ops.linear(x(), t([4, 8]), { activation }),
    () => ops.conv3d(video(), kernel(), { activation }),
    () => ops.pixelNorm(x(), { activation }),
    () => ops.groupNorm(x(), { groups: 2, activation }),
  ])
    assert.throws(call, (error: FSVideoError) => error.code === 'ERR_FSVIDEO_INVALID_ARGUMENT')
})

/** [op's name, call, result's shape, floating point operations, bytes] */
const costs: [string, () => Tensor, number[], number, number][] = [
  [
    'linear',
    () => ops.linear(t([2, 3, 8]), t([5, 8]), { bias: t([5]), activation: 'silu' }),
    [2, 3, 5],
    30 * (2 * 8 + 2),
    4 * (48 + 40 + 5 + 30),
  ],
  [
    'attention',
    () => ops.attention(t([2, 5, 4, 8], 'bf16'), t([2, 7, 4, 8], 'bf16'), t([2, 7, 4, 8], 'bf16')),
    [2, 5, 4, 8],
    2 * 4 * 5 * 7 * (4 * 8 + 2),
    2 * (2 * 320 + 2 * 448),
  ],
  [
    'conv3d',
    () =>
      ops.conv3d(t([1, 4, 6, 6, 8]), t([16, 4, 3, 3, 3]), { groups: 2, stride: [1, 2, 2], padSpace: [1, 1] }),
    [1, 2, 3, 3, 16],
    288 * 2 * 4 * 27,
    4 * (1152 + 1728 + 288),
  ],
  [
    'layer_memory',
    () => ops.layerMemory([x(), x(), x()], x(), t([3, 8])),
    [2, 3, 8],
    48 * (4 * 3 + 5 + 2),
    4 * (48 * 5 + 24),
  ],
  ['combine', () => ops.combine([x(), x()], [1, 2], { dtype: 'bf16' }), [2, 3, 8], 48 * 4, 48 * (4 + 4 + 2)],
  ['slice', () => ops.slice(x(), 2, 1, 5), [2, 3, 4], 0, 2 * 24 * 4],
  [
    'unshuffle3d',
    () => ops.unshuffle3d(t([1, 3, 4, 4, 8]), { time: 2, space: 2, repeatFirst: 1, channels: 16 }),
    [1, 2, 2, 2, 16],
    384 - 128,
    4 * (384 + 128),
  ],
]

for (const [name, call, shape, flops, bytes] of costs)
  contract(`${name} counts its operations and least bytes`, () => {
    device.resetStats()
    assert.equal([...call().shape], shape)
    const stats = device.stats()[name]!
    assert.is(stats.calls, 1)
    assert.is(stats.flops, flops)
    assert.is(stats.bytes, bytes)
  })

contract.run()
