/** Catching the typed errors of the package, for the tests of everything that refuses. */
import * as assert from 'uvu/assert'
import { FSVideoError } from '../lib/errors.js'

/** The FSVideoError that `act` throws or rejects with; fails the test if there is none. */
export async function refusal(act: () => unknown): Promise<FSVideoError> {
  try {
    await act()
  } catch (error) {
    if (error instanceof FSVideoError) return error
    throw error
  }
  assert.unreachable('nothing was refused')
  throw new Error('unreachable')
}

/** That `act` is refused with this code and field. */
export async function refuses(
  act: () => unknown,
  code: FSVideoError['code'],
  field?: string,
  what = '',
): Promise<FSVideoError> {
  const error = await refusal(act)
  assert.is(error.code, code, `${what} ${error.message}`)
  if (field !== undefined) assert.is(error.field, field, `${what} ${error.message}`)
  assert.ok(error.expected !== undefined, `${what} says what is allowed: ${error.message}`)
  return error
}
