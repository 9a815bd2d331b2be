// Which agents a service works with. The scout has its agent built in, and a scout may be older than the service that it meets.

/** The oldest agent whose reports this service understands. Raise it when the Service Port takes no more what it says. */
export const oldestAgent = '0.1.0'

/** Whether an agent of this version is older, or of a version that nobody can read. */
export function isTooOld(version: string): boolean {
  const [mine, oldest] = [numbersOf(version), numbersOf(oldestAgent)]
  if (!mine || !oldest) return true
  const first = mine.findIndex((number, index) => number !== oldest[index])
  return first >= 0 && (mine[first] ?? 0) < (oldest[first] ?? 0)
}

function numbersOf(version: string): number[] | undefined {
  const parts = /^v?(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?(?:[-+.].*)?$/.exec(version)
  return parts ? parts.slice(1, 4).map((part) => Number(part ?? 0)) : undefined
}
