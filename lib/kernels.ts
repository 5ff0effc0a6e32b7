/** The kernels alone, for benchmarks and other networks: `import { Device, ops } from 'fsvideo/kernels'`. */

export type { MemoryUse, OpStats } from './addon.js'
export { type ChromeTrace, chromeTrace, type HostSpan } from './chrome-trace.js'
export { Device, type DeviceInfo, type DeviceOptions, devices, Graph } from './device.js'
export { type ErrorCode, FSVideoError } from './errors.js'
export * as ops from './ops.js'
export { type DType, type Layout, Tensor, type TensorData } from './tensor.js'
export { Trace, type TracedOp, type TracedRange, type TraceOptions } from './trace.js'
