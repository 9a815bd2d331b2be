import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import type { SwarmHostView, SwarmView } from '../contract/swarm-types.ts'
import { line, text } from './swarm.ts'

const MiB = 2 ** 20
const began = Date.parse('2026-01-01T12:00:00Z')

function host(name: string, said: Partial<SwarmHostView>): SwarmHostView {
  const none = { receivedBytes: 0, verifiedBytes: 0, writtenBytes: 0, durableBytes: 0, toPeersBytes: 0 }
  return {
    host: name,
    deployment: 1,
    state: 'deploying',
    step: 'transfer',
    doneBytes: 50 * MiB,
    totalBytes: 200 * MiB,
    bytesPerSecond: 10 * MiB,
    isSlow: false,
    fromOriginBytes: 0,
    fromPeersBytes: 0,
    sources: [],
    ...none,
    ...said,
  }
}

const swarm: SwarmView = {
  rollout: 7,
  setup: 'debian:1',
  startedAt: new Date(began).toISOString(),
  engine: 'swarm',
  redeploy: 'full',
  lingerSeconds: 60,
  egressBytesPerSecond: 100 * MiB,
  images: [],
  totals: {
    hosts: 40,
    waiting: 1,
    running: 36,
    ended: 2,
    lost: 1,
    originBytes: 17 * MiB,
    peersBytes: 83 * MiB,
    copiesOutOfOrigin: 1.02,
    receivedBytesPerSecond: 360 * MiB,
  },
  estimateEndAt: new Date(began + 120_000).toISOString(),
  stragglersEndAt: new Date(began + 3_720_000).toISOString(),
  hosts: [
    host('n03', {
      isSlow: true,
      bytesPerSecond: MiB,
      predecessor: 'n02',
      site: 'turin',
      rack: 'r1',
      toPeersBytes: MiB,
    }),
    host('a-host-with-a-very-long-name-indeed', { fromOriginBytes: 50 * MiB, sources: [{ name: 'origin', bytes: 1 }] }),
    host('n04', { state: 'booting', step: undefined, doneBytes: 0, totalBytes: 0, bytesPerSecond: 0 } as never),
  ],
}

test('one line says how far the swarm is, how much left the origin, and when it ends', () => {
  expect(line(swarm, began + 60_000).replace(/\(.*?\)/g, '(t)')).toBe(
    '40 hosts: 36 fetching, 2 have it, 1 to come, 1 lost · 360 MiB/s · 1.02 copies out of the origin · from peers 83 % · ' +
      'ends in 1 min 0 s (t) · stragglers in 1 h 1 min (t)',
  )
})

test('hosts stand in a table that keeps its width, slow ones marked, those not shown counted', () => {
  const lines = text(swarm, began + 60_000).map(stripVTControlCharacters)
  expect(lines[0]).toBe('rollout 7  debian:1  by swarm, out 100 MiB/s  1 min 0 s')
  const rows = lines.slice(4, 7).map((row) => row.split(/ {2,}/))
  expect(rows[0]).toEqual(['n03', 'turin/r1', 'transfer', '25 %', '1.0 MiB/s', '0 B', '0 B', '1.0 MiB', 'n02', 'slow'])
  expect(rows[1]?.[0]).toBe('a-host-with-a-very-…')
  expect(rows[1]?.at(-2)).toBe('origin')
  expect(rows[2]?.slice(2, 5)).toEqual(['booting', '0 %', '0 B/s'])
  expect(lines.at(-1)).toBe('and 37 more')
  expect(Math.max(...lines.slice(2).map((row) => row.length))).toBeLessThan(130)
})

test('before anything came nothing is said of shares and ends', () => {
  const { estimateEndAt, stragglersEndAt, ...rest } = swarm
  expect(estimateEndAt).not.toBe(stragglersEndAt)
  const totals = { ...swarm.totals, originBytes: 0, peersBytes: 0, running: 0, ended: 0, lost: 0, copiesOutOfOrigin: 0 }
  expect(line({ ...rest, totals }, began)).toBe(
    '40 hosts: 0 fetching, 0 have it, 1 to come · 360 MiB/s · 0.00 copies out of the origin',
  )
})
