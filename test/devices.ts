/**
 * The device that op tests run on: FSVIDEO_TEST_DEVICE, a name for `Device.open`, or the CPU. `sim` is a simulated Hopper card and
 * `sim:2` one that has only the portable kernels, both in the addon that FSV_SIMULATOR builds.
 */
import { Device, type DeviceOptions } from '../lib/device.js'

export const testDevice = process.env.FSVIDEO_TEST_DEVICE || 'cpu'
export const onCpu = testDevice === 'cpu'
export const simulated = testDevice.startsWith('sim')

/** A new one. Threads are for the CPU: where a test opens several, with other threads, it gets several of the card. */
export function openTestDevice({ threads, ...options }: DeviceOptions = {}): Promise<Device> {
  return Device.open(testDevice, onCpu ? { threads, ...options } : options)
}

/** All cases, or on a simulated card those whose `work` (elements or multiplications) is at most `most`. */
export function bearable<T>(cases: readonly T[], work: (one: T) => number, most: number): T[] {
  return simulated ? cases.filter((one) => work(one) <= most) : [...cases]
}
