// What the tests of the TFTP server speak to it with: a client that knows windows and can be told to misbehave, and a
// network that loses, doubles and reorders datagrams by a seed, so that a failure can be seen again.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { decodePacket, encodePacket, type TftpMode, type TftpOptions, type TftpPacket } from '../protocol/tftp.ts'

export type Heard = { readonly packet: TftpPacket; readonly from: RemoteInfo }

/** Opens a client on a free port of 127.0.0.1, or on the one given. */
export async function openTestClient(serverPort: number, ownPort = 0): Promise<TestClient> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.bind(ownPort, '127.0.0.1', resolve))
  return new TestClient(socket, serverPort)
}

export class TestClient {
  readonly port: number
  readonly #socket: Socket
  readonly #serverPort: number
  readonly #heard: Heard[] = []
  #wake: (() => void) | undefined

  constructor(socket: Socket, serverPort: number) {
    this.#socket = socket
    this.#serverPort = serverPort
    this.port = socket.address().port
    socket.on('message', (datagram, from) => {
      this.#heard.push({ packet: decodePacket(datagram), from })
      this.#wake?.()
    })
  }

  send(packet: TftpPacket | Uint8Array, toPort = this.#serverPort): void {
    this.#socket.send(packet instanceof Uint8Array ? packet : encodePacket(packet), toPort, '127.0.0.1')
  }

  ask(path: string, options: Record<string, string | number> = {}, mode: TftpMode = 'octet'): void {
    const texts = Object.entries(options).map(([name, value]) => [name, String(value)] as const)
    this.send({ op: 'read', path, mode, options: new Map(texts) })
  }

  /** What has come and was not taken by `next`. */
  get waiting(): readonly Heard[] {
    return this.#heard
  }

  /** The next packet; undefined when none comes for `withinMs`. */
  async next(withinMs = 5000): Promise<Heard | undefined> {
    if (this.#heard.length === 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, withinMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wake = undefined
    }
    return this.#heard.shift()
  }

  /** The next packet, which must have this operation. */
  async expect<Op extends TftpPacket['op']>(op: Op): Promise<{ packet: TftpPacket & { op: Op }; from: RemoteInfo }> {
    const heard = await this.next()
    if (heard?.packet.op !== op) throw new Error(`wanted ${op}, heard ${JSON.stringify(heard?.packet)}`)
    return { packet: heard.packet as TftpPacket & { op: Op }, from: heard.from }
  }

  /**
   * Fetches a whole file as RFC 7440 has it; asks and acknowledges again after `patienceMs` of silence. The last ACK
   * may be lost on the way, so the client stays and repeats it until `isDone`, or until it is closed.
   */
  async fetch(
    path: string,
    options: Record<string, string | number> = {},
    how: { mode?: TftpMode; patienceMs?: number; isDone?: () => boolean } = {},
  ): Promise<{ readonly bytes: Buffer; readonly granted: TftpOptions; readonly dataHeard: number }> {
    const taken: Uint8Array[] = []
    let granted: TftpOptions = new Map()
    let blksize = 512
    let windowsize = 1
    let inWindow = 0
    let toPort: number | undefined
    let isWhole = false
    let dataHeard = 0
    const acknowledge = () => {
      inWindow = 0
      this.send({ op: 'ack', block: taken.length & 0xffff }, toPort)
    }
    this.ask(path, options, how.mode)
    while (!isWhole || how.isDone?.() === false) {
      const heard = await this.next(how.patienceMs ?? 5000)
      if (heard === undefined) {
        if (toPort === undefined) this.ask(path, options, how.mode)
        else acknowledge()
        continue
      }
      toPort ??= heard.from.port
      const { packet } = heard
      if (packet.op === 'error') throw new Error(`error ${packet.code}: ${packet.message}`)
      if (packet.op === 'option-ack') {
        granted = packet.options
        blksize = Number(granted.get('blksize') ?? 512)
        windowsize = Number(granted.get('windowsize') ?? 1)
        if (taken.length === 0) acknowledge()
      } else if (packet.op === 'data') {
        dataHeard++
        if (!isWhole && packet.block === ((taken.length + 1) & 0xffff)) {
          taken.push(Uint8Array.from(packet.data))
          inWindow++
          isWhole = packet.data.length < blksize
          if (isWhole || inWindow === windowsize) acknowledge()
        } else acknowledge()
      }
    }
    return { bytes: Buffer.concat(taken), granted, dataHeard }
  }

  close(): void {
    this.#socket.close()
  }
}

/** In percent of the datagrams. A swapped one comes after the next of its direction. */
export type Faults = { readonly drop: number; readonly double: number; readonly swap: number }

/** A swapped datagram that nothing follows comes this late. */
const heldMs = 5

/** Deterministic numbers in [0, 1) (mulberry32). */
function randomBySeed(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d_2b_79_f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/**
 * Stands between clients and the server on 127.0.0.1, with a pair of sockets per client so that both see one stable
 * port. `sparesHandshake`: requests and the first packet of each direction are passed on whole.
 */
export async function startBadNetwork(options: {
  serverPort: number
  seed: number
  faults: Faults
  sparesHandshake: boolean
}): Promise<BadNetwork> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  return new BadNetwork(socket, options)
}

export class BadNetwork {
  readonly port: number
  /** Datagrams that came from the server to be passed on. */
  fromServer = 0
  readonly #options: { serverPort: number; seed: number; faults: Faults; sparesHandshake: boolean }
  readonly #random: () => number
  readonly #sockets: Socket[]
  readonly #held = new Set<NodeJS.Timeout>()
  readonly #ways = new Map<number, Promise<(datagram: Buffer) => void>>()

  constructor(socket: Socket, options: { serverPort: number; seed: number; faults: Faults; sparesHandshake: boolean }) {
    this.port = socket.address().port
    this.#options = options
    this.#random = randomBySeed(options.seed)
    this.#sockets = [socket]
    socket.on('message', (datagram, from) => {
      const way = this.#ways.get(from.port) ?? this.#openWay(from.port)
      this.#ways.set(from.port, way)
      void way.then((request) => request(datagram))
    })
  }

  async #openWay(clientPort: number): Promise<(datagram: Buffer) => void> {
    const [towardsServer, towardsClient] = [createSocket('udp4'), createSocket('udp4')]
    this.#sockets.push(towardsServer, towardsClient)
    for (const socket of [towardsServer, towardsClient]) {
      await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
    }
    let transferPort = this.#options.serverPort
    const up = this.#badly((datagram) => towardsServer.send(datagram, transferPort, '127.0.0.1'))
    const down = this.#badly((datagram) => towardsClient.send(datagram, clientPort, '127.0.0.1'))
    towardsServer.on('message', (datagram, from) => {
      transferPort = from.port
      this.fromServer++
      down(datagram)
    })
    towardsClient.on('message', up)
    const ask = (datagram: Buffer) => towardsServer.send(datagram, this.#options.serverPort, '127.0.0.1')
    return this.#badly(ask)
  }

  #badly(pass: (datagram: Buffer) => void): (datagram: Buffer) => void {
    const { drop, double, swap } = this.#options.faults
    let isSpared = this.#options.sparesHandshake
    let held: { datagram: Buffer; timer: NodeJS.Timeout } | undefined
    const release = () => {
      if (held === undefined) return
      clearTimeout(held.timer)
      this.#held.delete(held.timer)
      pass(held.datagram)
      held = undefined
    }
    return (datagram) => {
      if (isSpared) {
        isSpared = false
        pass(datagram)
        return
      }
      const fate = this.#random() * 100
      if (fate < drop) return
      if (fate < drop + swap && held === undefined) {
        const timer = setTimeout(release, heldMs)
        this.#held.add(timer)
        held = { datagram, timer }
        return
      }
      pass(datagram)
      if (fate >= 100 - double) pass(datagram)
      release()
    }
  }

  close(): void {
    for (const timer of this.#held) clearTimeout(timer)
    for (const socket of this.#sockets) socket.close()
  }
}
