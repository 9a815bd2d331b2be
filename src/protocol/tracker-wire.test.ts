import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Announce, formatAnnounce, parseAnnounce, parseScrape, queryCharactersMax } from './tracker-wire.ts'

const id = (byte: string): string => `%${byte}`.repeat(20)
const least = `info_hash=${id('a1')}&peer_id=${id('b2')}&port=6881&left=0`

const hex = fc.stringMatching(/^[0-9a-f]{40}$/)
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const announces: fc.Arbitrary<Announce> = fc.record({
  infoHash: hex,
  peerId: hex,
  port: fc.integer({ min: 1, max: 65_535 }),
  uploaded: count,
  downloaded: count,
  left: count,
  event: fc.constantFrom(undefined, 'started', 'stopped', 'completed'),
  isCompact: fc.boolean(),
  noPeerId: fc.boolean(),
  numwant: fc.option(count, { nil: undefined }),
  ipv6: fc.constantFrom(undefined, { ip: '2001:db8::1', port: 6882 }),
  key: fc.constantFrom(undefined, 'A1B2 &=%'),
  agent: fc.option(
    fc.record({
      have: count,
      rate: count,
      slow: fc.array(hex, { maxLength: 16 }),
      lagMs: count,
      route: fc.option(count, { nil: undefined }),
      isLeaving: fc.boolean(),
      isPartial: fc.boolean(),
    }),
    { nil: undefined },
  ),
})

describe('an announce', () => {
  test('survives the way into a query and back', () => {
    fc.assert(
      fc.property(announces, (announce) => {
        const query = formatAnnounce(announce)
        expect(query.length).toBeLessThan(queryCharactersMax)
        expect(parseAnnounce(query)).toEqual(announce)
      }),
    )
  })

  test.each([
    [
      'aria2 1.36',
      'info_hash=%86%05%19%10%10%06%E8%97Y%0FQ%F1%2C%05%1AM%D53%AE%E3&peer_id=A2-1-36-0-T%BD%09_n%E0%1D%BF2%9C&uploaded=0&downloaded=0&left=32768&compact=1&key=%09_n%E0%1D%BF2%9C&numwant=50&no_peer_id=1&port=6937&event=started&supportcrypto=1',
      { peerId: '41322d312d33362d302d54bd095f6ee01dbf329c', port: 6937, numwant: 50, event: 'started' },
    ],
    [
      'libtorrent 2.0.8',
      'info_hash=%86%05%19%10%10%06%e8%97Y%0fQ%f1%2c%05%1aM%d53%ae%e3&peer_id=-LT2080-Hiap2v-tDd-S&port=51998&uploaded=0&downloaded=0&left=32768&corrupt=0&key=40FB612F&event=started&numwant=200&compact=1&no_peer_id=1&supportcrypto=1&redundant=0',
      { peerId: Buffer.from('-LT2080-Hiap2v-tDd-S').toString('hex'), key: '40FB612F', numwant: 200 },
    ],
    [
      'transmission 3.00',
      'info_hash=%86%05%19%10%10%06%e8%97Y%0fQ%f1%2c%05%1aM%d53%ae%e3&peer_id=-TR3000-zdp1onm8ps66&port=51999&uploaded=0&downloaded=0&left=32768&numwant=0&key=33cec472&compact=1&supportcrypto=1&event=stopped',
      { port: 51_999, numwant: 0, event: 'stopped' },
    ],
  ])('as %s sent it is read', (_, query, expected) => {
    const infoHash = '860519101006e897590f51f12c051a4dd533aee3'
    expect(parseAnnounce(query)).toMatchObject({
      infoHash,
      left: 32_768,
      isCompact: true,
      agent: undefined,
      ...expected,
    })
  })

  test.each([
    ['', '`port` is missing or 0'],
    ['port=1', '`info_hash` is missing'],
    [`${least}&port=1`, '`port` is there twice'],
    [least.replace('6881', '65536'), '`port` is no number from 0 to 65535'],
    [least.replace('6881', '1e3'), '`port` is no number'],
    [least.replace('left=0', 'left=-1'), '`left` is no number'],
    [least.replace('&left=0', ''), '`left` is missing'],
    [least.replace('%a1', ''), '`info_hash` has 19 bytes, not 20'],
    [least.replace('%b2', '%b'), '`peer_id` has a percent sign'],
    [`${least}&event=begun`, '`event` is none of started, stopped, completed'],
    [`${least}&ipv6=10.0.0.1`, '`ipv6` is no IPv6 address'],
    [`${least}&ipv6=[::1]:70000`, '`ipv6` is no IPv6 address'],
    [`${least}&hades=1`, '`have` is missing'],
    [`${least}&hades=1&have=1&slow=abc`, '`slow` names a peer without 40 hex digits'],
    [`${least}&hades=1&have=1&slow=${Array.from({ length: 17 }, () => 'a'.repeat(40)).join(',')}`, '17 peers'],
    [`${least}&x=${'y'.repeat(5000)}`, 'the query is over 4096 characters'],
    [`${least}${'&a'.repeat(80)}`, 'over 64 parameters'],
  ])('that is wrong is refused with the parameter at fault: %.90s', (query, message) => {
    expect(() => parseAnnounce(query)).toThrow(message)
  })

  test('may leave out what clients leave out, and say what they say', () => {
    expect(parseAnnounce(`${least}&numwant=-1&event=paused&ip=10.0.0.1&!pf=1&trackerid`)).toMatchObject({
      uploaded: 0,
      isCompact: false,
      numwant: undefined,
      event: undefined,
      agent: undefined,
    })
    expect(parseAnnounce(`${least}&ipv6=2001:db8::5`).ipv6).toEqual({ ip: '2001:db8::5', port: 6881 })
  })

  test('of any bytes is read or refused in words, never anything else', () => {
    const pieces = fc.constantFrom(
      '&',
      '=',
      '%',
      '%zz',
      '%00',
      'port',
      'info_hash=',
      'peer_id=',
      'left=',
      'slow=',
      '[',
      '9',
    )
    const text = fc
      .array(fc.oneof(pieces, fc.string({ maxLength: 8 })), { maxLength: 60 })
      .map((parts) => parts.join(''))
    const torn = fc.tuple(announces.map(formatAnnounce), fc.nat(400), text).map(([query, at, extra]) => {
      return query.slice(0, at) + extra + query.slice(at + extra.length)
    })
    fc.assert(
      fc.property(fc.oneof(text, torn), (query) => {
        try {
          expect(parseAnnounce(query).infoHash).toMatch(/^[0-9a-f]{40}$/)
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
          expect((error as Error).constructor).toBe(Error)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('a scrape', () => {
  test('names one torrent or several', () => {
    expect(parseScrape(`info_hash=${id('a1')}&info_hash=${id('20')}`)).toEqual(['a1'.repeat(20), '20'.repeat(20)])
  })

  test('of everything is refused: torrents are private', () => {
    expect(() => parseScrape('')).toThrow('name the torrents to scrape')
  })
})
