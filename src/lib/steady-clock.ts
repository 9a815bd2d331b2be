// The time of day for a process that measures with it. Clocks are set: by NTP after a start with a wrong battery, by people, by
// hypervisors. Then every deadline would be over at once, or never. This clock goes on as it went and comes round to the new time
// slowly, so that no minute of it is ever longer than two of ours or shorter than half of one.
type Clocks = { readonly wall: () => number; readonly monotonic: () => number }

/** Differences below this are the usual corrections of NTP, and are taken as they are. */
const smallMs = 1000
/** Of the time that passes, so much goes into coming round. */
const share = 0.5

/** Makes a clock: milliseconds since 1970, never backwards and never in jumps. */
export function steadyClock(
  { wall, monotonic }: Clocks = { wall: Date.now, monotonic: () => performance.now() },
): () => number {
  let shown = wall()
  let askedAt = monotonic()
  return () => {
    const at = monotonic()
    const passedMs = at - askedAt
    askedAt = at
    const aheadMs = wall() - (shown + passedMs)
    const comingRound = Math.sign(aheadMs) * Math.min(Math.abs(aheadMs), passedMs * share)
    const isSmall = Math.abs(aheadMs) < smallMs && aheadMs > -passedMs
    shown += passedMs + (isSmall ? aheadMs : comingRound)
    return Math.round(shown)
  }
}
