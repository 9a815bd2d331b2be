// How often something may be told: strangers and broken packets may fill neither the database nor the log.

/**
 * Makes a gate that lets `burst` through at once and `perSecond` in the long run. Each call asks for one: it returns how
 * many were held back since the last that got through, or undefined when this one is held back too.
 */
export function tellLimit({ burst, perSecond }: { burst: number; perSecond: number }): () => number | undefined {
  let credit = burst
  let at = performance.now()
  let suppressed = 0
  return () => {
    const now = performance.now()
    credit = Math.min(burst, credit + ((now - at) / 1000) * perSecond)
    at = now
    if (credit < 1) {
      suppressed += 1
      return undefined
    }
    credit -= 1
    const told = suppressed
    suppressed = 0
    return told
  }
}
