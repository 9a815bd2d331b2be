import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import Fastify from 'fastify'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blockSums, formatBlockSet } from '../image/blocks.ts'
import { importImage } from '../image/import.ts'
import { type Library, openLibrary, readManifest, removeImage } from '../image/library.ts'
import { makeDisk, stream, testFolder } from '../image/testing.ts'
import { frameSizeBytes } from '../model/image.ts'
import { addBlockRoutes, type BlockOptions } from './block-routes.ts'

const closers: (() => Promise<unknown>)[] = []
let library: Library
let digest: string
let disk: Buffer

beforeEach(async () => {
  library = await openLibrary(join(testFolder(), 'images'))
  disk = makeDisk()
  digest = (await importImage({ source: stream(disk), folder: library.folder })).digest
})
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

async function serve(options: Partial<BlockOptions> = {}) {
  let sentBytes = 0
  const app = Fastify({ forceCloseConnections: true })
  const onSent = (_: string, bytes: number) => {
    sentBytes += bytes
  }
  addBlockRoutes(app, { library, onSent, ...options })
  const base = await app.listen({ host: '127.0.0.1', port: 0 })
  closers.push(() => app.close())
  const get = async (path: string, of = digest) => {
    const answer = await fetch(`${base}/images/${of}/frames/${path}`)
    return { status: answer.status, headers: answer.headers, body: Buffer.from(await answer.arrayBuffer()) }
  }
  return { get, sent: () => sentBytes }
}

const frameOf = (number: number) => disk.subarray(number * frameSizeBytes, (number + 1) * frameSizeBytes)

/** The first block and the fourth. */
const first = Buffer.alloc(128)
first[0] = 0b1001_0000

test('gives the sums of a frame, and those blocks of it that are asked for, to be kept by any cache', async () => {
  const { get, sent } = await serve()
  const sums = await get('0/sums')
  expect(sums.body.equals(blockSums(frameOf(0)))).toBe(true)
  const blocks = await get(`0/blocks?of=${formatBlockSet(first)}`)
  const expected = Buffer.concat([frameOf(0).subarray(0, 4096), frameOf(0).subarray(12_288, 16_384)])
  expect(zstdDecompressSync(blocks.body).equals(expected)).toBe(true)
  for (const { headers } of [sums, blocks]) expect(headers.get('cache-control')).toMatch(/immutable/)
  expect(sent()).toBe(sums.body.length + blocks.body.length)
})

test('the last frame may be shorter', async () => {
  const { frames } = await readManifest(library, digest)
  const { get } = await serve()
  const last = frames.length - 1
  expect((await get(`${last}/sums`)).body.equals(blockSums(frameOf(last)))).toBe(true)
})

test.each([
  { path: '999999/sums', status: 404 },
  { path: '-1/sums', status: 404 },
  { path: '0x0/sums', status: 404 },
  { path: '00000000/sums', status: 404 },
  { path: '0/other', status: 404 },
  { path: '0/blocks', status: 400 },
  { path: '0/blocks?of=', status: 400 },
  { path: '0/blocks?of=AAAA', status: 400 },
  { path: '0/blocks?of=a&of=b', status: 400 },
  { path: `0/blocks?of=${'A'.repeat(4000)}`, status: 400 },
])('$path is answered by $status', async ({ path, status }) => {
  const { get, sent } = await serve()
  expect((await get(path)).status).toBe(status)
  expect(sent()).toBe(0)
})

test('an image that is not there, or not any more, and what is no digest, are not found', async () => {
  const { get } = await serve()
  expect((await get('0/sums', 'f'.repeat(64))).status).toBe(404)
  expect((await get('0/sums', '..%2f..')).status).toBe(404)
  await removeImage(library, digest)
  expect((await get('0/sums')).status).toBe(404)
})

test('two hundred who ask the same at once share one answer, and each passes the limit', async () => {
  const taken: number[] = []
  const { get, sent } = await serve({ egress: { take: async (bytes) => void taken.push(bytes) } })
  const answers = await Promise.all(Array.from({ length: 200 }, () => get(`0/blocks?of=${formatBlockSet(first)}`)))
  const [one] = answers
  expect(new Set(answers.map(({ body }) => body.toString('base64'))).size).toBe(1)
  expect(taken).toEqual(answers.map(() => one?.body.length))
  expect(sent()).toBe(200 * (one?.body.length ?? 0))
})
