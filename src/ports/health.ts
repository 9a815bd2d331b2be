// What is asked of a service by those who keep it running: is it alive, is it ready, and its figures. None of the answers holds
// a secret or a host; the figures are for users, for who has their token, and for this machine.
import type { FastifyInstance } from 'fastify'
import { sameSecret } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import type { Face } from './face.ts'

/** One part of the service, and what is wrong with it. */
export type PartHealth = { readonly part: string; readonly ok: boolean; readonly why?: string }

/** Paths that are answered until the last moment, and never held up by anything. */
export const healthPaths: readonly string[] = ['/healthz', '/readyz', '/metrics']

/** Adds `/healthz`, which says that the process answers, and `/readyz`, which says what of it can do its work. */
export function addHealthRoutes(app: FastifyInstance, readiness: () => Promise<readonly PartHealth[]>): void {
  app.get('/healthz', async (_request, reply) => {
    return await reply.header('cache-control', 'no-store').send({ alive: true })
  })
  app.get('/readyz', async (_request, reply) => {
    const parts = await readiness()
    const ready = parts.every(({ ok }) => ok)
    return await reply
      .code(ready ? 200 : 503)
      .header('cache-control', 'no-store')
      .send({ ready, parts })
  })
}

/** Adds `/metrics`. */
export function addMetricsRoute(
  app: FastifyInstance,
  face: Face,
  metrics: { readonly contentType: string; readonly render: () => Promise<string>; readonly token: Secret | undefined },
): void {
  app.get('/metrics', async (request, reply) => {
    const credentials = face.credentialsOf(request)
    // What a proxy on this machine passes on comes from elsewhere.
    const isProxied = request.headers['x-forwarded-for'] !== undefined || request.headers.forwarded !== undefined
    const isHere = !isProxied && ['127.0.0.1', '::1', 'unix'].includes(credentials.address)
    const { token } = credentials
    const hasToken = metrics.token !== undefined && token !== undefined && sameSecret(token, metrics.token)
    if (!isHere && !hasToken && (await face.authenticate(credentials))?.kind !== 'user') {
      throw new Failure(
        'unauthorized',
        'the metrics are for users, for who has their token, and for this machine itself',
      )
    }
    const text = await metrics.render()
    return await reply.type(metrics.contentType).header('cache-control', 'no-store').send(text)
  })
}
