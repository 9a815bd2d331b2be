// Bencode, the notation of BitTorrent (BEP 3): torrents, tracker answers, handshakes of extensions. Strings are bytes; keys
// of dictionaries are written and read as latin1, one character a byte, because a scrape has raw info-hashes as keys.

/** What can be encoded. A string stands for its UTF-8 bytes. */
export type Bencode = number | Buffer | string | readonly Bencode[] | { readonly [key: string]: Bencode }

/** What decoding gives. Strings are views into the input; dictionaries have no prototype. */
export type BencodeValue = number | Buffer | readonly BencodeValue[] | BencodeDictionary
export type BencodeDictionary = { readonly [key: string]: BencodeValue }

export type BencodeLimits = {
  /** Lists and dictionaries inside each other. */
  readonly depthMax: number
  /** Of the whole input. */
  readonly bytesMax: number
}

/** Wide enough for any message between peers and with a tracker. */
export const defaultBencodeLimits: BencodeLimits = { depthMax: 16, bytesMax: 1024 * 1024 }

/** Encodes canonically: keys in the order of their bytes. Throws for numbers that are no safe integers. */
export function encodeBencode(value: Bencode): Buffer {
  const parts: Buffer[] = []
  encodeInto(parts, value)
  return Buffer.concat(parts)
}

const end = Buffer.from('e')
const list = Buffer.from('l')
const dictionary = Buffer.from('d')

function encodeInto(parts: Buffer[], value: Bencode): void {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new Error(`bencode has no number ${value}`)
    parts.push(Buffer.from(`i${value}e`))
  } else if (typeof value === 'string' || Buffer.isBuffer(value)) {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    parts.push(Buffer.from(`${bytes.length}:`), bytes)
  } else if (isList(value)) {
    parts.push(list)
    for (const item of value) encodeInto(parts, item)
    parts.push(end)
  } else {
    parts.push(dictionary)
    // Strings compare by UTF-16 units, which for latin1 are the bytes.
    for (const key of Object.keys(value).sort()) {
      if (/[^\0-\xff]/.test(key)) throw new Error(`the key ${JSON.stringify(key.slice(0, 60))} is not latin1`)
      const item = value[key]
      if (item === undefined) continue
      parts.push(Buffer.from(`${key.length}:${key}`, 'latin1'))
      encodeInto(parts, item)
    }
    parts.push(end)
  }
}

function isList(value: Bencode): value is readonly Bencode[] {
  return Array.isArray(value)
}

/** True for a decoded dictionary. */
export function isDictionary(value: BencodeValue | undefined): value is BencodeDictionary {
  return typeof value === 'object' && !Buffer.isBuffer(value) && !Array.isArray(value)
}

/**
 * Decodes exactly one value. Throws an Error that names the offset for anything but bencode within the limits: integers and
 * lengths that are not canonical or not safe, a key twice, bytes behind the value. Keys out of order are taken, because
 * clients in the field send handshakes with such; who needs the canonical form encodes again and compares.
 */
export function decodeBencode(bytes: Buffer, limits: Partial<BencodeLimits> = {}): BencodeValue {
  const { depthMax, bytesMax } = { ...defaultBencodeLimits, ...limits }
  if (bytes.length > bytesMax) throw new Error(`bencode of ${bytes.length} bytes, more than ${bytesMax}`)
  const reader = new Reader(bytes, depthMax)
  const value = reader.value(0)
  if (reader.at !== bytes.length) throw reader.error('bytes behind the value')
  return value
}

const digit0 = 0x30
const digit9 = 0x39
const [colon, minus, letterD, letterE, letterI, letterL] = [0x3a, 0x2d, 0x64, 0x65, 0x69, 0x6c]

class Reader {
  readonly #bytes: Buffer
  readonly #depthMax: number
  at = 0

  constructor(bytes: Buffer, depthMax: number) {
    this.#bytes = bytes
    this.#depthMax = depthMax
  }

  error(what: string, at = this.at): Error {
    return new Error(`bencode, offset ${at}: ${what}`)
  }

  value(depth: number): BencodeValue {
    const first = this.#bytes[this.at]
    if (first === undefined) throw this.error('the end comes too early')
    if (first >= digit0 && first <= digit9) return this.#string()
    if (first === letterI) return this.#integer()
    if (first !== letterL && first !== letterD) throw this.error('no value begins like this')
    if (depth >= this.#depthMax) throw this.error(`nested deeper than ${this.#depthMax}`)
    this.at += 1
    return first === letterL ? this.#list(depth + 1) : this.#dictionary(depth + 1)
  }

  #list(depth: number): BencodeValue[] {
    const items: BencodeValue[] = []
    while (!this.#atEnd()) items.push(this.value(depth))
    return items
  }

  #dictionary(depth: number): BencodeDictionary {
    // Without a prototype no key, `__proto__` neither, means anything but itself.
    const items = Object.create(null) as Record<string, BencodeValue>
    while (!this.#atEnd()) {
      const at = this.at
      const first = this.#bytes[at]
      if (first !== undefined && (first < digit0 || first > digit9)) throw this.error('a key that is no string')
      const key = this.#string().toString('latin1')
      if (key in items) throw this.error(`the key ${JSON.stringify(key.slice(0, 60))} a second time`, at)
      items[key] = this.value(depth)
    }
    return items
  }

  /** Steps over the `e` that ends a list or dictionary, if it is there. */
  #atEnd(): boolean {
    if (this.#bytes[this.at] !== letterE) return false
    this.at += 1
    return true
  }

  #integer(): number {
    const begin = this.at
    this.at += 1
    const isNegative = this.#bytes[this.at] === minus
    if (isNegative) this.at += 1
    const magnitude = this.#digits(letterE)
    if (isNegative && magnitude === 0) throw this.error('minus zero', begin)
    return isNegative ? -magnitude : magnitude
  }

  #string(): Buffer {
    const begin = this.at
    const length = this.#digits(colon)
    if (length > this.#bytes.length - this.at)
      throw this.error(`a string of ${length} bytes reaches behind the end`, begin)
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  /** A whole number without leading zeros up to `terminator`, which is stepped over. */
  #digits(terminator: number): number {
    const begin = this.at
    let value = 0
    for (;;) {
      const byte = this.#bytes[this.at]
      if (byte === undefined) throw this.error('the end comes inside a number')
      if (byte === terminator && this.at > begin) break
      if (byte < digit0 || byte > digit9) throw this.error('a number with something else than digits')
      if (this.at > begin && value === 0) throw this.error('a number with a leading zero', begin)
      value = value * 10 + (byte - digit0)
      if (value > Number.MAX_SAFE_INTEGER) throw this.error('a number above 2^53', begin)
      this.at += 1
    }
    this.at += 1
    return value
  }
}
