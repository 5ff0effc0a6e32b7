/** Numbers and tables as the command line prints them, within 80 columns. */

/** Lines are broken at this many columns, whatever the terminal has: results are pasted and piped. */
export const lineWidth = 80

const scaled = (n: number, names: readonly string[]): string => {
  let value = n
  let step = 0
  while (value >= 999.5 && step < names.length - 1) {
    value /= 1000
    step++
  }
  const digits = step === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0
  return `${value.toFixed(digits)} ${names[step]}`.trimEnd()
}

/** "661 kB": powers of 1000, as the library's messages count. */
export function bytes(n: number): string {
  return scaled(n, ['B', 'kB', 'MB', 'GB', 'TB'])
}

/** "14.2 B" parameters. */
export function count(n: number): string {
  return scaled(n, ['', 'k', 'M', 'B', 'T'])
}

/** "0.17 s", "12.3 s", "3 min 20 s", "2 h 05 min". */
export function duration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const two = (n: number) => String(n).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}

/** Paragraphs of `text` in lines of at most `width` columns; a longer word, such as a path, has a line to itself. */
export function wrap(text: string, width: number): string[] {
  return text.split('\n').flatMap((paragraph) => {
    const lines = ['']
    for (const word of paragraph.split(' ')) {
      const line = lines.at(-1)!
      if (line === '') lines[lines.length - 1] = word
      else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`
      else lines.push(word)
    }
    return lines
  })
}

/** Names in a column and what they are beside it, wrapped; each line ends with a newline. */
export function columns(rows: readonly (readonly [name: string, text: string])[], indent = ''): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  const left = indent.length + width + 2
  return rows
    .flatMap(([name, text]) =>
      wrap(text, lineWidth - left).map((line, i) => `${indent}${(i ? '' : name).padEnd(width)}  ${line}`),
    )
    .map((line) => `${line.trimEnd()}\n`)
    .join('')
}
