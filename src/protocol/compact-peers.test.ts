import { isIPv6 } from 'node:net'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeEndpoints,
  decodeNamedEndpoints,
  encodeEndpoints,
  encodeNamedEndpoints,
  ipBytes,
  ipText,
} from './compact-peers.ts'

const port = fc.integer({ min: 0, max: 65_535 })

test('an address survives the way into bytes and back, whatever text it came in', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (ip) => {
      const bytes = ipBytes(ip)
      const text = ipText(bytes)
      expect(ipBytes(text)).toEqual(text.includes(':') ? bytes : bytes.subarray(-4))
    }),
  )
})

test('IPv6 is written as RFC 5952 says', () => {
  for (const [from, to] of [
    ['2001:0DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['::', '::'],
    ['fe80::', 'fe80::'],
    ['::ffff:10.77.0.1', '10.77.0.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ] as const) {
    expect(ipText(ipBytes(from))).toBe(to)
    expect(to.includes('.') || isIPv6(to)).toBe(true)
  }
})

test('what is no address is refused', () => {
  for (const ip of ['', 'localhost', '10.0.0', '10.0.0.256', ':::', 'fe80::1%eth0', '1:2:3']) {
    expect(() => ipBytes(ip)).toThrow('is no IP address')
  }
})

test('peers of both families come out of their two lists as they went in', () => {
  const peers = [
    { ip: '10.77.0.11', port: 6881 },
    { ip: '2001:db8::11', port: 6882 },
    { ip: '10.77.0.12', port: 65_535 },
  ]
  const { ipv4, ipv6 } = encodeEndpoints(peers)
  expect(ipv4.toString('hex')).toBe('0a4d000b1ae10a4d000cffff')
  expect(decodeEndpoints(ipv4, 'ipv4')).toEqual([peers[0], peers[2]])
  expect(decodeEndpoints(ipv6, 'ipv6')).toEqual([peers[1]])
  expect(() => decodeEndpoints(ipv4.subarray(1), 'ipv4')).toThrow('no list of peers')
})

test('peers with their ids survive the way of a route', () => {
  const peer = fc.record({
    peerId: fc.stringMatching(/^[0-9a-f]{40}$/),
    ip: fc.oneof(
      fc.ipV4(),
      fc.ipV6().map((ip) => ipText(ipBytes(ip))),
    ),
    port,
  })
  fc.assert(
    fc.property(fc.array(peer, { maxLength: 20 }), (peers) => {
      expect(decodeNamedEndpoints(encodeNamedEndpoints(peers))).toEqual(peers)
    }),
  )
})
