// The origin: `/images/<digest>/` over HTTP. image.zst with byte ranges (RFC 9110, 14), so that it is a web seed (BEP 19),
// the manifest, and the forms in which other programs take an image: image.torrent, image.meta4 (Metalink), image.bmap.
// All that leaves as image.zst passes one bucket and is counted.
import { createHash } from 'node:crypto'
import { pipeline, Readable, Transform } from 'node:stream'
import staticFiles from '@fastify/static'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { mappedRangesOf, readForms, torrentInfoOf } from '../image/forms.ts'
import { type Library, readManifest } from '../image/library.ts'
import type { TokenBucket } from '../lib/rate-limit.ts'
import { Failure } from '../model/failure.ts'
import { encodeBmap } from '../protocol/bmap.ts'
import { encodeMetalink } from '../protocol/metalink.ts'
import { encodeTorrent } from '../protocol/torrent.ts'
import { addBlockRoutes } from './block-routes.ts'

/** Another server with the same `<digest>/image.zst` below `imagesUrl`. */
export type OriginMirror = {
  readonly imagesUrl: string
  /** ISO 3166-1, two letters. */
  readonly location?: string
  /** 1 is asked first; this server itself has `ownPriority`. */
  readonly priority?: number
}

export type OriginOptions = {
  readonly library: Library
  /** `http://host:port` where machines reach us. The forms name it, whatever the Host header of a request says. */
  readonly baseUrl: string
  readonly mirrors?: readonly OriginMirror[]
  /** What all answers with image.zst pass, and whatever else the caller lets pass it. */
  readonly egress?: TokenBucket | undefined
  /** Bytes of image.zst, and of single blocks of it, handed to connections are added here, by digest. */
  readonly sentBytes?: Map<string, number>
}

/** Room on both sides: a mirror with a smaller number spares this server, one with a larger only stands in for it. */
const ownPriority = 100

/** Where the tracker of a server with this base is. */
export function announceUrlOf(baseUrl: string): string {
  return `${baseUrl}/announce`
}

type Form = {
  readonly name: string
  readonly mediaType: string
  /** Whether nothing but the image's bytes is in it, so that it never changes. */
  readonly isImmutable: boolean
  readonly render: (options: OriginOptions, digest: string) => Promise<Buffer>
}

const forms: readonly Form[] = [
  { name: 'image.torrent', mediaType: 'application/x-bittorrent', isImmutable: false, render: renderTorrent },
  { name: 'image.meta4', mediaType: 'application/metalink4+xml', isImmutable: false, render: renderMetalink },
  { name: 'image.bmap', mediaType: 'text/xml; charset=utf-8', isImmutable: true, render: renderBmap },
]

async function renderTorrent(options: OriginOptions, digest: string): Promise<Buffer> {
  return encodeTorrent({
    info: torrentInfoOf(await readForms(options.library, digest)),
    announce: [announceUrlOf(options.baseUrl)],
    webSeeds: mirrorsOf(options, digest).map(({ url }) => url),
  })
}

async function renderMetalink(options: OriginOptions, digest: string): Promise<Buffer> {
  const kept = await readForms(options.library, digest)
  return encodeMetalink({
    ...torrentInfoOf(kept),
    sha256: kept.sha256,
    torrentUrl: `${options.baseUrl}/images/${digest}/image.torrent`,
    mirrors: mirrorsOf(options, digest),
  })
}

async function renderBmap({ library }: OriginOptions, digest: string): Promise<Buffer> {
  const manifest = await readManifest(library, digest)
  return encodeBmap({ sizeBytes: manifest.sizeBytes, ranges: mappedRangesOf(manifest) })
}

/** Where image.zst is, we ourselves first. */
function mirrorsOf({ baseUrl, mirrors = [] }: OriginOptions, digest: string) {
  return [{ imagesUrl: `${baseUrl}/images`, priority: ownPriority }, ...mirrors].map(({ imagesUrl, ...mirror }) => ({
    ...mirror,
    url: `${imagesUrl.replace(/\/+$/, '')}/${digest}/image.zst`,
  }))
}

/** Adds the origin to a server. What it throws for a damaged image is Failure `image-corrupt`; unknown ones are 404. */
export async function addOriginRoutes(app: FastifyInstance, options: OriginOptions): Promise<void> {
  const { folder } = options.library
  await app.register(staticFiles, { serve: false, root: folder, index: false, immutable: true, maxAge: '1y' })
  addImage(app, options)
  const { library, egress, sentBytes } = options
  const onSent = (digest: string, bytes: number) => void sentBytes?.set(digest, (sentBytes.get(digest) ?? 0) + bytes)
  addBlockRoutes(app, { library, egress, onSent })
  for (const form of forms) addForm(app, form, options)
  app.get<ImageRoute>('/images/:digest/manifest.json', (request, reply) => {
    const { digest } = request.params
    return isDigest(digest) ? reply.sendFile(`${digest}/manifest.json`) : reply.callNotFound()
  })
}

type ImageRoute = { Params: { digest: string } }

/** What becomes a path below the library: nothing but 64 hex digits may. */
function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

/** An answer has about four reads of the file in memory while its reader is slow. */
const readBytes = { whenFew: 256 * 1024, whenMany: 64 * 1024 }
/**
 * Up to so many answers at once read in large steps, which nearly doubles what one connection gets (450 to 770 MB/s on one
 * core). Under a cap all read in small ones: who waits in line behind large ones hears nothing for long.
 */
const fewAnswers = 64

function addImage(app: FastifyInstance, { egress, sentBytes }: OriginOptions): void {
  let answers = 0
  app.route<ImageRoute>({
    method: ['GET', 'HEAD'],
    url: '/images/:digest/image.zst',
    handler: (request, reply) => {
      const { digest } = request.params
      if (!isDigest(digest)) return reply.callNotFound()
      const isFast = answers < fewAnswers && egress === undefined
      // @fastify/static hands on more options than its type names.
      const options = { acceptRanges: true, highWaterMark: isFast ? readBytes.whenFew : readBytes.whenMany }
      return reply.sendFile(`${digest}/image.zst`, options)
    },
    onSend: async (request, reply, payload: unknown) => {
      const isContent = reply.statusCode === 200 || reply.statusCode === 206
      if (!isContent || !(payload instanceof Readable)) return payload
      const { digest } = request.params
      answers += 1
      return metered(payload, egress, {
        onSent: (bytes) => sentBytes?.set(digest, (sentBytes.get(digest) ?? 0) + bytes),
        onEnd: () => {
          answers -= 1
        },
      })
    },
  })
}

/** `file` as the bucket lets it pass. Whichever ends first, the reader or the file, ends the other, and the wait between. */
function metered(
  file: Readable,
  bucket: TokenBucket | undefined,
  events: { readonly onSent: (bytes: number) => void; readonly onEnd: () => void },
): Readable {
  const ended = new AbortController()
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const pass = () => {
        events.onSent(chunk.length)
        done(null, chunk)
      }
      if (bucket === undefined) pass()
      else bucket.take(chunk.length, ended.signal).then(pass, done)
    },
    destroy(error, done) {
      ended.abort(error ?? undefined)
      done(error)
    },
  })
  // What goes wrong reaches the server through the meter itself.
  pipeline(file, meter, events.onEnd)
  return meter
}

function addForm(app: FastifyInstance, form: Form, options: OriginOptions): void {
  // All hosts of a rollout ask at once: they share one rendering. There are no more entries than images.
  const underWay = new Map<string, Promise<Buffer>>()
  const rendered = (digest: string): Promise<Buffer> => {
    const running = underWay.get(digest)
    if (running) return running
    const body = form.render(options, digest).finally(() => underWay.delete(digest))
    underWay.set(digest, body)
    return body
  }
  const caching = form.isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache'
  app.get<ImageRoute>(`/images/:digest/${form.name}`, async (request, reply) => {
    const { digest } = request.params
    if (!isDigest(digest)) return reply.callNotFound()
    let body: Buffer
    try {
      body = await rendered(digest)
    } catch (error) {
      if (error instanceof Failure && error.code === 'unknown-image') return reply.callNotFound()
      throw error
    }
    const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 32)}"`
    reply.header('etag', etag).header('cache-control', caching)
    if (isKnown(request, etag)) return await reply.code(304).send()
    return await reply.type(form.mediaType).send(body)
  })
}

/** RFC 9110, 13.1.2. */
function isKnown(request: FastifyRequest, etag: string): boolean {
  const known = (request.headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return known.includes(etag) || known.includes('*')
}
