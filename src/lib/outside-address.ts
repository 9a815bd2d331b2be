// Whether an address may be called on somebody else's word: not this machine itself, and nothing that only it can reach.
import { BlockList, isIP } from 'node:net'

const inside = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 3],
] as const) {
  inside.addSubnet(network, prefix, 'ipv4')
  // The same addresses as IPv6 has them: mapped, and translated (RFC 6052).
  inside.addSubnet(`::ffff:${network}`, 96 + prefix, 'ipv6')
  inside.addSubnet(`64:ff9b::${network}`, 96 + prefix, 'ipv6')
}
for (const [network, prefix] of [
  ['::', 127],
  ['fe80::', 10],
  ['ff00::', 8],
] as const) {
  inside.addSubnet(network, prefix, 'ipv6')
}

/** False for loopback, link-local, multicast and unspecified addresses, and for what is no address. */
export function isOutside(address: string): boolean {
  const family = isIP(address)
  return family !== 0 && !inside.check(address, family === 4 ? 'ipv4' : 'ipv6')
}
