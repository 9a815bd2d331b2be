// The REST face of a port: its routes below `/<port>/v1`, JSON in and out, and failures with the status of their code.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { toFailureBody } from '../contract/failure-body.ts'
import { failureMeanings } from '../contract/failures.ts'
import { type Caller, idempotencyKey } from '../contract/operation.ts'
import { fromRestForm, restBase } from '../contract/rest-form.ts'
import { Failure, invariant } from '../model/failure.ts'
import { admit } from './admit.ts'
import { call, knownFailure, type ServedPort } from './dispatch.ts'
import type { Face } from './face.ts'

/** Adds the routes of a port. */
export function addRestRoutes(app: FastifyInstance, served: ServedPort, face: Face): void {
  const { port } = served
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, parseJson(body as Buffer))
    } catch (error) {
      done(error as Error)
    }
  })
  app.addContentTypeParser('*', (_request, _payload, done) => {
    done(new Failure('bad-input', 'the body must be JSON, with the content type application/json'))
  })
  app.setErrorHandler((error, request, reply) => sendFailure(reply, failureOf(error, request, face)))

  const callers = new WeakMap<FastifyRequest, Caller>()
  for (const [name, operation] of Object.entries(port.operations)) {
    app.route({
      method: operation.rest.method,
      bodyLimit: Math.max(face.limits.bodyBytesMax, operation.bodyBytesMax ?? 0),
      url: restBase(port) + operation.rest.path.replace(/\{(\w+)\}/g, ':$1'),
      // Strangers are turned away before their body is read.
      onRequest: async (request) => {
        const asked = { name, operation, requestId: request.id }
        callers.set(request, await admit(asked, face.credentialsOf(request), face))
      },
      handler: async (request, reply) => {
        const caller = callers.get(request)
        invariant(caller, 'a request is admitted before it is handled')
        const path = request.params as Record<string, string>
        const query = new URL(request.raw.url ?? '/', 'http://localhost').searchParams
        const input = fromRestForm(operation, { path, query, body: request.body ?? undefined })
        const { log, oversight, watch, runOnce } = face
        const context = { log, oversight, watch, runOnce, requestId: request.id, key: keyOf(request) }
        const output = await call(served, name, input, caller, context)
        return reply.type('application/json; charset=utf-8').send(JSON.stringify(output))
      },
    })
  }
}

/** The idempotency key of a request; the quotes of a structured field are not part of it. */
export function keyOf(request: FastifyRequest): string | undefined {
  const value = request.headers[idempotencyKey.header]
  return value === undefined
    ? undefined
    : [value]
        .flat()
        .join(', ')
        .replace(/^"(.*)"$/, '$1')
}

/** Answers with a failure as JSON. */
export function sendFailure(reply: FastifyReply, failure: Failure): FastifyReply {
  addHeaders(reply, failure)
  return reply
    .code(failureMeanings[failure.code].status)
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(toFailureBody(failure)))
}

/** How long who was wrong too often is asked to wait: by then one more attempt is let through. */
const retryAfterSeconds = 5

/** The headers that HTTP wants beside some statuses. */
export function addHeaders(reply: FastifyReply, { code }: Failure): void {
  if (code === 'unauthorized') reply.header('www-authenticate', 'Bearer realm="hades"')
  if (code === 'too-many-attempts') reply.header('retry-after', String(retryAfterSeconds))
}

/** What an error of a request means: the web framework's own refusals get our codes, bugs become `internal`. */
export function failureOf(error: unknown, request: FastifyRequest, face: Face): Failure {
  const { code, statusCode = 500 } = error as { code?: string; statusCode?: number }
  // What a call throws has been told to the log; what fails before a call is the sender's.
  if (error instanceof Failure) return error
  if (statusCode === 413 || code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new Failure('too-large', `the body is longer than this call may have`)
  }
  if (statusCode >= 400 && statusCode < 500) return new Failure('bad-input', `the request is not good HTTP: ${code}`)
  return knownFailure(error, { log: face.log, requestId: request.id }, { url: request.url })
}

function parseJson(body: Buffer): unknown {
  if (body.length === 0) return undefined
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    // The parser's own sentence quotes the text around the place, which can be a password: only the place is told.
    const [place = ''] = /line \d+ column \d+/.exec(String(error)) ?? []
    throw new Failure('bad-input', `the body is not JSON in UTF-8${place === '' ? '' : `: look at ${place}`}`)
  }
}
