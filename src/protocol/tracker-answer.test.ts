import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeBencode, encodeBencode } from './bencode.ts'
import {
  type AnnounceAnswer,
  decodeAnswer,
  encodeAnswer,
  encodeRefusal,
  encodeScrape,
  type WireRoute,
} from './tracker-answer.ts'

const peerA = { peerId: 'a1'.repeat(20), ip: '10.77.0.11', port: 6881 }
const peerB = { peerId: 'b2'.repeat(20), ip: '2001:db8::12', port: 6882 }
const route: WireRoute = {
  version: 1_700_000_000_007,
  stripes: 2,
  stripePieces: 8,
  sources: [[peerA, peerB], []],
  depth: [3, 0],
  successors: [peerB],
  far: [peerB.peerId],
}
const answer: AnnounceAnswer = {
  intervalSeconds: 30,
  minIntervalSeconds: 5,
  complete: 1,
  incomplete: 2,
  peers: [peerA, peerB],
}

test('a compact answer has peers of both families without their ids', () => {
  const bytes = encodeAnswer(answer, { isCompact: true, noPeerId: false })
  expect(bytes.toString('latin1')).toContain('5:peers6:\x0a\x4d\x00\x0b\x1a\xe16:peers618:')
  const peers = [peerA, peerB].map(({ ip, port }) => ({ ip, port }))
  expect(decodeAnswer(bytes)).toEqual({ ...answer, peers, warning: undefined, agent: undefined })
})

test('an answer as of before BEP 23 lists peers with their ids, unless they are not wanted', () => {
  expect(decodeAnswer(encodeAnswer(answer, { isCompact: false, noPeerId: false }))).toMatchObject({
    peers: [peerA, peerB],
  })
  const bare = decodeAnswer(encodeAnswer(answer, { isCompact: false, noPeerId: true }))
  expect(bare).toMatchObject({ peers: [{ ip: peerA.ip }, { ip: peerB.ip }] })
  expect(JSON.stringify(bare)).not.toContain('peerId')
})

test('a route survives the way to the agent', () => {
  const bytes = encodeAnswer(
    { ...answer, warning: 'soon down', agent: { nextMs: 1000, route } },
    { isCompact: true, noPeerId: true },
  )
  expect(decodeAnswer(bytes)).toMatchObject({ warning: 'soon down', agent: { nextMs: 1000, route } })
  const without = encodeAnswer(
    { ...answer, agent: { nextMs: 250, route: undefined } },
    { isCompact: true, noPeerId: true },
  )
  expect(decodeAnswer(without)).toMatchObject({ agent: { nextMs: 250, route: undefined } })
})

test('a refusal says why, and when to come again', () => {
  expect(decodeAnswer(encodeRefusal({ reason: 'too often', retryInMinutes: 1 }))).toEqual({
    reason: 'too often',
    retryInMinutes: 1,
  })
  expect(encodeRefusal({ reason: 'no', retryInMinutes: 'never' }).toString()).toBe(
    'd14:failure reason2:no8:retry in5:nevere',
  )
})

test('a scrape has counts by the raw info-hash', () => {
  const bytes = encodeScrape(new Map([['ff'.repeat(20), { complete: 1, downloaded: 2, incomplete: 3 }]]))
  expect(decodeBencode(bytes)).toEqual({
    files: { ['\xff'.repeat(20)]: { complete: 1, downloaded: 2, incomplete: 3 } },
  })
})

describe('an answer that is none', () => {
  test.each([
    [Buffer.from('hello'), 'bencode'],
    [encodeBencode([]), 'no dictionary'],
    [encodeBencode({}), '`interval` is no number'],
    [encodeBencode({ interval: -1 }), '`interval` is no number'],
    [encodeBencode({ interval: 1, peers: 'abc' }), 'no list of peers'],
    [encodeBencode({ interval: 1, peers: 7 }), '`peers` is neither'],
    [encodeBencode({ interval: 1, peers: [{ ip: 'example.org', port: 1 }] }), 'no IP address'],
    [encodeBencode({ interval: 1, hades: {} }), '`next` is no number'],
    [encodeBencode({ interval: 1, hades: { next: 1, sources: [], depth: [], run: 1, version: 1 } }), '0 stripes'],
    [encodeBencode({ interval: 1, hades: { next: 1, sources: [''], depth: [0], run: 0, version: 1 } }), 'is none'],
  ])('is refused: %s', (bytes, message) => {
    expect(() => decodeAnswer(bytes)).toThrow(message)
  })

  test('whatever its bytes are, is an Error or an answer', () => {
    const whole = encodeAnswer({ ...answer, agent: { nextMs: 1, route } }, { isCompact: true, noPeerId: true })
    const flips = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
    const broken = flips.map((list) => {
      const bytes = Buffer.from(whole)
      for (const [at, byte] of list) bytes[at] = byte
      return bytes
    })
    const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
    fc.assert(
      fc.property(fc.oneof(broken, noise), (bytes) => {
        try {
          expect(decodeAnswer(bytes)).toBeTypeOf('object')
        } catch (error) {
          expect((error as Error).constructor).toBe(Error)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
