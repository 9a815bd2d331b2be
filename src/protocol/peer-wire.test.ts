import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bitsOf, countBits, emptyBitfield, fullBitfield, hasBit, hasMoreThan, setBit } from './bitfield.ts'
import {
  decodeDontHave,
  decodeExtensionHandshake,
  encodeDontHave,
  encodeExtensionHandshake,
} from './peer-extensions.ts'
import {
  type Block,
  decodeHandshake,
  encodeHandshake,
  encodeMessages,
  encodePieceHeader,
  extendedBytesMax,
  type PeerMessage,
  PeerWireDecoder,
  type PeerWireSink,
} from './peer-wire.ts'

const geometry = { totalBytes: 21 * 1000 + 300, pieceBytes: 1000 }
const pieces = 22

type Told = PeerMessage | { readonly kind: 'piece'; readonly block: Block; readonly bytes: Buffer }

/** Keeps copies of everything that a decoder tells. */
function listen() {
  const told: Told[] = []
  let open: { block: Block; parts: Buffer[] } | undefined
  const sink: PeerWireSink = {
    onMessage: (message) => {
      expect(open).toBeUndefined()
      if (message.kind === 'bitfield') told.push({ ...message, bits: Buffer.from(message.bits) })
      else if (message.kind === 'extended') told.push({ ...message, payload: Buffer.from(message.payload) })
      else told.push(message)
    },
    onPieceBegin: (block) => {
      expect(open).toBeUndefined()
      open = { block, parts: [] }
    },
    onPieceBytes: (bytes, isLast) => {
      if (open === undefined) throw new Error('bytes of no piece')
      expect(bytes.length).toBeGreaterThan(0)
      open.parts.push(Buffer.from(bytes))
      if (!isLast) return
      const all = Buffer.concat(open.parts)
      expect(all.length).toBe(open.block.length)
      told.push({ kind: 'piece', block: open.block, bytes: all })
      open = undefined
    },
  }
  return { told, sink }
}

function decodeAll(chunks: readonly Buffer[]): Told[] {
  const { told, sink } = listen()
  const decoder = new PeerWireDecoder(geometry)
  for (const chunk of chunks) {
    // The decoder may keep nothing of a chunk: the socket's buffer is used again.
    const once = Buffer.from(chunk)
    decoder.push(once, sink)
    once.fill(0xee)
  }
  return told
}

function encode(told: readonly Told[]): Buffer {
  return Buffer.concat(
    told.map((one) =>
      one.kind === 'piece' ? Buffer.concat([encodePieceHeader(one.block), one.bytes]) : encodeMessages([one]),
    ),
  )
}

const block = fc
  .tuple(fc.nat({ max: pieces - 2 }), fc.nat({ max: 999 }), fc.integer({ min: 1, max: 1000 }))
  .map(([piece, begin, length]) => ({ piece, begin, length: Math.min(length, 1000 - begin) }))
const piece = fc.nat({ max: pieces - 1 })
const message: fc.Arbitrary<Told> = fc.oneof(
  fc.constantFrom<PeerMessage & { piece?: never }>(
    { kind: 'keep-alive' },
    { kind: 'choke' },
    { kind: 'unchoke' },
    { kind: 'interested' },
    { kind: 'not-interested' },
    { kind: 'have-all' },
    { kind: 'have-none' },
  ),
  fc.record({ kind: fc.constantFrom('have' as const, 'suggest' as const, 'allowed-fast' as const), piece }),
  fc.uniqueArray(piece).map((held) => {
    const bits = emptyBitfield(pieces)
    for (const one of held) setBit(bits, one, true)
    return { kind: 'bitfield' as const, bits }
  }),
  fc
    .tuple(fc.constantFrom('request' as const, 'cancel' as const, 'reject' as const), block)
    .map(([kind, one]) => ({ kind, ...one })),
  fc
    .record({ id: fc.nat({ max: 255 }), payload: fc.uint8Array({ maxLength: 300 }) })
    .map(({ id, payload }) => ({ kind: 'extended' as const, id, payload: Buffer.from(payload) })),
  fc.nat({ max: 65_535 }).map((port) => ({ kind: 'dht-port' as const, port })),
  fc
    .tuple(block, fc.nat({ max: 255 }))
    .map(([one, fill]) => ({ kind: 'piece' as const, block: one, bytes: Buffer.alloc(one.length, fill) })),
)

describe('a stream', () => {
  test('decodes to what was encoded, however it is split', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 400 })), (told, cuts) => {
        const stream = encode(told)
        const chunks: Buffer[] = []
        let at = 0
        for (const cut of cuts) {
          chunks.push(stream.subarray(at, at + cut))
          at += cut
        }
        chunks.push(stream.subarray(at))
        expect(decodeAll(chunks)).toEqual(told)
      }),
    )
  })

  test('decodes the same at every single cut, and byte by byte', () => {
    const told: Told[] = [
      { kind: 'bitfield', bits: fullBitfield(pieces) },
      { kind: 'extended', id: 0, payload: encodeExtensionHandshake({ client: 'x', requestsMax: 5 }) },
      { kind: 'keep-alive' },
      { kind: 'piece', block: { piece: 21, begin: 0, length: 300 }, bytes: Buffer.alloc(300, 7) },
      { kind: 'unchoke' },
      { kind: 'request', piece: 3, begin: 10, length: 990 },
      { kind: 'have', piece: 21 },
    ]
    const stream = encode(told)
    for (let cut = 0; cut <= stream.length; cut++) {
      expect(decodeAll([stream.subarray(0, cut), stream.subarray(cut)])).toEqual(told)
    }
    expect(decodeAll([...stream].map((byte) => Buffer.of(byte)))).toEqual(told)
  })

  test('of anything at all gives messages inside the torrent or an Error', () => {
    const check = (stream: Buffer) => {
      const { told, sink } = listen()
      const decoder = new PeerWireDecoder(geometry)
      try {
        decoder.push(stream, sink)
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
        // An assertion of the sink is an Error too.
        expect(String(error)).not.toMatch(/expected/)
      }
      for (const one of told) {
        if ('piece' in one && one.piece !== undefined) expect(one.piece).toBeLessThan(pieces)
        if ('length' in one) expect(one.begin + one.length).toBeLessThanOrEqual(geometry.pieceBytes)
      }
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => check(Buffer.from(bytes))))
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 10 }),
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
        (told, mutations) => {
          const stream = encode(told)
          for (const [at, byte] of mutations) stream[at % stream.length] = byte
          check(stream)
        },
      ),
      { numRuns: 500 },
    )
  })
})

/** A message of `id` with so many bytes behind it, all of them `fill`. */
function raw(id: number, length: number, fill = 0): Buffer {
  const bytes = Buffer.alloc(5 + length, fill)
  bytes.writeUInt32BE(1 + length)
  bytes[4] = id
  return bytes
}

test.each([
  ['a message that does not exist', raw(21, 0), 'there is no message 21'],
  ['an endless message', Buffer.from([0xff, 0xff, 0xff, 0xff, 20]), 'extended cannot have 4294967295 bytes'],
  ['an extended message past its bound', raw(20, extendedBytesMax + 2), 'extended cannot have'],
  ['an extended message without an id', raw(20, 0), 'extended cannot have 1 bytes'],
  ['a choke with something behind it', raw(0, 1), 'choke cannot have 2 bytes'],
  ['a have that is too short', raw(4, 3), 'have cannot have 4 bytes'],
  ['a have of no piece', raw(4, 4, 0xff), 'have of piece 4294967295, where there are 22'],
  ['a bitfield of the wrong length', raw(5, 4), 'bitfield cannot have 5 bytes'],
  ['a bitfield with spare bits', raw(5, 3, 0xff), 'the bitfield names pieces that do not exist'],
  [
    'a request outside of its piece',
    encodeMessages([{ kind: 'request', piece: 0, begin: 1, length: 1000 }]),
    'piece 0',
  ],
  [
    'a request of the last piece as if it were whole',
    encodeMessages([{ kind: 'request', piece: 21, begin: 0, length: 301 }]),
    'which has 300 bytes',
  ],
  ['a request of nothing', encodeMessages([{ kind: 'request', piece: 0, begin: 0, length: 0 }]), 'request of 0 bytes'],
  ['a piece without bytes', encodePieceHeader({ piece: 0, begin: 0, length: 0 }), 'piece cannot have 9 bytes'],
  ['a piece longer than any', encodePieceHeader({ piece: 0, begin: 0, length: 1001 }), 'piece cannot have 1010 bytes'],
  ['a piece outside of the torrent', encodePieceHeader({ piece: 22, begin: 0, length: 10 }), 'piece of piece 22'],
])('%s is refused with the reason', (_, bytes, reason) => {
  expect(() => decodeAll([bytes])).toThrow(reason)
  const trickle = [...bytes.subarray(0, 64)].map((byte) => Buffer.of(byte))
  expect(() => decodeAll([...trickle, bytes.subarray(64)])).toThrow(reason)
})

describe('a handshake', () => {
  const infoHash = Buffer.alloc(20, 1)
  const peerId = Buffer.alloc(20, 2)

  test('comes back as it was, from the 68th byte on', () => {
    for (const isFast of [true, false]) {
      for (const isExtended of [true, false]) {
        const handshake = { infoHash, peerId, isFast, isExtended }
        const bytes = encodeHandshake(handshake)
        expect(bytes.length).toBe(68)
        for (let length = 0; length < 68; length++) expect(decodeHandshake(bytes.subarray(0, length))).toBeUndefined()
        expect(decodeHandshake(Buffer.concat([bytes, Buffer.of(1)]))).toEqual(handshake)
      }
    }
  })

  test('of another protocol is refused at its first wrong byte', () => {
    expect(() => decodeHandshake(Buffer.from('GET / HTTP/1.1'))).toThrow('handshake of BitTorrent')
    expect(() => decodeHandshake(Buffer.from('\x13BitX'))).toThrow('handshake of BitTorrent')
  })
})

describe('an extension handshake', () => {
  test('names what both understand', () => {
    const payload = encodeExtensionHandshake({ client: 'HaDeS 1', requestsMax: 500 })
    expect(payload.toString()).toBe('d1:md5:hadesi1e11:hades_neveri3e11:lt_donthavei2ee4:reqqi500e1:v7:HaDeS 1e')
    expect(decodeExtensionHandshake(payload)).toEqual({
      extensions: new Map([
        ['hades', 1],
        ['hades_never', 3],
        ['lt_donthave', 2],
      ]),
      client: 'HaDeS 1',
      requestsMax: 500,
    })
  })

  test('with entries that make no sense is read without them', () => {
    const payload = Buffer.from('d1:md1:ai0e1:bi999e1:c1:x1:di7ee4:reqqi-1e1:v4:a\n\xffbe', 'latin1')
    const { extensions, client, requestsMax } = decodeExtensionHandshake(payload)
    expect([...extensions]).toEqual([['d', 7]])
    expect(client).toMatch(/^a\?+b$/)
    expect(requestsMax).toBeUndefined()
    expect(decodeExtensionHandshake(Buffer.from('d1:m1:x1:vi1ee')).extensions.size).toBe(0)
  })

  test('that is none is refused', () => {
    expect(() => decodeExtensionHandshake(Buffer.from('le'))).toThrow('no dictionary')
    expect(() => decodeExtensionHandshake(Buffer.from('d1:'))).toThrow(Error)
  })
})

test('lt_donthave names one piece', () => {
  expect(decodeDontHave(encodeDontHave(77))).toBe(77)
  expect(() => decodeDontHave(Buffer.alloc(3))).toThrow('lt_donthave has 4 bytes')
})

test('a bitfield is a set of pieces', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.uniqueArray(fc.nat({ max: 69 })), (count, chosen) => {
      const held = chosen.filter((one) => one < count).sort((a, b) => a - b)
      const bits = emptyBitfield(count)
      for (const one of held) setBit(bits, one, true)
      expect([...bitsOf(bits)]).toEqual(held)
      expect(countBits(bits)).toBe(held.length)
      for (let one = 0; one < count; one++) expect(hasBit(bits, one)).toBe(held.includes(one))
      expect(hasMoreThan(bits, emptyBitfield(count))).toBe(held.length > 0)
      expect(hasMoreThan(bits, fullBitfield(count))).toBe(false)
      expect(countBits(fullBitfield(count))).toBe(count)
      for (const one of held) setBit(bits, one, false)
      expect(bits).toEqual(emptyBitfield(count))
    }),
  )
})
