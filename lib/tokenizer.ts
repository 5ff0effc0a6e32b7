/**
 * Text to token ids for the UMT5 text encoder, and back. A thin face of @huggingface/tokenizers that keeps T5's
 * conventions (`<pad>` 0, `</s>` 1, `<unk>` 2 and `</s>` behind every text), cleans text as Wan does, and refuses what
 * is too long where Wan would cut it off. `buildTokenizer` makes a small English tokenizer of the same kind for
 * randomly initialised models, whose folders must be complete without any download.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer as Engine } from '@huggingface/tokenizers'
import { FSVideoError, invalid } from './errors.js'

const specialPieces = ['<pad>', '</s>', '<unk>'] as const
const endOfText = '</s>'

/** No language comes near so many characters a token; longer texts are refused unread. */
const maxCharactersPerToken = 32

export class Tokenizer {
  readonly #engine: Engine
  readonly #endOfTextId: number

  /** One more than the highest token id: the least number of rows that the text encoder's embedding must have. */
  readonly vocabSize: number

  /**
   * @param tokenizer The parsed `tokenizer.json`.
   * @param config The parsed `tokenizer_config.json`, where there is one.
   * @throws ERR_FSVIDEO_MODEL_FILE if it is no tokenizer, or has no `</s>`.
   */
  constructor(tokenizer: object, config: object = { eos_token: endOfText }) {
    try {
      this.#engine = new Engine(tokenizer, config)
    } catch (cause) {
      throw modelFile('tokenizer.json does not describe a tokenizer', cause)
    }
    const id = this.#engine.token_to_id(endOfText)
    if (id === undefined) throw modelFile(`tokenizer.json has no token ${endOfText}`)
    this.#endOfTextId = id
    let highest = 0
    for (const other of this.#engine.get_vocab().values()) highest = Math.max(highest, other)
    this.vocabSize = highest + 1
  }

  /**
   * The tokenizer of a model folder: `tokenizer/tokenizer.json` and, if present, `tokenizer/tokenizer_config.json`.
   * @throws ERR_FSVIDEO_MODEL_FILE if it is missing or not a tokenizer.
   */
  static async load(modelFolder: string): Promise<Tokenizer> {
    const folder = join(modelFolder, 'tokenizer')
    const [tokenizer, config] = await Promise.all([
      readJson(join(folder, 'tokenizer.json')),
      readJson(join(folder, 'tokenizer_config.json'), 'optional'),
    ])
    if (!tokenizer) throw modelFile(`${join(folder, 'tokenizer.json')} is missing`)
    return new Tokenizer(tokenizer, config)
  }

  /**
   * Token ids [n] of the cleaned text and `</s>`, 1 <= n <= maxLength; not padded.
   * @param field What an error calls the text.
   * @throws ERR_FSVIDEO_INVALID_ARGUMENT if `text` is no string or has more than `maxLength` tokens.
   */
  encode(text: string, maxLength: number, field = 'prompt'): Int32Array {
    if (typeof text !== 'string') throw invalid(field, text, 'a string')
    const clean = cleanText(text)
    if (clean.length > maxLength * maxCharactersPerToken) {
      throw tooLong(field, `${clean.length} characters`, maxLength)
    }
    const { ids } = this.#engine.encode(clean, { add_special_tokens: false })
    if (ids.length + 1 > maxLength) throw tooLong(field, `${ids.length + 1} tokens`, maxLength)
    return Int32Array.from([...ids, this.#endOfTextId])
  }

  /** The text of `ids`, without special tokens. */
  decode(ids: Iterable<number>): string {
    const list = [...ids]
    if (list.length === 0) return ''
    return this.#engine.decode(list, { skip_special_tokens: true, clean_up_tokenization_spaces: false })
  }
}

/** Every run of white space becomes one space, none at the ends. (Wan also mends broken Unicode and HTML entities.) */
export function cleanText(text: string): string {
  return text.replace(/\s+/gu, ' ').trim()
}

/** What `fsvideo init` writes into `tokenizer/`. */
export interface TokenizerFiles {
  'tokenizer.json': object
  'tokenizer_config.json': object
}

/**
 * A Unigram tokenizer like UMT5's, of at most `vocabSize` pieces: the special ones, every printable ASCII character
 * (so that any English text has a segmentation without `<unk>`), and the most useful of `commonPieces`. Always the same.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT if `vocabSize` has no room for the characters.
 */
export function buildTokenizer(vocabSize: number): TokenizerFiles {
  const characters = ['▁', ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))]
  const least = specialPieces.length + characters.length
  if (!Number.isInteger(vocabSize) || vocabSize < least) {
    throw invalid('vocabSize', vocabSize, `a whole number from ${least}`)
  }
  // A character costs more than any piece, so that pieces win wherever they fit.
  const pieces = commonPieces.slice(0, vocabSize - least).map((piece, rank) => [piece, score(rank)])
  const vocab = [
    ...specialPieces.map((piece) => [piece, 0]),
    ...characters.map((character) => [character, -12]),
    ...pieces,
  ]
  const content = (id: number) => ({ id, content: specialPieces[id] })
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialPieces.map((_, id) => ({
        ...content(id),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: { type: 'NFKC' },
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: endOfText, type_id: 0 } }],
        pair: [
          { Sequence: { id: 'A', type_id: 0 } },
          { SpecialToken: { id: endOfText, type_id: 0 } },
          { Sequence: { id: 'B', type_id: 0 } },
          { SpecialToken: { id: endOfText, type_id: 0 } },
        ],
        special_tokens: { [endOfText]: { id: endOfText, ids: [1], tokens: [endOfText] } },
      },
      decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
      model: { type: 'Unigram', unk_id: 2, vocab, byte_fallback: false },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'T5Tokenizer',
      pad_token: specialPieces[0],
      eos_token: endOfText,
      unk_token: specialPieces[2],
      extra_ids: 0,
    },
  }
}

/** Zipf's law, in log probability, to four decimals so that every engine's logarithm writes the same file. */
function score(rank: number): number {
  return -Math.round(1e4 * (2 + Math.log(rank + 2))) / 1e4
}

/**
 * In order of use in descriptions of videos: words (a leading ▁ is the space before them), then endings and syllables
 * that other words are made of.
 */
const commonPieces = [
  ...(
    'the a and of in to is on with it at from by as its an his her their for over into across through while ' +
    'that this then up down left right out off around away toward slowly quickly gently moves move moving rolls ' +
    'rolling turns turning slides rotates rises falls falling bounces floats flies walks walking runs running ' +
    'looks looking smiles stands standing sits holds waves grows shrinks stays still camera shot view close scene ' +
    'background foreground light lighting sky sun water sea river mountain tree forest grass flower city street ' +
    'house room window door table road car train boat bird dog cat horse fish man woman person people child face ' +
    'eyes hair hand hands head wind rain snow cloud clouds smoke fire night day morning sunset red green blue ' +
    'yellow orange purple pink white black gray brown golden dark bright soft small large big little long round ' +
    'ball circle square triangle star cube sphere ring box shape shapes one two three first second top bottom ' +
    'center side front back under behind between along against near past style realistic cinematic detailed high ' +
    'quality smooth fast slow motion zoom pan zooms pans follows tracking wide blurry no not some many more other ' +
    'old young new same are was be has have he she they you all who which there where when like color colors'
  )
    .split(' ')
    .map((word) => `▁${word}`),
  ...(
    'ing ed er es ly tion est en al ers ment ness ous ful less able ive ity ic or ar an in on at re th st nd ch sh ' +
    'ou ea ee oo ai ll ss tt ck qu wh ph str ght igh ent ant ate ine ide ight own out ound and all ain'
  ).split(' '),
  ...'s b c d e f g h l m n p r t w re un de con pro com dis ex'.split(' ').map((start) => `▁${start}`),
]

function tooLong(field: string, got: string, maxLength: number): FSVideoError {
  const expected = `at most ${maxLength} tokens`
  return new FSVideoError(
    'ERR_FSVIDEO_INVALID_ARGUMENT',
    `${field} is too long: ${got}, ${expected} are allowed`,
    {
      field,
      got,
      expected,
    },
  )
}

function modelFile(message: string, cause?: unknown): FSVideoError {
  return new FSVideoError('ERR_FSVIDEO_MODEL_FILE', message, { cause })
}

async function readJson(path: string, missing?: 'optional'): Promise<object | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (missing === 'optional' && (cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw modelFile(`${path} cannot be read`, cause)
  }
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (cause) {
    throw modelFile(`${path} is not JSON`, cause)
  }
  throw modelFile(`${path} is not a JSON object`)
}
