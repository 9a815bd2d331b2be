// IPv4 addresses as numbers and back, for those who reckon with networks.

/** A dotted address as a number of 32 bits, not negative. */
export function ipv4Number(address: string): number {
  return address.split('.').reduce((value, part) => value * 256 + Number(part), 0)
}

/** The dotted address of the lowest 32 bits. */
export function dottedIpv4(bits: number): string {
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')
}
