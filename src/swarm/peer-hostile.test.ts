// Peers that mean no good, written with raw sockets: each costs itself its connection and nobody else anything.
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { until } from '../lib/until.ts'
import { encodeMessages, encodePieceHeader, type PeerMessage } from '../protocol/peer-wire.ts'
import { connectPeer, listenForPeers } from './peer-listener.ts'
import {
  closeAll,
  listenFor,
  MemoryPieces,
  rawPeer,
  strangerHandshake,
  type TestSwarm,
  testSwarm,
} from './peer-testing.ts'

const soon = { timeoutMs: 10_000, everyMs: 2 }
const pieceBytes = 256 * 1024

function seeded(pieces = 4): TestSwarm {
  return testSwarm(MemoryPieces.full(randomBytes(pieces * pieceBytes), pieceBytes))
}

function message(kind: 'interested' | 'have-all' | 'have-none' | 'unchoke'): Buffer {
  return encodeMessages([{ kind }])
}

/** A header that says nothing true. */
function raw(length: number, id: number): Buffer {
  const bytes = Buffer.alloc(5)
  bytes.writeUInt32BE(length)
  bytes[4] = id
  return bytes
}

function requests(count: number, length = 16 * 1024): Buffer {
  const blocks = Array.from({ length: count }, (_, index): PeerMessage => {
    const offset = index * 16
    return { kind: 'request', piece: Math.floor(offset / 100_000), begin: offset % 100_000, length }
  })
  return encodeMessages(blocks)
}

describe('a stranger is closed with the reason when it sends', () => {
  test.each([
    ['a message that does not exist', false, raw(1, 99), 'there is no message 99'],
    [
      'a bitfield of the wrong length',
      false,
      Buffer.concat([raw(3, 5), Buffer.alloc(2)]),
      'bitfield cannot have 3 bytes',
    ],
    ['a message of BEP 6 without saying that it knows it', false, message('have-all'), 'without the fast extension'],
    ['an oversized message', false, raw(200_000_000, 20), 'extended cannot have 200000000 bytes'],
    ['a piece nobody asked for', false, encodePieceHeader({ piece: 0, begin: 0, length: 16_384 }), 'nobody had asked'],
    [
      'a reject nobody asked for',
      true,
      encodeMessages([{ kind: 'reject', piece: 0, begin: 0, length: 1 }]),
      'nobody had asked',
    ],
    ['a request of more than any client', false, requests(1, 128 * 1024 + 1), 'more than 131072'],
    [
      'a request outside of the torrent',
      false,
      encodeMessages([{ kind: 'request', piece: 9, begin: 0, length: 1 }]),
      'request of piece 9',
    ],
  ])('%s', async (_, isFast, bytes, reason) => {
    const world = seeded()
    const listener = await listenFor(world)
    const peer = await rawPeer(listener.port)
    peer.socket.write(Buffer.concat([strangerHandshake({ isFast }), bytes]))
    await peer.ended
    await until('it is closed', () => world.closed.length === 1, soon)
    expect(world.closed[0]?.reason?.message).toContain(reason)
    await closeAll(listener, world)
  })

  test('a flood of requests', async () => {
    const world = seeded()
    const listener = await listenFor(world)
    const peer = await rawPeer(listener.port)
    peer.socket.pause()
    peer.socket.write(Buffer.concat([strangerHandshake(), message('interested')]))
    await until('it is ready', () => world.peers[0], soon)
    // It never reads: what is asked for stands in the queue.
    peer.socket.write(requests(2000))
    await until('it is closed', () => world.closed.length === 1, soon)
    expect(world.closed[0]?.reason?.message).toBe('more than 512 requests wait')
    await closeAll(listener, world)
  })

  test('questions without end whose answers it does not read', async () => {
    const world = seeded()
    const listener = await listenFor(world)
    const peer = await rawPeer(listener.port)
    peer.socket.pause()
    peer.socket.write(strangerHandshake({ isFast: true }))
    await until('it is ready', () => world.peers[0], soon)
    const flood = requests(5000)
    const go = () => {
      while (!peer.socket.destroyed && peer.socket.write(flood)) {}
    }
    peer.socket.on('drain', go)
    go()
    await until('it is closed', () => world.closed.length === 1, soon)
    expect(world.closed[0]?.reason?.message).toBe('the peer does not read')
    peer.socket.destroy()
    await closeAll(listener, world)
  })
})

describe('a seeder is closed with the reason when it sends', () => {
  /** A server that answers the handshake and then sends `answer` to the first request. */
  async function lyingSeeder(answer: Buffer) {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        socket.write(Buffer.concat([strangerHandshake({ isFast: true }), message('have-all'), message('unchoke')]))
        socket.on('data', (bytes: Buffer) => {
          // 13 and 6: the first request.
          if (bytes.includes(Buffer.of(0, 0, 0, 13, 6))) socket.write(answer)
        })
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    return { server, port: typeof address === 'object' && address !== null ? address.port : 0 }
  }

  test.each([
    ['another block', encodePieceHeader({ piece: 1, begin: 0, length: 16_384 }), 'nobody had asked for them'],
    ['a longer block', encodePieceHeader({ piece: 0, begin: 0, length: 16_385 }), 'where 16384 were asked for'],
    [
      'a block twice',
      Buffer.concat(
        Array.from({ length: 2 }, () => [
          encodePieceHeader({ piece: 0, begin: 0, length: 16_384 }),
          Buffer.alloc(16_384),
        ]).flat(),
      ),
      'nobody had asked',
    ],
  ])('%s', async (_, answer, reason) => {
    const { server, port } = await lyingSeeder(answer)
    const world = testSwarm(new MemoryPieces({ totalBytes: 4 * pieceBytes, pieceBytes }))
    const peer = await connectPeer(world.swarm, { ip: '127.0.0.1', port })
    await until('it offers its pieces', () => world.had.length === 4, soon)
    peer.request([0])
    await until('it is closed', () => world.closed.length === 1, soon)
    expect(world.closed[0]?.reason?.message).toContain(reason)
    expect(world.store.pieces.size).toBe(0)
    await new Promise((resolve) => server.close(resolve))
  })
})

describe('the listener', () => {
  test('closes what is not BitTorrent, or another torrent, before it says anything', async () => {
    const world = seeded()
    const reasons: string[] = []
    const listener = await listenFor(world, { onTurnedAway: (_, reason) => reasons.push(reason.message) })
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n'), strangerHandshake({ infoHash: Buffer.alloc(20, 3) })]) {
      const peer = await rawPeer(listener.port)
      peer.socket.write(bytes)
      await peer.ended
      expect(peer.received().length).toBe(0)
    }
    await until('both are told', () => reasons.length === 2, soon)
    expect(reasons[0]).toContain('does not begin with the handshake')
    expect(reasons[1]).toContain('nobody here has the torrent 0303')
    await listener.close()
  })

  test('takes peers though others hold connections open without a word', async () => {
    const world = seeded()
    const reasons: string[] = []
    const listener = await listenFor(world, {
      perAddressMax: 200,
      onTurnedAway: (_, { message }) => reasons.push(message),
    })
    const silent = await Promise.all(Array.from({ length: 70 }, () => rawPeer(listener.port)))
    const other = testSwarm(new MemoryPieces(world.store.geometry))
    const peer = await connectPeer(other.swarm, { ip: '127.0.0.1', port: listener.port })
    peer.request([0])
    await until('it is served', () => other.store.pieces.has(0), soon)
    await until('the oldest have given way', () => reasons.length === 7, soon)
    expect(new Set(reasons)).toEqual(new Set(['more than 64 connections without a handshake']))
    for (const { socket } of silent) socket.destroy()
    await closeAll(listener, world, other)
  })

  test('takes so many connections from one address', async () => {
    const world = seeded()
    const reasons: string[] = []
    const listener = await listenFor(world, {
      perAddressMax: 2,
      onTurnedAway: (_, { message }) => reasons.push(message),
    })
    const peers = []
    for (let count = 0; count < 3; count++) {
      const peer = await rawPeer(listener.port)
      peer.socket.write(strangerHandshake())
      peers.push(peer)
    }
    await peers[2]?.ended
    expect(reasons).toEqual(['more than 2 connections from 127.0.0.1'])
    expect(world.peers.length).toBe(2)
    await closeAll(listener, world)
    await Promise.all(peers.map(({ ended }) => ended))
  })

  test('says when its port is taken', async () => {
    const world = seeded()
    const listener = await listenFor(world)
    const again = listenForPeers({ host: '127.0.0.1', port: listener.port, swarms: new Map() })
    await expect(again).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await listener.close()
  })
})

test('a peer that resets is closed once, with the reason', async () => {
  const world = seeded()
  const listener = await listenFor(world)
  const peer = await rawPeer(listener.port)
  peer.socket.write(Buffer.concat([strangerHandshake(), message('interested'), requests(10)]))
  await until('it is ready', () => world.peers[0], soon)
  peer.socket.resetAndDestroy()
  await until('it is closed', () => world.closed.length === 1, soon)
  expect(world.closed[0]?.reason).toBeInstanceOf(Error)
  await closeAll(listener, world)
  expect(world.closed.length).toBe(1)
})

test('two strangers that say they are the same: the second is refused', async () => {
  const world = seeded()
  const reasons: string[] = []
  const listener = await listenFor(world, { onTurnedAway: (_, reason) => reasons.push(reason.message) })
  const handshake = strangerHandshake()
  const first = await rawPeer(listener.port)
  first.socket.write(handshake)
  await until('it is ready', () => world.peers[0], soon)
  const second = await rawPeer(listener.port)
  second.socket.write(handshake)
  await second.ended
  expect([reasons, world.peers.length]).toEqual([['connected already'], 1])
  await closeAll(listener, world)
})

test('who accepts and says nothing is given up after ten seconds, and so is who connects and says nothing', async () => {
  const world = seeded()
  const reasons: string[] = []
  const listener = await listenFor(world, { onTurnedAway: (_, reason) => reasons.push(reason.message) })
  const mute = createServer((socket) => socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  const address = mute.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const silent = await rawPeer(listener.port)
  silent.socket.write(strangerHandshake().subarray(0, 60))
  await expect(connectPeer(world.swarm, { ip: '127.0.0.1', port })).rejects.toMatchObject({
    cause: { message: 'no handshake within 10000 ms' },
  })
  await silent.ended
  expect(reasons).toEqual(['no handshake within 10000 ms'])
  await new Promise((resolve) => mute.close(resolve))
  await listener.close()
})

test('who says it knows extensions and names none is a stranger after a while', async () => {
  const world = seeded()
  const listener = await listenFor(world)
  const peer = await rawPeer(listener.port)
  const handshake = strangerHandshake()
  handshake[25] = 0x10
  peer.socket.write(handshake)
  const [ready] = await until('it is ready', () => (world.peers.length > 0 ? world.peers : undefined), soon)
  expect(ready?.kind).toBe('stranger')
  await closeAll(listener, world)
})
