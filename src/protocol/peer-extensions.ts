// What peers tell each other in extended messages (BEP 10): the handshake that names the extensions each understands, and
// lt_donthave (BEP 54). `hades` is ours: who names it is an agent of ours, and is never choked by another.
import { type BencodeDictionary, decodeBencode, encodeBencode, isDictionary } from './bencode.ts'

/** The id of the handshake in an extended message. */
export const extensionHandshakeId = 0

/** What we understand, and the ids under which others send it to us. */
export const ourExtensions = { hades: 1, lt_donthave: 2 } as const

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
