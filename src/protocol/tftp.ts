// TFTP as bytes and as rules: the packets (RFC 1350), their options (RFC 2347, 2348, 2349, 7440), the netascii form, and
// the decisions of the side that sends a file. Sockets, timers and the clock belong to the caller.

/** The error codes on the wire (RFC 1350 section 5, RFC 2347 for the last one). */
export const tftpErrorCodes = {
  undefined: 0,
  notFound: 1,
  accessViolation: 2,
  illegalOperation: 4,
  unknownTransfer: 5,
  optionsRefused: 8,
} as const

/** A packet that is not TFTP, or asks for what TFTP forbids. `code` is what an ERROR packet in answer carries. */
export class TftpPacketError extends Error {
  readonly code: number

  constructor(message: string, code: number = tftpErrorCodes.illegalOperation) {
    super(message)
    this.name = 'TftpPacketError'
    this.code = code
  }
}

export type TftpMode = 'octet' | 'netascii'

/** Option names in lower case (RFC 2347: names and modes know no case), in the order of the packet. */
export type TftpOptions = ReadonlyMap<string, string>

export type TftpPacket =
  | { readonly op: 'read' | 'write'; readonly path: string; readonly mode: TftpMode; readonly options: TftpOptions }
  | { readonly op: 'data'; readonly block: number; readonly data: Uint8Array }
  | { readonly op: 'ack'; readonly block: number }
  | { readonly op: 'error'; readonly code: number; readonly message: string }
  | { readonly op: 'option-ack'; readonly options: TftpOptions }

/** RFC 2347: a request has at most 512 octets. */
export const requestBytesMax = 512

/** Characters of an ERROR's text that are kept or sent; a peer's longer text would only fill our events. */
export const errorTextMax = 200

/** Bytes before the data of a DATA packet. */
export const dataHeaderBytes = 4

const blksizeDefault = 512
const blksizeLeast = 8
const blksizeMost = 65_464

/** Reads one datagram. The data of a DATA packet is a view of it. Throws TftpPacketError, and nothing else. */
export function decodePacket(datagram: Uint8Array): TftpPacket {
  const { buffer, byteOffset, byteLength } = datagram
  const bytes = Buffer.isBuffer(datagram) ? datagram : Buffer.from(buffer, byteOffset, byteLength)
  if (bytes.length < 4) throw new TftpPacketError(`a packet of ${bytes.length} bytes is too short`)
  const op = bytes.readUInt16BE(0)
  switch (op) {
    case 1:
    case 2:
      return decodeRequest(bytes, op === 1 ? 'read' : 'write')
    case 3:
      return { op: 'data', block: bytes.readUInt16BE(2), data: bytes.subarray(dataHeaderBytes) }
    case 4:
      if (bytes.length !== 4) throw new TftpPacketError(`an ACK has 4 bytes, this one ${bytes.length}`)
      return { op: 'ack', block: bytes.readUInt16BE(2) }
    case 5:
      return { op: 'error', code: bytes.readUInt16BE(2), message: decodeErrorText(bytes) }
    case 6:
      if (bytes.length > requestBytesMax) throw new TftpPacketError(`an OACK of ${bytes.length} bytes is too long`)
      return { op: 'option-ack', options: decodeOptions(decodeStrings(bytes, 2)) }
    default:
      throw new TftpPacketError(`operation ${op} does not exist`)
  }
}

function decodeRequest(bytes: Buffer, op: 'read' | 'write'): TftpPacket {
  if (bytes.length > requestBytesMax) throw new TftpPacketError(`a request of ${bytes.length} bytes is too long`)
  const [path, mode, ...options] = decodeStrings(bytes, 2)
  if (path === undefined || mode === undefined) throw new TftpPacketError('the request names no file or no mode')
  if (path === '') throw new TftpPacketError('the request names an empty file name')
  const modeName = mode.toLowerCase()
  if (modeName !== 'octet' && modeName !== 'netascii') throw new TftpPacketError(`mode ${mode} is not served`)
  return { op, path, mode: modeName, options: decodeOptions(options) }
}

/** The NUL-ended strings from `start` on. Firmware that pads its request with NULs is tolerated: they name nothing. */
function decodeStrings(bytes: Buffer, start: number): string[] {
  let end = bytes.length
  if (end === start || bytes[end - 1] !== 0) throw new TftpPacketError('a text of the packet does not end with NUL')
  while (end - 2 >= start && bytes[end - 2] === 0) end--
  const strings = bytes.toString('latin1', start, end - 1).split('\0')
  // An option with an empty value looks like padding; it comes back as a name without its value.
  if (end < bytes.length && strings.length % 2 === 1) strings.push('')
  for (const string of strings) {
    if (!/^[\x20-\x7e]*$/.test(string)) throw new TftpPacketError('a text of the packet is not printable ASCII')
  }
  return strings
}

function decodeOptions(strings: readonly string[]): TftpOptions {
  if (strings.length % 2 !== 0) throw new TftpPacketError('an option has no value', tftpErrorCodes.optionsRefused)
  const options = new Map<string, string>()
  for (let i = 0; i < strings.length; i += 2) {
    const name = (strings[i] ?? '').toLowerCase()
    if (name === '') throw new TftpPacketError('an option has no name', tftpErrorCodes.optionsRefused)
    // RFC 2347: "An option may only be specified once."
    if (options.has(name)) throw new TftpPacketError(`option ${name} comes twice`, tftpErrorCodes.optionsRefused)
    options.set(name, strings[i + 1] ?? '')
  }
  return options
}

/** Some clients leave out the NUL, and the text goes into events: it is cut, and what is not printable becomes `?`. */
function decodeErrorText(bytes: Buffer): string {
  const end = bytes.indexOf(0, 4)
  const text = bytes.toString('latin1', 4, Math.min(end === -1 ? bytes.length : end, 4 + errorTextMax))
  return text.replaceAll(/[^\x20-\x7e]/g, '?')
}

/** Writes one packet; an ERROR's text is cut to `errorTextMax` characters of printable ASCII. */
export function encodePacket(packet: TftpPacket): Buffer {
  switch (packet.op) {
    case 'read':
    case 'write':
      return encodeStrings(packet.op === 'read' ? 1 : 2, [packet.path, packet.mode, ...[...packet.options].flat()])
    case 'data': {
      const bytes = Buffer.allocUnsafe(dataHeaderBytes + packet.data.length)
      writeDataHeader(bytes, 0, packet.block)
      bytes.set(packet.data, dataHeaderBytes)
      return bytes
    }
    case 'ack':
      return Buffer.of(0, 4, (packet.block >> 8) & 0xff, packet.block & 0xff)
    case 'error': {
      const text = packet.message.slice(0, errorTextMax).replaceAll(/[^\x20-\x7e]/g, '?')
      return Buffer.concat([Buffer.of(0, 5, packet.code >> 8, packet.code & 0xff), Buffer.from(`${text}\0`, 'latin1')])
    }
    case 'option-ack':
      return encodeStrings(6, [...packet.options].flat())
  }
}

function encodeStrings(op: number, strings: readonly string[]): Buffer {
  return Buffer.concat([Buffer.of(0, op), Buffer.from(strings.map((string) => `${string}\0`).join(''), 'latin1')])
}

/** Writes a DATA header at `at`. `block` counts from 1 without end; on the wire it has 16 bits and wraps to 0. */
export function writeDataHeader(bytes: Buffer, at: number, block: number): void {
  bytes[at] = 0
  bytes[at + 1] = 3
  bytes[at + 2] = (block >> 8) & 0xff
  bytes[at + 3] = block & 0xff
}

/** Netascii (RFC 1350 section 1, RFC 764): a line ends with CR LF, and a CR that ends no line is followed by NUL. */
export function toNetascii(bytes: Uint8Array): Buffer {
  const translated = Buffer.allocUnsafe(bytes.length * 2)
  let length = 0
  for (const byte of bytes) {
    if (byte === 0x0a) translated[length++] = 0x0d
    translated[length++] = byte
    if (byte === 0x0d) translated[length++] = 0
  }
  return translated.subarray(0, length)
}

/** What one transfer may use of memory and of the wire at once. */
export type OptionLimits = {
  readonly blksizeMax: number
  readonly windowsizeMax: number
  /** Bytes of one window; larger windows are granted with fewer blocks (RFC 7440 lets the server lower it). */
  readonly windowBytesMax: number
}

/** What a transfer goes by, and the options that the server acknowledges, with the values granted. */
export type Negotiated = {
  readonly blksize: number
  readonly windowsize: number
  /** Wait before a packet is sent again, if the client asked for one (RFC 2349). */
  readonly timeoutMs: number | undefined
  readonly acknowledged: TftpOptions
}

/**
 * Decides on the options of a read request. Unknown options and values out of range are not acknowledged, so the
 * client must go on without them (RFC 2347). `sizeBytes` is undefined where the size on the wire is not known before the
 * end, as in netascii.
 */
export function negotiate(asked: TftpOptions, sizeBytes: number | undefined, limits: OptionLimits): Negotiated {
  const acknowledged = new Map<string, string>()
  let blksize = blksizeDefault
  let windowsize = 1
  let timeoutMs: number | undefined

  const askedBlksize = decimal(asked.get('blksize'), blksizeLeast, blksizeMost)
  if (askedBlksize !== undefined) {
    blksize = Math.min(askedBlksize, limits.blksizeMax)
    acknowledged.set('blksize', String(blksize))
  }
  if (decimal(asked.get('tsize'), 0, Number.MAX_SAFE_INTEGER) !== undefined && sizeBytes !== undefined) {
    acknowledged.set('tsize', String(sizeBytes))
  }
  const seconds = decimal(asked.get('timeout'), 1, 255)
  if (seconds !== undefined) {
    timeoutMs = seconds * 1000
    acknowledged.set('timeout', String(seconds))
  }
  const askedWindowsize = decimal(asked.get('windowsize'), 1, 65_535)
  if (askedWindowsize !== undefined) {
    const fitting = Math.max(1, Math.floor(limits.windowBytesMax / blksize))
    windowsize = Math.min(askedWindowsize, limits.windowsizeMax, fitting)
    acknowledged.set('windowsize', String(windowsize))
  }
  return { blksize, windowsize, timeoutMs, acknowledged }
}

function decimal(text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined
  const value = Number(text)
  return value >= least && value <= most ? value : undefined
}

/**
 * The sending side of one transfer. Blocks are counted from 1 without end: the 16 bits of the wire are put back at the
 * edge, so that nothing here wraps.
 */
export type Sender = {
  readonly windowsize: number
  /** Timeouts in a row, without any progress between them, that end the transfer. */
  readonly retriesMax: number
  /** `offered`: our OACK waits for the client's ACK 0. */
  readonly phase: 'offered' | 'sending'
  /** The client has everything up to this block. */
  readonly acked: number
  /** The last block sent; never more than `windowsize` past `acked`. */
  readonly sent: number
  /** The last block whose bytes are in memory. */
  readonly ready: number
  /** The short block that ends the file, once it is known. */
  readonly last: number | undefined
  readonly retries: number
}

export type SenderAction =
  | { readonly do: 'wait' }
  | { readonly do: 'offer' }
  | { readonly do: 'send'; readonly first: number; readonly last: number }
  | { readonly do: 'finish' }
  | { readonly do: 'give-up' }

export type SenderStep = { readonly sender: Sender; readonly action: SenderAction }

const wait: SenderAction = { do: 'wait' }
const offer: SenderAction = { do: 'offer' }

/** A transfer that has sent nothing; `offers`: options are acknowledged first, by an OACK that the client answers. */
export function startSender(options: { windowsize: number; retriesMax: number; offers: boolean }): SenderStep {
  const { windowsize, retriesMax, offers } = options
  const phase = offers ? 'offered' : 'sending'
  const sender: Sender = { windowsize, retriesMax, phase, acked: 0, sent: 0, ready: 0, last: undefined, retries: 0 }
  return { sender, action: offers ? offer : wait }
}

/** The bytes up to block `ready` are in memory; `last` is the final block, once it is among them. */
export function onReady(sender: Sender, ready: number, last: number | undefined): SenderStep {
  return advance({ ...sender, ready, last })
}

/**
 * The client acknowledged `block` (16 bits). An ACK inside the window says that what follows it was lost (RFC 7440
 * section 4), so the next window starts right behind it. An ACK that moves nothing is a copy of one already acted on:
 * answering it would double every packet from then on (the Sorcerer's Apprentice, RFC 1123 section 4.2.3.1).
 */
export function onAck(sender: Sender, block: number): SenderStep {
  if (sender.phase === 'offered') {
    if (block !== 0) return { sender, action: wait }
    return advance({ ...sender, phase: 'sending', retries: 0 })
  }
  const ahead = (block - sender.acked) & 0xffff
  if (ahead === 0 || ahead > sender.sent - sender.acked) return { sender, action: wait }
  const acked = sender.acked + ahead
  return advance({ ...sender, acked, sent: acked, retries: 0 })
}

/** Nothing was heard for `retryDelayMs`: what is on its way goes out again, until `retriesMax` of them moved nothing. */
export function onTimeout(sender: Sender): SenderStep {
  // With nothing on its way it is our own disk that is awaited, which is not the client's fault.
  if (sender.phase === 'sending' && sender.sent === sender.acked) return { sender, action: wait }
  if (sender.retries >= sender.retriesMax) return { sender, action: { do: 'give-up' } }
  const again = { ...sender, retries: sender.retries + 1 }
  if (sender.phase === 'offered') return { sender: again, action: offer }
  return { sender: again, action: { do: 'send', first: sender.acked + 1, last: sender.sent } }
}

function advance(sender: Sender): SenderStep {
  if (sender.phase === 'offered') return { sender, action: wait }
  if (sender.acked === sender.last) return { sender, action: { do: 'finish' } }
  const last = Math.min(sender.acked + sender.windowsize, sender.ready)
  if (last <= sender.sent) return { sender, action: wait }
  return { sender: { ...sender, sent: last }, action: { do: 'send', first: sender.sent + 1, last } }
}

/** How long to wait for an answer after `retries` timeouts in a row: doubled each time, up to `mostMs`. */
export function retryDelayMs(retries: number, options: { firstMs: number; mostMs: number }): number {
  return Math.max(options.firstMs, Math.min(options.firstMs * 2 ** retries, options.mostMs))
}
