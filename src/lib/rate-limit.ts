// How many bytes may pass in a second: a token bucket whose callers wait in line. It moves no bytes and knows no sockets.

/** A wait is looked at again after so long at the latest, so that a new rate soon counts for who is waiting already. */
const waitMsMax = 1_000

type Waiter = { readonly bytes: number; readonly grant: () => void }

/** What `TokenBucket.take` promises: resolves when so many bytes may pass. */
export type RateLimit = Pick<TokenBucket, 'take'>

/** One limit of several, each of which must let the bytes pass; undefined when there is none. */
export function together(...limits: readonly (RateLimit | undefined)[]): RateLimit | undefined {
  const all = limits.filter((limit) => limit !== undefined)
  if (all.length < 2) return all[0]
  return {
    take: async (bytes, signal) => {
      for (const limit of all) await limit.take(bytes, signal)
    },
  }
}

/**
 * Lets `bytesPerSecond` pass in the long run and `burstBytes` at once. Who comes first is served first, whatever the others
 * ask; one who asks for more than a burst is let through as soon as the bucket is full and those behind it wait the longer.
 */
export class TokenBucket {
  readonly #now: () => number
  readonly #burstBytes: number
  readonly #line: Waiter[] = []
  #bytesPerSecond: number
  #tokens: number
  #at: number
  #timer: NodeJS.Timeout | undefined

  /** `now` in milliseconds, growing. The bucket begins full. */
  constructor(options: { bytesPerSecond: number; burstBytes: number; now?: () => number }) {
    requirePositive('burstBytes', options.burstBytes)
    requirePositive('bytesPerSecond', options.bytesPerSecond)
    this.#now = options.now ?? (() => performance.now())
    this.#burstBytes = options.burstBytes
    this.#bytesPerSecond = options.bytesPerSecond
    this.#tokens = options.burstBytes
    this.#at = this.#now()
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond
  }

  /** From now on; what was saved up until now stays. */
  setRate(bytesPerSecond: number): void {
    requirePositive('bytesPerSecond', bytesPerSecond)
    this.#refill()
    this.#bytesPerSecond = bytesPerSecond
    this.#serve()
  }

  /** Resolves when so many bytes may pass. Rejects with the reason of `signal`; then nothing was taken. */
  take(bytes: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    this.#refill()
    if (this.#line.length === 0 && this.#takeNow(bytes)) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#line.splice(this.#line.indexOf(waiter), 1)
        this.#serve()
        reject(signal?.reason)
      }
      const waiter: Waiter = {
        bytes,
        grant: () => {
          signal?.removeEventListener('abort', leave)
          resolve()
        },
      }
      signal?.addEventListener('abort', leave, { once: true })
      this.#line.push(waiter)
      this.#serve()
    })
  }

  /** Serves who stands first as far as the tokens go, and comes back for the next. */
  #serve(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#refill()
    for (let first = this.#line[0]; first !== undefined && this.#takeNow(first.bytes); first = this.#line[0]) {
      this.#line.shift()
      first.grant()
    }
    const [first] = this.#line
    if (first === undefined) return
    const missing = Math.min(first.bytes, this.#burstBytes) - this.#tokens
    const waitMs = Math.min(waitMsMax, Math.ceil((missing / this.#bytesPerSecond) * 1000))
    this.#timer = setTimeout(() => this.#serve(), waitMs)
  }

  #takeNow(bytes: number): boolean {
    if (this.#tokens < Math.min(bytes, this.#burstBytes)) return false
    this.#tokens -= bytes
    return true
  }

  #refill(): void {
    const now = this.#now()
    const gained = (Math.max(0, now - this.#at) / 1000) * this.#bytesPerSecond
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + gained)
    this.#at = now
  }
}

function requirePositive(what: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) throw new RangeError(`${what} is ${value}, not a number above 0`)
}
