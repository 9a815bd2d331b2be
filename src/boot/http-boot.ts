// The boot namespace over HTTP, below `/boot/`: the same answers as TFTP gives, for loaders that can.

import { basename, dirname } from 'node:path'
import staticFiles from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { plainAddress } from '../lib/plain-address.ts'
import type { ResolveBoot } from '../model/boot.ts'
import type { HttpRequest } from './record.ts'

/** Adds `/boot/` to a server. Files support ranges; scripts are never cached. */
export async function addBootRoutes(
  app: FastifyInstance,
  resolve: ResolveBoot,
  onRequest: (request: HttpRequest) => void,
): Promise<void> {
  await app.register(staticFiles, { serve: false, root: '/' })
  const began = new WeakMap<FastifyRequest, number>()
  app.addHook('onRequest', async (request) => {
    began.set(request, performance.now())
  })
  app.addHook('onResponse', async (request, reply) => {
    onRequest({
      path: pathOf(request),
      peerAddress: plainAddress(request.ip),
      status: reply.statusCode,
      bytes: Number(reply.getHeader('content-length') ?? 0),
      ms: Math.round(performance.now() - (began.get(request) ?? 0)),
      isWhole: reply.raw.writableFinished,
    })
  })
  app.get('/boot/*', async (request, reply) => {
    const content = await resolve({ via: 'http', path: pathOf(request), peerAddress: request.ip })
    if (!content) return await notFound(reply)
    if (content.kind === 'file') return reply.sendFile(basename(content.path), dirname(content.path))
    return await reply
      .type(`${content.mediaType ?? 'application/octet-stream'}; charset=utf-8`)
      .header('cache-control', 'no-store')
      .send(content.body)
  })
}

function pathOf(request: FastifyRequest): string {
  return (request.params as { readonly '*'?: string })['*'] ?? ''
}

async function notFound(reply: FastifyReply): Promise<void> {
  await reply.code(404).type('text/plain; charset=utf-8').send('there is no such boot file\n')
}
