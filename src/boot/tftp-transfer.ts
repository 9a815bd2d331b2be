// One TFTP transfer: its own socket, which is its transfer identifier (RFC 1350 section 4), its retry timer, and the
// blocks it sends. What to send when is decided by protocol/tftp.ts; who may have what by tftp-server.ts.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import {
  decodePacket,
  encodePacket,
  type Negotiated,
  onAck,
  onReady,
  onTimeout,
  retryDelayMs,
  type Sender,
  type SenderStep,
  startSender,
  type TftpPacket,
  TftpPacketError,
  tftpErrorCodes,
} from '../protocol/tftp.ts'
import { BlockBuffer } from './tftp-blocks.ts'
import type { ContentReader } from './tftp-content.ts'

export type TftpPeer = { readonly address: string; readonly port: number }

/** Why a transfer that had begun did not end with the whole file at the client. */
export type TransferFailure =
  | 'timed-out'
  /** The client answered our options with an ERROR: firmware asks for a size this way, and may ask again without. */
  | 'declined'
  | 'stopped-by-client'
  /** The file could not be read to its end, or changed meanwhile. */
  | 'unreadable'
  /** The same address and port asked for something else, or again after it had gone silent: the client began anew. */
  | 'superseded'
  | 'server-closed'
  | 'no-socket'

/**
 * What the client is told. Not when it began anew: on its port it would take the ERROR for an answer to its new request.
 * Not without a socket either: firmware asks again after silence, and gives the network up after an ERROR.
 */
const farewells: Partial<Record<TransferFailure, string>> = {
  'timed-out': 'no answer for too long',
  unreadable: 'the file could not be read to its end',
  'server-closed': 'the server closes',
}

export type TransferEnd =
  | { readonly state: 'finished'; readonly bytes: number }
  | { readonly state: 'failed'; readonly why: TransferFailure; readonly detail: string; readonly bytes: number }

export type TransferOptions = {
  /** Address that the transfer's socket is bound to. */
  readonly address: string
  readonly peer: TftpPeer
  readonly reader: ContentReader
  readonly negotiated: Negotiated
  readonly retriesMax: number
  /** The first wait for an answer, unless the client named one; it doubles up to `retryMsMax`. */
  readonly retryMs: number
  readonly retryMsMax: number
  /** The whole transfer's time. */
  readonly transferMsMax: number
  /** Called once. */
  readonly onEnd: (end: TransferEnd) => void
}

/** Our addresses are numbers, so there is nothing to look up: answering at once saves a turn of the loop per packet. */
export function numericLookup(
  address: string,
  _options: unknown,
  callback: (error: null, address: string, family: number) => void,
): void {
  callback(null, address, 4)
}

/** Begins when made. Ends by itself, or by `stop`. */
export class Transfer {
  readonly #options: TransferOptions
  readonly #socket: Socket
  readonly #blocks: BlockBuffer
  readonly #endsBy: number
  readonly #firstMs: number
  readonly #closed = Promise.withResolvers<void>()
  #timer: NodeJS.Timeout
  /** The retries that `#timer` waits for, as its wait grows with them. */
  #timerRetries = 0
  #sender: Sender
  #hasEnded = false

  constructor(options: TransferOptions) {
    const { negotiated } = options
    this.#options = options
    this.#blocks = new BlockBuffer(options.reader, negotiated)
    this.#endsBy = performance.now() + options.transferMsMax
    this.#firstMs = negotiated.timeoutMs ?? options.retryMs
    this.#timer = setTimeout(() => this.#timedOut(), this.#firstMs)
    this.#socket = createSocket({ type: 'udp4', lookup: numericLookup })
    this.#socket.on('error', (error) => this.#fail('no-socket', error.message))
    this.#socket.on('message', (datagram, from) => this.#received(datagram, from))
    const offers = negotiated.acknowledged.size > 0
    const start = startSender({ windowsize: negotiated.windowsize, retriesMax: options.retriesMax, offers })
    this.#sender = start.sender
    this.#socket.bind({ address: options.address, port: 0, exclusive: true }, () => {
      this.#follow(start)
      this.#readAhead()
    })
  }

  /** The client did answer, but does not any more. */
  get isSilent(): boolean {
    const { phase, acked, retries } = this.#sender
    const hasAnswered = acked > 0 || (phase === 'sending' && this.#options.negotiated.acknowledged.size > 0)
    return hasAnswered && retries > 0
  }

  /** Ends the transfer, unless it is over already. Resolves when nothing is open any more. */
  stop(why: 'superseded' | 'server-closed', detail: string): Promise<void> {
    this.#fail(why, detail)
    return this.#closed.promise
  }

  #received(datagram: Buffer, from: RemoteInfo): void {
    if (this.#hasEnded) return
    const { peer } = this.#options
    const packet = decoded(datagram)
    if (from.port !== peer.port || from.address !== peer.address) {
      // RFC 1350 section 4: the stranger is told, the transfer goes on. An ERROR is never answered by one.
      if (packet?.op !== 'error') this.#sendError(from, tftpErrorCodes.unknownTransfer, 'this is not your transfer')
    } else if (packet?.op === 'ack') {
      this.#follow(onAck(this.#sender, packet.block))
      this.#readAhead()
    } else if (packet?.op === 'error') {
      const isRefused = this.#sender.phase === 'offered'
      this.#end(isRefused ? 'declined' : 'stopped-by-client', `error ${packet.code}: ${packet.message}`)
    }
  }

  #timedOut(): void {
    if (performance.now() >= this.#endsBy) {
      this.#fail('timed-out', `not done after ${this.#options.transferMsMax} ms`)
    } else {
      this.#timer.refresh()
      this.#follow(onTimeout(this.#sender))
    }
  }

  #follow(step: SenderStep): void {
    if (this.#hasEnded) return
    this.#sender = step.sender
    const { action } = step
    switch (action.do) {
      case 'wait':
        break
      case 'offer':
        this.#send(encodePacket({ op: 'option-ack', options: this.#options.negotiated.acknowledged }))
        this.#armTimer()
        break
      case 'send':
        for (let block = action.first; block <= action.last; block++) this.#send(this.#blocks.packet(block))
        this.#armTimer()
        break
      case 'finish':
        this.#end('finished', '')
        break
      case 'give-up':
        this.#fail('timed-out', `no answer to ${this.#options.retriesMax + 1} tries, ${this.#lastHeard()}`)
        break
    }
  }

  /** A new timer is made only when the wait changes; the usual ACK pushes the one there is. */
  #armTimer(): void {
    const { retries } = this.#sender
    if (retries === this.#timerRetries) {
      this.#timer.refresh()
      return
    }
    clearTimeout(this.#timer)
    const waitMs = retryDelayMs(retries, { firstMs: this.#firstMs, mostMs: this.#options.retryMsMax })
    this.#timer = setTimeout(() => this.#timedOut(), waitMs)
    this.#timerRetries = retries
  }

  #readAhead(): void {
    if (this.#hasEnded || !this.#blocks.hasRoom(this.#sender.acked)) return
    if (performance.now() >= this.#endsBy) {
      this.#fail('timed-out', `not done after ${this.#options.transferMsMax} ms`)
      return
    }
    this.#blocks.load(this.#socket.getSendQueueCount() > 0).then(
      () => {
        this.#follow(onReady(this.#sender, this.#blocks.ready, this.#blocks.last))
        this.#readAhead()
      },
      (error: unknown) => this.#fail('unreadable', error instanceof Error ? error.message : String(error)),
    )
  }

  #send(packet: Buffer): void {
    this.#socket.send(packet, this.#options.peer.port, this.#options.peer.address)
  }

  #sendError(to: TftpPeer, code: number, message: string, sent?: () => void): void {
    // Port 0 can be forged, but nothing can be sent to it.
    if (to.port !== 0) this.#socket.send(encodePacket({ op: 'error', code, message }), to.port, to.address, sent)
    else sent?.()
  }

  /** Whether nothing ever came back, or it stopped in the middle: a firewall and an MTU look different here. */
  #lastHeard(): string {
    return this.isSilent ? 'after it had answered before' : 'it never answered'
  }

  /** Ends the transfer from our side. */
  #fail(why: TransferFailure, detail: string): void {
    this.#end(why, detail, farewells[why])
  }

  #end(how: 'finished' | TransferFailure, detail: string, farewell?: string): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    clearTimeout(this.#timer)
    const bytes = this.#blocks.bytesUpTo(this.#sender.acked)
    const closed = new Promise<void>((resolve) => {
      const close = () => this.#socket.close(() => resolve())
      if (farewell === undefined) close()
      else this.#sendError(this.#options.peer, tftpErrorCodes.undefined, farewell, close)
    })
    // Nothing is lost when a file that was only read does not close well; its descriptor is free either way.
    void Promise.allSettled([closed, this.#blocks.close()]).then(() => this.#closed.resolve())
    this.#options.onEnd(
      how === 'finished' ? { state: 'finished', bytes } : { state: 'failed', why: how, detail, bytes },
    )
  }
}

function decoded(datagram: Buffer): TftpPacket | undefined {
  try {
    return decodePacket(datagram)
  } catch (error) {
    // What is no TFTP at all is dropped: the transfer's own timer deals with whatever it was meant to be.
    if (error instanceof TftpPacketError) return undefined
    throw error
  }
}
