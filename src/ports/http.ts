// Serves ports over HTTP: SOAP and REST with their descriptions, any number of ports behind any number of listeners. Other
// parts add plain routes (boot and image files) to the same server. What calls mean is not decided here.
import { randomUUID } from 'node:crypto'
import cookies from '@fastify/cookie'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { Port, RunOnce } from '../contract/operation.ts'
import { restBase } from '../contract/rest-form.ts'
import { plainAddress } from '../lib/plain-address.ts'
import { sameSecret } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import { xml } from '../lib/xml.ts'
import { Failure } from '../model/failure.ts'
import type { Authenticate, Credentials } from './admit.ts'
import type { ServedPort, Watch } from './dispatch.ts'
import { addDrain } from './drain.ts'
import { defaultLimits, type Face, type Limits } from './face.ts'
import { healthPaths } from './health.ts'
import { type ListenAt, type Listeners, openListeners } from './listen.ts'
import { openapiOf } from './openapi.ts'
import type { Oversight } from './oversight.ts'
import { addRestRoutes, failureOf, sendFailure } from './rest.ts'
import { sessionOf } from './session-cookie.ts'
import { addSoapRoute } from './soap.ts'
import { addStreamRoutes } from './streams.ts'
import { combinedWsdl, wsdlOf, xsdOf } from './wsdl.ts'

/** Adds plain routes to the server, in a context of its own: hooks and parsers set here stay here. `face` tells who asks. */
export type AddRoutes = (app: FastifyInstance, face: Face) => void | Promise<void>

export type PortServer = {
  /** What each listener listens at, in the order given, with the ports that were taken. */
  readonly addresses: readonly ListenAt[]
  /** Answers new requests with `service-unreachable`, and resolves when none is under way, or after `graceMs`. */
  readonly drain: (graceMs: number) => Promise<void>
  /** Takes no more calls, waits at most `graceMs` (2 s) for those under way, then cuts them. */
  readonly close: (graceMs?: number) => Promise<void>
}

/**
 * Serves ports until closed. Throws Failure `in-use` when an address is taken; then nothing is left open.
 *
 * For each port P: `POST /P` SOAP 1.1 and 1.2, `GET /P?wsdl` and `?xsd`, `/P/v1/...` REST, `GET /P/openapi.json`, and
 * `GET /P` a page for people; `GET /wsdl` describes all of them.
 */
export async function servePorts(options: {
  readonly ports: readonly ServedPort[]
  readonly listen: readonly ListenAt[]
  readonly authenticate: Authenticate
  readonly oversight?: Oversight
  readonly log: Logger
  /** Runs calls with an idempotency key; without it none is taken. */
  readonly runOnce?: RunOnce
  readonly limits?: Partial<Limits>
  readonly routes?: readonly AddRoutes[]
  readonly watch?: Watch | undefined
  /** Of the program, for the descriptions. */
  readonly version?: string
}): Promise<PortServer> {
  const { ports, listen, authenticate, oversight, log, routes = [], version = '1' } = options
  const limits = { ...defaultLimits, ...options.limits }
  let listeners: Listeners | undefined
  const closing = new AbortController()
  const face: Face = {
    log,
    limits,
    authenticate,
    runOnce: options.runOnce,
    closing: closing.signal,
    oversight,
    watch: options.watch,
    credentialsOf: (request) => credentialsOf(request, listeners?.isLocal(request.raw.socket) ?? false),
  }
  const app = createApp(face)
  const { drain } = addDrain(app, (path) => healthPaths.includes(path))
  app.get('/wsdl', (request, reply) =>
    sendXml(
      reply,
      combinedWsdl(
        ports.map(({ port }) => port),
        baseOf(request),
      ),
    ),
  )
  for (const served of ports) {
    app.register(async (scope) => addDescriptions(scope, served.port, version))
    app.register(async (scope) => addSoapRoute(scope, served, face))
    app.register(async (scope) => addRestRoutes(scope, served, face))
    app.register(async (scope) => addStreamRoutes(scope, served, face))
  }
  for (const add of routes) app.register(async (scope) => add(scope, face))
  await app.ready()
  listeners = await openListeners(listen, (request, response) => app.routing(request, response), limits)
  const { addresses, close } = listeners
  return {
    addresses,
    drain,
    close: async (graceMs = 2000) => {
      closing.abort()
      await close(graceMs)
      await app.close()
    },
  }
}

/**
 * For a service without users: a unix socket is the administrator's; so is who gives the admin token; any other token is
 * for the handler to judge.
 */
export function authenticateByToken(adminToken: Secret): Authenticate {
  return ({ address, isLocal, token }) => {
    if (isLocal) return { kind: 'user', name: 'admin', role: 'admin', address }
    if (token === undefined) return undefined
    return sameSecret(token, adminToken)
      ? { kind: 'user', name: 'admin', role: 'admin', address }
      : { kind: 'bearer', token, address }
  }
}

function createApp(face: Face): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit: face.limits.bodyBytesMax,
    genReqId: () => randomUUID(),
    // The longest reference there is, each character percent-encoded.
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: (error, request, reply) => {
      void sendFailure(reply, failureOf(error, request, face))
    },
  })
  app.register(cookies)
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id)
    reply.header('x-content-type-options', 'nosniff')
  })
  // A handler may think as long as it likes; only a reader who takes nothing is given up.
  app.addHook('onSend', async (request) => {
    request.raw.socket.setTimeout(face.limits.stallMs)
  })
  app.addHook('onResponse', async (_request, reply) => face.watch?.answer(reply.statusCode))
  app.setErrorHandler((error, request, reply) => sendFailure(reply, failureOf(error, request, face)))
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0]?.slice(0, 200)
    return sendFailure(reply, new Failure('unknown-operation', `there is no ${request.method} ${path}`))
  })
  return app
}

function addDescriptions(app: FastifyInstance, port: Port, version: string): void {
  app.get(`/${port.name}`, (request, reply) => {
    const asked = Object.keys(request.query as object).map((name) => name.toLowerCase())
    if (asked.includes('wsdl')) return sendXml(reply, wsdlOf(port, `${baseOf(request)}/${port.name}`))
    if (asked.includes('xsd')) return sendXml(reply, xsdOf(port))
    return reply.type('text/html; charset=utf-8').send(page(port))
  })
  app.get(`/${port.name}/openapi.json`, (request) => openapiOf(port, baseOf(request), version))
}

function sendXml(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('text/xml; charset=utf-8').send(text)
}

/** The server as the client calls it. Throws Failure `bad-input` when the Host header is no host. */
function baseOf(request: FastifyRequest): string {
  const host = request.headers.host ?? 'localhost'
  if (!/^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:\d{1,5})?$/i.test(host)) {
    throw new Failure('bad-input', 'the Host header names no host')
  }
  return `${request.protocol}://${host}`
}

function credentialsOf(request: FastifyRequest, isLocal: boolean): Credentials {
  const address = isLocal ? 'unix' : plainAddress(request.raw.socket.remoteAddress ?? '')
  const token = tokenOf(request.headers.authorization)
  return { address, isLocal, token, session: token === undefined ? sessionOf(request) : undefined }
}

/** Basic is taken too, because SOAP stacks have it at hand: any user name, the token as the password. */
function tokenOf(authorization: string | undefined): string | undefined {
  const [, scheme, value = ''] = /^(Bearer|Basic) +([\w.~+/=-]+) *$/i.exec(authorization ?? '') ?? []
  if (scheme === undefined) return undefined
  if (scheme.toLowerCase() === 'bearer') return value
  const [, password] = /^[^:]*:(.+)$/s.exec(Buffer.from(value, 'base64').toString('utf8')) ?? []
  return password
}

function page(port: Port): string {
  const rows = Object.entries(port.operations).map(
    ([name, { summary, rest }]) =>
      xml`<tr><td>${name}</td><td><code>${rest.method} ${restBase(port)}${rest.path}</code></td><td>${summary}</td></tr>\n`,
  )
  return xml`<!doctype html>
<html lang="en"><head><meta charset="utf-8"/><title>${port.summary}</title></head><body>
<h1>${port.summary}</h1>
<p>SOAP 1.1 and 1.2 by POST to this address: <a href="/${port.name}?wsdl">WSDL</a>, <a href="/${port.name}?xsd">XML Schema</a>.
REST: <a href="/${port.name}/openapi.json">OpenAPI</a>.</p>
<table>
${rows}</table>
</body></html>
`.toString()
}
