// The end of a server that others rely on: what is under way ends, what comes anew is told to ask again, within a bound.
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Failure } from '../model/failure.ts'

export type Drain = {
  /** Refuses requests from now on, and resolves when none is under way any more, or after `graceMs`. */
  readonly drain: (graceMs: number) => Promise<void>
}

/** When a client that was refused may ask again, in seconds: a restart takes about as long. */
const retryAfterSeconds = 2

/** Adds it to a server, before all routes. `isAlwaysAnswered` says of a path that it is answered to the end. */
export function addDrain(app: FastifyInstance, isAlwaysAnswered: (path: string) => boolean): Drain {
  let isDraining = false
  const underWay = new Set<object>()
  app.addHook('onRequest', async (request, reply) => {
    if (isAlwaysAnswered(request.url.split('?')[0] ?? '')) return
    if (isDraining) {
      reply.header('retry-after', retryAfterSeconds).header('connection', 'close')
      throw new Failure('service-unreachable', 'the service is stopping: ask again in a few seconds')
    }
    underWay.add(request)
    // Whether it was answered or given up by its client.
    reply.raw.once('close', () => underWay.delete(request))
  })
  return {
    async drain(graceMs) {
      isDraining = true
      const end = performance.now() + graceMs
      while (underWay.size > 0 && performance.now() < end) await delay(20)
    },
  }
}
