// A DHCP message between bytes and plain data: the frame of RFC 2131; the options inside it are dhcp-options.ts. It owns no
// socket and holds no rule of who gets what: src/boot/dhcp-answer.ts decides that.
import {
  addressBytes,
  concat,
  DhcpError,
  type DhcpOptions,
  fromLatin1,
  latin1,
  numberBytes,
  padded,
  readOptions,
  writeOptions,
} from './dhcp-options.ts'

/**
 * One message. Addresses are dotted IPv4 (`0.0.0.0` where the sender left it empty). Text is Latin-1, one character a
 * byte, so that whatever a firmware sends is kept.
 */
export type DhcpMessage = {
  readonly op: 'request' | 'reply'
  /** 1 is Ethernet (IANA hardware types). */
  readonly hardwareType: number
  /** Lower-case hex with colons, at most 16 bytes, `''` when the sender has none. */
  readonly hardwareAddress: string
  readonly hops: number
  readonly transactionId: number
  readonly secondsElapsed: number
  /** The client cannot yet receive unicast and asks for a broadcast answer. */
  readonly broadcast: boolean
  /** `ciaddr`: the address the client has and answers ARP for. */
  readonly clientAddress: string
  /** `yiaddr`: the address the client is given. */
  readonly yourAddress: string
  /** `siaddr`: the server of the next step, the TFTP server. */
  readonly nextServer: string
  /** `giaddr`: the relay agent. */
  readonly relayAddress: string
  /** `sname`, at most 63 characters. */
  readonly serverName: string
  /** `file`, at most 127 characters. */
  readonly bootFile: string
  readonly options: DhcpOptions
}

const fixedFieldsBytes = 236
const magicCookie = 0x63825363
/** BOOTP's minimum (RFC 951): some relays and ROMs drop anything shorter. */
const packetBytesMin = 300
/** Far over any Ethernet frame: what is larger is no client of ours, and reading it would only cost time. */
const packetBytesMax = 4096
const hardwareAddressBytesMax = 16

/** Reads a packet. Throws DhcpError for anything that is not a DHCP or BOOTP message with options. */
export function decodeDhcp(packet: Uint8Array): DhcpMessage {
  if (packet.length < fixedFieldsBytes + 4) throw new DhcpError(`${packet.length} bytes are too few for DHCP`)
  if (packet.length > packetBytesMax)
    throw new DhcpError(`${packet.length} bytes are over the ${packetBytesMax} allowed`)
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  if (view.getUint32(fixedFieldsBytes) !== magicCookie) throw new DhcpError('the DHCP magic cookie is missing')
  const [op, hardwareType, hardwareAddressBytes] = [view.getUint8(0), view.getUint8(1), view.getUint8(2)]
  if (op !== 1 && op !== 2) throw new DhcpError(`op is ${op}, neither request nor reply`)
  if (hardwareAddressBytes > hardwareAddressBytesMax) {
    throw new DhcpError(`a hardware address of ${hardwareAddressBytes} bytes does not fit its field`)
  }
  const address = (start: number) => packet.subarray(start, start + 4).join('.')
  const fields = {
    serverName: packet.subarray(44, 108),
    bootFile: packet.subarray(108, fixedFieldsBytes),
    options: packet.subarray(fixedFieldsBytes + 4),
  }
  const { options, overload } = readOptions(fields)
  return {
    op: op === 1 ? 'request' : 'reply',
    hardwareType,
    hardwareAddress: hexWithColons(packet.subarray(28, 28 + hardwareAddressBytes)),
    hops: view.getUint8(3),
    transactionId: view.getUint32(4),
    secondsElapsed: view.getUint16(8),
    broadcast: (view.getUint16(10) & 0x8000) !== 0,
    clientAddress: address(12),
    yourAddress: address(16),
    nextServer: address(20),
    relayAddress: address(24),
    serverName: overload.serverName ? '' : untilNul(fields.serverName),
    bootFile: overload.bootFile ? '' : untilNul(fields.bootFile),
    options,
  }
}

/** Writes a packet of 300 to 4096 bytes. Throws DhcpError when a value does not fit its field or all not the packet. */
export function encodeDhcp(message: DhcpMessage): Uint8Array {
  const hardwareAddress = fromHexWithColons(message.hardwareAddress)
  const head = concat([
    Uint8Array.of(message.op === 'request' ? 1 : 2),
    numberBytes(message.hardwareType, 1),
    Uint8Array.of(hardwareAddress.length),
    numberBytes(message.hops, 1),
    numberBytes(message.transactionId, 4),
    numberBytes(message.secondsElapsed, 2),
    numberBytes(message.broadcast ? 0x8000 : 0, 2),
    addressBytes(message.clientAddress),
    addressBytes(message.yourAddress),
    addressBytes(message.nextServer),
    addressBytes(message.relayAddress),
    padded(hardwareAddress, hardwareAddressBytesMax),
    fieldOfText(message.serverName, 64),
    fieldOfText(message.bootFile, 128),
    numberBytes(magicCookie, 4),
  ])
  const packet = concat([head, ...writeOptions(message.options)])
  if (packet.length > packetBytesMax)
    throw new DhcpError(`${packet.length} bytes are over the ${packetBytesMax} allowed`)
  return padded(packet, Math.max(packet.length, packetBytesMin))
}

/** ROMs expect the NUL at the end, so a field holds one character less than it has bytes. */
function fieldOfText(text: string, sizeBytes: number): Uint8Array {
  if (text.length >= sizeBytes) throw new DhcpError(`'${text}' does not fit into a field of ${sizeBytes} bytes`)
  return padded(fromLatin1(text), sizeBytes)
}

function untilNul(field: Uint8Array): string {
  return latin1(field).replace(/\0.*$/s, '')
}

function hexWithColons(raw: Uint8Array): string {
  return Buffer.from(raw)
    .toString('hex')
    .replace(/..(?=.)/g, '$&:')
}

function fromHexWithColons(value: string): Uint8Array {
  const pairs = value === '' ? [] : value.split(':')
  if (pairs.length > hardwareAddressBytesMax || pairs.some((pair) => !/^[0-9a-f]{2}$/.test(pair))) {
    throw new DhcpError(`'${value}' is not a hardware address`)
  }
  return Uint8Array.from(pairs, (pair) => Number.parseInt(pair, 16))
}
