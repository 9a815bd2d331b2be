import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type DhcpMessage, decodeDhcp, encodeDhcp } from './dhcp.ts'
import { DhcpError, type DhcpOptions, dhcpMessageTypes, subOptions } from './dhcp-options.ts'

const empty: DhcpMessage = {
  op: 'request',
  hardwareType: 1,
  hardwareAddress: '52:54:00:12:34:56',
  hops: 0,
  transactionId: 0x12345678,
  secondsElapsed: 0,
  broadcast: false,
  clientAddress: '0.0.0.0',
  yourAddress: '0.0.0.0',
  nextServer: '0.0.0.0',
  relayAddress: '0.0.0.0',
  serverName: '',
  bootFile: '',
  options: {},
}

/** A packet of the empty message with these raw bytes as its options field. */
function packetOf(...options: number[]): Uint8Array {
  return Uint8Array.from([...encodeDhcp(empty).subarray(0, 240), ...options])
}

const optionsOf = (...options: number[]) => decodeDhcp(packetOf(...options)).options

const characters = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code))
const text = (min: number, max: number) => fc.string({ unit: characters, minLength: min, maxLength: max })
const uint = (bits: number) => fc.nat({ max: 2 ** bits - 1 })
const address = fc.ipV4()
const bytes = (max: number) => fc.uint8Array({ maxLength: max })
const label = fc.string({ unit: fc.constantFrom('a', 'b', '7', '-'), minLength: 1, maxLength: 20 })
const list = <T>(item: fc.Arbitrary<T>) => fc.array(item, { minLength: 1, maxLength: 8 })

const namedOptions: { [K in Exclude<keyof DhcpOptions, 'other'>]-?: fc.Arbitrary<NonNullable<DhcpOptions[K]>> } = {
  messageType: fc.constantFrom(...dhcpMessageTypes),
  serverId: address,
  requestedAddress: address,
  leaseSeconds: uint(32),
  subnetMask: address,
  router: list(address),
  dns: list(address),
  hostName: text(1, 300),
  domainName: text(1, 20),
  mtuBytes: uint(16),
  broadcastAddress: address,
  ntp: list(address),
  domainSearch: list(fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join('.'))),
  parameters: list(uint(8)),
  message: text(1, 20),
  packetBytesMax: uint(16),
  vendorClass: text(1, 40),
  vendorOptions: bytes(600),
  clientId: bytes(300),
  tftpServer: text(1, 20),
  bootFile: text(1, 300),
  userClasses: list(text(1, 20)),
  architectures: list(uint(16)),
  networkInterface: bytes(3),
  machineId: bytes(17),
  ipxe: bytes(20),
  relayAgent: bytes(255),
}

// 200 to 254 have no name in the option table.
const other = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 200, max: 254 }), bytes(300)), { selector: ([code]) => code, maxLength: 2 })
  .map((entries) => (entries.length === 0 ? {} : { other: new Map(entries) }))

const message: fc.Arbitrary<DhcpMessage> = fc.record({
  op: fc.constantFrom('request', 'reply'),
  hardwareType: uint(8),
  hardwareAddress: fc
    .uint8Array({ maxLength: 16 })
    .map((raw) => Buffer.from(raw).toString('hex').match(/../g)?.join(':') ?? ''),
  hops: uint(8),
  transactionId: uint(32),
  secondsElapsed: uint(16),
  broadcast: fc.boolean(),
  clientAddress: address,
  yourAddress: address,
  nextServer: address,
  relayAddress: address,
  serverName: text(0, 63),
  bootFile: text(0, 127),
  options: fc
    .tuple(fc.record(namedOptions, { requiredKeys: [] }), other)
    .map(([named, rest]): DhcpOptions => ({ ...named, ...rest })),
})

test('decoding gives back every message that was encoded', () => {
  fc.assert(
    fc.property(message, (value) => {
      expect(decodeDhcp(encodeDhcp(value))).toEqual(value)
    }),
    { numRuns: 500 },
  )
})

test('decoding any bytes gives a message or throws the codec’s own error', () => {
  const noise = fc.uint8Array({ maxLength: 600 })
  const nearly = fc
    .tuple(message, fc.array(fc.tuple(uint(12), uint(8)), { maxLength: 12 }), uint(10))
    .map(([value, changes, cut]) => {
      const packet = encodeDhcp(value)
      for (const [at, byte] of changes) packet[at % packet.length] = byte
      return packet.subarray(0, packet.length - (cut % 64))
    })
  const options = fc.uint8Array({ maxLength: 400 }).map((raw) => packetOf(...raw))
  fc.assert(
    fc.property(fc.oneof(noise, nearly, options), (packet) => {
      try {
        // What was understood can be said again: no decoded value is one the encoder refuses, but for the packet's size.
        encodeDhcp(decodeDhcp(packet))
      } catch (error) {
        expect(error).toBeInstanceOf(DhcpError)
      }
    }),
    { numRuns: 2000 },
  )
})

test('an option in several parts is joined, also across the file and server name fields', () => {
  expect(optionsOf(12, 2, 0x61, 0x62, 53, 1, 1, 12, 1, 0x63, 255).hostName).toBe('abc')
  const packet = packetOf(52, 1, 3, 12, 1, 0x61, 255)
  packet.set([12, 1, 0x62, 255], 108)
  packet.set([12, 1, 0x63, 255], 44)
  const { options, bootFile, serverName } = decodeDhcp(packet)
  expect(options).toEqual({ hostName: 'abc' })
  expect([bootFile, serverName]).toEqual(['', ''])
})

test('the file field is text unless option 52 says that it holds options', () => {
  const packet = packetOf(52, 1, 2, 255)
  packet.set(new TextEncoder().encode('lpxelinux.0'), 108)
  packet.set([53, 1, 1, 255], 44)
  expect(decodeDhcp(packet)).toMatchObject({ bootFile: 'lpxelinux.0', options: { messageType: 'discover' } })
})

test('a value over 255 bytes is written as several options of one code', () => {
  const raw = encodeDhcp({ ...empty, options: { clientId: new Uint8Array(300).fill(7) } }).subarray(240)
  expect([raw[0], raw[1], raw[257], raw[258], raw[304]]).toEqual([61, 255, 61, 45, 255])
})

test('the message type is written first and the relay agent’s option last', () => {
  const options: DhcpOptions = {
    relayAgent: Uint8Array.of(1, 1, 9),
    other: new Map([[200, Uint8Array.of(1)]]),
    hostName: 'n',
    messageType: 'ack',
  }
  const raw = encodeDhcp({ ...empty, options }).subarray(240, 240 + 17)
  expect([...raw]).toEqual([53, 1, 5, 12, 1, 0x6e, 200, 1, 1, 82, 3, 1, 1, 9, 255, 0, 0])
})

test('a packet is never shorter than BOOTP’s 300 bytes', () => {
  expect(encodeDhcp(empty)).toHaveLength(300)
})

test('iPXE’s bare user class and the framed form of RFC 3004 read the same', () => {
  const bare = [...new TextEncoder().encode('iPXE')]
  expect(optionsOf(77, 4, ...bare, 255).userClasses).toEqual(['iPXE'])
  expect(optionsOf(77, 5, 4, ...bare, 255).userClasses).toEqual(['iPXE'])
  expect(optionsOf(77, 7, 4, ...bare, 1, 0x78, 255).userClasses).toEqual(['iPXE', 'x'])
})

test('an option with bytes that are not what its code promises is kept raw', () => {
  expect(optionsOf(50, 3, 1, 2, 3, 12, 0, 53, 1, 99, 255)).toEqual({
    other: new Map([
      [50, Uint8Array.of(1, 2, 3)],
      [12, Uint8Array.of()],
      [53, Uint8Array.of(99)],
    ]),
  })
})

test('trailing NULs of a text option are no part of it', () => {
  expect(optionsOf(12, 3, 0x6e, 0, 0, 255).hostName).toBe('n')
})

test('a compressed search list is read, one that points in a circle is not', () => {
  const eng = [3, 0x65, 0x6e, 0x67, 1, 0x61, 0]
  expect(optionsOf(119, 11, ...eng, 1, 0x6d, 0xc0, 4, 255).domainSearch).toEqual(['eng.a', 'm.a'])
  for (const circle of [
    [0xc0, 0],
    [1, 0x61, 0xc0, 0],
    [1, 0x61, 0xc0, 9],
  ]) {
    expect(optionsOf(119, circle.length, ...circle, 255).domainSearch).toBeUndefined()
  }
})

test.each([
  ['too few', new Uint8Array(239)],
  ['over the 4096 allowed', new Uint8Array(4097)],
  ['magic cookie', new Uint8Array(300)],
  ['neither request nor reply', Uint8Array.of(3, ...packetOf().subarray(1))],
  ['hardware address of 17 bytes', Uint8Array.of(1, 1, 17, ...packetOf().subarray(3))],
  ['option 12 runs past', packetOf(12, 5, 1)],
  ['option 12 runs past', packetOf(12)],
])('a packet is refused with words: %s', (words, packet) => {
  expect(() => decodeDhcp(packet)).toThrow(words)
  expect(() => decodeDhcp(packet)).toThrow(DhcpError)
})

test.each<[string, Partial<DhcpMessage>]>([
  ['not an IPv4 address', { yourAddress: '10.0.0.256' }],
  ['not a hardware address', { hardwareAddress: '52-54-00-12-34-56' }],
  ['does not fit into 2 bytes', { options: { mtuBytes: 70000 } }],
  ['does not fit into a field of 128 bytes', { bootFile: 'x'.repeat(128) }],
  ['a character that DHCP text cannot hold', { options: { hostName: 'nœud' } }],
  ['empty label', { options: { domainSearch: ['a..b'] } }],
  ['not the code of an option', { options: { other: new Map([[255, Uint8Array.of()]]) } }],
  ['over the 4096 allowed', { options: { message: 'x'.repeat(4000) } }],
])('a message that fits no packet is refused with words: %s', (words, change) => {
  expect(() => encodeDhcp({ ...empty, ...change })).toThrow(words)
})

test('sub-options are code, length and value, closed or not', () => {
  expect([...subOptions([[6, Uint8Array.of(8)]], 'end')]).toEqual([6, 1, 8, 255])
  expect([...subOptions([[176, Uint8Array.of(1)]], 'no-end')]).toEqual([176, 1, 1])
})

const recordings = new URL('./testdata/', import.meta.url)

/** The message as JSON, with bytes as hex and lists on one line. */
function textOf(message: DhcpMessage): string {
  const plain = (_: string, value: unknown) => {
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
    if (Array.isArray(value)) return value.join(' ')
    return value instanceof Map ? Object.fromEntries(value) : value
  }
  return `${JSON.stringify(message, plain, 2)}\n`
}

test.each(readdirSync(recordings).filter((name) => /^dhcp-.*\.hex$/.test(name)))(
  'the recorded packet %s reads as noted',
  (name) => {
    const packet = Buffer.from(readFileSync(new URL(name, recordings), 'latin1').replace(/\s/g, ''), 'hex')
    const noted = new URL(name.replace('.hex', '.txt'), recordings)
    const message = decodeDhcp(packet)
    expect(decodeDhcp(encodeDhcp(message))).toEqual(message)
    const text = textOf(message)
    if (process.env.UPDATE === '1') {
      writeFileSync(noted, text)
      expect.fail(`${noted.pathname} is rewritten: read the difference, then run again without UPDATE`)
    }
    expect(text).toBe(readFileSync(noted, 'utf8'))
  },
)
