// How an agent keeps in touch with the tracker: it tells of itself at the pace the tracker names, over one connection, and
// hands on each new route. It is never in the way: when the tracker is away the agent goes on with the route it has.
import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Secret } from '../lib/secret.ts'
import type { Route } from '../model/swarm.ts'
import {
  type AnnounceAnswer,
  answerBytesMax,
  decodeAnswer,
  isRefusal,
  type ListedPeer,
} from '../protocol/tracker-answer.ts'
import { type AnnounceEvent, formatAnnounce, slowMax } from '../protocol/tracker-wire.ts'

/** What an agent says of itself in an announce. */
export type AgentStatus = {
  /** Pieces that are verified. */
  readonly have: number
  /** Bytes received a second. */
  readonly rate: number
  /** Peer ids, 40 hex digits, that starve us although others have more; the first 16 are told. */
  readonly slow: readonly string[]
  /** How far writing is behind receiving. */
  readonly lagMs: number
  readonly isLeaving: boolean
  /** It needs only some of the pieces. */
  readonly isPartial: boolean
  readonly uploaded: number
  readonly downloaded: number
  /** Bytes that are missing of what it needs. */
  readonly left: number
}

export type TrackerClientOptions = {
  /** As `http://10.77.0.1:7780/announce`. */
  readonly url: string
  readonly infoHash: string
  readonly peerId: string
  /** Where we take connections. */
  readonly port: number
  readonly token: Secret
  /** How many peers beside those of the route the tracker is asked for, strangers and agents alike; 0 unless given. */
  readonly numwant?: number
  /** Asked once for each announce, right before it. */
  readonly status: () => AgentStatus
  /** A route other than the last one. */
  readonly onRoute: (route: Route) => void
  readonly onPeers?: (peers: readonly ListedPeer[]) => void
  /** The tracker went away or refuses us; told once until it is back. */
  readonly onAway?: (error: Error) => void
  readonly onBack?: () => void
  readonly limits?: Partial<AnnounceLimits>
}

export type AnnounceLimits = {
  /** One announce takes no longer. */
  readonly callMs: number
  /** The farewell when closing takes no longer. */
  readonly stoppedMs: number
  /** Announces are so far apart, however often one is asked for. */
  readonly gapMs: number
  /** The longest pause before a tracker that is away is tried again, and the longest that one may ask for. */
  readonly pauseMsMax: number
  readonly nextMsMax: number
}

const defaultLimits: AnnounceLimits = {
  callMs: 5000,
  stoppedMs: 1000,
  gapMs: 100,
  pauseMsMax: 5000,
  nextMsMax: 60_000,
}

/** The first pause before a tracker that is away is tried again; it doubles. */
const pauseMsMin = 250

/** Announces of hosts that were switched on together drift apart by so much of their interval. */
const jitter = 0.1

export class TrackerClient {
  readonly #options: TrackerClientOptions
  readonly #limits: AnnounceLimits
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #closing = new AbortController()
  readonly #loop: Promise<void>
  #wake = Promise.withResolvers<void>()
  #isStarted = false
  #wasComplete: boolean
  #awaySinceMs: number | undefined
  #route: number | undefined

  /** Begins to announce at once. */
  constructor(options: TrackerClientOptions) {
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
    this.#wasComplete = options.status().left === 0
    this.#loop = this.#announceUntilClosed()
  }

  /** Since when, on the clock of performance.now, the tracker is away or refuses us; undefined while it answers. */
  get awaySinceMs(): number | undefined {
    return this.#awaySinceMs
  }

  /** Announces as soon as may be: something has happened that others should know. */
  announceNow(): void {
    this.#wake.resolve()
  }

  /** Ends the announces and says farewell, which takes at most a second. Never throws. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return await this.#loop
    this.#closing.abort()
    await this.#loop
    // Who was told nothing needs no farewell; who is away forgets us by itself.
    if (this.#awaySinceMs === undefined) {
      await this.#call('stopped', this.#options.status(), AbortSignal.timeout(this.#limits.stoppedMs)).catch(
        () => undefined,
      )
    }
    this.#agent.destroy()
  }

  async #announceUntilClosed(): Promise<void> {
    const closed = this.#closing.signal
    for (let failures = 0; !closed.aborted; ) {
      const begunMs = performance.now()
      this.#wake = Promise.withResolvers()
      let pauseMs: number
      try {
        pauseMs = Math.min(await this.#announce(), this.#limits.nextMsMax) * (1 - jitter + 2 * jitter * Math.random())
        failures = 0
      } catch (error) {
        if (closed.aborted) return
        this.#noteAway(error)
        pauseMs =
          Math.min(this.#limits.pauseMsMax, pauseMsMin * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2)
        failures += 1
      }
      const gapMs = this.#limits.gapMs - (performance.now() - begunMs)
      await this.#pause(gapMs)
      await Promise.race([this.#pause(pauseMs - Math.max(0, gapMs)), this.#wake.promise])
    }
  }

  /** Ends early, without an error, when the client is closed. */
  async #pause(ms: number): Promise<void> {
    if (ms > 0) await delay(ms, undefined, { signal: this.#closing.signal }).catch(() => undefined)
  }

  /** Announces once; how many ms until the next. */
  async #announce(): Promise<number> {
    const { onRoute, onPeers, onBack } = this.#options
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#limits.callMs)])
    const status = this.#options.status()
    const isComplete = status.left === 0
    const event = !this.#isStarted ? 'started' : isComplete && !this.#wasComplete ? 'completed' : undefined
    const answer = await this.#call(event, status, signal)
    this.#isStarted = true
    this.#wasComplete = isComplete
    if (this.#awaySinceMs !== undefined) {
      this.#awaySinceMs = undefined
      onBack?.()
    }
    const route = answer.agent?.route
    // After a restart the tracker's versions begin anew: any other version is a newer one.
    if (route !== undefined && route.version !== this.#route) {
      this.#route = route.version
      onRoute(route)
    }
    if (answer.peers.length > 0) onPeers?.(answer.peers)
    return answer.agent?.nextMs ?? answer.intervalSeconds * 1000
  }

  #noteAway(error: unknown): void {
    if (this.#awaySinceMs !== undefined) return
    this.#awaySinceMs = performance.now()
    this.#options.onAway?.(error instanceof Error ? error : new Error('the tracker is away', { cause: error }))
  }

  async #call(
    event: AnnounceEvent | undefined,
    { uploaded, downloaded, left, ...own }: AgentStatus,
    signal: AbortSignal,
  ): Promise<AnnounceAnswer> {
    const { url, infoHash, peerId, port, numwant = 0 } = this.#options
    const query = formatAnnounce({
      infoHash,
      peerId,
      port,
      uploaded,
      downloaded,
      left,
      event,
      isCompact: true,
      noPeerId: true,
      numwant,
      ipv6: undefined,
      key: undefined,
      agent: { ...own, slow: own.slow.slice(0, slowMax), route: this.#route },
    })
    let answer: ReturnType<typeof decodeAnswer>
    try {
      answer = decodeAnswer(await this.#get(`${url}?${query}`, signal, true))
    } catch (cause) {
      throw new Error(`the announce to ${url} failed`, { cause })
    }
    if (isRefusal(answer)) throw new Error(`the tracker at ${url} refuses us: ${answer.reason}`)
    return answer
  }

  async #get(url: string, signal: AbortSignal, mayRetry: boolean): Promise<Buffer> {
    const headers = { authorization: `Bearer ${this.#options.token.reveal()}` }
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const sent = request(url, { agent: this.#agent, headers, signal }, resolve)
    sent.once('error', reject)
    sent.end()
    let response: IncomingMessage
    try {
      response = await promise
    } catch (error) {
      // The tracker may close an idle connection at the very moment at which we use it again.
      if (mayRetry && sent.reusedSocket && !signal.aborted) return await this.#get(url, signal, false)
      throw error
    }
    // 429 comes with a refusal in words, which says more than the number.
    if (response.statusCode !== 200 && response.statusCode !== 429) {
      response.destroy()
      throw new Error(`it answered ${response.statusCode}`)
    }
    const parts: Buffer[] = []
    let bytes = 0
    // A response without an encoding gives buffers.
    for await (const part of response as AsyncIterable<Buffer>) {
      bytes += part.length
      if (bytes > answerBytesMax) throw new Error(`its answer is over ${answerBytesMax} bytes`)
      parts.push(part)
    }
    return Buffer.concat(parts)
  }
}
