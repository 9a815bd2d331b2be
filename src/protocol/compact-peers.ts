// Addresses and peers as fixed runs of bytes: 6 a peer with IPv4 (BEP 23), 18 with IPv6 (BEP 7), and 38 in our own routes,
// which also name the peer id and have one form for both families.
import { isIPv4, isIPv6 } from 'node:net'

export type Endpoint = { readonly ip: string; readonly port: number }

/** Who is meant, and where it listens. `peerId` has 40 hex digits. */
export type NamedEndpoint = Endpoint & { readonly peerId: string }

const ipv4Bytes = 6
const ipv6Bytes = 18
const namedBytes = 38

/** An IPv4 address inside an IPv6 one (RFC 4291, 2.5.5.2), as sockets of both families give it. */
const mapped = Buffer.from('00000000000000000000ffff', 'hex')

/** The 4 or 16 bytes of an address in text. Throws when it is none. */
export function ipBytes(ip: string): Buffer {
  if (isIPv4(ip)) return Buffer.from(ip.split('.').map(Number))
  if (!isIPv6(ip) || ip.includes('%')) throw new Error(`${JSON.stringify(ip.slice(0, 60))} is no IP address`)
  // The last 32 bits may stand as an IPv4 address.
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(ip)
  const text = dotted === null ? ip : `${dotted[1]}${hexPair(dotted[2], dotted[3])}:${hexPair(dotted[4], dotted[5])}`
  const [left = '', right] = text.split('::')
  const head = groupsOf(left)
  const tail = groupsOf(right ?? '')
  const gap = right === undefined ? [] : Array.from({ length: 8 - head.length - tail.length }, () => 0)
  const bytes = Buffer.alloc(16)
  for (const [index, group] of [...head, ...gap, ...tail].entries()) bytes.writeUInt16BE(group, index * 2)
  return bytes
}

function hexPair(high: string | undefined, low: string | undefined): string {
  return (Number(high) * 256 + Number(low)).toString(16)
}

function groupsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
}

/** The text of an address of 4 or 16 bytes; IPv6 as RFC 5952 writes it, a mapped IPv4 address as IPv4. */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.length !== 16) throw new Error(`an IP address has 4 or 16 bytes, not ${bytes.length}`)
  if (mapped.equals(bytes.subarray(0, 12))) return bytes.subarray(12).join('.')
  const groups = Array.from({ length: 8 }, (_, at) => (bytes[at * 2] ?? 0) * 256 + (bytes[at * 2 + 1] ?? 0))
  let [from, length] = [0, 0]
  for (let at = 0, run = 0; at < 8; at++) {
    run = groups[at] === 0 ? run + 1 : 0
    if (run > length) [from, length] = [at - run + 1, run]
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':')
  return length < 2 ? text(groups) : `${text(groups.slice(0, from))}::${text(groups.slice(from + length))}`
}

/** Peers by family: the values of `peers` and `peers6` in an answer. */
export function encodeEndpoints(peers: readonly Endpoint[]): { readonly ipv4: Buffer; readonly ipv6: Buffer } {
  const [ipv4, ipv6]: [Buffer[], Buffer[]] = [[], []]
  for (const { ip, port } of peers) {
    const address = ipBytes(ip)
    const family = address.length === 4 ? ipv4 : ipv6
    family.push(address, portBytes(port))
  }
  return { ipv4: Buffer.concat(ipv4), ipv6: Buffer.concat(ipv6) }
}

export function decodeEndpoints(bytes: Buffer, family: 'ipv4' | 'ipv6'): Endpoint[] {
  const size = family === 'ipv4' ? ipv4Bytes : ipv6Bytes
  return runs(bytes, size).map((run) => ({ ip: ipText(run.subarray(0, -2)), port: run.readUInt16BE(size - 2) }))
}

/** 20 bytes peer id, 16 address, 2 port for each. */
export function encodeNamedEndpoints(peers: readonly NamedEndpoint[]): Buffer {
  return Buffer.concat(
    peers.flatMap(({ peerId, ip, port }) => {
      const address = ipBytes(ip)
      return [Buffer.from(peerId, 'hex'), ...(address.length === 4 ? [mapped] : []), address, portBytes(port)]
    }),
  )
}

export function decodeNamedEndpoints(bytes: Buffer): NamedEndpoint[] {
  return runs(bytes, namedBytes).map((run) => ({
    peerId: run.toString('hex', 0, 20),
    ip: ipText(run.subarray(20, 36)),
    port: run.readUInt16BE(36),
  }))
}

function portBytes(port: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(port)
  return bytes
}

function runs(bytes: Buffer, size: number): Buffer[] {
  if (bytes.length % size !== 0) throw new Error(`${bytes.length} bytes are no list of peers with ${size} bytes each`)
  return Array.from({ length: bytes.length / size }, (_, at) => bytes.subarray(at * size, (at + 1) * size))
}
