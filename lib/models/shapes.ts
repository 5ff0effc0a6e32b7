/** What the networks ask of the tensors given to them. */
import { invalid } from '../errors.js'
import { requireLive, type Tensor } from '../tensor.js'

/**
 * Checks a tensor against a shape in which letters stand for any size: `requireShape('dit.text', text, ['B', 512, 4096])`.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT or ERR_FSVIDEO_DISPOSED for `field`.
 */
export function requireShape(field: string, tensor: Tensor, shape: readonly (number | string)[]): void {
  requireLive(tensor, field)
  const fits =
    tensor.shape.length === shape.length &&
    shape.every((d, i) => typeof d === 'string' || d === tensor.shape[i])
  if (!fits) throw invalid(field, tensor.shape, `[${shape.join(', ')}]`)
}
