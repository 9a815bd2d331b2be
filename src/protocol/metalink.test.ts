import { execFile, execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { attributeOf, childOf, childrenOf, parseXml } from '../lib/xml.ts'
import { encodeMetalink, type Metalink } from './metalink.ts'

const content = randomBytes(5 * 16_384 + 321)
const pieceBytes = 16_384

function metalinkOf(bytes: Buffer): Metalink {
  const hashes: Buffer[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    hashes.push(
      createHash('sha1')
        .update(bytes.subarray(at, at + pieceBytes))
        .digest(),
    )
  }
  return {
    name: 'image.zst',
    totalBytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    pieceBytes,
    pieceHashes: Buffer.concat(hashes),
    torrentUrl: 'http://192.0.2.1/a?b=1&c=<2>',
    mirrors: [
      { url: 'http://192.0.2.1/image.zst?a=1&b="2"', location: 'DE', priority: 2 },
      { url: 'https://[2001:db8::1]/image.zst', priority: 999_999 },
      { url: 'http://192.0.2.3/image.zst' },
    ],
  }
}

function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hades-metalink-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A mirror that has `bytes` at every path; gives its base URL. */
async function startMirror(bytes: Buffer): Promise<string> {
  const server: Server = createServer((_request, response) => response.end(bytes))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  return `http://127.0.0.1:${address.port}`
}

/** Lets aria2 fetch what the Metalink names and gives the file. */
async function fetchByAria2(metalink: Metalink): Promise<Buffer> {
  const folder = testFolder()
  const path = join(folder, 'image.meta4')
  writeFileSync(path, encodeMetalink(metalink))
  const options = ['--no-conf', '--quiet', '--follow-torrent=false', '--max-tries=1', `--dir=${folder}`]
  await promisify(execFile)('aria2c', [...options, `--metalink-file=${path}`])
  return readFileSync(join(folder, metalink.name))
}

test('every field is where RFC 5854 wants it, escaped, and the document is well-formed', () => {
  const metalink = metalinkOf(content)
  const bytes = encodeMetalink(metalink)
  execFileSync('xmllint', ['--noout', '-'], { input: bytes })
  const root = parseXml(bytes.toString())
  expect([root.name, root.namespace]).toEqual(['metalink', 'urn:ietf:params:xml:ns:metalink'])
  const file = childOf(root, 'file')
  const pieces = file && childOf(file, 'pieces')
  const torrent = file && childOf(file, 'metaurl')
  if (!file || !pieces || !torrent) throw new Error('an element is missing')
  expect(attributeOf(file, 'name')).toBe('image.zst')
  expect(childOf(file, 'size')?.text).toBe(`${content.length}`)
  expect(childrenOf(file, 'hash').map((hash) => [attributeOf(hash, 'type'), hash.text])).toEqual([
    ['sha-256', metalink.sha256],
  ])
  expect([attributeOf(pieces, 'length'), attributeOf(pieces, 'type')]).toEqual([`${pieceBytes}`, 'sha-1'])
  expect(pieces.children.map(({ text }) => text).join('')).toBe(metalink.pieceHashes.toString('hex'))
  expect([attributeOf(torrent, 'mediatype'), torrent.text]).toEqual(['torrent', metalink.torrentUrl])
  const urls = childrenOf(file, 'url').map((url) => [
    url.text,
    attributeOf(url, 'location'),
    attributeOf(url, 'priority'),
  ])
  expect(urls).toEqual([
    [metalink.mirrors[0]?.url, 'de', '2'],
    [metalink.mirrors[1]?.url, undefined, '999999'],
    [metalink.mirrors[2]?.url, undefined, undefined],
  ])
})

test('aria2 shows the file and downloads it from the mirrors', async () => {
  const base = await startMirror(content)
  const metalink = { ...metalinkOf(content), mirrors: [{ url: `${base}/image.zst`, priority: 1 }] }
  expect((await fetchByAria2(metalink)).equals(content)).toBe(true)
  const path = join(testFolder(), 'image.meta4')
  writeFileSync(path, encodeMetalink(metalink))
  expect(execFileSync('aria2c', ['--no-conf', '-S', `--metalink-file=${path}`], { encoding: 'utf8' })).toContain(
    'image.zst',
  )
})

test('aria2 refuses what a mirror sends when a piece hashes to something else', async () => {
  const damaged = Buffer.from(content)
  damaged[20_000] = (damaged[20_000] ?? 0) ^ 1
  const mirrors = [{ url: `${await startMirror(damaged)}/image.zst` }]
  await expect(fetchByAria2({ ...metalinkOf(content), mirrors })).rejects.toThrow()
})

test.each([
  [{ name: '../image.zst' }, 'no plain file name'],
  [{ name: '' }, 'no plain file name'],
  [{ mirrors: [{ url: 'file:///etc/passwd' }] }, 'no URL of http or https'],
  [{ mirrors: [{ url: 'http://a/', location: 'Berlin' }] }, 'no code of two letters'],
  [{ mirrors: [{ url: 'http://a/', priority: 0 }] }, 'not from 1 to 999999'],
  [{ mirrors: [{ url: 'http://a/', priority: 1.5 }] }, 'not from 1 to 999999'],
])('%j is refused', (fields, sentence) => {
  expect(() => encodeMetalink({ ...metalinkOf(content), ...fields })).toThrow(sentence)
})
