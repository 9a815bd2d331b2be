// A fake at the machine's edge: a wire to an IPMI controller that counts what goes over it and can lose it. For tests
// that must know how often a login was really tried.
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

/** RMCP+ payload types (IPMI 2.0 table 13-16); `ipmi` is every other packet. */
const payloadTypes: Readonly<Record<number, Packet>> = { 16: 'open-session', 18: 'rakp1', 20: 'rakp3' }
export type Packet = 'open-session' | 'rakp1' | 'rakp3' | 'ipmi'

/** Carries UDP to the controller at `target` (address:port). The caller closes it. */
export async function startIpmiRelay(target: string): Promise<IpmiRelay> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return new IpmiRelay(socket, target)
}

export class IpmiRelay {
  /** Packets from the client so far, the lost ones included. */
  readonly seen: Record<Packet, number> = { 'open-session': 0, rakp1: 0, rakp3: 0, ipmi: 0 }
  /** Packets from the client of these kinds are lost. */
  readonly losing = new Set<Packet>()
  readonly #socket: Socket
  /** One socket to the controller for each client, so that answers find back. */
  readonly #upstreams = new Map<number, Socket>()

  constructor(socket: Socket, target: string) {
    this.#socket = socket
    const [host, port] = target.split(':')
    socket.on('message', (message, client) => {
      const packet = kindOf(message)
      this.seen[packet] += 1
      if (this.losing.has(packet)) return
      let upstream = this.#upstreams.get(client.port)
      if (!upstream) {
        upstream = createSocket('udp4')
        upstream.on('message', (answer) => this.#socket.send(answer, client.port, client.address))
        this.#upstreams.set(client.port, upstream)
      }
      upstream.send(message, Number(port), host)
    })
  }

  get address(): string {
    const { address, port } = this.#socket.address()
    return `${address}:${port}`
  }

  close(): void {
    this.#socket.close()
    for (const upstream of this.#upstreams.values()) upstream.close()
  }
}

/** RMCP header: 4 bytes. Then authentication type 6 says RMCP+, and the payload type follows with two flag bits. */
function kindOf(message: Buffer): Packet {
  if (message[4] !== 0x06) return 'ipmi'
  return payloadTypes[(message[5] ?? 0) & 0x3f] ?? 'ipmi'
}
