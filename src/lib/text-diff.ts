// The difference of two texts in the unified format of diff and patch, line by line.

/** Lines of context around what differs. */
const contextLines = 3
/** Beyond this product of lines the middle is told as taken out and put in whole: a table of it would take too long. */
const tableCellsMax = 4_000_000

type Line = { readonly mark: ' ' | '-' | '+'; readonly text: string }

/** Empty when no line differs. `names` stand in the first two lines. */
export function unifiedDiff(from: string, to: string, names: { readonly from: string; readonly to: string }): string {
  const lines = editLines(linesOf(from), linesOf(to))
  if (lines.every(({ mark }) => mark === ' ')) return ''
  return [`--- ${names.from}`, `+++ ${names.to}`, ...hunksOf(lines).flatMap(formatHunk), ''].join('\n')
}

function linesOf(text: string): string[] {
  const lines = text.replaceAll('\r\n', '\n').split('\n')
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines
}

function editLines(a: readonly string[], b: readonly string[]): Line[] {
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1
  let end = 0
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1
  const kept = (lines: readonly string[]) => lines.map((text): Line => ({ mark: ' ', text }))
  return [
    ...kept(a.slice(0, start)),
    ...editMiddle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...kept(end === 0 ? [] : a.slice(-end)),
  ]
}

/** By the longest common subsequence, what is taken out before what is put in. */
function editMiddle(a: readonly string[], b: readonly string[]): Line[] {
  const width = b.length + 1
  if (a.length * b.length > tableCellsMax) {
    return [...a.map((text): Line => ({ mark: '-', text })), ...b.map((text): Line => ({ mark: '+', text }))]
  }
  // common[i * width + j]: the length of the longest common subsequence of what is behind i and j.
  const common = new Uint32Array((a.length + 1) * width)
  const at = (i: number, j: number): number => common[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  }
  const lines: Line[] = []
  let [i, j] = [0, 0]
  while (i < a.length || j < b.length) {
    const [out, put] = [a[i], b[j]]
    if (out !== undefined && out === put) {
      lines.push({ mark: ' ', text: out })
      i += 1
      j += 1
    } else if (out !== undefined && (put === undefined || at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ mark: '-', text: out })
      i += 1
    } else {
      lines.push({ mark: '+', text: put ?? '' })
      j += 1
    }
  }
  return lines
}

type Hunk = { readonly fromLine: number; readonly toLine: number; readonly lines: Line[] }

/** Runs of lines with what differs, as far apart as their contexts do not meet. */
function hunksOf(lines: readonly Line[]): Hunk[] {
  const isNear = lines.map(() => false)
  for (const [index, { mark }] of lines.entries()) {
    if (mark !== ' ') isNear.fill(true, Math.max(0, index - contextLines), index + contextLines + 1)
  }
  const hunks: Hunk[] = []
  let [fromLine, toLine] = [1, 1]
  for (const [index, line] of lines.entries()) {
    if (isNear[index]) {
      if (!isNear[index - 1]) hunks.push({ fromLine, toLine, lines: [] })
      hunks.at(-1)?.lines.push(line)
    }
    if (line.mark !== '+') fromLine += 1
    if (line.mark !== '-') toLine += 1
  }
  return hunks
}

function formatHunk({ fromLine, toLine, lines }: Hunk): string[] {
  // A side without lines is named by the line before it.
  const range = (line: number, without: string): string => {
    const count = lines.filter(({ mark }) => mark !== without).length
    return `${count === 0 ? line - 1 : line},${count}`
  }
  return [`@@ -${range(fromLine, '+')} +${range(toLine, '-')} @@`, ...lines.map(({ mark, text }) => mark + text)]
}
