// The DHCP server's sockets, deadlines and limits: it reads messages, asks for the reservation of their MAC address, sends
// the answer that dhcp-answer.ts decides, and tells of each request as an event (RFC 2131).
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { tellLimit } from '../lib/tell-limit.ts'
import type { BootTarget } from '../model/boot.ts'
import { type DhcpMessage, decodeDhcp, encodeDhcp } from '../protocol/dhcp.ts'
import { DhcpError, type DhcpMessageType } from '../protocol/dhcp-options.ts'
import {
  classifyClient,
  type DhcpAsker,
  type DhcpClient,
  type DhcpConfig,
  type DhcpDecision,
  decideDhcp,
  destinationOf,
  macOf,
  type Reservation,
} from './dhcp-answer.ts'

type Seen = { readonly mac: string; readonly client: DhcpClient; readonly text: string }

/** A message of a host, or of a machine with an address of the pool, answered or, for a reason in `text`, not. */
type HostEvent = Seen & {
  readonly kind: 'dhcp.discover' | 'dhcp.request' | 'dhcp.inform' | 'dhcp.decline' | 'dhcp.release' | 'dhcp.odd'
  readonly host?: string
  readonly hostId?: number
  readonly bootTarget: BootTarget
  readonly answer: DhcpDecision['answer']
  /** The address offered or acknowledged. */
  readonly address?: string
  readonly bootFile?: string
  /** The server whose offer the machine took instead of ours. */
  readonly otherServer?: string
}

/**
 * What the server tells of. `text` is one sentence of at most 200 printable characters; `suppressed` counts the events of
 * this kind that were held back since the last one.
 */
export type DhcpEvent =
  | HostEvent
  /** No host has this MAC address: no answer. */
  | (Seen & { readonly kind: 'dhcp.unknown'; readonly suppressed: number })
  /** We could not look up, decide or send. */
  | (Seen & { readonly kind: 'dhcp.failed'; readonly cause: unknown })
  /** Not a request that we can read, or more than we can take. */
  | { readonly kind: 'dhcp.dropped'; readonly text: string; readonly suppressed: number }

export type DhcpServerOptions = {
  /**
   * Where to listen: `0.0.0.0`, the default, hears broadcasts. Any other address hears only what is sent to it, which is
   * enough behind relays.
   */
  readonly address?: string
  readonly port?: number
  /** The port of the clients; their answers go there. */
  readonly clientPort?: number
  /** `full`: addresses and boot files, from the reservations. */
  readonly mode: 'full'
  /**
   * The reservation of a MAC address (lower-case with colons), for who asks with it. `signal` aborts when the answer would come
   * too late.
   */
  readonly lookup: (mac: string, asker: DhcpAsker, signal: AbortSignal) => Promise<Reservation | undefined>
  readonly config: DhcpConfig
  /** Must not throw: a request has nobody else to report to. */
  readonly onEvent: (event: DhcpEvent) => void
}

/** Asks for more than the kernel's default, which is full at some 200 requests; it gives what its own limit allows. */
const receiveBufferBytes = 4 * 2 ** 20
/** Clients ask again after 4 s (RFC 2131 section 4.1), so a later answer would be to a question nobody asks any more. */
const lookupTimeoutMs = 4_000
/** Ten racks that are switched on together; each entry holds one decoded packet. */
const inFlightMax = 1_024
/** Strangers and broken packets may fill neither the database nor the log. */
const tellRate = { burst: 100, perSecond: 20 }
const textMax = 200

/** Opens the sockets. Rejects when the port is taken or `config.serverAddress` is no address of this machine. */
export async function startDhcpServer(options: DhcpServerOptions): Promise<DhcpServer> {
  const { address = '0.0.0.0', port = 67 } = options
  // The two sockets below must share their port, and with that the kernel would let a second DHCP server share it as well:
  // an exclusive socket tells first whether there is one.
  if (port !== 0) await closeSocket(await openSocket(address, port, 'exclusive'))
  const listening = await openSocket(address, port, 'shared')
  if (address === options.config.serverAddress) return new DhcpServer(options, listening, listening)
  // A machine with several networks has to answer on the machines' one. Node can neither bind a socket to an interface nor
  // see by which one a packet came, but Linux sends a broadcast by the interface that owns the socket's own address,
  // whatever the routes say. So answers leave from a second socket, bound to the server's address; it also gets what
  // clients and relays send to that address, because the narrower of two sockets on one port does.
  try {
    const answering = await openSocket(options.config.serverAddress, listening.address().port, 'shared')
    return new DhcpServer(options, listening, answering)
  } catch (error) {
    await closeSocket(listening)
    throw error
  }
}

async function openSocket(address: string, port: number, use: 'shared' | 'exclusive'): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: use === 'shared', recvBufferSize: receiveBufferBytes })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (cause) => {
      socket.close()
      reject(new Error(`cannot listen for DHCP on ${address}:${port}`, { cause }))
    })
    socket.bind(port, address, resolve)
  })
  socket.removeAllListeners('error')
  socket.setBroadcast(true)
  return socket
}

async function closeSocket(socket: Socket): Promise<void> {
  await new Promise<void>((resolve) => socket.close(resolve))
}

/** A running server. Answers until `close()`. */
export class DhcpServer {
  readonly port: number
  readonly #options: DhcpServerOptions
  readonly #sockets: ReadonlySet<Socket>
  readonly #answering: Socket
  readonly #inFlight = new Map<AbortController, Promise<void>>()
  readonly #mayTellDropped = tellLimit(tellRate)
  readonly #mayTellUnknown = tellLimit(tellRate)

  /** Takes over two bound sockets, or one in both parts. `startDhcpServer` makes them. */
  constructor(options: DhcpServerOptions, listening: Socket, answering: Socket) {
    this.#options = options
    this.#sockets = new Set([listening, answering])
    this.#answering = answering
    this.port = listening.address().port
    for (const socket of this.#sockets) {
      socket.on('message', (packet, from) => this.#receive(packet, from))
      socket.on('error', (cause) => this.#drop(`the DHCP socket failed: ${cause.message}`))
    }
  }

  /** Stops listening, gives up look-ups under way, and closes the sockets. Call it once. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.removeAllListeners('message')
    for (const limit of this.#inFlight.keys()) limit.abort(new Error('the DHCP server closes'))
    await Promise.all(this.#inFlight.values())
    await Promise.all([...this.#sockets].map(closeSocket))
  }

  #receive(packet: Uint8Array, from: RemoteInfo): void {
    const request = readRequest(packet)
    if ('problem' in request) {
      this.#drop(`${from.address}:${from.port} sent ${packet.length} bytes: ${request.problem}`)
    } else if (this.#inFlight.size >= inFlightMax) {
      this.#drop(`${inFlightMax} requests are waiting, so ${request.mac} is not answered`)
    } else {
      const limit = new AbortController()
      const work = this.#answer(request, limit).finally(() => this.#inFlight.delete(limit))
      this.#inFlight.set(limit, work)
    }
  }

  async #answer({ message, mac }: Request, limit: AbortController): Promise<void> {
    const client = classifyClient(message)
    let doing = 'look up'
    try {
      const reservation = await this.#lookUp(mac, { client, isRelayed: message.relayAddress !== '0.0.0.0' }, limit)
      if (reservation === undefined) {
        const suppressed = this.#mayTellUnknown()
        const { messageType = 'request', vendorClass = 'without vendor class' } = message.options
        const text = `no host has ${mac}, so its ${messageType} is not answered (${vendorClass})`
        if (suppressed !== undefined) this.#tell({ kind: 'dhcp.unknown', mac, client, text, suppressed })
        return
      }
      doing = reservation.host === undefined ? 'answer' : `answer ${reservation.host},`
      const decision = decideDhcp(message, reservation, this.#options.config)
      if (decision.answer !== 'none') await this.#send(message, decision.reply)
      this.#tell(eventOf(message, { mac, client }, reservation, decision))
    } catch (cause) {
      this.#tell({ kind: 'dhcp.failed', mac, client, text: `could not ${doing} ${mac}`, cause })
    }
  }

  async #lookUp(mac: string, asker: DhcpAsker, limit: AbortController): Promise<Reservation | undefined> {
    const { promise: aborted, reject } = Promise.withResolvers<never>()
    limit.signal.addEventListener('abort', () => reject(limit.signal.reason), { once: true })
    const late = setTimeout(
      () => limit.abort(new Error(`no reservation within ${lookupTimeoutMs} ms`)),
      lookupTimeoutMs,
    )
    try {
      // A look-up that does not heed its signal must not keep its place in flight either.
      return await Promise.race([aborted, this.#options.lookup(mac, asker, limit.signal)])
    } finally {
      clearTimeout(late)
    }
  }

  async #send(message: DhcpMessage, reply: DhcpMessage): Promise<void> {
    const to = destinationOf(message, reply)
    const port = to.role === 'server' ? this.port : (this.#options.clientPort ?? 68)
    const packet = encodeDhcp(reply)
    await new Promise<void>((resolve, reject) => {
      this.#answering.send(packet, port, to.address, (error) => (error ? reject(error) : resolve()))
    })
  }

  #drop(text: string): void {
    const suppressed = this.#mayTellDropped()
    if (suppressed !== undefined) this.#tell({ kind: 'dhcp.dropped', text, suppressed })
  }

  #tell(event: DhcpEvent): void {
    this.#options.onEvent({ ...event, text: printable(event.text) })
  }
}

type Request = { readonly message: DhcpMessage; readonly mac: string }

function readRequest(packet: Uint8Array): Request | { readonly problem: string } {
  try {
    const message = decodeDhcp(packet)
    const mac = macOf(message)
    if (message.op !== 'request') return { problem: 'a DHCP reply, which belongs to no server' }
    return mac === undefined ? { problem: 'a request from hardware that is not Ethernet' } : { message, mac }
  } catch (error) {
    if (error instanceof DhcpError) return { problem: error.message }
    throw error
  }
}

function eventOf(
  message: DhcpMessage,
  seen: { readonly mac: string; readonly client: DhcpClient },
  reservation: Reservation,
  decision: DhcpDecision,
): HostEvent {
  const { host, hostId, bootTarget } = reservation
  const named = host === undefined || hostId === undefined ? {} : { host, hostId }
  const { messageType } = message.options
  const event = { ...seen, kind: kindOf(messageType), ...named, bootTarget, answer: decision.answer }
  const said = `${host ?? seen.mac} (${seen.client.kind}, ${seen.client.arch}) sent ${messageType ?? 'a message without type'}${askedFor(message)}`
  if (decision.answer === 'none') {
    const { reason, otherServer } = decision
    return { ...event, ...(otherServer === undefined ? {} : { otherServer }), text: `${said}: ${reason}` }
  }
  if (decision.answer === 'nak') return { ...event, text: `${said} and was refused: ${decision.reason}` }
  const { yourAddress, clientAddress, options } = decision.reply
  // The answer to an INFORM gives no address, the client has one.
  const address = yourAddress === '0.0.0.0' ? clientAddress : yourAddress
  const bootFile = options.bootFile === undefined ? {} : { bootFile: options.bootFile }
  const given = `${address}${options.bootFile === undefined ? lackOfFile(seen.client, message) : ` and ${options.bootFile}`}`
  return { ...event, ...bootFile, address, text: `${said} and got the ${decision.answer} of ${given}` }
}

/** Clients that count the seconds they have been asking for come within an hour; some ROMs send other numbers there. */
const askedForSecondsMax = 3600

/** A first request that comes late is the trace of those that the network swallowed. */
function askedFor({ secondsElapsed }: DhcpMessage): string {
  return secondsElapsed === 0 || secondsElapsed > askedForSecondsMax ? '' : ` after ${secondsElapsed} s of asking`
}

function lackOfFile({ kind }: DhcpClient, { options: { architectures = [] } }: DhcpMessage): string {
  if (kind !== 'pxe' && kind !== 'http-boot') return ''
  const said = architectures.length === 0 ? 'it names none' : `option 93 says ${architectures.join(', ')}`
  return ` and no boot file: there is none for its architecture (${said})`
}

function kindOf(messageType: DhcpMessageType | undefined): HostEvent['kind'] {
  switch (messageType) {
    case 'discover':
    case 'request':
    case 'inform':
    case 'decline':
    case 'release':
      return `dhcp.${messageType}`
    case 'offer':
    case 'ack':
    case 'nak':
    case undefined:
      return 'dhcp.odd'
  }
}

function printable(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]/g, '?')
  return clean.length > textMax ? `${clean.slice(0, textMax - 3)}...` : clean
}
