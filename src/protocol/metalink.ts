// Metalink 4 (RFC 5854): one document that names a file, what it and its pieces hash to, its torrent and every mirror, so
// that a client like aria2 fetches from all of them at once and checks what comes.
import { Markup, xml } from '../lib/xml.ts'

export type Mirror = {
  /** Of the file, http or https. */
  readonly url: string
  /** ISO 3166-1, two letters. */
  readonly location?: string
  /** 1 is asked first. */
  readonly priority?: number
}

export type Metalink = {
  /** A plain file name. */
  readonly name: string
  readonly totalBytes: number
  /** Of the whole file, lower-case hex. */
  readonly sha256: string
  readonly pieceBytes: number
  /** SHA-1 of every piece, 20 bytes each, one behind the other. */
  readonly pieceHashes: Buffer
  readonly torrentUrl: string
  readonly mirrors: readonly Mirror[]
}

/** RFC 5854, 4.2.14.2. */
const priorityMax = 999_999

/** Throws an Error for what a Metalink cannot say: a name that is a path, a location or priority outside of their ranges. */
export function encodeMetalink(file: Metalink): Buffer {
  const { name, totalBytes, sha256, pieceBytes, pieceHashes, torrentUrl, mirrors } = file
  if (name === '' || name === '.' || name === '..' || /[/\\\p{Cc}]/u.test(name)) {
    throw new Error(`${JSON.stringify(name.slice(0, 80))} is no plain file name`)
  }
  const hashes: string[] = []
  for (let at = 0; at < pieceHashes.length; at += 20) {
    hashes.push(`      <hash>${pieceHashes.toString('hex', at, at + 20)}</hash>\n`)
  }
  const document = xml`<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <file name="${name}">
    <size>${totalBytes}</size>
    <hash type="sha-256">${sha256}</hash>
    <pieces length="${pieceBytes}" type="sha-1">
${new Markup(hashes.join(''))}    </pieces>
    <metaurl mediatype="torrent" priority="1">${torrentUrl}</metaurl>
${mirrors.map(encodeMirror)}  </file>
</metalink>
`
  return Buffer.from(document.toString())
}

function encodeMirror({ url, location, priority }: Mirror): Markup {
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) {
    throw new Error(`the mirror ${JSON.stringify(url.slice(0, 80))} is no URL of http or https`)
  }
  if (location !== undefined && !/^[a-z]{2}$/i.test(location)) {
    throw new Error(`the location ${JSON.stringify(location.slice(0, 80))} of a mirror is no code of two letters`)
  }
  if (priority !== undefined && !(Number.isInteger(priority) && priority >= 1 && priority <= priorityMax)) {
    throw new Error(`the priority ${priority} of a mirror is not from 1 to ${priorityMax}`)
  }
  const where = location === undefined ? '' : xml` location="${location.toLowerCase()}"`
  const order = priority === undefined ? '' : xml` priority="${priority}"`
  return xml`    <url${where}${order}>${url}</url>\n`
}
