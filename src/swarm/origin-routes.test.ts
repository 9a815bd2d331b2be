import { execFile } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mappedRangesOf, readForms } from '../image/forms.ts'
import { importImage } from '../image/import.ts'
import { imagePaths, type Library, openLibrary, readManifest, removeImage } from '../image/library.ts'
import { MiB, makeDisk, stream, testFolder } from '../image/testing.ts'
import { TokenBucket } from '../lib/rate-limit.ts'
import { until } from '../lib/until.ts'
import { attributeOf, childOf, childrenOf, parseXml } from '../lib/xml.ts'
import { encodeBmap } from '../protocol/bmap.ts'
import { parseTorrent } from '../protocol/torrent.ts'
import { addOriginRoutes, type OriginOptions } from './origin-routes.ts'

const run = promisify(execFile)
const closers: (() => Promise<unknown>)[] = []
let folder: string
let library: Library
let digest: string
let disk: Buffer
let image: Buffer

beforeEach(async () => {
  folder = testFolder()
  library = await openLibrary(join(folder, 'images'))
  disk = makeDisk()
  digest = (await importImage({ source: stream(disk), folder: library.folder })).digest
  image = readFileSync(imagePaths(library, digest).image)
})
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

/** An origin on loopback and what it has sent. Its forms name the address that it really has, unless another is given. */
async function startOrigin(options: Partial<OriginOptions> = {}) {
  const sentBytes = new Map<string, number>()
  const app = Fastify({ forceCloseConnections: true })
  // The port is known only when it listens, and routes are added before: a getter stands in for the configuration.
  let base = ''
  await addOriginRoutes(app, {
    library,
    sentBytes,
    get baseUrl() {
      return base
    },
    ...options,
  })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
  closers.push(() => app.close())
  const urlOf = (name: string, of = digest) => `${base}/images/${of}/${name}`
  // Not by `fetch`, which puts headers of its own beside a condition.
  const fetchForm = async (name: string, headers: Record<string, string> = {}) => {
    const answer = await answerTo(urlOf(name), headers)
    return { status: answer.statusCode, headers: answer.headers, body: await buffer(answer) }
  }
  return { base, urlOf, fetchForm, sent: () => sentBytes.get(digest) ?? 0, sentBytes }
}

function answerTo(url: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false, headers }, resolve).on('error', reject)
  })
}

/** Files of the library that this process has open. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      return path.startsWith(library.folder) ? [path] : []
    } catch {
      // Closed between the list and the look.
      return []
    }
  })
}

test('image.zst and the manifest come whole, by range and by HEAD, and never change', async () => {
  const { fetchForm, urlOf, sent } = await startOrigin()
  const whole = await fetchForm('image.zst')
  expect(whole.status).toBe(200)
  expect(whole.body.equals(image)).toBe(true)
  expect(whole.headers['cache-control']).toContain('immutable')
  expect(sent()).toBe(image.length)
  const etag = whole.headers.etag ?? ''
  const part = await fetchForm('image.zst', { range: 'bytes=100-299' })
  expect([part.status, part.headers['content-range']]).toEqual([206, `bytes 100-299/${image.length}`])
  expect(part.body.equals(image.subarray(100, 300))).toBe(true)
  expect(sent()).toBe(image.length + 200)
  const tail = await fetchForm('image.zst', { range: 'bytes=-7' })
  expect(tail.body.equals(image.subarray(-7))).toBe(true)
  const beyond = await fetchForm('image.zst', { range: `bytes=${image.length}-` })
  expect([beyond.status, beyond.headers['content-range']]).toEqual([416, `bytes */${image.length}`])
  expect((await fetchForm('image.zst', { range: 'bytes=0-9', 'if-range': '"another"' })).status).toBe(200)
  expect((await fetchForm('image.zst', { 'if-none-match': etag })).status).toBe(304)
  const head = await fetch(urlOf('image.zst'), { method: 'HEAD' })
  expect([head.status, head.headers.get('content-length')]).toEqual([200, `${image.length}`])
  expect(sent()).toBe(image.length * 2 + 207)
  const manifest = await fetchForm('manifest.json')
  expect(createHash('sha256').update(manifest.body).digest('hex')).toBe(digest)
  expect(sent()).toBe(image.length * 2 + 207)
})

test('a path with escaped letters is metered like any other', async () => {
  const { urlOf, sent } = await startOrigin()
  const answer = await fetch(urlOf('im%61ge.zst'))
  expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, image.length])
  expect(sent()).toBe(image.length)
})

test('nothing else of the library is served', async () => {
  const { base, urlOf, sentBytes } = await startOrigin()
  const unknown = 'a'.repeat(64)
  const urls = [
    ...['forms', 'image', '', 'image.torrent/', '..%2fincoming'].map((name) => urlOf(name)),
    ...['image.zst', 'manifest.json', 'image.torrent', 'image.meta4', 'image.bmap'].map((name) => urlOf(name, unknown)),
    ...['image.torrent', 'image.bmap'].map((name) => urlOf(name, digest.toUpperCase())),
    ...['..%2f..%2fetc/image.torrent', 'incoming/image.torrent', '%00/image.meta4'].map(
      (path) => `${base}/images/${path}`,
    ),
  ]
  for (const url of urls) {
    const { status } = await fetch(url)
    expect([url, [400, 403, 404].includes(status)]).toEqual([url, true])
  }
  expect(sentBytes.size).toBe(0)
})

test('the torrent has our tracker and web seeds, and the info-hash of the bytes', async () => {
  const mirrors = [{ imagesUrl: 'http://mirror.test/hades/' }]
  const { base, urlOf, fetchForm } = await startOrigin({ mirrors })
  const { status, headers, body } = await fetchForm('image.torrent', { host: 'attacker.test' })
  expect([status, headers['content-type']]).toEqual([200, 'application/x-bittorrent'])
  const { infoHash } = await readForms(library, digest)
  expect(parseTorrent(body)).toMatchObject({
    infoHash,
    announce: [`${base}/announce`],
    webSeeds: [urlOf('image.zst'), `http://mirror.test/hades/${digest}/image.zst`],
    info: { name: 'image.zst', totalBytes: image.length },
  })
  const path = join(folder, 'image.torrent')
  writeFileSync(path, body)
  expect((await run('transmission-show', [path])).stdout).toContain(`Hash: ${infoHash}`)
})

test('the Metalink has the hashes, the torrent and every mirror with its place', async () => {
  const mirrors = [{ imagesUrl: 'https://mirror.test/i', location: 'fr', priority: 7 }]
  const { urlOf, fetchForm } = await startOrigin({ mirrors })
  const { status, headers, body } = await fetchForm('image.meta4')
  expect([status, headers['content-type']]).toEqual([200, 'application/metalink4+xml'])
  const file = childOf(parseXml(body.toString()), 'file')
  if (!file) throw new Error('no file')
  expect(childOf(file, 'hash')?.text).toBe(createHash('sha256').update(image).digest('hex'))
  expect(childOf(file, 'metaurl')?.text).toBe(urlOf('image.torrent'))
  const urls = childrenOf(file, 'url').map((url) => [
    url.text,
    attributeOf(url, 'location'),
    attributeOf(url, 'priority'),
  ])
  expect(urls).toEqual([
    [urlOf('image.zst'), undefined, '100'],
    [`https://mirror.test/i/${digest}/image.zst`, 'fr', '7'],
  ])
})

test('forms are asked for again only when they have changed', async () => {
  const { fetchForm, urlOf, sent } = await startOrigin()
  for (const [name, caching] of [
    ['image.torrent', 'no-cache'],
    ['image.meta4', 'no-cache'],
    ['image.bmap', 'public, max-age=31536000, immutable'],
  ] as const) {
    const first = await fetchForm(name)
    const etag = first.headers.etag ?? ''
    expect([first.headers['cache-control'], etag]).toEqual([caching, expect.stringMatching(/^"[0-9a-f]{32}"$/)])
    const again = await fetchForm(name, { 'if-none-match': `"x", W/${etag}` })
    expect([again.status, again.body.length, again.headers.etag]).toEqual([304, 0, etag])
    const head = await fetch(urlOf(name), { method: 'HEAD' })
    expect([head.status, head.headers.get('content-length')]).toEqual([200, `${first.body.length}`])
  }
  expect(sent()).toBe(0)
})

test('the block map is that of the manifest, and bmaptool finds it beside image.zst', async () => {
  const { fetchForm, urlOf } = await startOrigin()
  const manifest = await readManifest(library, digest)
  const { headers, body } = await fetchForm('image.bmap')
  expect(headers['content-type']).toBe('text/xml; charset=utf-8')
  expect(body.equals(encodeBmap({ sizeBytes: manifest.sizeBytes, ranges: mappedRangesOf(manifest) }))).toBe(true)
  const { stderr } = await run('bmaptool', ['copy', urlOf('image.zst'), join(folder, 'target')])
  expect(stderr).toContain('block map format version 2.0')
  expect(readFileSync(join(folder, 'target')).equals(disk)).toBe(true)
})

test('an image without kept hashes gets them when many ask at once, and a damaged one gets none', async () => {
  const { fetchForm } = await startOrigin()
  const { forms, image: path } = imagePaths(library, digest)
  rmSync(forms)
  const answers = await Promise.all(Array.from({ length: 20 }, () => fetchForm('image.torrent')))
  expect(new Set(answers.map(({ body }) => body.toString('hex'))).size).toBe(1)
  rmSync(forms)
  writeFileSync(path, image.with(10, (image[10] ?? 0) ^ 1))
  for (const name of ['image.torrent', 'image.meta4']) expect((await fetchForm(name)).status).toBe(500)
  writeFileSync(path, image)
  expect((await fetchForm('image.torrent')).body.equals(answers[0]?.body ?? Buffer.of())).toBe(true)
})

test('aria2 deploys from the Metalink alone: it finds the torrent, the web seed and the right bytes', async () => {
  const { urlOf, sent } = await startOrigin()
  const options = [
    '--no-conf',
    '--quiet',
    '--seed-time=0',
    '--enable-dht=false',
    '--bt-enable-lpd=false',
    `--dir=${folder}`,
  ]
  await run('aria2c', [...options, urlOf('image.meta4')], { timeout: 25_000 })
  expect(readFileSync(join(folder, 'image.zst')).equals(image)).toBe(true)
  expect(sent()).toBeGreaterThanOrEqual(image.length)
})

function bucketOf(bytesPerSecond: number): TokenBucket {
  return new TokenBucket({ bytesPerSecond, burstBytes: bytesPerSecond / 10 })
}

test('all answers together keep to the rate, ranges among them', async () => {
  const bytesPerSecondMax = 4_000_000
  const { fetchForm, sent } = await startOrigin({ egress: bucketOf(bytesPerSecondMax) })
  const began = performance.now()
  const half = Math.ceil(image.length / 2)
  const parts = await Promise.all([
    fetchForm('image.zst', { range: `bytes=0-${half - 1}` }),
    fetchForm('image.zst', { range: `bytes=${half}-` }),
    // What is not image.zst does not wait.
    fetchForm('manifest.json').then((answer) => ({ ...answer, body: Buffer.of() })),
  ])
  const seconds = (performance.now() - began) / 1000
  expect(Buffer.concat(parts.map(({ body }) => body)).equals(image)).toBe(true)
  expect(sent()).toBe(image.length)
  // A tenth of a second's worth goes at once.
  expect(seconds).toBeGreaterThan(image.length / bytesPerSecondMax - 0.11)
})

/** Begins to fetch and gives the answer when its first bytes are there. */
async function begun(url: string): Promise<IncomingMessage> {
  const answer = await answerTo(url)
  answer.on('error', () => {})
  await new Promise((resolve) => answer.once('readable', resolve))
  return answer
}

test('readers who leave in the middle leave nothing open and take nothing from the others', async () => {
  const bytesPerSecondMax = 2_000_000
  const { urlOf, fetchForm, sent } = await startOrigin({ egress: bucketOf(bytesPerSecondMax) })
  const answers = await Promise.all(Array.from({ length: 8 }, () => begun(urlOf('image.zst'))))
  expect(openFiles().length).toBeGreaterThan(0)
  for (const answer of answers) answer.destroy()
  await until('all files to be closed', () => openFiles().length === 0, { timeoutMs: 5000, everyMs: 10 })
  const before = sent()
  expect(before).toBeLessThan(image.length)
  const part = await fetchForm('image.zst', { range: 'bytes=0-99999' })
  expect(part.body.equals(image.subarray(0, 100_000))).toBe(true)
  expect(sent()).toBe(before + 100_000)
})

test('who is being served when an image is removed gets all of it', async () => {
  disk = randomFillSync(Buffer.alloc(24 * MiB))
  digest = (await importImage({ source: stream(disk), folder: library.folder })).digest
  image = readFileSync(imagePaths(library, digest).image)
  const { urlOf } = await startOrigin()
  const answer = await begun(urlOf('image.zst'))
  await removeImage(library, digest)
  expect((await fetch(urlOf('image.zst'))).status).toBe(404)
  expect((await fetch(urlOf('image.torrent'))).status).toBe(404)
  expect((await buffer(answer)).equals(image)).toBe(true)
})
