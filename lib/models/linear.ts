/** The affine map that transformers are made of: PyTorch's `Linear`, with what follows it fused into its epilogue. */
import * as ops from '../ops.js'
import type { Parameters } from '../parameters.js'
import type { DType, Tensor } from '../tensor.js'

export interface LinearOptions {
  /** Default: true. */
  bias?: boolean
  /** The weight's shape in the file, where it is stored as a convolution. */
  stored?: readonly number[]
  /** Of a random initialisation. */
  gain?: number
}

export interface Epilogue {
  residual?: Tensor
  /** [B, outputs], or of the result's shape. */
  gate?: Tensor
  activation?: ops.Activation
  /** Of the result. Default: that of x. */
  dtype?: DType
}

export class Linear {
  readonly #weight: Tensor
  readonly #bias?: Tensor

  /** Takes `weight` [outputs, inputs] and `bias` [outputs] from below `parameters`. */
  constructor(parameters: Parameters, inputs: number, outputs: number, options: LinearOptions = {}) {
    const { bias = true, stored, gain } = options
    this.#weight = parameters.linear('weight', [outputs, inputs], { stored, gain })
    if (bias) this.#bias = parameters.vector('bias', outputs)
  }

  /** residual + gate · act(x Wᵀ + b). x [..., inputs] → [..., outputs] */
  forward(x: Tensor, epilogue: Epilogue = {}): Tensor {
    return ops.linear(x, this.#weight, { ...epilogue, bias: this.#bias })
  }
}
