/** What is measured: the shapes that matter, ours and how each peer is asked for the same. */
import { type Device, ops, type Tensor } from '../lib/kernels.js'

export interface Case {
  name: string
  /** Name of the op in `device.stats()`. */
  op: string
  /** Makes inputs and gives one call of the op; its result is disposed of by whoever calls. */
  prepare(device: Device): { call(): Tensor; dispose(): void }
  /** Case of bench/onednn/peer.cpp. */
  onednn?: string
  /** Case of bench/torch/peer.py. */
  torch?: string
  /** The ratio asked for, ours to the peer: [peer, at least]. */
  goal?: { peer: 'onednn' | 'torch' | 'bandwidth'; atLeast: number }
}

type DType = 'f32' | 'bf16'

const noise = (device: Device, shape: readonly number[], dtype: DType, stream: number): Tensor =>
  device.scope(() => {
    const unit = ops.randn(device, [1, ...shape], { seeds: [1], stream }).reshape(...shape)
    return ops.combine([unit], [0.1], { dtype })
  })

function over(tensors: Tensor[], call: () => Tensor) {
  return {
    call,
    dispose: () => {
      for (const tensor of tensors) tensor.dispose()
    },
  }
}

function matmul(dtype: DType, m: number, n: number, k: number, atLeast?: number): Case {
  const shape = `${m}x${n}x${k}`
  return {
    name: `matmul ${dtype} ${shape}`,
    op: 'linear',
    onednn: `matmul:${dtype}:${shape}`,
    torch: `matmul:${dtype}:${shape}`,
    goal: atLeast ? { peer: 'onednn', atLeast } : undefined,
    prepare(device) {
      const x = noise(device, [m, k], dtype, 0)
      const weight = device.scope(() => ops.packLinear(noise(device, [n, k], dtype, 1)))
      return over([x, weight], () => ops.linear(x, weight))
    },
  }
}

function conv(dtype: DType, frames: number, side: number, channels: number, atLeast?: number): Case {
  const spec = `1x${frames}x${side}x${side}x${channels}:${channels}x3x3x3`
  return {
    name: `conv3d ${dtype} ${channels}->${channels} ${frames}x${side}x${side}`,
    op: 'conv3d',
    onednn: `conv:${dtype}:${spec}`,
    torch: `conv:${dtype}:${spec}`,
    goal: atLeast ? { peer: 'onednn', atLeast } : undefined,
    prepare(device) {
      const x = noise(device, [1, frames, side, side, channels], dtype, 0)
      const weight = device.scope(() =>
        ops.packConv3d(noise(device, [channels, channels, 3, 3, 3], dtype, 1)),
      )
      return over([x, weight], () =>
        ops.conv3d(x, weight, { padTime: [1, 1], padSpace: [1, 1], timePadding: 'zeros' }),
      )
    },
  }
}

function attention(dtype: DType, tokens: number, heads: number, headDim: number, atLeast?: number): Case {
  return {
    name: `attention ${dtype} ${tokens}x${heads}x${headDim}`,
    op: 'attention',
    torch: `attention:${dtype}:${tokens}x${heads}x${headDim}`,
    goal: atLeast ? { peer: 'torch', atLeast } : undefined,
    prepare(device) {
      const [q, k, v] = [0, 1, 2].map((i) => noise(device, [1, tokens, heads, headDim], dtype, i)) as [
        Tensor,
        Tensor,
        Tensor,
      ]
      return over([q, k, v], () => ops.attention(q, k, v))
    },
  }
}

function layerMemory(dtype: DType, states: number, tokens: number, dim: number, atLeast?: number): Case {
  return {
    name: `layerMemory ${dtype} ${states}x${tokens}x${dim}`,
    op: 'layer_memory',
    torch: `layer_memory:${dtype}:${states}x${tokens}x${dim}`,
    goal: atLeast ? { peer: 'bandwidth', atLeast } : undefined,
    prepare(device) {
      const bank = Array.from({ length: states }, (_, i) => noise(device, [1, tokens, dim], dtype, i))
      const router = noise(device, [states, dim], dtype, 100)
      const [scale, shift] = [101, 102].map((i) => noise(device, [1, dim], 'f32', i)) as [Tensor, Tensor]
      return over([...bank, router, scale, shift], () =>
        ops.layerMemory(bank, bank.at(-1)!, router, { scale, shift }),
      )
    },
  }
}

function normModulate(dtype: DType, tokens: number, dim: number): Case {
  return {
    name: `normModulate ${dtype} ${tokens}x${dim}`,
    op: 'norm_modulate',
    torch: `norm_modulate:${dtype}:${tokens}x${dim}`,
    prepare(device) {
      const x = noise(device, [1, tokens, dim], dtype, 0)
      const [scale, shift] = [1, 2].map((i) => noise(device, [1, dim], 'f32', i)) as [Tensor, Tensor]
      return over([x, scale, shift], () => ops.normModulate(x, { scale, shift }))
    },
  }
}

/** A plain copy: what memory gives. */
export function copy(bytes: number): Case {
  return {
    name: `copy ${bytes / 2 ** 20} MiB`,
    op: 'slice',
    prepare(device) {
      const x = ops.fill(device, [2, bytes / 4], 1)
      return over([x], () => ops.slice(x, 1, 0, bytes / 4))
    },
  }
}

export const cases: readonly Case[] = [
  matmul('bf16', 2048, 4096, 1024, 0.9),
  matmul('bf16', 1860, 13824, 5120, 0.9),
  matmul('bf16', 1860, 5120, 5120),
  matmul('f32', 2048, 4096, 1024),
  conv('bf16', 8, 32, 128, 1),
  conv('bf16', 17, 128, 16, 1),
  conv('bf16', 9, 64, 32, 1),
  conv('bf16', 5, 32, 64, 1),
  conv('f32', 8, 32, 128),
  attention('bf16', 1860, 40, 128, 1.5),
  attention('f32', 1860, 40, 128),
  layerMemory('bf16', 20, 1860, 5120, 0.6),
  normModulate('bf16', 1860, 5120),
]
