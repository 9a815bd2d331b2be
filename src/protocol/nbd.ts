// The NBD protocol (NetworkBlockDevice, doc/proto.md) as far as a client needs it that reads one export: fixed newstyle
// handshake by NBD_OPT_EXPORT_NAME, reads with simple replies. No sockets.

/** The server's greeting: two magics and its flags. */
export const greetingBytes = 18
/** What comes after the client's answer: the size of the export and its flags. */
export const exportBytes = 10
export const replyBytes = 16

const optionMagic = 0x49484156454f5054n
const fixedNewstyle = 1
const noZeroes = 2

/** Throws when this is not the greeting of a server that speaks the fixed newstyle handshake without padding. */
export function checkGreeting(bytes: Buffer): void {
  const isNbd = bytes.toString('latin1', 0, 8) === 'NBDMAGIC' && bytes.readBigUInt64BE(8) === optionMagic
  const flags = bytes.readUInt16BE(16)
  if (!isNbd || (flags & fixedNewstyle) === 0 || (flags & noZeroes) === 0) throw new Error('not an NBD server of today')
}

/** The client's flags and its wish for the default export. */
export function encodeHello(): Buffer {
  const hello = Buffer.alloc(4 + 16)
  hello.writeUInt32BE(fixedNewstyle | noZeroes, 0)
  hello.writeBigUInt64BE(optionMagic, 4)
  hello.writeUInt32BE(1, 12)
  hello.writeUInt32BE(0, 16)
  return hello
}

/** The size of the export in bytes. */
export function decodeExport(bytes: Buffer): number {
  return Number(bytes.readBigUInt64BE(0))
}

export function encodeRead(handle: number, offset: number, length: number): Buffer {
  const request = Buffer.alloc(28)
  request.writeUInt32BE(0x25609513, 0)
  request.writeBigUInt64BE(BigInt(handle), 8)
  request.writeBigUInt64BE(BigInt(offset), 16)
  request.writeUInt32BE(length, 24)
  return request
}

/** The head of a reply; the bytes that were read follow it unless `error`, an errno, is not zero. */
export function decodeReply(bytes: Buffer): { readonly handle: number; readonly error: number } {
  if (bytes.readUInt32BE(0) !== 0x67446698) throw new Error('not a simple NBD reply')
  return { error: bytes.readUInt32BE(4), handle: Number(bytes.readBigUInt64BE(8)) }
}
