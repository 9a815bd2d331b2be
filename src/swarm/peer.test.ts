import { createHash, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { TokenBucket } from '../lib/rate-limit.ts'
import { until } from '../lib/until.ts'
import { pieceCount } from '../model/swarm.ts'
import { closeAll, connected, MemoryPieces, testSwarm } from './peer-testing.ts'

const mib = 1024 * 1024
const fast = { timeoutMs: 10_000, everyMs: 2 }

function pair(totalBytes: number, pieceBytes: number, options: Parameters<typeof testSwarm>[1] = {}) {
  const bytes = randomBytes(totalBytes)
  const seed = testSwarm(MemoryPieces.full(bytes, pieceBytes))
  const leech = testSwarm(new MemoryPieces({ totalBytes, pieceBytes }), options)
  return { bytes, seed, leech, pieces: Array.from({ length: pieceCount(leech.store.geometry) }, (_, i) => i) }
}

test('64 MiB go from agent to agent in whole pieces, unchanged', async () => {
  const { bytes, seed, leech, pieces } = pair(64 * mib + 12_345, mib)
  const { listener, peer, other } = await connected(leech, seed)
  expect([peer.kind, other.kind]).toEqual(['agent', 'agent'])
  expect(peer.client).toBe('HaDeS test')
  await until('the peer has told what it holds', () => leech.had.length === pieces.length, fast)
  peer.request(pieces)
  await until('all pieces', () => leech.store.pieces.size === pieces.length, fast)
  expect(leech.store.sha1()).toBe(createHash('sha1').update(bytes).digest('hex'))
  expect([peer.receivedBytes, other.sentBytes]).toEqual([bytes.length, bytes.length])
  await until('the news of them all', () => other.heldCount === pieces.length, fast)
  await closeAll(listener, seed, leech)
  await until('both sides closed', () => leech.closed.length + seed.closed.length === 2, fast)
})
