// How often somebody may be wrong: a number of attempts at once, and then one in so many seconds, for each name or address.
// In bounded memory, whoever and however many they are.

type Options = { readonly burst: number; readonly everyMs: number; readonly keysMax?: number }

/** Counts wrong attempts by key. A key that is never seen again costs nothing once its attempts are paid off. */
export class AttemptLimit {
  readonly #burst: number
  readonly #everyMs: number
  readonly #keysMax: number
  /** Until when the attempts of a key are paid off, at one in `everyMs`; those that wrote last stand last. */
  readonly #paidAt = new Map<string, number>()

  constructor({ burst, everyMs, keysMax = 50_000 }: Options) {
    this.#burst = burst
    this.#everyMs = everyMs
    this.#keysMax = keysMax
  }

  /** Keys that are remembered. */
  get size(): number {
    return this.#paidAt.size
  }

  /** How many milliseconds this key must wait before its next attempt; 0 when it may try now. */
  waitMs(key: string, now: number): number {
    const owed = (this.#paidAt.get(key) ?? now) - now
    return Math.max(0, owed - (this.#burst - 1) * this.#everyMs)
  }

  /** Notes an attempt that was wrong. */
  wrong(key: string, now: number): void {
    const paidAt = Math.max(this.#paidAt.get(key) ?? now, now) + this.#everyMs
    this.#paidAt.delete(key)
    this.#paidAt.set(key, paidAt)
    if (this.#paidAt.size > this.#keysMax) this.#forget(now)
  }

  /** Takes one attempt back that was noted and turned out right. */
  right(key: string): void {
    const paidAt = this.#paidAt.get(key)
    if (paidAt !== undefined) this.#paidAt.set(key, paidAt - this.#everyMs)
  }

  /** Forgets what is paid off, and if that is nothing, the key that has been silent for longest. */
  #forget(now: number): void {
    let looked = 0
    for (const [key, paidAt] of this.#paidAt) {
      // A look at so many is enough to keep up, and never a pause.
      looked += 1
      if (looked > 16) break
      if (paidAt <= now || this.#paidAt.size > this.#keysMax) this.#paidAt.delete(key)
    }
  }
}

/** The part of an address that one sender holds: of IPv6 it has at least the 64 lower bits for itself. */
export function senderOf(address: string): string {
  if (!address.includes(':')) return address
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? []
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  const filled =
    tail === undefined
      ? front
      : [...front, ...Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back]
  return `${filled
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
