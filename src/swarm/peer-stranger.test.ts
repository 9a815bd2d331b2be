// How a stranger that keeps to the protocol is dealt with, message by message. With real clients: peer-stock.test.ts.
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { until } from '../lib/until.ts'
import { encodeMessages, encodePieceHeader, type PeerMessage, PeerWireDecoder } from '../protocol/peer-wire.ts'
import { closeAll, listenFor, MemoryPieces, rawPeer, strangerHandshake, testSwarm } from './peer-testing.ts'

const soon = { timeoutMs: 10_000, everyMs: 2 }
const pieceBytes = 64 * 1024
const geometry = { totalBytes: 8 * pieceBytes, pieceBytes }

function send(socket: Socket, ...messages: PeerMessage[]): void {
  socket.write(encodeMessages(messages))
}

/** What our side has sent behind its handshake. */
function heard(received: Buffer): PeerMessage[] {
  const messages: PeerMessage[] = []
  new PeerWireDecoder(geometry).push(received.subarray(68), {
    onMessage: (message) => messages.push(message),
    onPieceBegin: () => {},
    onPieceBytes: () => {},
  })
  return messages
}

function kinds(received: Buffer, kind: PeerMessage['kind']): PeerMessage[] {
  return heard(received).filter((message) => message.kind === kind)
}

test('its pieces are offered when it unchokes us, and what was asked is refused when it chokes us without BEP 6', async () => {
  const world = testSwarm(new MemoryPieces(geometry))
  const listener = await listenFor(world)
  const { socket, received } = await rawPeer(listener.port)
  socket.write(strangerHandshake())
  send(socket, { kind: 'bitfield', bits: Buffer.of(0b11000000) })
  await until('we are interested', () => kinds(received(), 'interested').length === 1, soon)
  expect(world.had).toEqual([])
  world.peers[0]?.request([0, 1])
  send(socket, { kind: 'unchoke' }, { kind: 'have', piece: 7 })
  await until('its pieces are offered', () => world.had.length === 3, soon)
  await until('eight blocks of 16 KiB are asked for', () => kinds(received(), 'request').length === 8, soon)
  send(socket, { kind: 'choke' })
  await until('both pieces are refused', () => world.refused.length === 2, soon)
  // What was on its way may still come.
  socket.write(Buffer.concat([encodePieceHeader({ piece: 0, begin: 0, length: 16_384 }), randomBytes(16_384)]))
  send(socket, { kind: 'unchoke' })
  await until('they are offered again', () => world.had.length === 6, soon)
  expect(world.closed).toEqual([])
  await closeAll(listener, world)
})

test('a bitfield that comes later counts as news, as aria2 means it', async () => {
  const world = testSwarm(new MemoryPieces(geometry))
  const listener = await listenFor(world)
  const { socket } = await rawPeer(listener.port)
  socket.write(strangerHandshake())
  send(socket, { kind: 'unchoke' }, { kind: 'bitfield', bits: Buffer.of(0b11000000) })
  send(socket, { kind: 'bitfield', bits: Buffer.of(0b01100000) })
  await until('what it dropped is told', () => world.dropped.length === 1, soon)
  await until('what it got is told', () => world.had.length === 3, soon)
  expect([world.had, world.dropped]).toEqual([[0, 1, 2], [0]])
  await closeAll(listener, world)
})

test('its requests are rejected while it is choked, and served when it is not', async () => {
  const world = testSwarm(MemoryPieces.full(randomBytes(geometry.totalBytes), pieceBytes))
  const listener = await listenFor(world)
  const { socket, received } = await rawPeer(listener.port)
  const block = { piece: 1, begin: 16_384, length: 16_384 }
  socket.write(strangerHandshake({ isFast: true }))
  send(socket, { kind: 'have-none' }, { kind: 'request', ...block })
  await until('it is rejected', () => kinds(received(), 'reject').length === 1, soon)
  expect(kinds(received(), 'have-all').length).toBe(1)
  send(socket, { kind: 'interested' })
  await until('it is unchoked', () => kinds(received(), 'unchoke').length === 1, soon)
  send(socket, { kind: 'request', ...block })
  await until('it is served', () => world.peers[0]?.sentBytes === block.length, soon)
  send(socket, { kind: 'not-interested' })
  await until('it is choked', () => kinds(received(), 'choke').length === 1, soon)
  await closeAll(listener, world)
})
