/** What was typed behind `fsvideo bench`, held against what there is before anything is measured. */
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { type Case, type Group, groups } from '../bench/cases.js'
import { type RequestCase, requestCases } from '../bench/requests.js'
import { FSVideoError, invalid } from '../errors.js'
import { suggest } from '../options.js'

/** Groups that are measured when none is named, by the kind of device. */
const defaultGroups = {
  cpu: ['basic', 'demo', 'requests'],
  cuda: ['basic', 'dit', 'standard', 'lite', 'glue', 'demo', 'requests'],
  sim: ['tiny', 'dit', 'standard', 'lite', 'glue'],
} as const satisfies Record<string, readonly Group[]>
export type Kind = keyof typeof defaultGroups

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT */
export function positive(field: string, text: string | undefined, otherwise: number, most: number): number {
  const value = text === undefined ? otherwise : Number(text)
  if (!(value > 0 && value <= most) || text?.trim() === '')
    throw invalid(field, text, `from above 0 to ${most}`)
  return value
}

/** @throws ERR_FSVIDEO_INVALID_ARGUMENT */
export function roundsOf(text: string | undefined): number {
  const value = positive('--rounds', text, 5, 1000)
  if (!Number.isInteger(value)) throw invalid('--rounds', text, 'an integer from 1 to 1000')
  return value
}

export interface Chosen {
  cases: Case[]
  requests: RequestCase[]
}

/**
 * The cases and requests that are asked for.
 * @throws ERR_FSVIDEO_INVALID_ARGUMENT for a group that is none, a pattern that is none, and where no case is left.
 */
export function chooseCases(
  cases: readonly Case[],
  kind: Kind,
  given: { group?: string; filter?: string; goals?: true },
): Chosen {
  const names = given.group?.split(',').map((name) => name.trim()) ?? defaultGroups[kind]
  for (const name of names) {
    if (Object.hasOwn(groups, name)) continue
    const meant = suggest(name, Object.keys(groups))
    const hint = meant ? ` (did you mean ${meant}?)` : ''
    throw invalid('--group', name, `one or more of ${Object.keys(groups).join(', ')}${hint}`)
  }
  const pattern = patternOf(given.filter)
  const within = cases.filter(({ groups }) => groups.some((group) => (names as string[]).includes(group)))
  const on = kind === 'cpu' ? 'cpu' : 'card'
  const held = given.goals ? within.filter(({ goals }) => goals.some((goal) => goal.on === on)) : within
  const whole = (names as string[]).includes('requests')
  if (whole && kind === 'sim')
    throw invalid('--group', 'requests', 'groups of kernels: what a request takes is measured, not predicted')
  const requests = whole ? requestCases.filter((request) => request.on === on) : []
  if (held.length + requests.length === 0)
    throw invalid('--goals', names.join(','), `groups of which a case has goals on a ${on} (see --list)`)
  const matching = <T extends { name: string }>(all: readonly T[]) =>
    all.filter(({ name }) => pattern.test(name))
  const chosen = { cases: matching(held), requests: matching(requests) }
  if (chosen.cases.length + chosen.requests.length === 0)
    throw invalid(
      '--filter',
      given.filter,
      `a pattern that a case of ${names.join(', ')} matches (see --list)`,
    )
  return chosen
}

function patternOf(text = ''): RegExp {
  try {
    return new RegExp(text)
  } catch {
    throw invalid('--filter', text, 'a regular expression')
  }
}

/** A file that can be written, or a folder that can be made, in a folder that is there. @throws ERR_FSVIDEO_OUTPUT */
export async function checkPlace(
  field: string,
  path: string | undefined,
  what: 'file' | 'folder',
): Promise<void> {
  if (path === undefined) return
  const refuse = (got: string, expected: string) =>
    new FSVideoError('ERR_FSVIDEO_OUTPUT', `${field}: ${got}`, { field, got: path, expected })
  const parent = dirname(resolve(path))
  const at = async (place: string) => stat(place).catch(() => undefined)
  if (!(await at(parent))?.isDirectory())
    throw refuse(`there is no folder ${parent}`, 'a path in a folder that is there')
  const there = await at(path)
  if (there && there.isDirectory() !== (what === 'folder'))
    throw refuse(`${path} is a ${what === 'file' ? 'folder' : 'file'}`, `a ${what}`)
}
