// The one route of the Service Port that is no operation of the contract: frames of a captured disk are bytes, and SOAP and
// JSON have no place for 4 MiB of them. `PUT /service/v1/captures/<deployment>/frames/<n>`, docs/capture.md.
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type FrameUpload, frameHeaders, framePath, type TakeFrame } from '../contract/capture-types.ts'
import { plainAddress } from '../lib/plain-address.ts'
import { Failure } from '../model/failure.ts'

const path = framePath(':deployment', ':frame')

/** Adds the route. */
export function addCaptureFrames(app: FastifyInstance, take: TakeFrame): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.put(path, async (request, reply) => {
    const token = /^Bearer +([\w.~+/=-]+) *$/i.exec(request.headers.authorization ?? '')?.[1]
    const address = plainAddress(request.raw.socket.remoteAddress ?? '')
    if (token === undefined) throw new Failure('unauthorized', 'this call needs a session key, and there was none')
    const answer = await take(readUpload(request), { kind: 'bearer', token, address })
    return reply.type('application/json; charset=utf-8').send(JSON.stringify(answer))
  })
}

function readUpload(request: FastifyRequest): FrameUpload {
  const { deployment, frame } = request.params as { readonly deployment: string; readonly frame: string }
  const place = {
    deployment: whole(deployment, 'deployment', 1),
    frame: whole(frame, 'frame', 0),
  }
  const count = request.headers[frameHeaders.zeroFrames]
  if (count !== undefined) return { ...place, kind: 'zeros', count: whole(String(count), frameHeaders.zeroFrames, 1) }
  return {
    ...place,
    kind: 'data',
    sha256: sha256(request, frameHeaders.sha256),
    rawSha256: sha256(request, frameHeaders.rawSha256),
    read: (bytesMax) => collect(request.raw, bytesMax),
  }
}

function whole(text: string, name: string, min: number): number {
  const value = Number(text)
  if (/^\d{1,15}$/.test(text) && value >= min) return value
  throw new Failure('bad-input', `\`${name}\` is no whole number from ${min}: ${JSON.stringify(text.slice(0, 40))}`, {
    at: name,
  })
}

function sha256(request: FastifyRequest, name: string): string {
  const value = request.headers[name]
  if (typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) return value
  throw new Failure('bad-input', `the header \`${name}\` must have 64 lower-case hex digits`, { at: name })
}

async function collect(body: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    // Who sends too much is to be told so: the connection stays.
    for await (const chunk of body.iterator({ destroyOnReturn: false })) {
      bytes += (chunk as Buffer).length
      if (bytes > bytesMax) throw new Failure('too-large', `a frame has at most ${bytesMax} bytes`)
      chunks.push(chunk as Buffer)
    }
  } catch (cause) {
    if (cause instanceof Failure) throw cause
    throw new Failure('bad-input', `the connection ended after ${bytes} bytes of a frame`, { cause })
  }
  return Buffer.concat(chunks)
}
