// Whether a machine's timeline is the one that docs/boot.md tells: every event that the page names, in its order. What the
// page tells of a machine that had to be nudged is asked of one that was. Pure.

/** The kinds of events that the page names for a machine with this timeline, in order. */
export function namedEvents(page: string, kinds: readonly string[]): string[] {
  const named = [...page.matchAll(/^- Event( when nudged)?: `([a-z-]+)`$/gm)].map(([, nudged, kind = '']) => ({
    kind,
    isWhenNudged: nudged !== undefined,
  }))
  const usual = named.filter(({ isWhenNudged }) => !isWhenNudged).map(({ kind }) => kind)
  const completedAt = kinds.lastIndexOf('completed')
  if (completedAt < 0 || !kinds.includes('nudged', completedAt)) return usual
  const otherwise = named.filter(({ isWhenNudged }) => isWhenNudged).map(({ kind }) => kind)
  return [...usual.slice(0, usual.indexOf('completed') + 1), ...otherwise]
}

/** The first of `named` that does not follow the one before it, in a sentence; undefined when all are there. */
export function missingEvent(named: readonly string[], kinds: readonly string[]): string | undefined {
  let at = 0
  for (const kind of named) {
    const found = kinds.indexOf(kind, at)
    if (found < 0) return `there is no ${kind} after ${kinds.slice(0, at).join(' ')}, but ${kinds.slice(at).join(' ')}`
    at = found + 1
  }
  return undefined
}
