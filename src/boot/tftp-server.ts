// The TFTP server: hears requests on one socket, asks `resolve` what each machine gets, and starts a transfer for it.
// Every request is told to `onEvent`. Read only: RFC 1350, 2347, 2348, 2349, 7440 as far as they send files.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { setTimeout as delay } from 'node:timers/promises'
import type { BootContent, ResolveBoot } from '../model/boot.ts'
import { causeChain } from '../model/failure.ts'
import {
  decodePacket,
  encodePacket,
  negotiate,
  type OptionLimits,
  type TftpMode,
  type TftpOptions,
  TftpPacketError,
  tftpErrorCodes,
} from '../protocol/tftp.ts'
import { type ContentReader, openContent } from './tftp-content.ts'
import { numericLookup, type TftpPeer, Transfer, type TransferEnd, type TransferFailure } from './tftp-transfer.ts'

/** What one request came to. `path` is as asked, without leading slashes; a packet that could not be read has none. */
export type TftpEvent =
  | {
      readonly kind: 'started'
      readonly path: string
      readonly peer: TftpPeer
      readonly options: {
        readonly mode: TftpMode
        readonly blksize: number
        readonly windowsize: number
        /** Undefined where the client left it to us. */
        readonly timeoutMs: number | undefined
        /** Undefined for netascii. */
        readonly sizeBytes: number | undefined
      }
    }
  | {
      readonly kind: 'finished'
      readonly path: string
      readonly peer: TftpPeer
      readonly bytes: number
      readonly ms: number
    }
  | {
      readonly kind: 'failed'
      readonly path: string | undefined
      readonly peer: TftpPeer
      readonly why: RequestFailure | TransferFailure
      /** Our words, or the client's. */
      readonly detail: string
      /** Acknowledged by the client. */
      readonly bytes: number
      readonly ms: number
    }

/** Why a request did not become a transfer. */
export type RequestFailure = 'malformed' | 'write-refused' | 'busy' | 'not-found' | 'could-not-look'

export type TftpLimits = OptionLimits & {
  readonly transfersMax: number
  readonly transfersPerPeerMax: number
  readonly retriesMax: number
  readonly retryMs: number
  readonly retryMsMax: number
  readonly resolveMsMax: number
  readonly transferMsMax: number
}

export const defaultLimits: TftpLimits = {
  /** A transfer holds two descriptors and 64 to 200 KiB: this many stay inside 20,000 descriptors and 1 GiB. */
  transfersMax: 4096,
  /** Firmware asks for one file at a time, GRUB and iPXE for a few; a whole lab may stand behind one translated address. */
  transfersPerPeerMax: 128,
  blksizeMax: 65_464,
  /** A longer burst overruns the receive buffer of small clients and keeps a thousand others waiting. */
  windowsizeMax: 64,
  /** Half of Linux's usual socket buffer of 208 KiB, which counts more than the payload. */
  windowBytesMax: 96 * 1024,
  /** Waits of 0.5, 1, 2, 4, 4, 4, 4, 4 s: a cable plugged in again or spanning tree's pauses are outlived. */
  retriesMax: 7,
  retryMs: 500,
  retryMsMax: 4000,
  /** Firmware asks again after some seconds; a database that takes longer than this does not answer at all. */
  resolveMsMax: 10_000,
  /** 64 MiB in blocks of 512 bytes at 25 ms each take this long. */
  transferMsMax: 3_600_000,
}

export type TftpServerOptions = {
  /**
   * The IPv4 address that is served. On a machine with several, name one: behind 0.0.0.0 the kernel picks the source of
   * each answer, and a client refuses an answer from another address than it asked.
   */
  readonly address: string
  /** 0: any free port. */
  readonly port: number
  readonly resolve: ResolveBoot
  /** Told of every request; it must not throw. */
  readonly onEvent: (event: TftpEvent) => void
  readonly limits?: Partial<TftpLimits>
}

/** Copies of a request that the network delayed are still recognised this long after its transfer ended. */
const remembersMs = 300

/** Requests of a whole room that is switched on at once wait here; the kernel gives what its own limit allows. */
const receiveBufferBytes = 4 * 1024 * 1024

/** Opens the server. Rejects when the address cannot be bound. */
export async function startTftpServer(options: TftpServerOptions): Promise<TftpServer> {
  const socket = createSocket({ type: 'udp4', lookup: numericLookup, recvBufferSize: receiveBufferBytes })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind({ address: options.address, port: options.port, exclusive: true }, () => {
      socket.off('error', reject)
      resolve()
    })
  })
  return new TftpServer(socket, options)
}

type ReadRequest = { readonly path: string; readonly mode: TftpMode; readonly options: TftpOptions }

/** One request from its arrival to its end. */
type Admission = {
  readonly peer: TftpPeer
  readonly datagram: Buffer
  readonly path: string
  readonly startedMs: number
  /** Undefined while we look for the file. */
  transfer: Transfer | undefined
  /** Why the file that is being looked for is not wanted any more. */
  cancelled: 'superseded' | 'server-closed' | undefined
}

export class TftpServer {
  readonly port: number
  readonly #socket: Socket
  readonly #options: TftpServerOptions
  readonly #limits: TftpLimits
  /** By the client's address and port, which are one transfer's at most. */
  readonly #admissions = new Map<string, Admission>()
  readonly #countByAddress = new Map<string, number>()
  /** Requests whose transfer is over, oldest first. */
  readonly #recent = new Map<string, { readonly datagram: Buffer; readonly endedMs: number }>()
  /** Work under way that `close` waits for. */
  readonly #serving = new Set<Promise<void>>()
  #isClosed = false
  #isDraining = false

  constructor(socket: Socket, options: TftpServerOptions) {
    this.#socket = socket
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
    this.port = socket.address().port
    socket.on('message', (datagram, from) => this.#received(datagram, from))
    // One datagram that could not be received or answered is that client's loss; it asks again.
    socket.on('error', () => {})
  }

  /** Begins no more transfers, and resolves when those under way have ended, or after `graceMs`. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true
    const end = performance.now() + graceMs
    while (this.#admissions.size > 0 && performance.now() < end) await delay(20)
  }

  /** Stops hearing, tells the clients of open transfers, and resolves when every socket and file is closed. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    const stopped = [...this.#admissions.values()].map((admission) => this.#cancel(admission, 'server-closed'))
    await Promise.all([...stopped, ...this.#serving])
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()))
  }

  #received(datagram: Buffer, from: RemoteInfo): void {
    // Port 0 can be forged, but nothing can be sent to it.
    if (this.#isClosed || from.port === 0) return
    const peer = { address: from.address, port: from.port }
    try {
      const packet = decodePacket(datagram)
      if (packet.op === 'read') this.#admit({ ...packet, path: packet.path.replace(/^\/+/, '') }, datagram, peer)
      else if (packet.op === 'write') {
        this.#refuse(peer, tftpErrorCodes.accessViolation, 'this server is read only')
        this.#tellFailed({ path: packet.path, peer }, 'write-refused', 'write request')
      } else if (packet.op !== 'error') this.#refuse(peer, tftpErrorCodes.unknownTransfer, 'no transfer is here')
    } catch (error) {
      if (!(error instanceof TftpPacketError)) throw error
      this.#refuse(peer, error.code, error.message)
      this.#tellFailed({ path: undefined, peer }, 'malformed', error.message)
    }
  }

  #admit(request: ReadRequest, datagram: Buffer, peer: TftpPeer): void {
    const key = `${peer.address}:${peer.port}`
    const earlier = this.#admissions.get(key)
    if (this.#isCopy(key, earlier, datagram)) return
    // No answer: firmware asks again, and the next process hears it.
    if (this.#isDraining) return
    if (earlier !== undefined) void this.#cancel(earlier, 'superseded')

    const count = this.#countByAddress.get(peer.address) ?? 0
    if (this.#admissions.size >= this.#limits.transfersMax || count >= this.#limits.transfersPerPeerMax) {
      // No answer: firmware asks again and may then find room, while after an ERROR it gives the network up.
      this.#tellFailed(
        { path: request.path, peer },
        'busy',
        `${this.#admissions.size} transfers, ${count} of this peer`,
      )
      return
    }
    this.#countByAddress.set(peer.address, count + 1)
    const startedMs = performance.now()
    const admission: Admission = {
      peer,
      datagram,
      path: request.path,
      startedMs,
      transfer: undefined,
      cancelled: undefined,
    }
    this.#admissions.set(key, admission)
    const serving = this.#serve(admission, request).finally(() => this.#serving.delete(serving))
    this.#serving.add(serving)
  }

  /**
   * Whether a request is only a copy, made by the network or by a client that is still waiting. The very same request
   * from a client that was heard before and is silent now comes from one that has begun anew.
   */
  #isCopy(key: string, earlier: Admission | undefined, datagram: Buffer): boolean {
    if (earlier !== undefined) {
      if (!earlier.datagram.equals(datagram)) return false
      return earlier.transfer?.isSilent !== true
    }
    const now = performance.now()
    for (const [old, { endedMs }] of this.#recent) {
      if (now - endedMs < remembersMs) break
      this.#recent.delete(old)
    }
    return this.#recent.get(key)?.datagram.equals(datagram) ?? false
  }

  async #serve(admission: Admission, request: ReadRequest): Promise<void> {
    let content: BootContent | undefined
    try {
      content = await this.#resolve(request.path, admission.peer.address)
    } catch (error) {
      return this.#reject(admission, 'could-not-look', causeChain(error).join(': '), tftpErrorCodes.undefined)
    }
    if (content === undefined) return this.#reject(admission, 'not-found', 'file not found', tftpErrorCodes.notFound)
    if (admission.cancelled !== undefined) return this.#reject(admission, admission.cancelled, 'before it began')

    let reader: ContentReader
    try {
      reader = await openContent(content, request.mode)
    } catch (error) {
      const isDenied = error instanceof Error && 'code' in error && error.code === 'EACCES'
      const code = isDenied ? tftpErrorCodes.accessViolation : tftpErrorCodes.undefined
      return this.#reject(admission, 'unreadable', causeChain(error).join(': '), code)
    }
    if (admission.cancelled !== undefined) {
      await reader.close()
      return this.#reject(admission, admission.cancelled, 'before it began')
    }
    this.#start(admission, request, reader)
  }

  #start(admission: Admission, request: ReadRequest, reader: ContentReader): void {
    const { peer, path } = admission
    const negotiated = negotiate(request.options, reader.sizeBytes, this.#limits)
    const { blksize, windowsize, timeoutMs } = negotiated
    const options = { mode: request.mode, blksize, windowsize, timeoutMs, sizeBytes: reader.sizeBytes }
    this.#options.onEvent({ kind: 'started', path, peer, options })
    admission.transfer = new Transfer({
      address: this.#options.address,
      peer,
      reader,
      negotiated,
      retriesMax: this.#limits.retriesMax,
      retryMs: this.#limits.retryMs,
      retryMsMax: this.#limits.retryMsMax,
      transferMsMax: this.#limits.transferMsMax,
      onEnd: (end) => this.#ended(admission, end),
    })
  }

  /** `resolve` within its deadline. */
  async #resolve(path: string, peerAddress: string): Promise<BootContent | undefined> {
    const { resolveMsMax } = this.#limits
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error(`no answer within ${resolveMsMax} ms`)), resolveMsMax)
    try {
      return await Promise.race([this.#options.resolve({ via: 'tftp', path, peerAddress }), late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  #ended(admission: Admission, end: TransferEnd): void {
    const { path, peer } = admission
    const key = this.#release(admission)
    if (end.state === 'failed') {
      this.#tellFailed(admission, end.why, end.detail, end.bytes)
      return
    }
    // An entry must be put at the end, for `#recent` is kept oldest first.
    this.#recent.delete(key)
    const endedMs = performance.now()
    this.#recent.set(key, { datagram: admission.datagram, endedMs })
    this.#options.onEvent({ kind: 'finished', path, peer, bytes: end.bytes, ms: endedMs - admission.startedMs })
  }

  /** Ends a request that did not become a transfer; with a code its client is told. */
  #reject(admission: Admission, why: RequestFailure | TransferFailure, detail: string, code?: number): void {
    this.#release(admission)
    const words: Partial<Record<typeof why, string>> = { 'could-not-look': 'could not look', unreadable: 'unreadable' }
    if (code !== undefined && !this.#isClosed) this.#refuse(admission.peer, code, words[why] ?? detail)
    this.#tellFailed(admission, why, detail)
  }

  #release(admission: Admission): string {
    const { address, port } = admission.peer
    const key = `${address}:${port}`
    if (this.#admissions.get(key) === admission) this.#admissions.delete(key)
    const count = (this.#countByAddress.get(address) ?? 1) - 1
    if (count > 0) this.#countByAddress.set(address, count)
    else this.#countByAddress.delete(address)
    return key
  }

  async #cancel(admission: Admission, why: 'superseded' | 'server-closed'): Promise<void> {
    admission.cancelled = why
    await admission.transfer?.stop(why, why === 'superseded' ? 'the client asked anew' : 'the server closes')
  }

  #refuse(peer: TftpPeer, code: number, message: string): void {
    this.#socket.send(encodePacket({ op: 'error', code, message }), peer.port, peer.address)
  }

  #tellFailed(
    request: { readonly path: string | undefined; readonly peer: TftpPeer; readonly startedMs?: number },
    why: RequestFailure | TransferFailure,
    detail: string,
    bytes = 0,
  ): void {
    const { path, peer, startedMs } = request
    const ms = startedMs === undefined ? 0 : performance.now() - startedMs
    this.#options.onEvent({ kind: 'failed', path, peer, why, detail, bytes, ms })
  }
}
