// Single blocks of an image's frames, for hosts that hold most of it already (docs/redeploy.md): the sums of a frame's blocks,
// and those blocks of it that are asked for, packed. Both follow from the image alone, so that equal hosts ask for equal
// addresses, and any cache between may answer. Nothing is stored: a frame is inflated when somebody asks.
import { promisify } from 'node:util'
import { constants, zstdCompress } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import pLimit from 'p-limit'
import { blockSums, parseBlockSet, takeBlocks } from '../image/blocks.ts'
import { inflateFrame, rawBytesOf } from '../image/frames.ts'
import { imagePaths, type Library, openStored, readAt, readManifest } from '../image/library.ts'
import type { RateLimit } from '../lib/rate-limit.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'

const compress = promisify(zstdCompress)

/** Frames that are inflated at once, 9 MiB each: the processor is the limit, and has other work. */
const inflatedAtOnce = 4
/** Requests that may wait for that; each of a thousand hosts has a few. */
const waitingMax = 10_000
/** Answers kept for the next host that asks the same. */
const keptBytesMax = 64 * 1024 * 1024
/** Manifests kept: more images are hardly being deployed at once. */
const manifestsMax = 8

type BlockRoute = { Params: { digest: string; frame: string }; Querystring: { of?: unknown } }

/** What an address stands for; undefined for none. Throws Failure `image-corrupt`. */
type Answer = { readonly body: Buffer } | { readonly problem: string } | undefined

export type BlockOptions = {
  readonly library: Library
  /** What all answers pass. */
  readonly egress?: RateLimit | undefined
  readonly onSent: (digest: string, bytes: number) => void
}

/** Adds `/images/<digest>/frames/<n>/sums` and `.../blocks?of=<set>`. */
export function addBlockRoutes(app: FastifyInstance, { library, egress, onSent }: BlockOptions): void {
  const manifests = new Kept<Promise<Manifest>>(() => 1, manifestsMax)
  const underWay = new Map<string, Promise<Answer>>()
  const bodies = new Kept<Buffer>(({ length }) => length, keptBytesMax)
  const limit = pLimit(inflatedAtOnce)
  const manifestOf = (digest: string) => {
    const found = manifests.get(digest) ?? readManifest(library, digest)
    manifests.put(digest, found)
    found.catch(() => manifests.remove(digest))
    return found
  }
  const make = async (digest: string, frame: string, of: string | undefined): Promise<Answer> => {
    const manifest = await manifestOf(digest)
    const number = /^\d{1,7}$/.test(frame) ? Number(frame) : Number.NaN
    if (manifest.frames[number] === undefined) return undefined
    const set = of === undefined ? undefined : parseBlockSet(of, rawBytesOf(manifest, number))
    if (of !== undefined && set === undefined) return { problem: `of is no set of blocks of frame ${number}` }
    const raw = await limit(() => inflate(library, digest, manifest, number))
    return { body: set === undefined ? blockSums(raw) : await pack(takeBlocks(raw, set)) }
  }
  /** Who asks the same at the same time shares one answer. */
  const answerOf = async (key: string, digest: string, frame: string, of: string | undefined): Promise<Answer> => {
    const body = bodies.get(key)
    if (body !== undefined) return { body }
    const making = underWay.get(key) ?? make(digest, frame, of).finally(() => underWay.delete(key))
    underWay.set(key, making)
    const answer = await making
    if (answer && 'body' in answer) bodies.put(key, answer.body)
    return answer
  }
  for (const what of ['sums', 'blocks'] as const) {
    app.get<BlockRoute>(`/images/:digest/frames/:frame/${what}`, async (request, reply) => {
      const { digest, frame } = request.params
      const { of } = request.query
      if (!/^[0-9a-f]{64}$/.test(digest)) return reply.callNotFound()
      if (what === 'blocks' && typeof of !== 'string') return reply.code(400).send('of=<set of blocks> is missing')
      if (limit.pendingCount >= waitingMax) return reply.code(503).header('retry-after', '1').send('too many ask')
      const set = what === 'blocks' && typeof of === 'string' ? of : undefined
      const answer = await answerOf(`${digest}/${frame}/${set}`, digest, frame, set).catch(unlessUnknown)
      if (answer === undefined) return reply.callNotFound()
      if ('problem' in answer) return reply.code(400).send(answer.problem)
      await egress?.take(answer.body.length)
      onSent(digest, answer.body.length)
      reply.header('cache-control', 'public, max-age=31536000, immutable')
      return await reply.type('application/octet-stream').send(answer.body)
    })
  }
}

function unlessUnknown(error: unknown): undefined {
  if (error instanceof Failure && error.code === 'unknown-image') return undefined
  throw error
}

async function inflate(library: Library, digest: string, manifest: Manifest, number: number): Promise<Buffer> {
  const frame = manifest.frames[number]
  if (frame === undefined) throw new Failure('internal', `frame ${number} of ${manifest.frames.length}`)
  const file = await openStored(imagePaths(library, digest).image, manifest.storedBytes)
  try {
    return await inflateFrame(manifest, number, await readAt(file, frame.offset, frame.length))
  } finally {
    await file.close()
  }
}

/** As frames are: level 3, and a checksum. */
function pack(bytes: Buffer): Promise<Buffer> {
  return compress(bytes, {
    pledgedSrcSize: bytes.length,
    params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  })
}

/** Keeps what was asked for last, up to a size all told. */
class Kept<T> {
  readonly #items = new Map<string, T>()
  readonly #sizeOf: (item: T) => number
  readonly #sizeMax: number
  #size = 0

  constructor(sizeOf: (item: T) => number, sizeMax: number) {
    this.#sizeOf = sizeOf
    this.#sizeMax = sizeMax
  }

  get(key: string): T | undefined {
    const item = this.#items.get(key)
    if (item === undefined) return undefined
    this.#items.delete(key)
    this.#items.set(key, item)
    return item
  }

  put(key: string, item: T): void {
    this.remove(key)
    this.#items.set(key, item)
    this.#size += this.#sizeOf(item)
    for (const oldest of this.#items.keys()) {
      if (this.#size <= this.#sizeMax) break
      this.remove(oldest)
    }
  }

  remove(key: string): void {
    const item = this.#items.get(key)
    if (item === undefined) return
    this.#items.delete(key)
    this.#size -= this.#sizeOf(item)
  }
}
