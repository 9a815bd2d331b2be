// Who is served when not everybody can be: the slots of strangers, and the share they have beside our own agents, which are
// never choked. One for all connections of a process.

/** Strangers that are served at one time. */
const slotsMax = 4

/** Every so often the slot that was held for longest goes to the stranger that waits for longest. */
const rotateMs = 10_000

/** Of the bytes sent while agents wait, one in so many may go to strangers: they are served last and never starved. */
const strangerShare = 16

/** Agents that are sent nothing for so long, though they wait, hold nobody up. */
const agentStallMs = 1000

/** How far back the shares are counted. */
const windowBytes = 64 * 1024 * 1024

export type Slots<T> = {
  /** Who is served; who came first stands first. */
  readonly held: readonly T[]
  readonly waiting: readonly T[]
  readonly rotatedAtMs: number
}

/** Gives free slots to those who wait for longest, and one more slot each `rotateMs`. Pure. */
export function assignSlots<T>(slots: Slots<T>, interested: ReadonlySet<T>, nowMs: number): Slots<T> {
  const held = slots.held.filter((one) => interested.has(one))
  const waiting = slots.waiting.filter((one) => interested.has(one))
  const known = new Set([...held, ...waiting])
  waiting.push(...[...interested].filter((one) => !known.has(one)))
  held.push(...waiting.splice(0, slotsMax - held.length))
  if (nowMs - slots.rotatedAtMs < rotateMs) return { held, waiting, rotatedAtMs: slots.rotatedAtMs }
  const [next] = waiting
  const [oldest] = held
  if (next === undefined || oldest === undefined) return { held, waiting, rotatedAtMs: nowMs }
  return { held: [...held.slice(1), next], waiting: [...waiting.slice(1), oldest], rotatedAtMs: nowMs }
}

/** A stranger's side of an upload, as the slots see it. */
export interface StrangerUpload {
  readonly isInterested: boolean
  setChoked(isChoked: boolean): void
  /** It may try again to send. */
  serve(): void
}

export class Uploads {
  readonly #now: () => number
  readonly #strangers = new Set<StrangerUpload>()
  #slots: Slots<StrangerUpload>
  #rotation: NodeJS.Timeout | undefined
  readonly #busyAgents = new Set<object>()
  readonly #heldUp = new Set<StrangerUpload>()
  #retry: NodeJS.Timeout | undefined
  #agentBytes = 0
  #strangerBytes = 0
  #agentSentAtMs: number

  /** `now` in milliseconds, growing. */
  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? (() => performance.now())
    this.#agentSentAtMs = this.#now()
    this.#slots = { held: [], waiting: [], rotatedAtMs: this.#now() }
  }

  add(stranger: StrangerUpload): void {
    this.#strangers.add(stranger)
    this.#rotation ??= setInterval(() => this.review(), rotateMs).unref()
    this.review()
  }

  remove(stranger: StrangerUpload): void {
    if (!this.#strangers.delete(stranger)) return
    this.#heldUp.delete(stranger)
    if (this.#strangers.size === 0) this.#stopTimers()
    this.review()
  }

  /** Gives the slots anew: a stranger came, went, or became interested or not. */
  review(): void {
    const before = new Set(this.#slots.held)
    const interested = new Set([...this.#strangers].filter(({ isInterested }) => isInterested))
    this.#slots = assignSlots(this.#slots, interested, this.#now())
    const after = new Set(this.#slots.held)
    for (const stranger of before) {
      if (!after.has(stranger) && this.#strangers.has(stranger)) stranger.setChoked(true)
    }
    for (const stranger of after) if (!before.has(stranger)) stranger.setChoked(false)
  }

  /** Says whether an agent waits for bytes that are ready to be sent to it. */
  setBusy(agent: object, isBusy: boolean): void {
    if (isBusy) {
      if (this.#busyAgents.size === 0) this.#agentSentAtMs = this.#now()
      this.#busyAgents.add(agent)
    } else if (this.#busyAgents.delete(agent) && this.#busyAgents.size === 0) this.#serveHeldUp()
  }

  countSent(kind: 'agent' | 'stranger', bytes: number): void {
    if (kind === 'agent') {
      this.#agentBytes += bytes
      this.#agentSentAtMs = this.#now()
    } else this.#strangerBytes += bytes
    if (this.#agentBytes + this.#strangerBytes > windowBytes) {
      this.#agentBytes /= 2
      this.#strangerBytes /= 2
    }
    if (kind === 'agent' && this.#heldUp.size > 0) this.#serveHeldUp()
  }

  /** Whether a stranger may be sent something now. If not, its `serve` is called when that may have changed. */
  mayServe(stranger: StrangerUpload): boolean {
    const may =
      this.#busyAgents.size === 0 ||
      this.#strangerBytes * (strangerShare - 1) < this.#agentBytes ||
      this.#now() - this.#agentSentAtMs > agentStallMs
    if (!may) {
      this.#heldUp.add(stranger)
      this.#retry ??= setTimeout(() => this.#serveHeldUp(), agentStallMs).unref()
    }
    return may
  }

  #serveHeldUp(): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
    const strangers = [...this.#heldUp]
    this.#heldUp.clear()
    for (const stranger of strangers) stranger.serve()
  }

  #stopTimers(): void {
    clearInterval(this.#rotation)
    clearTimeout(this.#retry)
    this.#rotation = undefined
    this.#retry = undefined
  }
}
