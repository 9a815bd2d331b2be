// Streams of a port as server-sent events (HTML Living Standard, 9.2): each item with its number as `id`, so that a reader
// that comes back says by Last-Event-ID where it was. Readers are counted, and one that takes nothing is cut.
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { checkInput } from '../contract/check.ts'
import type { Operation, Stream, StreamItems } from '../contract/operation.ts'
import { fromRestForm, restBase } from '../contract/rest-form.ts'
import { Failure } from '../model/failure.ts'
import { admit } from './admit.ts'
import { knownFailure, type ServedPort } from './dispatch.ts'
import type { Face } from './face.ts'

/** Readers of all streams of one port at once. */
const readersMax = 200

/** A reader hears something at least this often, so that it, and what stands between, know that the stream lives. */
const heartbeatMs = 15_000

/** How soon a reader that was cut off is asked to come back. */
const retryMs = 2000

/** Adds `GET` of each stream of a port. */
export function addStreamRoutes(app: FastifyInstance, { port, streams = {} }: ServedPort, face: Face): void {
  let readers = 0
  for (const [name, stream] of Object.entries(port.streams ?? {})) {
    const items = streams[name]
    if (items === undefined) continue
    app.get(restBase(port) + stream.path, async (request, reply) => {
      await admit({ name, operation: entryOf(stream), requestId: request.id }, face.credentialsOf(request), face)
      const input = inputOf(stream, request)
      const after = lastSeen(request)
      if (readers >= readersMax) throw new Failure('in-use', `${readersMax} streams are being read: end one of them`)
      readers += 1
      reply.hijack()
      const ended = endOf(reply.raw, face.closing)
      try {
        await send(reply.raw, items(input, after, ended), { face, ended })
      } catch (error) {
        // What the world did wrong is said at the end of the stream, what is a bug by a number for the log.
        const failure = knownFailure(error, { log: face.log, requestId: request.id }, { stream: name })
        bid(reply.raw, failure.message)
      } finally {
        readers -= 1
        reply.raw.end()
      }
    })
  }
}

/** A stream seen as the operation that its request is like. */
function entryOf({ summary, access, path, input, item }: Stream): Operation {
  return { summary, access, input, output: item, rest: { method: 'GET', path }, failures: [] }
}

/** A stream's input comes as the query of a GET does. */
function inputOf(stream: Stream, request: FastifyRequest): unknown {
  const entry = entryOf(stream)
  const query = new URL(request.raw.url ?? '/', 'http://localhost').searchParams
  return checkInput(entry, fromRestForm(entry, { path: {}, query, body: undefined }))
}

function lastSeen(request: FastifyRequest): number | undefined {
  const value = request.headers['last-event-id']
  if (value === undefined || value === '') return undefined
  const id = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : undefined
  if (id === undefined)
    throw new Failure('bad-input', 'Last-Event-ID is no number of an event', { at: 'Last-Event-ID' })
  return id
}

/** Aborts when the reader has gone or the service ends. */
function endOf(response: ServerResponse, closing: AbortSignal): AbortSignal {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  return AbortSignal.any([gone.signal, closing])
}

type Batches = ReturnType<StreamItems>

async function send(
  response: ServerResponse,
  batches: Batches,
  { face, ended }: { readonly face: Face; readonly ended: AbortSignal },
): Promise<void> {
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
    'x-content-type-options': 'nosniff',
  })
  response.write(`retry: ${retryMs}\n\n`)
  // Nothing is written over what the reader has not taken yet, so that a slow one holds one batch and no more.
  const heartbeat = setInterval(() => {
    if (!response.writableNeedDrain) response.write(': so that you know that I am here\n\n')
  }, heartbeatMs)
  try {
    for await (const batch of batches) {
      const text = batch.map(({ id, item }) => `id: ${id}\ndata: ${JSON.stringify(item)}\n\n`).join('')
      if (!response.write(text) && !(await drained(response, face.limits.stallMs, ended))) return
      if (ended.aborted) break
    }
  } finally {
    clearInterval(heartbeat)
  }
  bid(response, 'the service ends: come back')
}

/** False when the reader took nothing for so long; then it is cut off. */
async function drained(response: ServerResponse, stallMs: number, ended: AbortSignal): Promise<boolean> {
  try {
    await once(response, 'drain', { signal: AbortSignal.any([ended, AbortSignal.timeout(stallMs)]) })
    return true
  } catch {
    response.destroy()
    return false
  }
}

/** The last words of a stream, for readers that are still there. */
function bid(response: ServerResponse, reason: string): void {
  if (!response.writableEnded && !response.destroyed) {
    response.write(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`)
  }
}
