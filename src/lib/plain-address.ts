// The address of who is at the other end of a socket, as people write it.

/** An IPv4 address that came in by an IPv6 socket, without the prefix that says so (RFC 4291, 2.5.5.2). */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:/, '')
}
