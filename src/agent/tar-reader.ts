// Reads a tar archive as it passes by and tells the SHA-256 of every regular file in it: what GNU tar unpacks is compared
// with that afterwards. POSIX.1-2001 (ustar and pax) with GNU's long names and sparse files; anything else that has the
// frame of an entry is passed over. Holds one header at a time.
import { createHash, type Hash } from 'node:crypto'

/** What must be found in a file: its size, and the SHA-256 of its bytes, of a sparse one of its data alone. */
export type FileNote = {
  /** From the root of the archive, without a slash before it. */
  readonly path: string
  readonly sizeBytes: number
  readonly sha256: string
  /** Where a sparse file has data: offset and length of each run. */
  readonly runs?: readonly (readonly [number, number])[]
}

const blockBytes = 512
/** Of a pax header, a long name, or the map of a sparse file. */
const metaBytesMax = 1024 * 1024

/** Regular files: of old archives, of new ones, contiguous ones, and sparse ones of GNU's old form. */
const fileTypes = ['\0', '0', '7', 'S']

type Run = readonly [number, number]

type Entry = {
  readonly kind: 'file' | 'meta' | 'other'
  readonly type: string
  readonly path: string
  readonly sizeBytes: number
  runs: Run[] | undefined
  /** The map of the file is at the beginning of its data (GNU sparse 1.0). */
  isMapInData: boolean
  readonly hash: Hash | undefined
  /** Bytes of data, and of the padding behind it, that are to come. */
  dataLeft: number
  paddingLeft: number
  meta: Buffer[]
}

export class TarReader {
  readonly #onFile: (note: FileNote) => void
  #header = Buffer.alloc(blockBytes)
  #headerLength = 0
  #entry: Entry | undefined
  /** More runs of a sparse file of the old GNU form follow its header. */
  #extended: { readonly runs: Run[]; readonly begin: () => void } | undefined
  #longPath: string | undefined
  #pax = new Map<string, string>()
  #globalPax = new Map<string, string>()
  #offset = 0
  #isEnded = false

  constructor(onFile: (note: FileNote) => void) {
    this.#onFile = onFile
  }

  /** Takes the next bytes of the archive. Throws an Error that says where they are no tar. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.#isEnded; ) {
      const taken = this.#entry === undefined ? this.#takeHeader(bytes, at) : this.#takeData(this.#entry, bytes, at)
      at += taken
      this.#offset += taken
    }
  }

  /** Throws when the archive ends in the middle of an entry. */
  end(): void {
    if (this.#isEnded) return
    if (this.#entry !== undefined || this.#headerLength > 0) throw this.#fault('ends in the middle of an entry')
  }

  #fault(what: string): Error {
    return new Error(`the tar ${what}, at byte ${this.#offset}`)
  }

  #takeHeader(bytes: Buffer, at: number): number {
    const taken = bytes.copy(this.#header, this.#headerLength, at, at + blockBytes - this.#headerLength)
    this.#headerLength += taken
    if (this.#headerLength < blockBytes) return taken
    this.#headerLength = 0
    if (this.#extended !== undefined) this.#readExtended(this.#extended)
    else this.#readHeader(this.#header)
    return taken
  }

  #readExtended(extended: { readonly runs: Run[]; readonly begin: () => void }): void {
    extended.runs.push(...readRuns(this.#header, 0, 21))
    if (this.#header[504] === 1) return
    this.#extended = undefined
    extended.begin()
  }

  #readHeader(header: Buffer): void {
    if (header.every((byte) => byte === 0)) {
      // Two blocks of zeros end an archive; what is behind them is nobody's, and one alone is not seen in the wild.
      this.#isEnded = true
      return
    }
    if (!hasChecksum(header)) throw this.#fault('has a header that does not match its checksum')
    const pax = new Map([...this.#globalPax, ...this.#pax])
    const type = String.fromCharCode(header[156] ?? 0)
    const isMeta = 'xgLK'.includes(type) && type !== '\0'
    const paxSize = isMeta ? undefined : pax.get('size')
    const storedBytes = paxSize === undefined ? readNumber(header, 124, 12) : Number(paxSize)
    if (!Number.isSafeInteger(storedBytes) || storedBytes < 0) throw this.#fault('has an entry of no size')
    if (isMeta && storedBytes > metaBytesMax) throw this.#fault(`has ${storedBytes} bytes of names for one entry`)
    const kind = isMeta ? 'meta' : fileTypes.includes(type) ? 'file' : 'other'
    const path = pax.get('GNU.sparse.name') ?? pax.get('path') ?? this.#longPath ?? pathOf(header)
    const begin = (sizeBytes: number, runs: Run[] | undefined, isMapInData: boolean) => {
      const paddingLeft = (blockBytes - (storedBytes % blockBytes)) % blockBytes
      const hash = kind === 'file' ? createHash('sha256') : undefined
      const entry = { kind, type, path, sizeBytes, runs, isMapInData, hash, dataLeft: storedBytes, paddingLeft }
      this.#entry = { ...entry, meta: [] } as Entry
      if (storedBytes === 0) this.#finish(this.#entry)
    }
    if (!isMeta) {
      this.#pax = new Map()
      this.#longPath = undefined
    }
    if (type === 'S') {
      const runs = readRuns(header, 386, 4)
      const realBytes = readNumber(header, 483, 12)
      if (header[482] === 1) this.#extended = { runs, begin: () => begin(realBytes, runs, false) }
      else begin(realBytes, runs, false)
      return
    }
    const realBytes = Number(pax.get('GNU.sparse.realsize') ?? pax.get('GNU.sparse.size') ?? storedBytes)
    const map = pax.get('GNU.sparse.map')?.split(',').map(Number)
    const isMapInData = pax.get('GNU.sparse.major') === '1'
    begin(realBytes, map === undefined ? undefined : pairs(map), kind === 'file' && isMapInData)
  }

  #takeData(entry: Entry, bytes: Buffer, at: number): number {
    if (entry.dataLeft === 0) {
      const taken = Math.min(entry.paddingLeft, bytes.length - at)
      entry.paddingLeft -= taken
      if (entry.paddingLeft === 0) this.#entry = undefined
      return taken
    }
    // A map is read block by block, until it is whole.
    const most = entry.isMapInData ? blockBytes - (sum(entry.meta) % blockBytes) : entry.dataLeft
    const data = bytes.subarray(at, at + Math.min(entry.dataLeft, most))
    entry.dataLeft -= data.length
    if (entry.kind === 'meta' || entry.isMapInData) {
      entry.meta.push(Buffer.from(data))
      if (entry.isMapInData && sum(entry.meta) % blockBytes === 0) this.#readMap(entry)
    } else entry.hash?.update(data)
    if (entry.dataLeft === 0) this.#finish(entry)
    return data.length
  }

  #readMap(entry: Entry): void {
    const text = Buffer.concat(entry.meta)
    if (text.length > metaBytesMax) throw this.#fault('has a sparse file in too many parts')
    const numbers = text.toString('latin1').split('\n').slice(0, -1).map(Number)
    const [count = 0] = numbers
    if (numbers.length < 1 + 2 * count) return
    entry.runs = pairs(numbers.slice(1, 1 + 2 * count))
    entry.isMapInData = false
    entry.meta = []
  }

  #finish(entry: Entry): void {
    const { kind, type, path, sizeBytes, runs, hash } = entry
    if (entry.paddingLeft === 0) this.#entry = undefined
    if (kind === 'file') {
      const note = { path: path.replace(/^(\.?\/)+/, ''), sizeBytes, sha256: hash?.digest('hex') ?? '' }
      this.#onFile(runs === undefined ? note : { ...note, runs: runs.filter(([, length]) => length > 0) })
    }
    if (kind !== 'meta') return
    const bytes = Buffer.concat(entry.meta)
    if (type === 'L') this.#longPath = bytes.toString('utf8').replace(/\0.*$/s, '')
    if (type === 'x') this.#pax = readPax(bytes)
    if (type === 'g') this.#globalPax = new Map([...this.#globalPax, ...readPax(bytes)])
  }
}

function sum(parts: readonly Buffer[]): number {
  return parts.reduce((bytes, part) => bytes + part.length, 0)
}

function pairs(numbers: readonly number[]): Run[] {
  return Array.from({ length: Math.floor(numbers.length / 2) }, (_, index): Run => {
    return [numbers[2 * index] ?? 0, numbers[2 * index + 1] ?? 0]
  })
}

/** Octal digits, or a number in base 256 with the first bit set (GNU, for what octal cannot hold). */
function readNumber(header: Buffer, at: number, length: number): number {
  const first = header[at] ?? 0
  if (first < 128)
    return Number.parseInt(
      header
        .toString('latin1', at, at + length)
        .replace(/\0.*$/s, '')
        .trim() || '0',
      8,
    )
  let value = first & 0x7f
  for (let index = 1; index < length; index++) value = value * 256 + (header[at + index] ?? 0)
  return value
}

function readRuns(block: Buffer, at: number, count: number): Run[] {
  const runs: Run[] = []
  for (let index = 0; index < count; index++) {
    const where = at + index * 24
    // An unused row is empty.
    if (block[where] === 0 && block[where + 12] === 0) break
    runs.push([readNumber(block, where, 12), readNumber(block, where + 12, 12)])
  }
  return runs
}

function hasChecksum(header: Buffer): boolean {
  let total = 8 * 0x20
  for (let index = 0; index < blockBytes; index++) if (index < 148 || index >= 156) total += header[index] ?? 0
  return readNumber(header, 148, 8) === total
}

function pathOf(header: Buffer): string {
  const text = (at: number, length: number) => header.toString('utf8', at, at + length).replace(/\0.*$/s, '')
  const isPosix = header.toString('latin1', 257, 263) === 'ustar\0'
  const prefix = isPosix ? text(345, 155) : ''
  return prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`
}

/** `<length> <name>=<value>\n`, the length being that of the whole record. */
function readPax(bytes: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at)
    const length = Number(bytes.toString('latin1', at, space))
    if (space < 0 || !Number.isInteger(length) || length < 1) break
    const record = bytes.toString('utf8', space + 1, at + length - 1)
    const equals = record.indexOf('=')
    const [name, value] = [record.slice(0, equals), record.slice(equals + 1)]
    // Version 0.0 of sparse files repeats two names; as a list they are version 0.1.
    const isRun = name === 'GNU.sparse.offset' || name === 'GNU.sparse.numbytes'
    const before = records.get('GNU.sparse.map')
    if (isRun) records.set('GNU.sparse.map', before === undefined ? value : `${before},${value}`)
    else records.set(name, value)
    at += length
  }
  return records
}
