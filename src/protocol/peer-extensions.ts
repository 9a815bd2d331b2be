// What peers tell each other in extended messages (BEP 10): the handshake that names the extensions each understands, and
// lt_donthave (BEP 54). `hades` is ours: who names it is an agent of ours, and is never choked by another; its messages say
// which pieces the sender holds by now, in runs: many HAVEs in one; those of `hades_never`, in the same form, which ones it will
// never hold, because it needs only a part.
import { type BencodeDictionary, decodeBencode, encodeBencode, isDictionary } from './bencode.ts'

/** The id of the handshake in an extended message. */
export const extensionHandshakeId = 0

/** What we understand, and the ids under which others send it to us. */
export const ourExtensions = { hades: 1, lt_donthave: 2, hades_never: 3 } as const

export type ExtensionHandshake = {
  /** The name of each extension the other understands and the id under which it wants it. */
  readonly extensions: ReadonlyMap<string, number>
  /** What the other calls itself; empty if it does not say. */
  readonly client: string
  /** How many requests the other keeps in its queue, if it says. */
  readonly requestsMax: number | undefined
}

/** More extensions than any client has; what follows is not read. */
const extensionsMax = 64

const clientLengthMax = 100

export function encodeExtensionHandshake(options: { readonly client: string; readonly requestsMax: number }): Buffer {
  return encodeBencode({ m: ourExtensions, reqq: options.requestsMax, v: options.client })
}

/** Throws an Error when `payload` is no dictionary; entries that make no sense in it are as if they were not there. */
export function decodeExtensionHandshake(payload: Buffer): ExtensionHandshake {
  const value = decodeBencode(payload)
  if (!isDictionary(value)) throw new Error('the extension handshake is no dictionary')
  const { m, v, reqq } = value
  return {
    extensions: isDictionary(m) ? readExtensions(m) : new Map(),
    // The text goes into logs: what is not printable becomes `?`.
    client: Buffer.isBuffer(v) ? v.toString('utf8', 0, clientLengthMax).replaceAll(/[^\x20-\x7e]/g, '?') : '',
    requestsMax: typeof reqq === 'number' && reqq > 0 ? reqq : undefined,
  }
}

function readExtensions(names: BencodeDictionary): Map<string, number> {
  const extensions = new Map<string, number>()
  for (const [name, id] of Object.entries(names).slice(0, extensionsMax)) {
    // 0 says that the extension is switched off.
    if (typeof id === 'number' && id > 0 && id < 256) extensions.set(name, id)
  }
  return extensions
}

export function encodeDontHave(piece: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(piece)
  return bytes
}

export function decodeDontHave(payload: Buffer): number {
  if (payload.length !== 4) throw new Error(`lt_donthave has 4 bytes, this one ${payload.length}`)
  return payload.readUInt32BE(0)
}

/** Payload of a `hades` or `hades_never` message: for each run of pieces its first and its length, four bytes each. At least one piece. */
export function encodeRuns(pieces: readonly number[]): Buffer {
  const runs: { first: number; count: number }[] = []
  for (const piece of [...new Set(pieces)].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && piece === last.first + last.count) last.count += 1
    else runs.push({ first: piece, count: 1 })
  }
  const bytes = Buffer.allocUnsafe(runs.length * 8)
  for (const [index, { first, count }] of runs.entries()) {
    bytes.writeUInt32BE(first, index * 8)
    bytes.writeUInt32BE(count, index * 8 + 4)
  }
  return bytes
}

/** The pieces of such a message. Throws an Error for runs outside of a torrent of so many, or more than it has. */
export function decodeRuns(payload: Buffer, pieces: number): number[] {
  if (payload.length % 8 !== 0) throw new Error(`a hades message has eight bytes a run, this one ${payload.length}`)
  const found: number[] = []
  for (let at = 0; at < payload.length; at += 8) {
    const [first, count] = [payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]
    if (first + count > pieces || found.length + count > pieces) {
      throw new Error(`a hades message of ${count} pieces from ${first} on, where there are ${pieces}`)
    }
    for (let piece = first; piece < first + count; piece++) found.push(piece)
  }
  return found
}
