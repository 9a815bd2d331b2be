// Listeners: several addresses and unix sockets in front of one request handler, with bounds on what clients may take,
// and an end that waits for what is under way.
import { chmod, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../model/failure.ts'
import type { Limits } from './face.ts'

/** In PEM; the certificate with those that lead to its authority. */
export type TlsKeys = { readonly cert: string; readonly key: string }

/** Where a listener has its certificate from, and is told that there is a new one. */
export type TlsSource = { readonly keys: () => TlsKeys; readonly watch: (changed: () => void) => void }

/** Port 0 takes a free one; with `tls` it speaks HTTPS and nothing else. A unix socket is made with mode 0600. */
export type ListenAt =
  | { readonly host: string; readonly port: number; readonly tls?: TlsSource }
  | { readonly socketPath: string }

export type Listeners = {
  /** What each listens at, in the order given, with the ports that were taken. */
  readonly addresses: readonly ListenAt[]
  /** True for a connection over a unix socket. */
  readonly isLocal: (socket: Socket) => boolean
  /** Takes no more, waits `graceMs` for answers under way, then cuts what is left. */
  readonly close: (graceMs: number) => Promise<void>
}

/** Opens all or none. Throws Failure `in-use` when an address is taken, and a plain Error when it cannot be listened at. */
export async function openListeners(
  listen: readonly ListenAt[],
  handler: RequestListener,
  limits: Limits,
): Promise<Listeners> {
  const local = new WeakSet<Socket>()
  const servers: Server[] = []
  const addresses: ListenAt[] = []
  const close = async (graceMs: number): Promise<void> => {
    await Promise.all(servers.map((server) => closeServer(server, graceMs)))
  }
  try {
    for (const at of listen) {
      const server = serverAt(
        at,
        {
          maxHeaderSize: limits.headerBytesMax,
          headersTimeout: limits.headersMs,
          requestTimeout: limits.headersMs + limits.requestMs,
          keepAliveTimeout: limits.keepAliveMs,
          connectionsCheckingInterval: Math.min(limits.headersMs, limits.requestMs) / 4,
        },
        handler,
      )
      server.maxConnections = limits.connectionsMax
      if ('socketPath' in at) server.on('connection', (socket) => local.add(socket))
      addresses.push(await listenAt(server, at))
      servers.push(server)
    }
  } catch (error) {
    await close(0)
    throw error
  }
  return { addresses, isLocal: (socket) => local.has(socket), close }
}

function serverAt(at: ListenAt, options: ServerOptions, handler: RequestListener): Server {
  if (!('tls' in at) || at.tls === undefined) return createServer(options, handler)
  const { keys, watch } = at.tls
  const server = createTlsServer({ ...options, ...keys(), handshakeTimeout: options.headersTimeout }, handler)
  // Connections that there are go on with the old one.
  watch(() => server.setSecureContext(keys()))
  return server
}

async function listenAt(server: Server, at: ListenAt): Promise<ListenAt> {
  const name = 'socketPath' in at ? at.socketPath : `${at.host}:${at.port}`
  if ('socketPath' in at) await removeDeadSocket(at.socketPath)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.once('listening', resolve)
  if ('socketPath' in at) {
    // The socket must never be open to others, not even for the moment between bind and chmod; bind happens in `listen`.
    const umask = process.umask(0o177)
    try {
      server.listen(at.socketPath)
    } finally {
      process.umask(umask)
    }
  } else {
    server.listen(at.port, at.host)
  }
  try {
    await promise
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new Failure('in-use', `another program listens at ${name}`, { cause })
    }
    throw new Error(`cannot listen at ${name}`, { cause })
  } finally {
    server.off('error', reject)
  }
  if ('socketPath' in at) {
    await chmod(at.socketPath, 0o600)
    return at
  }
  const address = server.address()
  return { host: at.host, port: typeof address === 'object' && address ? address.port : at.port }
}

/** A process that was killed leaves its socket behind; nobody answers there, and it may go. */
async function removeDeadSocket(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const socket = connect(path)
  socket.once('connect', () => resolve('alive'))
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
  const answer = await promise
  socket.destroy()
  if (answer === 'alive') throw new Failure('in-use', `another program listens at ${path}`)
  if (answer === 'ECONNREFUSED') await rm(path, { force: true })
}

async function closeServer(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return
  const closed = new Promise<true>((resolve) => {
    server.close(() => resolve(true))
  })
  const end = performance.now() + graceMs
  // A connection whose last answer has gone out is idle from then on and would be kept for its next request.
  while (performance.now() < end) {
    server.closeIdleConnections()
    if (await Promise.race([closed, delay(20, false)])) return
  }
  server.closeAllConnections()
  await closed
}
