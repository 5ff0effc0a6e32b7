/** The tokenizer's conventions, its errors, and the small vocabulary that `fsvideo init` writes. */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FSVideoError } from '../lib/errors.js'
import { buildTokenizer, cleanText, Tokenizer } from '../lib/tokenizer.js'

const small = (vocabSize = 512) => {
  const files = buildTokenizer(vocabSize)
  return new Tokenizer(files['tokenizer.json'], files['tokenizer_config.json'])
}

async function failure(act: () => unknown): Promise<FSVideoError> {
  try {
    await act()
  } catch (error) {
    assert.instance(error, FSVideoError)
    return error as FSVideoError
  }
  throw new Error('nothing was thrown')
}

const tokenizer = suite('tokenizer')

tokenizer('English text comes back as it was, at any size of vocabulary', () => {
  const printable = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 33 + i))
  for (const vocabSize of [98, 150, 512]) {
    const { encode, decode } = bound(small(vocabSize))
    for (const text of [
      'the red ball rolls to the right',
      `A "quoted" (odd) sentence; isn't it? 100%`,
      printable,
      'x',
    ]) {
      const ids = encode(text)
      assert.is(decode(ids), text)
      assert.is(ids.at(-1), 1)
      assert.ok(
        ids.subarray(0, -1).every((id) => id > 2 && id < vocabSize),
        `${text}: ${ids}`,
      )
    }
  }
})

tokenizer('a common word is one token, a rare one is spelt', () => {
  const { encode } = bound(small())
  assert.is(encode('the red ball').length, 4)
  assert.ok(encode('zyzzyva').length > 5)
  assert.is(bound(small(98)).encode('the red ball').length, '▁the▁red▁ball'.length + 1)
})

tokenizer('a text of nothing is the end of text alone', () => {
  assert.equal([...small().encode('', 512)], [1])
  assert.equal([...small().encode(' \n\t ', 512)], [1])
  assert.is(small().decode([1]), '')
  assert.is(small().decode([]), '')
})

tokenizer('characters without a piece are one unknown token', () => {
  const { encode } = bound(small())
  assert.equal([...encode('the 日本 ball')], [...encode('the').subarray(0, -1), 3, 2, ...encode('ball')])
})

tokenizer('white space is collapsed, and wide characters are folded', () => {
  assert.is(cleanText('  a \n\n b\t\u00a0c\u3000 '), 'a b c')
  const { encode } = bound(small())
  assert.equal(encode(' the \n red\t\tball '), encode('the red ball'))
  assert.equal(encode('ｔｈｅ　ｒｅｄ'), encode('the red'))
})

tokenizer('a text of exactly maxLength tokens passes, one more is refused', async () => {
  const words = (count: number) => Array(count).fill('red').join(' ')
  assert.is(small().encode(words(511), 512).length, 512)
  const error = await failure(() => small().encode(words(512), 512, 'negativePrompt'))
  assert.is(error.code, 'ERR_FSVIDEO_INVALID_ARGUMENT')
  assert.is(error.field, 'negativePrompt')
  assert.is(error.got, '513 tokens')
  assert.is(error.expected, 'at most 512 tokens')
  assert.match(error.message, 'negativePrompt is too long: 513 tokens, at most 512 tokens are allowed')
})

tokenizer('an endless text is refused before it is tokenized', async () => {
  const start = performance.now()
  const error = await failure(() => small().encode('x'.repeat(10_000_000), 512))
  assert.is(error.field, 'prompt')
  assert.is(error.got, '10000000 characters')
  assert.ok(performance.now() - start < 1000)
})

tokenizer('what is no string is refused', async () => {
  for (const value of [undefined, null, 7, ['a'], {}]) {
    assert.is((await failure(() => small().encode(value as string, 512))).field, 'prompt')
  }
})

tokenizer('the built files are always the same, sound, and no larger than asked for', async () => {
  assert.equal(buildTokenizer(300), buildTokenizer(300))
  for (const vocabSize of [98, 99, 300, 100_000]) {
    const { vocab } = (
      buildTokenizer(vocabSize)['tokenizer.json'] as { model: { vocab: [string, number][] } }
    ).model
    assert.ok(vocab.length <= vocabSize)
    assert.is(vocab.length, small(vocabSize).vocabSize)
    assert.is(new Set(vocab.map(([piece]) => piece)).size, vocab.length, 'pieces are distinct')
    assert.ok(vocab.every(([, score]) => Number.isFinite(score)))
  }
  assert.is(small(300).vocabSize, 300)
  for (const size of [97, 0, -1, 200.5, Number.NaN, undefined]) {
    assert.is((await failure(() => buildTokenizer(size as number))).field, 'vocabSize')
  }
})

tokenizer(
  'a model folder is read, with or without its configuration, and what is broken is named',
  async () => {
    const model = await mkdtemp(join(tmpdir(), 'fsvideo-tokenizer-'))
    try {
      const missing = await failure(() => Tokenizer.load(model))
      assert.is(missing.code, 'ERR_FSVIDEO_MODEL_FILE')
      assert.match(missing.message, 'tokenizer.json')

      await mkdir(join(model, 'tokenizer'))
      const write = (name: string, text: string) => writeFile(join(model, 'tokenizer', name), text)
      const files = buildTokenizer(512)
      const expected = small().encode('a small cat', 512)
      await write('tokenizer.json', JSON.stringify(files['tokenizer.json']))
      assert.equal((await Tokenizer.load(model)).encode('a small cat', 512), expected)
      await write('tokenizer_config.json', JSON.stringify(files['tokenizer_config.json']))
      assert.equal((await Tokenizer.load(model)).encode('a small cat', 512), expected)

      await write('tokenizer_config.json', '[]')
      assert.match(
        (await failure(() => Tokenizer.load(model))).message,
        'tokenizer_config.json is not a JSON object',
      )
      await rm(join(model, 'tokenizer', 'tokenizer_config.json'))
      const withoutEnd = {
        ...files['tokenizer.json'],
        added_tokens: [],
        model: { type: 'Unigram', unk_id: 0, vocab: [['x', 0]] },
      }
      for (const [text, message] of [
        ['{"model":', 'is not JSON'],
        ['7', 'is not a JSON object'],
        ['{}', 'does not describe a tokenizer'],
        [JSON.stringify(withoutEnd), 'has no token </s>'],
      ] as const) {
        await write('tokenizer.json', text)
        const error = await failure(() => Tokenizer.load(model))
        assert.is(error.code, 'ERR_FSVIDEO_MODEL_FILE')
        assert.match(error.message, message)
      }
    } finally {
      await rm(model, { recursive: true })
    }
  },
)

tokenizer.run()

function bound(tokenizer: Tokenizer) {
  return {
    encode: (text: string) => tokenizer.encode(text, 512),
    decode: (ids: Int32Array) => tokenizer.decode(ids),
  }
}
