import { createHash, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { TokenBucket } from '../lib/rate-limit.ts'
import { until } from '../lib/until.ts'
import { pieceCount } from '../model/swarm.ts'
import { connectPeer } from './peer-listener.ts'
import { closeAll, connected, listenFor, MemoryPieces, ownPeerId, testSwarm } from './peer-testing.ts'

const mib = 1024 * 1024
const soon = { timeoutMs: 10_000, everyMs: 2 }

function pair(totalBytes: number, pieceBytes: number, options: Parameters<typeof testSwarm>[1] = {}) {
  const bytes = randomBytes(totalBytes)
  const seed = testSwarm(MemoryPieces.full(bytes, pieceBytes), options)
  const leech = testSwarm(new MemoryPieces({ totalBytes, pieceBytes }))
  const pieces = Array.from({ length: pieceCount(leech.store.geometry) }, (_, piece) => piece)
  return { bytes, sha1: createHash('sha1').update(bytes).digest('hex'), seed, leech, pieces }
}

test('64 MiB go from agent to agent in whole pieces, unchanged', async () => {
  const { bytes, sha1, seed, leech, pieces } = pair(64 * mib + 12_345, mib)
  const { listener, peer, other } = await connected(leech, seed)
  expect([peer.kind, other.kind]).toEqual(['agent', 'agent'])
  expect(peer.client).toBe('HaDeS test')
  expect(peer.id).toBe(seed.swarm.peerId.toString('hex'))
  await until('the peer has told what it holds', () => leech.had.length === pieces.length, soon)
  peer.request(pieces)
  await until('all pieces', () => leech.store.pieces.size === pieces.length, soon)
  expect(leech.store.sha1()).toBe(sha1)
  expect([peer.receivedBytes, other.sentBytes]).toEqual([bytes.length, bytes.length])
  await until('the news of them all', () => other.heldCount === pieces.length, soon)
  await closeAll(listener, seed, leech)
  await until('both sides closed', () => leech.closed.length + seed.closed.length === 2, soon)
})

test('bytes go both ways at once, whoever opened the connection', async () => {
  const { sha1, seed, leech, pieces } = pair(16 * mib, mib)
  const half = pieces.filter((piece) => piece % 2 === 0)
  for (const piece of half) {
    leech.store.pieces.set(piece, seed.store.read(piece))
    seed.store.pieces.delete(piece)
  }
  const { listener, peer, other } = await connected(seed, leech)
  peer.request(half)
  other.request(pieces.filter((piece) => piece % 2 === 1))
  await until('all pieces on both sides', () => leech.store.pieces.size + seed.store.pieces.size === 32, soon)
  expect([leech.store.sha1(), seed.store.sha1()]).toEqual([sha1, sha1])
  await closeAll(listener, seed, leech)
})

test('a chain of agents relays each piece as it comes: what is asked for too early is parked', async () => {
  const { bytes, sha1, seed, leech: last, pieces } = pair(8 * mib, mib)
  const middle = testSwarm(new MemoryPieces(seed.store.geometry))
  const first = await listenFor(seed)
  const second = await connected(last, middle)
  second.peer.request(pieces)
  await until('all requests are parked', () => second.other.waitingRequests === pieces.length, soon)
  expect(last.refused).toEqual([])
  const up = await connectPeer(middle.swarm, { ip: '127.0.0.1', port: first.port })
  up.request(pieces)
  await until('the end of the chain has all', () => last.store.pieces.size === pieces.length, soon)
  expect(last.store.sha1()).toBe(sha1)
  expect(second.other.sentBytes).toBe(bytes.length)
  await closeAll(first, seed)
  await closeAll(second.listener, middle, last)
})

test('a parked request that is taken back is not answered', async () => {
  const { seed, leech } = pair(4 * mib, mib)
  const kept = new Map(seed.store.pieces)
  seed.store.pieces.clear()
  const { listener, peer, other } = await connected(leech, seed)
  peer.request([0, 1, 2])
  await until('they are parked', () => other.waitingRequests === 3, soon)
  peer.cancel(1)
  await until('one is taken back', () => other.waitingRequests === 2, soon)
  for (const [piece, bytes] of kept) seed.store.pieces.set(piece, bytes)
  other.have(kept.keys())
  await until('the other two', () => leech.store.pieces.size === 2, soon)
  // Asked again it comes: the answer to the first question was the reject.
  peer.request([1])
  await until('the third', () => leech.store.pieces.has(1), soon)
  expect(peer.receivedBytes).toBe(3 * mib)
  expect([leech.refused, leech.closed]).toEqual([[], []])
  await closeAll(listener, seed, leech)
})

test('of pieces that are asked for, those taken back in time are not sent', async () => {
  const egress = new TokenBucket({ bytesPerSecond: 32 * mib, burstBytes: mib })
  const { seed, leech, pieces } = pair(16 * mib, mib, { egress })
  const { listener, peer, other } = await connected(leech, seed)
  peer.request(pieces)
  for (const piece of pieces.slice(4)) peer.cancel(piece)
  await until('the first four', () => leech.store.pieces.size === 4, soon)
  await until('nothing waits', () => other.waitingRequests === 0, soon)
  expect(other.sentBytes).toBe(4 * mib)
  await closeAll(listener, seed, leech)
})

test('caps hold in both directions', async () => {
  for (const cap of ['egress', 'ingress'] as const) {
    const { seed, leech, pieces } = pair(4 * mib, mib)
    const bucket = new TokenBucket({ bytesPerSecond: 8 * mib, burstBytes: 256 * 1024 })
    const capped = testSwarm(cap === 'egress' ? seed.store : leech.store, { [cap]: bucket })
    const from = cap === 'egress' ? capped : seed
    const to = cap === 'egress' ? leech : capped
    const { listener, peer } = await connected(to, from)
    const start = performance.now()
    peer.request(pieces)
    await until('all pieces', () => to.store.pieces.size === pieces.length, soon)
    // 4 MiB at 8 MiB/s, less the burst and the last piece, whose bytes are paid for by whoever is next.
    const seconds = (performance.now() - start) / 1000
    expect(seconds).toBeGreaterThan(0.3)
    await closeAll(listener, from, to)
  }
})

test('pieces that are dropped are told, and refused to who asked for them', async () => {
  const { seed, leech } = pair(4 * mib, mib)
  const { listener, peer, other } = await connected(leech, seed)
  await until('the peer has told what it holds', () => leech.had.length === 4, soon)
  seed.store.pieces.delete(2)
  other.dontHave([2])
  await until('that is heard', () => leech.dropped.length === 1, soon)
  expect([leech.dropped, peer.holds(2), peer.heldCount]).toEqual([[2], false, 3])
  // The store says that it has the piece and cannot give it.
  seed.store.has = () => true
  peer.request([2])
  await until('it is refused', () => leech.refused.length === 1, soon)
  expect(leech.refused).toEqual([2])
  peer.request([3])
  await until('another is given', () => leech.store.pieces.has(3), soon)
  await closeAll(listener, seed, leech)
})

test('an agent that needs a part says what it will never have, and refuses it', async () => {
  const { seed, leech } = pair(4 * mib, mib)
  for (const piece of [0, 2]) seed.store.pieces.delete(piece)
  const part = { ...seed, swarm: { ...seed.swarm, never: new Set([0]) } }
  const { listener, peer } = await connected(leech, part)
  await until('that is heard', () => leech.never.length === 1, soon)
  expect(leech.never).toEqual([0])
  // Piece 2 is parked: it may come yet.
  peer.request([0, 2])
  await until('it is refused', () => leech.refused.length === 1, soon)
  expect(leech.refused).toEqual([0])
  await closeAll(listener, part, leech)
})

test('more requests than an agent may park are refused', async () => {
  const { seed, leech, pieces } = pair(1100 * 16 * 1024, 16 * 1024)
  seed.store.pieces.clear()
  const { listener, peer, other } = await connected(leech, seed)
  peer.request(pieces)
  await until('what is too much is refused', () => leech.refused.length === 76, soon)
  expect(other.waitingRequests).toBe(1024)
  await closeAll(listener, seed, leech)
})

test('nobody is a peer of itself, and of two connections to one peer the owner keeps one', async () => {
  const { seed, leech } = pair(mib, mib)
  const turnedAway: string[] = []
  const listener = await listenFor(seed, { onTurnedAway: (_, reason) => turnedAway.push(reason.message) })
  const at = { ip: '127.0.0.1', port: listener.port }
  await expect(connectPeer(seed.swarm, at)).rejects.toMatchObject({ message: expect.stringContaining('no peer at') })
  await connectPeer(leech.swarm, at)
  await until('the other side is ready', () => seed.peers.length === 1, soon)
  // The same peer id, from a process that does not know of the first connection.
  const twin = testSwarm(leech.store, { peerId: leech.swarm.peerId })
  await expect(connectPeer(twin.swarm, at)).rejects.toThrow('no peer at')
  expect(turnedAway).toEqual(['that is ourselves', 'connected already'])
  expect([seed.closed.length, seed.peers.length]).toEqual([0, 1])
  await closeAll(listener, seed, leech)
})

test('who asks for another torrent is told nothing', async () => {
  const { seed, leech } = pair(mib, mib)
  const listener = await listenFor(seed)
  const other = testSwarm(leech.store, { infoHash: Buffer.alloc(20, 9), peerId: ownPeerId() })
  await expect(connectPeer(other.swarm, { ip: '127.0.0.1', port: listener.port })).rejects.toThrow('no peer at')
  await closeAll(listener, seed)
})

test('a connection that is given up rejects with the reason', async () => {
  const { seed, leech } = pair(mib, mib)
  const listener = await listenFor(seed)
  const stop = new AbortController()
  const attempt = connectPeer(leech.swarm, { ip: '127.0.0.1', port: listener.port }, stop.signal)
  stop.abort(new Error('enough'))
  await expect(attempt).rejects.toMatchObject({ cause: { message: 'enough' } })
  await listener.close()
  await expect(connectPeer(leech.swarm, { ip: '127.0.0.1', port: listener.port })).rejects.toMatchObject({
    cause: { code: 'ECONNREFUSED' },
  })
})
