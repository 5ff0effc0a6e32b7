/**
 * What an H200 reaches, as others have measured it on cards of its kind: a prediction is these rates times what is counted and planned. The
 * rates are checked when a card is there: `fsvideo bench --compare prediction.json measured.json`.
 */
export interface Rate {
  name: string
  value: number
  unit: string
  source: string
}

const rate = (name: string, value: number, unit: string, source: string): Rate => ({
  name,
  value,
  unit,
  source,
})

export const processors = 132

export const rates = {
  bf16: rate('bf16 GEMM', 795, 'TFLOP/s', 'cuBLAS at 8192 x 8192 x 8192 on an H100 SXM, in fast.cu'),
  f8e4m3: rate('fp8 GEMM', 1324, 'TFLOP/s', 'row scales, 4176 x 12288 x 4096 on an H100 SXM, in FBGEMM'),
  attention: rate(
    'bf16 attention',
    646,
    'TFLOP/s',
    'FlashAttention-3 at 8192 tokens, heads of 128, on an H100 SXM, in its paper',
  ),
  fma: rate('FMA units', 59.3, 'TFLOP/s', 'computed: 132 processors of 128 lanes at 1.755 GHz'),
  copy: rate('copy', 4100, 'GB/s', 'a bias and residual kernel on an H200, in sglang'),
  l1: rate('L1', 29650, 'GB/s', 'computed: 132 processors of 128 bytes a cycle at 1.755 GHz'),
  launch: rate('launch', 3, 'us', 'between dependent kernels of a stream'),
} as const

/** The attention behind its rate: 2 samples of 16 heads, whose tiles of 128 x 176 leave so much of the card idle. */
export const attentionShape = { tiles: 2 * 16 * (8192 / 128), keys: 8192, keyBlock: 176 } as const

/** The product behind the rate of each type. */
export const gemmShape = {
  bf16: [8192, 8192, 8192],
  f8e4m3: [4176, 12288, 4096],
} as const
