/** Guessing which option was meant by a name that is none: for error messages, of requests and of the command line alike. */

/**
 * The name among `known` that `wrong` is likely to stand for: the same letters in another spelling (`guidance_scale`), a name
 * that other programs use, or at most two slips of the pen.
 * @param otherNames By their lower-case letters and digits.
 */
export function suggest(
  wrong: string,
  known: readonly string[],
  otherNames: Readonly<Record<string, string>> = {},
): string | undefined {
  const letters = plain(wrong)
  const same = known.find((name) => plain(name) === letters)
  if (same) return same
  if (Object.hasOwn(otherNames, letters)) return otherNames[letters]
  const near = known
    .map((name) => ({ name, distance: editDistance(plain(name), letters) }))
    .filter(({ name, distance }) => distance <= Math.min(2, plain(name).length / 3))
    .sort((a, b) => a.distance - b.distance)
  return near[0]?.name
}

/** Longer names are nobody's slip, and the distance costs the product of both lengths. */
const longest = 40

const plain = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '')
    .slice(0, longest)

/** Damerau's: the least number of letters to insert, delete, replace or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swaps = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const swapped = swaps ? before[j - 2]! + 1 : replaced
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, replaced, swapped)
    }
    before = row
    row = next
  }
  return row[b.length]!
}
