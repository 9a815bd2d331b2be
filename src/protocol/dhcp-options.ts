// The options of a DHCP message between bytes and named values: RFC 2132, 3004 (user class), 3046 (relay agent), 3396 (long
// options), 3397 (domain search), 4578 (PXE architecture and machine identifier). The frame around them is dhcp.ts.

/** The one error this codec throws: the packet is not a DHCP message, or the message does not fit into a packet. */
export class DhcpError extends Error {
  override readonly name = 'DhcpError'
}

export const dhcpMessageTypes = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'] as const
export type DhcpMessageType = (typeof dhcpMessageTypes)[number]

type OptionFormat<T> = {
  /** `undefined`: these bytes are not such a value. */
  readonly read: (bytes: Uint8Array) => T | undefined
  readonly write: (value: T) => Uint8Array
}

const padOption = 0
const endOption = 255
const overloadOption = 52
/** More search domains than anyone has; a packet of pointers could else name one long name thousands of times. */
const domainsMax = 32

const bytes: OptionFormat<Uint8Array> = { read: (raw) => raw, write: (value) => value }

const text: OptionFormat<string> = {
  // RFC 2132 section 2: a receiver must cope with trailing NULs, which some firmware sends.
  read: (raw) => latin1(raw).replace(/\0+$/, '') || undefined,
  write: (value) => fromLatin1(value),
}

const address: OptionFormat<string> = {
  read: (raw) => (raw.length === 4 ? raw.join('.') : undefined),
  write: (value) => addressBytes(value),
}

const addresses: OptionFormat<readonly string[]> = {
  read: (raw) => chunks(raw, 4)?.map((chunk) => chunk.join('.')),
  write: (values) => concat(values.map(addressBytes)),
}

const codes: OptionFormat<readonly number[]> = {
  read: (raw) => (raw.length > 0 ? [...raw] : undefined),
  write: (values) => concat(values.map((value) => numberBytes(value, 1))),
}

const words: OptionFormat<readonly number[]> = {
  read: (raw) => chunks(raw, 2)?.map(bigEndian),
  write: (values) => concat(values.map((value) => numberBytes(value, 2))),
}

function number(sizeBytes: 1 | 2 | 4): OptionFormat<number> {
  return {
    read: (raw) => (raw.length === sizeBytes ? bigEndian(raw) : undefined),
    write: (value) => numberBytes(value, sizeBytes),
  }
}

const messageType: OptionFormat<DhcpMessageType> = {
  read: (raw) => (raw.length === 1 ? dhcpMessageTypes[bigEndian(raw) - 1] : undefined),
  write: (value) => Uint8Array.of(dhcpMessageTypes.indexOf(value) + 1),
}

const userClasses: OptionFormat<readonly string[]> = {
  // RFC 3004 frames each class with its length. iPXE and older Microsoft clients send the bare text instead, so what does
  // not add up as frames is one class.
  read: (raw) => framedTexts(raw) ?? (raw.length > 0 ? [latin1(raw)] : undefined),
  write: (values) => concat(values.map((value) => concat([numberBytes(value.length, 1), fromLatin1(value)]))),
}

const domains: OptionFormat<readonly string[]> = {
  read: readDomains,
  write: (values) => concat(values.map(domainBytes)),
}

// The order is the order on the wire: the message type first, because some ROMs look for it only there.
const optionTable = {
  messageType: { code: 53, ...messageType },
  serverId: { code: 54, ...address },
  requestedAddress: { code: 50, ...address },
  leaseSeconds: { code: 51, ...number(4) },
  subnetMask: { code: 1, ...address },
  router: { code: 3, ...addresses },
  dns: { code: 6, ...addresses },
  hostName: { code: 12, ...text },
  domainName: { code: 15, ...text },
  mtuBytes: { code: 26, ...number(2) },
  broadcastAddress: { code: 28, ...address },
  ntp: { code: 42, ...addresses },
  domainSearch: { code: 119, ...domains },
  parameters: { code: 55, ...codes },
  message: { code: 56, ...text },
  /** Largest IP datagram the client takes, headers included. */
  packetBytesMax: { code: 57, ...number(2) },
  vendorClass: { code: 60, ...text },
  /** Sub-options in the vendor class's own format; PXE's are code, length, value. */
  vendorOptions: { code: 43, ...bytes },
  clientId: { code: 61, ...bytes },
  tftpServer: { code: 66, ...text },
  bootFile: { code: 67, ...text },
  userClasses: { code: 77, ...userClasses },
  /** RFC 4578 section 2.1: what the firmware can start. */
  architectures: { code: 93, ...words },
  networkInterface: { code: 94, ...bytes },
  /** RFC 4578 section 2.3: a type byte, 0, and the 16 bytes of the SMBIOS UUID. */
  machineId: { code: 97, ...bytes },
  /** iPXE's own sub-options (code, length, value). */
  ipxe: { code: 175, ...bytes },
  relayAgent: { code: 82, ...bytes },
}

type OptionName = keyof typeof optionTable
type OptionValue<K extends OptionName> = NonNullable<ReturnType<(typeof optionTable)[K]['read']>>

/**
 * The options by name. An option that has no name here, or whose bytes are not what its name promises, is in `other`
 * under its code: a ROM's odd option must not cost the machine its boot.
 */
export type DhcpOptions = { readonly [K in OptionName]?: OptionValue<K> | undefined } & {
  readonly other?: ReadonlyMap<number, Uint8Array> | undefined
}

const optionNames = Object.keys(optionTable) as OptionName[] // Object.keys of a literal gives exactly its keys.
const nameOfCode = new Map(optionNames.map((name) => [optionTable[name].code, name]))

type OptionFields = { readonly options: Uint8Array; readonly bootFile: Uint8Array; readonly serverName: Uint8Array }
type Overload = { readonly bootFile: boolean; readonly serverName: boolean }

/**
 * Reads the options of a packet's options field, and of its file and server name fields where option 52 says that they
 * hold options. Throws DhcpError when an option runs past the end of its field.
 */
export function readOptions(fields: OptionFields): { options: DhcpOptions; overload: Overload } {
  const parts = new Map<number, Uint8Array[]>()
  collectOptions(fields.options, parts)
  const overloaded = parts.get(overloadOption)?.[0]?.[0] ?? 0
  const overload = { bootFile: overloaded === 1 || overloaded === 3, serverName: overloaded === 2 || overloaded === 3 }
  // RFC 3396 section 5: the parts of one option are joined in the order options, file, sname.
  if (overload.bootFile) collectOptions(fields.bootFile, parts)
  if (overload.serverName) collectOptions(fields.serverName, parts)
  parts.delete(overloadOption)
  const named: Record<string, unknown> = {}
  const other = new Map<number, Uint8Array>()
  for (const [code, list] of parts) {
    const raw = concat(list)
    const name = nameOfCode.get(code)
    const value = name === undefined ? undefined : optionTable[name].read(raw)
    if (name === undefined || value === undefined) other.set(code, raw)
    else named[name] = value
  }
  // Each value came from the reader of its own name, which is what DhcpOptions says of it.
  const options = named as DhcpOptions
  return { options: other.size > 0 ? { ...options, other } : options, overload }
}

function collectOptions(field: Uint8Array, into: Map<number, Uint8Array[]>): void {
  for (let i = 0; i < field.length; ) {
    const code = field[i]
    if (code === undefined || code === endOption) return
    if (code === padOption) {
      i += 1
      continue
    }
    const sizeBytes = field[i + 1]
    if (sizeBytes === undefined || i + 2 + sizeBytes > field.length) {
      throw new DhcpError(`option ${code} runs past the end of its field`)
    }
    const value = field.subarray(i + 2, i + 2 + sizeBytes)
    const list = into.get(code)
    if (list) list.push(value)
    else into.set(code, [value])
    i += 2 + sizeBytes
  }
}

/** The options as the parts of an options field, end mark included. Throws DhcpError when a value does not fit. */
export function writeOptions(options: DhcpOptions): Uint8Array[] {
  const { relayAgent, other = new Map<number, Uint8Array>(), ...front } = options
  const named = optionNames.flatMap((name) => {
    const value = name === 'relayAgent' ? undefined : front[name]
    // `value` has the type that the writer of the same name takes; TypeScript cannot follow the pair through the union.
    return value === undefined ? [] : splitOption(optionTable[name].code, optionTable[name].write(value as never))
  })
  const others = [...other].flatMap(([code, value]) => splitOption(code, value))
  // RFC 3046 section 2.1: the relay agent's option is the last one.
  const last = relayAgent === undefined ? [] : splitOption(optionTable.relayAgent.code, relayAgent)
  return [...named, ...others, ...last, Uint8Array.of(endOption)]
}

/** RFC 3396 section 7: a value over 255 bytes goes into several options of one code, one after the other. */
function splitOption(code: number, value: Uint8Array): Uint8Array[] {
  if (!Number.isInteger(code) || code <= padOption || code >= endOption || code === overloadOption) {
    throw new DhcpError(`${code} is not the code of an option that can be written`)
  }
  const parts: Uint8Array[] = []
  for (let i = 0; i === 0 || i < value.length; i += 255) {
    const part = value.subarray(i, i + 255)
    parts.push(Uint8Array.of(code, part.length), part)
  }
  return parts
}

function framedTexts(raw: Uint8Array): string[] | undefined {
  const texts: string[] = []
  for (let i = 0; i < raw.length; ) {
    const sizeBytes = raw[i] ?? 0
    if (sizeBytes === 0 || i + 1 + sizeBytes > raw.length) return undefined
    texts.push(latin1(raw.subarray(i + 1, i + 1 + sizeBytes)))
    i += 1 + sizeBytes
  }
  return texts.length > 0 ? texts : undefined
}

/** RFC 3397: names of RFC 1035 labels, where a pointer may only lead backwards, so that no packet can make a circle. */
function readDomains(raw: Uint8Array): readonly string[] | undefined {
  const names: string[] = []
  for (let at = 0; at < raw.length; ) {
    const name = readDomain(raw, at)
    if (name === undefined || names.length === domainsMax) return undefined
    names.push(name.labels.join('.'))
    at = name.end
  }
  return names.length > 0 ? names : undefined
}

function readDomain(raw: Uint8Array, start: number): { labels: string[]; end: number } | undefined {
  const labels: string[] = []
  let end: number | undefined
  let earliest = start
  let lengthBytes = 0
  for (let at = start; ; ) {
    const sizeBytes = raw[at]
    if (sizeBytes === undefined) return undefined
    if (sizeBytes === 0) return labels.length > 0 ? { labels, end: end ?? at + 1 } : undefined
    if (sizeBytes >= 0xc0) {
      const low = raw[at + 1]
      const target = ((sizeBytes & 0x3f) << 8) | (low ?? 0)
      if (low === undefined || target >= earliest) return undefined
      end ??= at + 2
      earliest = target
      at = target
      continue
    }
    const label = latin1(raw.subarray(at + 1, at + 1 + sizeBytes))
    if (sizeBytes > 63 || label.length < sizeBytes || label.includes('.')) return undefined
    labels.push(label)
    lengthBytes += 1 + sizeBytes
    if (lengthBytes > 254) return undefined
    at += 1 + sizeBytes
  }
}

function domainBytes(domain: string): Uint8Array {
  const labels = domain.split('.').map((label) => upTo(fromLatin1(label), 63, 'label of a domain name'))
  if (labels.some((label) => label.length === 0)) throw new DhcpError(`'${domain}' has an empty label`)
  return concat([...labels.flatMap((label) => [Uint8Array.of(label.length), label]), Uint8Array.of(0)])
}

/** Sub-options of code, length, value, as in option 43 of PXE (closed with 255) and option 175 of iPXE (not closed). */
export function subOptions(list: readonly (readonly [code: number, value: Uint8Array])[], end: 'end' | 'no-end') {
  const parts = list.flatMap(([code, value]) => splitOption(code, upTo(value, 255, `sub-option ${code}`)))
  return concat(end === 'end' ? [...parts, Uint8Array.of(endOption)] : parts)
}

export function addressBytes(dotted: string): Uint8Array {
  const parts = dotted.split('.')
  const numbers = parts.map(Number)
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part)) || numbers.some((part) => part > 255)) {
    throw new DhcpError(`'${dotted}' is not an IPv4 address`)
  }
  return Uint8Array.from(numbers)
}

export function numberBytes(value: number, sizeBytes: 1 | 2 | 4): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * sizeBytes)) {
    throw new DhcpError(`${value} does not fit into ${sizeBytes} bytes`)
  }
  const raw = new Uint8Array(sizeBytes)
  for (let i = 0; i < sizeBytes; i++) raw[i] = value >>> (8 * (sizeBytes - 1 - i))
  return raw
}

function bigEndian(raw: Uint8Array): number {
  return raw.reduce((value, byte) => value * 256 + byte, 0)
}

function chunks(raw: Uint8Array, sizeBytes: number): Uint8Array[] | undefined {
  if (raw.length === 0 || raw.length % sizeBytes !== 0) return undefined
  return Array.from({ length: raw.length / sizeBytes }, (_, i) => raw.subarray(i * sizeBytes, (i + 1) * sizeBytes))
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

export function padded(raw: Uint8Array, sizeBytes: number): Uint8Array {
  const whole = new Uint8Array(sizeBytes)
  whole.set(raw)
  return whole
}

function upTo(raw: Uint8Array, sizeBytesMax: number, what: string): Uint8Array {
  if (raw.length > sizeBytesMax)
    throw new DhcpError(`a ${what} of ${raw.length} bytes is over the ${sizeBytesMax} allowed`)
  return raw
}

export function latin1(raw: Uint8Array): string {
  return Buffer.from(raw).toString('latin1')
}

export function fromLatin1(value: string): Uint8Array {
  if (/[^\0-\u00ff]/.test(value)) throw new DhcpError(`'${value}' has a character that DHCP text cannot hold`)
  return Uint8Array.from(Buffer.from(value, 'latin1'))
}
