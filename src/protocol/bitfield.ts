// Sets of pieces as BitTorrent writes them (BEP 3): one bit a piece, the first piece in the highest bit of the first byte,
// the spare bits at the end zero.

export function emptyBitfield(pieces: number): Buffer {
  return Buffer.alloc(Math.ceil(pieces / 8))
}

export function fullBitfield(pieces: number): Buffer {
  const bits = Buffer.alloc(Math.ceil(pieces / 8), 0xff)
  const spare = bits.length * 8 - pieces
  if (spare > 0) bits[bits.length - 1] = (0xff << spare) & 0xff
  return bits
}

export function hasBit(bits: Uint8Array, piece: number): boolean {
  return ((bits[piece >>> 3] ?? 0) & (0x80 >>> (piece & 7))) !== 0
}

export function setBit(bits: Uint8Array, piece: number, isSet: boolean): void {
  const mask = 0x80 >>> (piece & 7)
  const byte = bits[piece >>> 3] ?? 0
  bits[piece >>> 3] = isSet ? byte | mask : byte & ~mask
}

/** The pieces of the set, in ascending order. */
export function* bitsOf(bits: Uint8Array): Generator<number> {
  for (const [index, byte] of bits.entries()) {
    if (byte === 0) continue
    for (let bit = 0; bit < 8; bit++) if ((byte & (0x80 >>> bit)) !== 0) yield index * 8 + bit
  }
}

export function countBits(bits: Uint8Array): number {
  let count = 0
  for (let byte of bits) for (; byte !== 0; byte &= byte - 1) count++
  return count
}

/** True if `bits` has a piece that `other` has not. */
export function hasMoreThan(bits: Uint8Array, other: Uint8Array): boolean {
  return bits.some((byte, index) => (byte & ~(other[index] ?? 0)) !== 0)
}
