/** The affine map that transformers are made of: PyTorch's `Linear`, with what follows it fused into its epilogue. */
import * as ops from '../ops.js'
import type { Parameters } from '../parameters.js'
import { type DType, Tensor } from '../tensor.js'

/** What a product reads: a tensor, or what has been quantised for it. */
export type Operand = Tensor | ops.Quantized

export interface LinearOptions {
  /** Default: true. */
  bias?: boolean
  /** The weight's shape in the file, where it is stored as a convolution. */
  stored?: readonly number[]
  /** Of a random initialisation. */
  gain?: number
  /** May be multiplied in fp8, where the parameters ask for it. */
  fp8?: boolean
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
  readonly #weight: Operand
  readonly #bias?: Tensor

  /** Takes `weight` [outputs, inputs] and `bias` [outputs] from below `parameters`. */
  constructor(parameters: Parameters, inputs: number, outputs: number, options: LinearOptions = {}) {
    const { bias = true, stored, gain, fp8 = false } = options
    const shape = [outputs, inputs] as const
    this.#weight =
      fp8 && parameters.fp8
        ? parameters.quantizedLinear('weight', shape, { gain })
        : parameters.linear('weight', shape, { stored, gain })
    if (bias) this.#bias = parameters.vector('bias', outputs)
  }

  /** residual + gate · act(x Wᵀ + b). x [..., inputs] → [..., outputs] */
  forward(x: Operand, epilogue: Epilogue = {}): Tensor {
    const { values, weight, scales } = this.#factors(x)
    return ops.linear(values, weight, { ...epilogue, ...scales, bias: this.#bias })
  }

  /** act(x Wᵀ + b) as the next product reads it: quantised where this one is of fp8. */
  feed(x: Operand, activation: ops.Activation): Operand {
    if (this.#weight instanceof Tensor) return this.forward(x, { activation })
    const { values, weight, scales } = this.#factors(x)
    return ops.linearFp8(values, weight, { ...scales, activation, bias: this.#bias })
  }

  #factors(x: Operand): {
    values: Tensor
    weight: Tensor
    scales?: { xScale: Tensor; weightScale: Tensor }
  } {
    if (this.#weight instanceof Tensor) {
      if (!(x instanceof Tensor)) throw new TypeError('a product that is not of fp8 reads no fp8')
      return { values: x, weight: this.#weight }
    }
    const { values, scales } = x instanceof Tensor ? ops.quantizeFp8(x, { groups: true }) : x
    return {
      values,
      weight: this.#weight.values,
      scales: { xScale: scales, weightScale: this.#weight.scales },
    }
  }
}
