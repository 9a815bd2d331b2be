// Reads a tar archive front to back and says what is in it, or why it must not be unpacked: names that leave the folder, links
// that do, numbers that cannot be, an end that is missing. Formats: POSIX ustar and pax (IEEE 1003.1), GNU tar's long names,
// numbers and sparse files. Keeps no contents. No files, no sockets.

export type TarCounts = {
  readonly files: number
  readonly directories: number
  readonly symlinks: number
  readonly hardLinks: number
  /** Device nodes and pipes. */
  readonly specials: number
  /** Of all files, unpacked. */
  readonly contentBytes: number
}

const blockBytes = 512
/** Of the names and the like of one entry. */
const extraBytesMax = 1024 * 1024
const pathBytesMax = 4096
const entriesMax = 16_000_000
/** Symbolic links are remembered, because nothing may be unpacked through one: so many bytes of their names. */
const symlinkBytesMax = 256 * 1024 * 1024
const contentBytesMax = 2 ** 50

type Pending = {
  type: string
  path: string
  link: string
  sizeBytes: number
  /** What an unpacked sparse file has. */
  realBytes: number | undefined
}

/** True when `head` begins with the header of a tar entry. */
export function isTar(head: Buffer): boolean {
  return head.length >= blockBytes && isUstar(head) && checksumOf(head) === octal(head.subarray(148, 156))
}

export class TarReader {
  readonly #allowsDevices: boolean
  #part = Buffer.alloc(0)
  /** Bytes of content, padded, still to be skipped. */
  #skip = 0
  /** What is collected of a pax or long-name entry. */
  #extra: { readonly type: string; readonly sizeBytes: number; readonly parts: Buffer[]; bytes: number } | undefined
  #names: { path?: string; link?: string; sizeBytes?: number; realBytes?: number; sparseName?: string } = {}
  #sparseFollows = false
  #zeroBlocks = 0
  #at = 0
  #entries = 0
  readonly #symlinks = new Set<string>()
  #symlinkBytes = 0
  readonly #counts = { files: 0, directories: 0, symlinks: 0, hardLinks: 0, specials: 0, contentBytes: 0 }

  constructor(options: { readonly allowsDevices?: boolean } = {}) {
    this.#allowsDevices = options.allowsDevices ?? false
  }

  /** Takes the next bytes of the archive. Throws an Error that says what is wrong, and with which entry. */
  push(bytes: Buffer): void {
    let rest = this.#part.length > 0 ? Buffer.concat([this.#part, bytes]) : bytes
    for (;;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, rest.length)
        this.#skip -= skipped
        this.#at += skipped
        rest = rest.subarray(skipped)
      }
      if (rest.length < blockBytes) break
      const block = rest.subarray(0, blockBytes)
      rest = rest.subarray(blockBytes)
      this.#block(block)
      this.#at += blockBytes
    }
    this.#part = Buffer.from(rest)
  }

  /** The archive has no more bytes. Throws when it should have. */
  end(): TarCounts {
    const isCut = this.#skip > 0 || this.#part.length > 0 || this.#extra !== undefined || this.#sparseFollows
    if (isCut)
      throw new Error(`the archive is truncated: it ends after ${this.#at + this.#part.length} bytes, within an entry`)
    if (this.#zeroBlocks < 2)
      throw new Error('the archive is truncated: the two blocks of zeros at its end are missing')
    return { ...this.#counts }
  }

  #block(block: Buffer): void {
    if (this.#extra !== undefined) {
      this.#collect(block)
      return
    }
    if (this.#sparseFollows) {
      // A table of more holes: its last byte but seven says whether another follows.
      this.#sparseFollows = block.readUInt8(504) !== 0
      return
    }
    const isZero = block.every((byte) => byte === 0)
    if (this.#zeroBlocks >= 2 || (this.#zeroBlocks === 1 && !isZero)) {
      if (!isZero) throw new Error(`bytes follow the end of the archive, at ${this.#at}`)
      return
    }
    if (isZero) this.#zeroBlocks++
    else this.#header(block)
  }

  #header(block: Buffer): void {
    if (!isUstar(block) || checksumOf(block) !== octal(block.subarray(148, 156))) {
      throw new Error(`there is no header of an entry at ${this.#at}, or it is damaged`)
    }
    if (++this.#entries > entriesMax) throw new Error(`the archive has more than ${entriesMax} entries`)
    const type = block.toString('latin1', 156, 157)
    const sizeBytes = number(block.subarray(124, 136), 'a size', this.#at)
    if ('xgLK'.includes(type)) {
      if (sizeBytes > extraBytesMax) throw new Error(`the names of the entry at ${this.#at} have ${sizeBytes} bytes`)
      this.#extra = { type, sizeBytes, parts: [], bytes: 0 }
      if (sizeBytes === 0) this.#extra = undefined
      return
    }
    const isPosix = block.toString('latin1', 257, 263) === 'ustar\0'
    const prefix = isPosix ? text(block.subarray(345, 500)) : ''
    const name = text(block.subarray(0, 100))
    const own = {
      type: type === '\0' || type === '7' ? '0' : type,
      path: prefix === '' ? name : `${prefix}/${name}`,
      link: text(block.subarray(157, 257)),
      sizeBytes,
      realBytes: type === 'S' ? number(block.subarray(483, 495), 'a size', this.#at) : undefined,
    }
    this.#sparseFollows = type === 'S' && block.readUInt8(482) !== 0
    this.#entry(own)
  }

  #collect(block: Buffer): void {
    const extra = this.#extra
    if (extra === undefined) return
    extra.parts.push(Buffer.from(block))
    extra.bytes += block.length
    if (extra.bytes < extra.sizeBytes) return
    this.#extra = undefined
    const bytes = Buffer.concat(extra.parts).subarray(0, extra.sizeBytes)
    if (extra.type === 'L') this.#names.path = text(bytes)
    else if (extra.type === 'K') this.#names.link = text(bytes)
    else this.#pax(bytes, extra.type === 'g')
  }

  #pax(bytes: Buffer, isGlobal: boolean): void {
    for (let at = 0; at < bytes.length; ) {
      const blank = bytes.indexOf(0x20, at)
      const length = blank < 0 ? Number.NaN : Number(bytes.toString('latin1', at, blank))
      if (!Number.isSafeInteger(length) || length < blank - at + 3 || at + length > bytes.length) {
        throw new Error(`the pax header before ${this.#at} is damaged`)
      }
      const record = bytes.subarray(blank + 1, at + length - 1)
      at += length
      const equals = record.indexOf(0x3d)
      const key = record.toString('latin1', 0, Math.max(0, equals))
      const value = record.toString('utf8', equals + 1)
      const size = () => decimal(value, this.#at)
      if (key === 'path') this.#names.path = value
      else if (key === 'linkpath') this.#names.link = value
      else if (key === 'size') this.#names.sizeBytes = size()
      else if (key === 'GNU.sparse.name') this.#names.sparseName = value
      else if (key === 'GNU.sparse.size' || key === 'GNU.sparse.realsize') this.#names.realBytes = size()
      else continue
      if (isGlobal) throw new Error(`a pax header before ${this.#at} gives every entry one ${key}`)
    }
  }

  #entry(own: Pending): void {
    const named = this.#names
    this.#names = {}
    const { type } = own
    const path = cleanPath(named.path ?? own.path, 'name')
    const paths = named.sparseName === undefined ? [path] : [path, cleanPath(named.sparseName, 'name')]
    for (const one of paths) this.#checkParents(one)
    const isFile = type === '0' || type === 'S'
    const sizeBytes = named.sizeBytes ?? own.sizeBytes
    this.#count(type, path, named.link ?? own.link)
    if (!isFile) {
      // Whether what follows is content or the next header, readers do not agree.
      if (sizeBytes !== 0) throw new Error(`${show(path)} is no file and has a size`)
      return
    }
    this.#counts.contentBytes += named.realBytes ?? own.realBytes ?? sizeBytes
    if (this.#counts.contentBytes > contentBytesMax)
      throw new Error('the files of the archive have more bytes than any disk')
    this.#skip = Math.ceil(sizeBytes / blockBytes) * blockBytes
  }

  #count(type: string, path: string, link: string): void {
    const counts = this.#counts
    if (type === '0' || type === 'S') counts.files++
    else if (type === '5') counts.directories++
    else if (type === '1') {
      this.#checkParents(cleanPath(link, `target of the hard link ${show(path)}`))
      counts.hardLinks++
    } else if (type === '2') {
      if (link === '') throw new Error(`the symbolic link ${show(path)} has no target`)
      this.#symlinkBytes += path.length
      if (this.#symlinkBytes > symlinkBytesMax) throw new Error('the archive has too many symbolic links')
      this.#symlinks.add(path)
      counts.symlinks++
    } else if (type === '6' || ((type === '3' || type === '4') && this.#allowsDevices)) counts.specials++
    else if (type === '3' || type === '4') throw new Error(`${show(path)} is a device node`)
    else throw new Error(`${show(path)} is of the type ${show(type)}, which does not belong into a root file system`)
  }

  /** Nothing is unpacked through a symbolic link of the archive: it might lead anywhere. */
  #checkParents(path: string): void {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const parent = path.slice(0, slash)
      if (this.#symlinks.has(parent)) throw new Error(`${show(path)} lies behind the symbolic link ${show(parent)}`)
    }
  }
}

/** A path without its empty and `.` components, which stays in its folder. `.` itself is the empty path. */
function cleanPath(path: string, what: string): string {
  if (path === '' || path.length > pathBytesMax || path.includes('\0'))
    throw new Error(`the ${what} ${show(path)} is no path`)
  if (path.startsWith('/')) throw new Error(`the ${what} ${show(path)} is absolute`)
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) throw new Error(`the ${what} ${show(path)} leads out of the archive`)
  return parts.join('/')
}

function isUstar(block: Buffer): boolean {
  const magic = block.toString('latin1', 257, 265)
  return magic === 'ustar\u000000' || magic === 'ustar  \0'
}

/** The sum of all bytes, the checksum's own taken for blanks. */
function checksumOf(block: Buffer): number {
  let sum = 8 * 0x20
  for (let at = 0; at < blockBytes; at++) if (at < 148 || at >= 156) sum += block[at] ?? 0
  return sum
}

function octal(field: Buffer): number {
  const digits = /^ *([0-7]+)[ \0]*$/.exec(field.toString('latin1'))?.[1]
  return digits === undefined ? Number.NaN : Number.parseInt(digits, 8)
}

/** Octal digits, or after a first byte of 0x80 a binary number. */
function number(field: Buffer, what: string, at: number): number {
  if (field.every((byte) => byte === 0 || byte === 0x20)) return 0
  let value = octal(field)
  if (field[0] === 0x80) value = Number(BigInt(`0x${field.subarray(1).toString('hex')}`))
  if (!Number.isSafeInteger(value) || value > contentBytesMax)
    throw new Error(`the entry at ${at} has ${what} that cannot be`)
  return value
}

function decimal(value: string, at: number): number {
  const size = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN
  if (!(size <= contentBytesMax)) throw new Error(`the entry at ${at} has a size that cannot be: ${show(value)}`)
  return size
}

/** Up to the first NUL. */
function text(field: Buffer): string {
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end < 0 ? field.length : end)
}

function show(value: string): string {
  return JSON.stringify(value.slice(0, 200))
}
