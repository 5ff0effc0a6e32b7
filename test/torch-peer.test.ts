/** The real PyTorch peer of the benchmarks, where there is one: it has an answer to every op, and names what it cannot do. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { allCases } from '../lib/bench/cases.js'
import { openTorch } from '../lib/bench/peers.js'

/** Why a case may have no number on a CPU; any other reason is a mistake of ours. */
const reasons = [
  /^torch\._scaled_mm with row scales is measured on cards only$/,
  /^PyTorch has nothing like (packLinear|dynamicMask)$/,
  /AttributeError: module 'torch\S*' has no attribute '(scaled_dot_product_attention|rms_norm|float8_e4m3fn)'/, // before 2.4
]

const opened = await openTorch('cpu', 1)
// `npm run test:oracle` names the interpreter, and then it must be there.
const torchTest = 'peer' in opened || process.env.FSVIDEO_PYTHON ? test : test.skip
torchTest('PyTorch measures every op, or says which it has not', async () => {
  if (!('peer' in opened)) throw new Error(opened.absent)
  const { peer } = opened
  let measured = 0
  for (const { name, spec, groups } of await allCases()) {
    if (!groups.includes('tiny')) continue
    const answer = await peer.measure({ spec, seconds: 0.001, rotate: 0 })
    if ('absent' in answer)
      assert.ok(
        reasons.some((reason) => reason.test(answer.absent)),
        `${name}: ${answer.absent}`,
      )
    else {
      assert.ok(answer.medianMs > 0, name)
      measured++
    }
  }
  assert.ok(measured >= 28, `${measured} cases measured`)
})
test.after(() => {
  if ('peer' in opened) opened.peer.close()
})

test.run()
