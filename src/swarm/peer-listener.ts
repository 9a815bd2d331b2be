// Opens connections to peers and takes those of others, up to the moment when both sides have named the same torrent and
// the peer is ready (peer.ts). One listener serves all swarms of a process.
import { connect, createServer, type Socket } from 'node:net'
import { decodeHandshake, encodeHandshake, type Handshake } from '../protocol/peer-wire.ts'
import { Peer, type PeerDirection, type PeerSwarm } from './peer.ts'

/** From the connection to the other's handshake. */
const handshakeMsMax = 10_000

const connectMsMax = 5_000

/** Connections without a peer yet. A handshake takes milliseconds: when there are more, the oldest gives way. */
const halfOpenMax = 64

/** Connections from one address; hosts behind one address translation share it. */
const perAddressMaxDefault = 64

/** All connections of a process that others have opened. */
const connectionsMax = 1024

/** Hosts of a large rollout start together. */
const backlog = 1024

/**
 * One for all sockets that we open: what is read into it is used up before the next read. Handing out a fresh buffer for
 * each read, as Node does by itself, costs a third of the throughput.
 */
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024)

export type PeerListener = {
  readonly port: number
  /** Stops taking connections; those of peers that are ready are closed by their owners. */
  close(): Promise<void>
}

export type ListenOptions = {
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  /** By info-hash, 40 hex digits. May change while we listen. */
  readonly swarms: ReadonlyMap<string, PeerSwarm>
  readonly perAddressMax?: number
  /** A connection came to nothing. */
  readonly onTurnedAway?: (ip: string, reason: Error) => void
}

export async function listenForPeers(options: ListenOptions): Promise<PeerListener> {
  const { host, port, swarms, perAddressMax = perAddressMaxDefault, onTurnedAway } = options
  const halfOpen = new Set<Socket>()
  const perAddress = new Map<string, number>()
  const server = createServer({ noDelay: true }, (socket) => {
    const ip = socket.remoteAddress ?? ''
    const count = (perAddress.get(ip) ?? 0) + 1
    perAddress.set(ip, count)
    socket.once('close', () => {
      const left = (perAddress.get(ip) ?? 1) - 1
      if (left > 0) perAddress.set(ip, left)
      else perAddress.delete(ip)
    })
    const swarmOf = (infoHash: string) => swarms.get(infoHash)
    const { receive, ready } = shakeHands(socket, { direction: 'incoming', swarmOf })
    socket.on('data', receive)
    halfOpen.add(socket)
    ready.then(
      () => halfOpen.delete(socket),
      (reason: Error) => {
        halfOpen.delete(socket)
        onTurnedAway?.(ip, reason)
      },
    )
    if (count > perAddressMax) socket.destroy(new Error(`more than ${perAddressMax} connections from ${ip}`))
    else if (halfOpen.size > halfOpenMax) {
      const [oldest] = halfOpen
      oldest?.destroy(new Error(`more than ${halfOpenMax} connections without a handshake`))
    }
  })
  server.maxConnections = connectionsMax
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, backlog }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  // A connection that could not be accepted (too many open files) is the other's to try again.
  server.on('error', (error) => onTurnedAway?.('', error))
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        for (const socket of halfOpen) socket.destroy(new Error('the listener is closed'))
        server.close(() => resolve())
      }),
  }
}

/**
 * Connects to a peer; resolves when it is ready, after `onReady`. Rejects with the reason when it cannot be reached, speaks
 * of another torrent, is not wanted, or `signal` aborts.
 */
export async function connectPeer(
  swarm: PeerSwarm,
  { ip, port }: { readonly ip: string; readonly port: number },
  signal?: AbortSignal,
): Promise<Peer> {
  signal?.throwIfAborted()
  let receive: ((chunk: Buffer) => void) | undefined
  const socket = connect({
    host: ip,
    port,
    noDelay: true,
    onread: {
      buffer: readBuffer,
      callback: (bytes) => {
        receive?.(readBuffer.subarray(0, bytes))
        return true
      },
    },
  })
  const expected = swarm.infoHash.toString('hex')
  const swarmOf = (infoHash: string) => (infoHash === expected ? swarm : undefined)
  const meeting = shakeHands(socket, { direction: 'outgoing', swarmOf })
  receive = meeting.receive
  const deadline = setTimeout(() => socket.destroy(new Error(`no connection within ${connectMsMax} ms`)), connectMsMax)
  socket.once('connect', () => {
    clearTimeout(deadline)
    socket.write(ourHandshake(swarm))
  })
  const abort = () => socket.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
  signal?.addEventListener('abort', abort, { once: true })
  try {
    return await meeting.ready
  } catch (cause) {
    throw new Error(`no peer at ${ip} port ${port}`, { cause })
  } finally {
    clearTimeout(deadline)
    signal?.removeEventListener('abort', abort)
  }
}

function ourHandshake({ infoHash, peerId }: PeerSwarm): Buffer {
  return encodeHandshake({ infoHash, peerId, isFast: true, isExtended: true })
}

type Meeting = {
  /** Takes what comes from the socket, from the first byte to the last. */
  readonly receive: (chunk: Buffer) => void
  readonly ready: Promise<Peer>
}

/** Reads the other's handshake, answers it if the other was first, and makes the peer. */
function shakeHands(
  socket: Socket,
  options: {
    readonly direction: PeerDirection
    readonly swarmOf: (infoHash: string) => PeerSwarm | undefined
  },
): Meeting {
  const { promise, resolve, reject } = Promise.withResolvers<Peer>()
  let peer: Peer | undefined
  let received = Buffer.alloc(0)
  const deadline = setTimeout(
    () => socket.destroy(new Error(`no handshake within ${handshakeMsMax} ms`)),
    handshakeMsMax,
  )
  const onError = (error: Error) => reject(error)
  const onClose = () => {
    clearTimeout(deadline)
    reject(new Error('the connection was closed before the handshake'))
  }
  socket.on('error', onError)
  socket.once('close', onClose)

  const meet = (handshake: Handshake, rest: Buffer) => {
    clearTimeout(deadline)
    const swarm = options.swarmOf(handshake.infoHash.toString('hex'))
    if (swarm === undefined) throw new Error(`nobody here has the torrent ${handshake.infoHash.toString('hex')}`)
    requireWanted(swarm, handshake, socket, options.direction)
    if (options.direction === 'incoming') socket.write(ourHandshake(swarm))
    socket.off('error', onError)
    socket.off('close', onClose)
    const met: Peer = new Peer({
      swarm,
      socket,
      handshake,
      direction: options.direction,
      // A peer without extensions is ready before its constructor returns.
      settled: (reason) => queueMicrotask(() => (reason === undefined ? resolve(met) : reject(reason))),
    })
    peer = met
    if (rest.length > 0) met.receive(rest)
  }

  return {
    ready: promise,
    receive: (chunk) => {
      if (peer !== undefined) {
        peer.receive(chunk)
        return
      }
      if (socket.destroyed) return
      try {
        received = Buffer.concat([received, chunk])
        const handshake = decodeHandshake(received)
        if (handshake !== undefined) meet(handshake, received.subarray(68))
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error(String(error)))
      }
    },
  }
}

function requireWanted(swarm: PeerSwarm, handshake: Handshake, socket: Socket, direction: PeerDirection): void {
  if (handshake.peerId.equals(swarm.peerId)) throw new Error('that is ourselves')
  const refusal = swarm.refuse({
    peerId: handshake.peerId.toString('hex'),
    direction,
    ip: socket.remoteAddress ?? '',
    port: socket.remotePort ?? 0,
  })
  if (refusal !== undefined) throw new Error(refusal)
}
