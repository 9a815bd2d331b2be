// The socket under one peer: messages of one turn leave in one write, bytes come in under a cap, keep-alives go out, and who is
// silent or does not read is found out. What the messages say is the business of peer.ts; pieces are written by
// peer-upload.ts.
import type { Socket } from 'node:net'
import type { RateLimit } from '../lib/rate-limit.ts'
import { encodeMessages, type PeerMessage } from '../protocol/peer-wire.ts'

/** How often a connection looks at its own life. */
const tickMs = 5_000

/** A stranger hears from us at least so often (BEP 3: clients close what is silent for two minutes). */
const strangerKeepAliveMs = 60_000

/** aria2 sends its keep-alives every 120 s. */
const strangerSilenceMsMax = 150_000

/** Agents send one each `tickMs`, so that one whose cable was pulled is known in seconds. */
const agentSilenceMsMax = 20_000

export type PeerLinkOptions = {
  readonly socket: Socket
  /** Cap of what is received, as it holds now; undefined: none. */
  readonly ingress: () => RateLimit | undefined
  /** What may wait in the socket, pieces too: who does not read our answers is let go. */
  readonly backlogBytesMax: number
  /** Not known before the other has introduced itself. */
  readonly isAgent: () => boolean
  /** The other is silent, or does not read. */
  readonly onDead: (reason: Error) => void
}

export class PeerLink {
  readonly #options: PeerLinkOptions
  readonly #outbox: PeerMessage[] = []
  readonly #tick: NodeJS.Timeout
  #isFlushing = false
  #isPaused = false
  #isClosed = false
  #heardAtMs = performance.now()
  #spokeAtMs = performance.now()

  constructor(options: PeerLinkOptions) {
    this.#options = options
    this.#tick = setInterval(() => this.#onTick(), tickMs).unref()
  }

  send(message: PeerMessage): void {
    if (this.#isClosed) return
    this.#outbox.push(message)
    if (this.#isFlushing) return
    this.#isFlushing = true
    process.nextTick(() => this.#flush())
  }

  /** Something came: the other lives. */
  heard(): void {
    this.#heardAtMs = performance.now()
  }

  /** So much has been read and used up; no more is read until the cap allows it. */
  charge(bytes: number): void {
    const { socket } = this.#options
    const ingress = this.#options.ingress()
    if (ingress === undefined) return
    this.#isPaused = true
    socket.pause()
    void ingress.take(bytes).then(() => {
      this.#isPaused = false
      this.heard()
      socket.resume()
    })
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#tick)
    this.#outbox.length = 0
    this.#options.socket.destroy()
  }

  #flush(): void {
    this.#isFlushing = false
    if (this.#isClosed) return
    const { socket, backlogBytesMax, onDead } = this.#options
    socket.write(encodeMessages(this.#outbox.splice(0)))
    this.#spokeAtMs = performance.now()
    if (socket.writableLength > backlogBytesMax) onDead(new Error('the peer does not read'))
  }

  #onTick(): void {
    const now = performance.now()
    const isAgent = this.#options.isAgent()
    const silenceMs = this.#isPaused ? 0 : now - this.#heardAtMs
    if (silenceMs > (isAgent ? agentSilenceMsMax : strangerSilenceMsMax)) {
      this.#options.onDead(new Error(`nothing was heard for ${Math.round(silenceMs / 1000)} s`))
    } else if (isAgent || now - this.#spokeAtMs > strangerKeepAliveMs - tickMs) {
      this.send({ kind: 'keep-alive' })
    }
  }
}
