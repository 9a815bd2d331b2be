import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import createTorrent from 'create-torrent'
import fc from 'fast-check'
import parseReference from 'parse-torrent'
import { expect, onTestFinished, test } from 'vitest'
import { decodeBencode, encodeBencode, isDictionary } from './bencode.ts'
import { encodeTorrent, infoHashOf, parseTorrent, type Torrent, type TorrentInfo } from './torrent.ts'

function infoOf(content: Buffer, pieceBytes: number, name = 'image.zst'): TorrentInfo {
  const hashes: Buffer[] = []
  for (let at = 0; at < content.length; at += pieceBytes) {
    hashes.push(
      createHash('sha1')
        .update(content.subarray(at, at + pieceBytes))
        .digest(),
    )
  }
  return { name, totalBytes: content.length, pieceBytes, pieceHashes: Buffer.concat(hashes) }
}

const content = randomBytes(5 * 16_384 + 777)
const torrent: Torrent = {
  info: infoOf(content, 16_384),
  announce: ['http://192.0.2.1:7780/announce'],
  webSeeds: ['http://192.0.2.1:7780/images/abc/image.zst'],
}

/** Writes a torrent into a folder of the test's own. */
function torrentFile(bytes: Buffer): string {
  const folder = mkdtempSync(join(tmpdir(), 'hades-torrent-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'image.torrent')
  writeFileSync(path, bytes)
  return path
}

test.each([1, 16_383, 16_384, 16_385, content.length])(
  'create-torrent makes the same info-hash of %i bytes, and parse-torrent reads ours',
  async (length) => {
    const part = content.subarray(0, length)
    const info = infoOf(part, 16_384)
    const options = { name: 'image.zst', pieceLength: 16_384, private: true, announceList: [torrent.announce.slice()] }
    const theirs = await new Promise<Buffer>((resolve, reject) => {
      createTorrent(part, options, (error, bytes) => (error ? reject(error) : resolve(Buffer.from(bytes))))
    })
    expect(parseTorrent(theirs)).toMatchObject({ info, infoHash: infoHashOf(info), announce: torrent.announce })
    const read = await parseReference(encodeTorrent({ ...torrent, info }))
    expect(read).toMatchObject({
      infoHash: infoHashOf(info),
      name: 'image.zst',
      length,
      pieceLength: 16_384,
      private: true,
      announce: torrent.announce,
      urlList: torrent.webSeeds,
    })
  },
)

test('transmission, aria2 and libtorrent find the same info-hash, tracker and web seed', () => {
  const path = torrentFile(encodeTorrent({ ...torrent, comment: 'für alle', createdAtS: 1_700_000_000 }))
  const infoHash = infoHashOf(torrent.info)
  const shown = execFileSync('transmission-show', [path], { encoding: 'utf8' })
  expect(shown).toContain(`Hash: ${infoHash}`)
  expect(shown).toContain('Privacy: Private torrent')
  expect(shown).toContain(torrent.announce[0])
  expect(shown).toContain('Comment: für alle')
  const aria2 = execFileSync('aria2c', ['--no-conf', '-S', path], { encoding: 'utf8' })
  expect(aria2).toContain(`Info Hash: ${infoHash}`)
  expect(aria2).toContain(torrent.webSeeds[0])
  expect(aria2).toContain(torrent.announce[0])
  const script = `import libtorrent as lt, sys, json
t = lt.torrent_info(sys.argv[1])
print(json.dumps([str(t.info_hash()), t.priv(), t.total_size(), t.piece_length(), t.name(),
                  [x.url for x in t.trackers()], [x['url'] for x in t.web_seeds()]]))`
  const libtorrent = execFileSync('/usr/bin/python3', ['-c', script, path], { encoding: 'utf8' })
  const { totalBytes, pieceBytes, name } = torrent.info
  expect(JSON.parse(libtorrent)).toEqual([
    infoHash,
    true,
    totalBytes,
    pieceBytes,
    name,
    torrent.announce,
    torrent.webSeeds,
  ])
})

test('parsing undoes encoding', () => {
  const url = fc.webUrl({ validSchemes: ['http', 'https'] })
  const anyTorrent: fc.Arbitrary<Torrent> = fc
    .record({
      name: fc.string({ minLength: 1, maxLength: 60 }).filter((name) => !/[/\\\p{Cc}]|^\.\.?$/u.test(name)),
      totalBytes: fc.integer({ min: 1, max: 200_000 }),
      pieceBytes: fc.constantFrom(16_384, 65_536, 1_000),
      announce: fc.array(url, { maxLength: 4 }),
      webSeeds: fc.array(url, { maxLength: 4 }),
      comment: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
    })
    .map(({ name, totalBytes, pieceBytes, announce, webSeeds, comment }) => ({
      info: { name, totalBytes, pieceBytes, pieceHashes: randomBytes(20 * Math.ceil(totalBytes / pieceBytes)) },
      announce,
      webSeeds,
      ...(comment === undefined ? {} : { comment: comment.toWellFormed() }),
    }))
  fc.assert(
    fc.property(anyTorrent, (torrent) => {
      expect(parseTorrent(encodeTorrent(torrent))).toEqual({ ...torrent, infoHash: infoHashOf(torrent.info) })
    }),
  )
})

test('trackers and web seeds do not change the info-hash, an unknown field in the info does', () => {
  expect(parseTorrent(encodeTorrent({ ...torrent, announce: [], webSeeds: [] })).infoHash).toBe(
    infoHashOf(torrent.info),
  )
  expect(parseTorrent(changed({ info: { source: 'elsewhere' } })).infoHash).not.toBe(infoHashOf(torrent.info))
})

/** The torrent with fields set, or left out where undefined. */
function changed(fields: { readonly info?: Record<string, unknown>; readonly [key: string]: unknown }): Buffer {
  const value = decodeBencode(encodeTorrent(torrent))
  if (!isDictionary(value) || !isDictionary(value.info)) throw new Error('no torrent')
  const merged = { ...value, ...fields, info: { ...value.info, ...fields.info } }
  // Test data: whatever is given is bencode, or undefined, which the encoder leaves out.
  return encodeBencode(merged as never)
}

test.each([
  ['name', { info: { name: undefined } }, 'name is missing'],
  ['length', { info: { length: undefined } }, 'length is missing'],
  ['piece length', { info: { 'piece length': undefined } }, 'piece length is missing'],
  ['pieces', { info: { pieces: undefined } }, 'pieces is missing'],
  ['length', { info: { length: 'x' } }, 'length is no number'],
  ['length', { info: { length: 0 } }, 'length is 0'],
  ['length', { info: { length: -5 } }, 'length is -5'],
  ['piece length', { info: { 'piece length': 0 } }, 'piece length is 0'],
  ['piece length', { info: { 'piece length': 2 ** 40 } }, 'piece length is 1099511627776'],
  ['pieces', { info: { pieces: Buffer.alloc(119) } }, '119 bytes, no multiple of 20'],
  ['pieces', { info: { pieces: Buffer.alloc(100) } }, 'has 5 hashes; 82697 bytes make 6 of 16384'],
  ['pieces', { info: { pieces: Buffer.alloc(140) } }, 'has 7 hashes'],
  ['files', { info: { files: [{ length: 1, path: ['a'] }] } }, 'several files'],
  ...['', '.', '..', '../image.zst', '/etc/passwd', 'a/b', 'a\\b', 'a\0b', 'a\nb', 'x'.repeat(256)].map(
    (name) => ['name', { info: { name } }, 'no plain file name'] as const,
  ),
  ['name', { info: { name: Buffer.of(0xff, 0xfe) } }, 'name is not UTF-8'],
  ['announce', { announce: 'file:///etc/passwd' }, 'no URL of http'],
  ['announce', { announce: 7 }, 'something else than strings'],
  ['announce-list', { 'announce-list': [['nonsense']] }, 'no URL'],
  ['announce-list', { 'announce-list': 'http://a/' }, 'announce-list is no list'],
  ['url-list', { 'url-list': Array.from({ length: 65 }, () => 'http://a/') }, 'more than 64'],
  ['url-list', { 'url-list': [`http://a/${'a'.repeat(3000)}`] }, 'no URL'],
] as const)('a torrent with a wrong %s is refused: %o', (_field, fields, sentence) => {
  expect(() => parseTorrent(changed(fields))).toThrow(sentence)
})

test('a torrent that is not canonical, or no torrent at all, is refused', () => {
  expect(() => parseTorrent(Buffer.from('d4:infode1:ai1ee'))).toThrow('not canonical')
  expect(() => parseTorrent(Buffer.from('le'))).toThrow('no dictionary')
  expect(() => parseTorrent(encodeBencode({ info: [] }))).toThrow('info is no dictionary')
  expect(() => parseTorrent(encodeBencode({}))).toThrow('info is missing')
  expect(() => parseTorrent(Buffer.concat([encodeTorrent(torrent), Buffer.from('e')]))).toThrow('behind the value')
})

test('hashes that do not fit the length are not encoded', () => {
  const { info } = torrent
  expect(() => infoHashOf({ ...info, totalBytes: info.totalBytes + 16_384 })).toThrow('has 6 hashes')
  expect(() => encodeTorrent({ ...torrent, info: { ...info, name: '../x' } })).toThrow('no plain file name')
})

test('a damaged torrent parses or throws an Error', () => {
  const whole = encodeTorrent(torrent)
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, length) => {
      const damaged = Buffer.from(whole)
      damaged[at] = byte
      try {
        parseTorrent(damaged.subarray(0, length))
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
        expect((error as Error).message).toMatch(/^(a torrent|bencode, offset \d+: )/)
      }
    }),
    { numRuns: 1000 },
  )
})
