// Nodesets: many names in a few characters, `n[001-072],!n013,login1`. Ranges keep their zero padding. Order is that of
// the text, without repeats. Bounded, because a nodeset comes from outside: `n[0-999999999]` must not take the memory.

/** More names than this are refused; the design's largest installation is ten thousand machines. */
const namesMax = 100_000

/** Says what is wrong with a nodeset, and where in its text (counted from 1). */
export class NodesetError extends Error {
  override readonly name = 'NodesetError'
}

/**
 * The names that `text` stands for, in order. Terms are separated by commas outside brackets; a term starting with `!`
 * takes names away from those before it. Throws NodesetError.
 */
export function expandNodeset(text: string): string[] {
  const terms = splitTerms(text).map((term) => ({ isTaken: term.startsWith('!'), term: term.replace(/^!/, '') }))
  // Counted before anything is built, and those that are taken away too: they cost as much as those that stay.
  const count = terms.reduce((sum, { term }) => sum + sizeOf(term), 0)
  const tooMany = `\`${text}\` stands for more than ${namesMax} names`
  if (count > 2 * namesMax) throw new NodesetError(tooMany)
  const names = new Set<string>()
  for (const { isTaken, term } of terms) {
    for (const name of expandTerm(term)) {
      if (isTaken) names.delete(name)
      else names.add(name)
      if (names.size > namesMax) throw new NodesetError(tooMany)
    }
  }
  return [...names]
}

function splitTerms(text: string): string[] {
  const terms: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i <= text.length; i += 1) {
    const char = text[i]
    if (char === '[') depth += 1
    if (char === ']') depth -= 1
    if (depth < 0 || depth > 1) throw new NodesetError(`unpaired bracket at character ${i + 1} of \`${text}\``)
    if (i === text.length || (char === ',' && depth === 0)) {
      terms.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  if (depth !== 0) throw new NodesetError(`bracket not closed in \`${text}\``)
  if (terms.some((term) => term === '' || term === '!')) throw new NodesetError(`empty name in \`${text}\``)
  return terms
}

/** How many names a term stands for, repeats counted. */
function sizeOf(term: string): number {
  const groups = [...term.matchAll(/\[([^\]]*)\]/g)].map(([, ranges = '']) => ranges.split(','))
  return groups.reduce((size, ranges) => size * ranges.reduce((sum, range) => sum + boundsOf(range.trim()).count, 0), 1)
}

function* expandTerm(term: string): Generator<string> {
  const open = term.indexOf('[')
  if (open < 0) {
    if (!/^[A-Za-z0-9._-]+$/.test(term)) throw new NodesetError(`\`${term}\` is not a name`)
    yield term
    return
  }
  const close = term.indexOf(']', open)
  const [before, ranges, after] = [term.slice(0, open), term.slice(open + 1, close), term.slice(close + 1)]
  for (const range of ranges.split(',')) {
    for (const number of expandRange(range.trim())) {
      if (after === '') yield* expandTerm(before + number)
      else for (const rest of expandTerm(after)) yield* expandTerm(before + number + rest)
    }
  }
}

function boundsOf(range: string): { from: number; count: number; width: number } {
  const parts = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(range)
  if (!parts?.[1]) throw new NodesetError(`\`${range}\` is not a range such as 1-72`)
  const [from, to] = [Number(parts[1]), Number(parts[2] ?? parts[1])]
  if (to < from) throw new NodesetError(`the range ${range} runs backwards`)
  return { from, count: to - from + 1, width: parts[1].length }
}

function* expandRange(range: string): Generator<string> {
  const { from, count, width } = boundsOf(range)
  for (let n = from; n < from + count; n += 1) yield String(n).padStart(width, '0')
}

/** The shortest usual way to write `names`: runs of numbers with the same prefix and padding become ranges. */
export function foldNodeset(names: readonly string[]): string {
  const groups = new Map<string, { prefix: string; width: number; numbers: number[] }>()
  for (const name of names) {
    const parts = /^(.*?)(\d{1,9})$/.exec(name)
    const [prefix, digits] = parts ? [parts[1] ?? '', parts[2] ?? ''] : [name, '']
    // Numbers of one padded width fold together; unpadded ones of any length do too.
    const width = digits.startsWith('0') && digits.length > 1 ? digits.length : 0
    const padded = digits !== '' && groups.has(`${prefix}\0${digits.length}`) ? digits.length : width
    const key = `${prefix}\0${digits === '' ? '-' : padded}`
    const group = groups.get(key) ?? { prefix, width: padded, numbers: [] }
    if (digits !== '') group.numbers.push(Number(digits))
    groups.set(key, group)
  }
  return [...groups.values()].map(foldGroup).join(',')
}

function foldGroup({ prefix, width, numbers }: { prefix: string; width: number; numbers: number[] }): string {
  if (numbers.length === 0) return prefix
  const show = (n: number): string => String(n).padStart(width, '0')
  const sorted = [...new Set(numbers)].sort((a, b) => a - b)
  const ranges: string[] = []
  for (let i = 0; i < sorted.length; ) {
    let j = i
    while (j + 1 < sorted.length && sorted[j + 1] === (sorted[j] ?? 0) + 1) j += 1
    const [first, last] = [sorted[i] ?? 0, sorted[j] ?? 0]
    ranges.push(i === j ? show(first) : `${show(first)}-${show(last)}`)
    i = j + 1
  }
  return sorted.length === 1 ? prefix + ranges[0] : `${prefix}[${ranges.join(',')}]`
}
