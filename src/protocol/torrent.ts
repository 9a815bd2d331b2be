// A .torrent of one file: BEP 3, private (BEP 27), several trackers (BEP 12), web seeds (BEP 19). The info-hash depends on
// the file's name and bytes alone; trackers and web seeds stand outside of what is hashed.
import { createHash } from 'node:crypto'
import { type BencodeDictionary, type BencodeValue, decodeBencode, encodeBencode, isDictionary } from './bencode.ts'

export type TorrentInfo = {
  /** A plain file name. */
  readonly name: string
  readonly totalBytes: number
  readonly pieceBytes: number
  /** SHA-1 of every piece, 20 bytes each, one behind the other. */
  readonly pieceHashes: Buffer
}

export type Torrent = {
  readonly info: TorrentInfo
  /** URLs of trackers, the first one asked first. */
  readonly announce: readonly string[]
  /** URLs of the file itself. */
  readonly webSeeds: readonly string[]
  readonly comment?: string
  /** Seconds since 1970. */
  readonly createdAtS?: number
}

/** A million pieces and what else stands in a torrent. */
export const torrentBytesMax = 24 * 1024 * 1024
const pieceBytesMax = 64 * 1024 * 1024
const urlsMax = 64
const urlLengthMax = 2048
const nameBytesMax = 255

/** Throws an Error when the info does not fit together. */
export function encodeTorrent({ info, announce, webSeeds, comment, createdAtS }: Torrent): Buffer {
  return encodeBencode({
    ...(announce[0] === undefined ? {} : { announce: announce[0] }),
    ...(announce.length < 2 ? {} : { 'announce-list': announce.map((url) => [url]) }),
    ...(comment === undefined ? {} : { comment }),
    ...(createdAtS === undefined ? {} : { 'creation date': createdAtS }),
    info: infoDictionary(info),
    ...(webSeeds.length === 0 ? {} : { 'url-list': webSeeds }),
  })
}

/** The identity of a torrent that `encodeTorrent` makes: 40 hex digits. Throws as `encodeTorrent` does. */
export function infoHashOf(info: TorrentInfo): string {
  return sha1(encodeBencode(infoDictionary(info)))
}

function infoDictionary(info: TorrentInfo) {
  checkInfo(info)
  const { name, totalBytes, pieceBytes, pieceHashes } = info
  return { length: totalBytes, name, 'piece length': pieceBytes, pieces: pieceHashes, private: 1 }
}

/**
 * Reads a torrent of one file. `infoHash`, 40 hex digits, is of the info as it stands there, whatever else it holds. Throws
 * an Error that names the field when it is anything else, not canonical, or its name is a path.
 */
export function parseTorrent(bytes: Buffer): Torrent & { readonly infoHash: string } {
  const value = decodeBencode(bytes, { bytesMax: torrentBytesMax })
  if (!isDictionary(value)) throw new Error('a torrent that is no dictionary')
  // The info-hash is of the canonical form: in any other, two readers could see two torrents in one file.
  if (!encodeBencode(value).equals(bytes)) throw new Error('a torrent that is not canonical bencode')
  const dictionary = value.info
  if (!isDictionary(dictionary)) throw bad('info', dictionary === undefined ? 'is missing' : 'is no dictionary')
  if (dictionary.files !== undefined) throw bad('info', 'holds several files, not one')
  const info: TorrentInfo = {
    name: utf8(bytesIn(dictionary, 'name'), 'name'),
    totalBytes: numberIn(dictionary, 'length'),
    pieceBytes: numberIn(dictionary, 'piece length'),
    pieceHashes: bytesIn(dictionary, 'pieces'),
  }
  checkInfo(info)
  return {
    info,
    infoHash: sha1(encodeBencode(dictionary)),
    announce: announceOf(value),
    webSeeds: urls(value['url-list'], 'url-list'),
    ...(value.comment === undefined ? {} : { comment: utf8(bytesIn(value, 'comment'), 'comment') }),
    ...(value['creation date'] === undefined ? {} : { createdAtS: numberIn(value, 'creation date') }),
  }
}

function checkInfo({ name, totalBytes, pieceBytes, pieceHashes }: TorrentInfo): void {
  const isPath = name === '.' || name === '..' || /[/\\\p{Cc}]/u.test(name)
  if (name === '' || isPath || Buffer.byteLength(name) > nameBytesMax) {
    throw bad('name', `is ${JSON.stringify(name.slice(0, 80))}, no plain file name`)
  }
  if (!Number.isSafeInteger(totalBytes) || totalBytes < 1) throw bad('length', `is ${totalBytes}`)
  if (!Number.isSafeInteger(pieceBytes) || pieceBytes < 1 || pieceBytes > pieceBytesMax) {
    throw bad('piece length', `is ${pieceBytes}, not from 1 to ${pieceBytesMax}`)
  }
  if (pieceHashes.length % 20 !== 0) throw bad('pieces', `has ${pieceHashes.length} bytes, no multiple of 20`)
  const pieces = Math.ceil(totalBytes / pieceBytes)
  if (pieceHashes.length !== pieces * 20) {
    throw bad('pieces', `has ${pieceHashes.length / 20} hashes; ${totalBytes} bytes make ${pieces} of ${pieceBytes}`)
  }
}

/** BEP 12: where there is an `announce-list`, `announce` is ignored. Its tiers become one list. */
function announceOf(torrent: BencodeDictionary): string[] {
  const tiers = torrent['announce-list']
  if (tiers === undefined) return urls(torrent.announce, 'announce')
  if (!Array.isArray(tiers)) throw bad('announce-list', 'is no list')
  // An array of decoded values holds decoded values; the guard widens them to any.
  const urlsOfTiers = (tiers as readonly BencodeValue[]).flatMap((tier) => urls(tier, 'announce-list'))
  return atMost(urlsOfTiers, 'announce-list')
}

/** One URL or a list of them. */
function urls(value: BencodeValue | undefined, field: string): string[] {
  if (value === undefined || (Buffer.isBuffer(value) && value.length === 0)) return []
  const items: readonly BencodeValue[] = Array.isArray(value) ? value : [value]
  return atMost(items, field).map((item) => {
    if (!Buffer.isBuffer(item)) throw bad(field, 'holds something else than strings')
    const url = utf8(item, field)
    if (url.length > urlLengthMax || !/^(https?|udp):$/.test(URL.parse(url)?.protocol ?? '')) {
      throw bad(field, `holds ${JSON.stringify(url.slice(0, 80))}, no URL of http, https or udp`)
    }
    return url
  })
}

function atMost<T>(items: readonly T[], field: string): T[] {
  if (items.length > urlsMax) throw bad(field, `holds more than ${urlsMax} URLs`)
  return [...items]
}

function bytesIn(dictionary: BencodeDictionary, field: string): Buffer {
  const value = dictionary[field]
  if (!Buffer.isBuffer(value)) throw bad(field, value === undefined ? 'is missing' : 'is no string')
  return value
}

function numberIn(dictionary: BencodeDictionary, field: string): number {
  const value = dictionary[field]
  if (typeof value !== 'number') throw bad(field, value === undefined ? 'is missing' : 'is no number')
  return value
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function utf8(bytes: Buffer, field: string): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw bad(field, 'is not UTF-8')
  }
}

function sha1(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('hex')
}

function bad(field: string, what: string): Error {
  return new Error(`a torrent whose ${field} ${what}`)
}
