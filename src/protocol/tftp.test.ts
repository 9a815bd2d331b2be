import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodePacket,
  encodePacket,
  errorTextMax,
  negotiate,
  type OptionLimits,
  onAck,
  onReady,
  onTimeout,
  requestBytesMax,
  retryDelayMs,
  type Sender,
  type SenderAction,
  startSender,
  type TftpPacket,
  TftpPacketError,
  toNetascii,
  writeDataHeader,
} from './tftp.ts'

const bytesOf = (text: string) => Buffer.from(text, 'latin1')

describe('packets', () => {
  const printable = (least: number, most: number) =>
    fc.string({
      unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCodePoint(c)),
      minLength: least,
      maxLength: most,
    })
  const options = fc
    .array(
      fc.tuple(
        printable(1, 12).map((name) => name.toLowerCase()),
        printable(0, 12),
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((pairs) => new Map(pairs))
  const block = fc.integer({ min: 0, max: 0xffff })
  const anyPacket: fc.Arbitrary<TftpPacket> = fc.oneof(
    fc.record({
      op: fc.constantFrom('read' as const, 'write' as const),
      path: printable(1, 200),
      mode: fc.constantFrom('octet' as const, 'netascii' as const),
      options: fc.oneof(options, fc.constant(new Map<string, string>())),
    }),
    fc.record({ op: fc.constant('data' as const), block, data: fc.uint8Array({ maxLength: 600 }) }),
    fc.record({ op: fc.constant('ack' as const), block }),
    fc.record({ op: fc.constant('error' as const), code: block, message: printable(0, errorTextMax) }),
    fc.record({ op: fc.constant('option-ack' as const), options }),
  )

  test('decoding undoes encoding', () => {
    fc.assert(
      fc.property(anyPacket, (packet) => {
        const decoded = decodePacket(encodePacket(packet))
        expect(decoded.op === 'data' ? { ...decoded, data: Uint8Array.from(decoded.data) } : decoded).toEqual(packet)
      }),
      { numRuns: 500 },
    )
  })

  test('any bytes decode to a packet or throw the typed error', () => {
    const nearlyPackets = fc
      .tuple(fc.integer({ min: 0, max: 7 }), fc.uint8Array({ maxLength: 700 }))
      .map(([op, rest]) => Buffer.concat([Buffer.of(0, op), rest]))
    const damaged = fc
      .tuple(anyPacket, fc.nat(), fc.integer({ min: 0, max: 255 }), fc.nat())
      .map(([packet, at, byte, length]) => {
        const bytes = encodePacket(packet)
        bytes[at % bytes.length] = byte
        return bytes.subarray(0, 1 + (length % bytes.length))
      })
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 700 }), nearlyPackets, damaged), (bytes) => {
        try {
          decodePacket(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(TftpPacketError)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test.each([
    ['tftp-hpa 5.2', '\0\x01pxelinux.0\0octet\0', 'read pxelinux.0 octet'],
    ['tftp-hpa 5.2, -m ascii', '\0\x01a.txt\0netascii\0', 'read a.txt netascii'],
    [
      'atftp 0.8.0',
      '\0\x01f3m\0octet\0tsize\x000\0timeout\x003\0blksize\x001428\0windowsize\x0016\0',
      'read f3m octet tsize=0 timeout=3 blksize=1428 windowsize=16',
    ],
    [
      'curl 7.88.1',
      '\0\x01grub/x\0octet\0tsize\x000\0blksize\x004096\0timeout\x006\0',
      'read grub/x octet tsize=0 blksize=4096 timeout=6',
    ],
    [
      'curl 7.88.1, upload',
      '\0\x02up\0octet\0tsize\x00266\0blksize\x00512\0timeout\x006\0',
      'write up octet tsize=266 blksize=512 timeout=6',
    ],
  ])('reads what %s sends', (_client, bytes, expected) => {
    const packet = decodePacket(bytesOf(bytes))
    if (packet.op !== 'read' && packet.op !== 'write') throw new Error(`a request became ${packet.op}`)
    const options = [...packet.options].map(([name, value]) => `${name}=${value}`)
    expect([packet.op, packet.path, packet.mode, ...options].join(' ')).toBe(expected)
  })

  test('names of modes and options know no case', () => {
    expect(decodePacket(bytesOf('\0\x01A\0OcTeT\0BLKSIZE\x008\0'))).toEqual({
      op: 'read',
      path: 'A',
      mode: 'octet',
      options: new Map([['blksize', '8']]),
    })
  })

  test('a request that firmware padded with NULs is read without them', () => {
    expect(decodePacket(bytesOf('\0\x01f\0octet\0tsize\x000\0\0\0\0\0\0'))).toEqual({
      op: 'read',
      path: 'f',
      mode: 'octet',
      options: new Map([['tsize', '0']]),
    })
  })

  test.each([
    ['nothing', '', 4],
    ['no operation', '\0', 4],
    ['an unknown operation', '\0\x09abcd', 4],
    ['an ACK that is too long', '\0\x04\0\x01\0', 4],
    ['a request without a NUL', '\0\x01pxelinux.0', 4],
    ['a request without a mode', '\0\x01pxelinux.0\0', 4],
    ['a request whose mode does not end', '\0\x01pxelinux.0\0octet', 4],
    ['a request with an empty name', '\0\x01\0octet\0', 4],
    ['a request with NULs only', '\0\x01\0\0\0\0', 4],
    ['mode mail', '\0\x01f\0mail\0', 4],
    ['a name that is not ASCII', '\0\x01gr\xfcn\0octet\0', 4],
    ['a name with a control character', '\0\x01a\x1bb\0octet\0', 4],
    ['an option without a value', '\0\x01f\0octet\0blksize\x008\0tsize\0x\0more\0', 8],
    ['an option without a name', '\0\x01f\0octet\0\x008\0', 8],
    ['an option that comes twice', '\0\x01f\0octet\0blksize\x008\0BLKSIZE\x009\0', 8],
    ['a huge request', `\0\x01${'a'.repeat(requestBytesMax)}\0octet\0`, 4],
    ['a huge option', `\0\x01f\0octet\0tsize\0${'9'.repeat(requestBytesMax)}\0`, 4],
  ])('refuses %s with the right code', (_what, bytes, code) => {
    expect(() => decodePacket(bytesOf(bytes))).toThrow(expect.objectContaining({ name: 'TftpPacketError', code }))
  })

  test('the text of an ERROR is cut, printable, and needs no NUL', () => {
    const text = `gr\xfcn\n${'x'.repeat(5000)}`
    expect(decodePacket(bytesOf(`\0\x05\0\x08${text}`))).toEqual({
      op: 'error',
      code: 8,
      message: `gr?n?${'x'.repeat(errorTextMax - 5)}`,
    })
  })

  test('block numbers have 16 bits on the wire and wrap to 0', () => {
    const header = Buffer.alloc(4)
    const onWire = [65_535, 65_536, 65_537].map((number) => {
      writeDataHeader(header, 0, number)
      return header.toString('hex')
    })
    expect(onWire).toEqual(['0003ffff', '00030000', '00030001'])
  })

  test('netascii ends lines with CR LF and puts NUL behind a lone CR', () => {
    expect(toNetascii(bytesOf('a\nb\rc\r\n')).toString('latin1')).toBe('a\r\nb\r\0c\r\0\r\n')
  })
})

describe('options', () => {
  const limits: OptionLimits = { blksizeMax: 65_464, windowsizeMax: 64, windowBytesMax: 65_536 }
  const ask = (options: Record<string, string>, sizeBytes: number | undefined = 1000) =>
    negotiate(new Map(Object.entries(options)), sizeBytes, limits)

  test('a client that asks for nothing gets blocks of 512 bytes one by one, and no OACK', () => {
    expect(ask({})).toEqual({ blksize: 512, windowsize: 1, timeoutMs: undefined, acknowledged: new Map() })
  })

  test('what is asked within bounds is granted', () => {
    expect(ask({ blksize: '1428', tsize: '0', timeout: '3', windowsize: '16' })).toEqual({
      blksize: 1428,
      windowsize: 16,
      timeoutMs: 3000,
      acknowledged: new Map([
        ['blksize', '1428'],
        ['tsize', '1000'],
        ['timeout', '3'],
        ['windowsize', '16'],
      ]),
    })
  })

  test.each([
    ['blksize', ['7', '65465', '0', '-8', '1e3', '0x10', '', ' 512', '99999999999999999999']],
    ['timeout', ['0', '256', 'soon']],
    ['windowsize', ['0', '65536', '1.5']],
    ['tsize', ['-1', 'yes', '']],
    ['multicast', ['']],
    ['__proto__', ['8']],
  ])('%s is not acknowledged when unknown or out of range', (name, values) => {
    for (const value of values) {
      expect(ask({ [name]: value })).toEqual({
        blksize: 512,
        windowsize: 1,
        timeoutMs: undefined,
        acknowledged: new Map(),
      })
    }
  })

  test('the ends of each range are granted', () => {
    expect([ask({ blksize: '8' }).blksize, ask({ blksize: '65464' }).blksize]).toEqual([8, 65_464])
    expect([ask({ timeout: '1' }).timeoutMs, ask({ timeout: '255' }).timeoutMs]).toEqual([1000, 255_000])
  })

  test('a window is lowered to the blocks and bytes that we allow, and is one block at least', () => {
    expect(ask({ windowsize: '65535' }).windowsize).toBe(64)
    expect(ask({ windowsize: '64', blksize: '8192' }).windowsize).toBe(8)
    expect(ask({ windowsize: '64', blksize: '65464' }).windowsize).toBe(1)
    expect(ask({ windowsize: '64', blksize: '8192' }).acknowledged.get('windowsize')).toBe('8')
  })

  test('a size that is not known is not acknowledged', () => {
    expect(negotiate(new Map([['tsize', '0']]), undefined, limits).acknowledged.size).toBe(0)
  })
})

describe('the sender', () => {
  const begin = (windowsize: number, last: number, offers = false): { sender: Sender; action: SenderAction } =>
    onReady(startSender({ windowsize, retriesMax: 3, offers }).sender, last, last)
  const inPhase = (sender: Sender, at: Partial<Sender>): Sender => ({ ...sender, ...at })

  test('sends a window, and the next one when the whole of it is acknowledged', () => {
    const first = begin(4, 10)
    expect(first.action).toEqual({ do: 'send', first: 1, last: 4 })
    expect(onAck(first.sender, 4).action).toEqual({ do: 'send', first: 5, last: 8 })
  })

  test('goes on right behind a block acknowledged inside the window, as what followed was lost', () => {
    expect(onAck(begin(4, 10).sender, 2).action).toEqual({ do: 'send', first: 3, last: 6 })
  })

  test('does not answer an ACK that moves nothing, whatever its number', () => {
    const { sender } = onAck(begin(1, 10).sender, 1)
    for (const block of [1, 0, 3, 65_535]) expect(onAck(sender, block)).toEqual({ sender, action: { do: 'wait' } })
  })

  test('offers options first, and sends data only after ACK 0', () => {
    const start = startSender({ windowsize: 2, retriesMax: 3, offers: true })
    expect(start.action).toEqual({ do: 'offer' })
    const ready = onReady(start.sender, 5, 5)
    expect(ready.action).toEqual({ do: 'wait' })
    expect(onAck(ready.sender, 1).action).toEqual({ do: 'wait' })
    expect(onTimeout(ready.sender).action).toEqual({ do: 'offer' })
    const accepted = onAck(ready.sender, 0)
    expect(accepted.action).toEqual({ do: 'send', first: 1, last: 2 })
    expect(onAck(accepted.sender, 0).action).toEqual({ do: 'wait' })
  })

  test('sends no further than what is in memory, and goes on when more is', () => {
    const part = onReady(startSender({ windowsize: 4, retriesMax: 3, offers: false }).sender, 2, undefined)
    expect(part.action).toEqual({ do: 'send', first: 1, last: 2 })
    expect(onReady(part.sender, 9, 9).action).toEqual({ do: 'send', first: 3, last: 4 })
  })

  test('finishes when the last block is acknowledged', () => {
    expect(onAck(begin(4, 2).sender, 2).action).toEqual({ do: 'finish' })
  })

  test('recognises an ACK across the wrap of block numbers, and a late one of before it', () => {
    const sender = inPhase(begin(4, 200_000).sender, { acked: 65_534, sent: 65_538 })
    expect(onAck(sender, 2).action).toEqual({ do: 'send', first: 65_539, last: 65_542 })
    expect(onAck(sender, 0).action).toEqual({ do: 'send', first: 65_537, last: 65_540 })
    expect(onAck(sender, 65_533).action).toEqual({ do: 'wait' })
  })

  test('repeats the window after a timeout, and gives up after as many as allowed without progress', () => {
    let step = begin(4, 10)
    for (let i = 0; i < 3; i++) {
      step = onTimeout(step.sender)
      expect(step.action).toEqual({ do: 'send', first: 1, last: 4 })
    }
    expect(onTimeout(step.sender).action).toEqual({ do: 'give-up' })
    expect(onAck(step.sender, 1).sender.retries).toBe(0)
  })

  test('does not count the time in which it waits for its own disk', () => {
    const part = onReady(startSender({ windowsize: 1, retriesMax: 0, offers: false }).sender, 1, undefined)
    const starved = onAck(part.sender, 1).sender
    expect(onTimeout(starved)).toEqual({ sender: starved, action: { do: 'wait' } })
  })

  test('waits twice as long each time, up to the most, but never shorter than the client asked', () => {
    expect([0, 1, 2, 3, 9].map((n) => retryDelayMs(n, { firstMs: 500, mostMs: 4000 }))).toEqual([
      500, 1000, 2000, 4000, 4000,
    ])
    expect(retryDelayMs(3, { firstMs: 6000, mostMs: 4000 })).toBe(6000)
  })

  /** A client by RFC 7440: it takes blocks in order, and acknowledges at a window's end, at a gap, and after silence. */
  function makeClient(windowsize: number, last: number) {
    let have = 0
    let sinceAck = 0
    const ack = () => {
      sinceAck = 0
      return have & 0xffff
    }
    return {
      get have() {
        return have
      },
      hear(block: number): number | undefined {
        if (block !== ((have + 1) & 0xffff)) return ack()
        have++
        sinceAck++
        return sinceAck === windowsize || have === last ? ack() : undefined
      },
    }
  }

  test('brings every block through a network that loses, doubles and reorders, without a storm', () => {
    const fate = fc.constantFrom('pass', 'pass', 'pass', 'pass', 'drop', 'double', 'swap')
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 60 }),
        fc.infiniteStream(fate),
        (windowsize, last, fates) => {
          const through = <T>(items: readonly T[]): T[] => {
            const out: T[] = []
            for (const item of items) {
              const now = fates.next().value
              if (now === 'swap') out.splice(-1, 0, item)
              else if (now !== 'drop') out.push(item)
              if (now === 'double') out.push(item)
            }
            return out
          }
          const client = makeClient(windowsize, last)
          let step = onReady(startSender({ windowsize, retriesMax: 1000, offers: false }).sender, last, last)
          let acksHeard = 0
          let timeouts = 0
          let dataSent = 0
          const acks: number[] = []
          while (step.action.do !== 'finish') {
            if (step.action.do === 'send') {
              const { first, last: end } = step.action
              expect(end - first + 1).toBeLessThanOrEqual(windowsize)
              expect(step.sender.sent - step.sender.acked).toBeLessThanOrEqual(windowsize)
              const blocks = Array.from({ length: end - first + 1 }, (_, i) => (first + i) & 0xffff)
              dataSent += blocks.length
              acks.push(...through(through(blocks).flatMap((block) => client.hear(block) ?? [])))
            }
            const ack = acks.shift()
            if (ack !== undefined) {
              acksHeard++
              step = onAck(step.sender, ack)
            } else {
              timeouts++
              step = onTimeout(step.sender)
            }
          }
          expect(client.have).toBe(last)
          expect(dataSent).toBeLessThanOrEqual((Math.min(acksHeard, last) + timeouts + 1) * windowsize)
        },
      ),
      { numRuns: 300 },
    )
  })
})
