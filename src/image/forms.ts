// What the published forms of an image (.torrent, Metalink, block map) say of its bytes: SHA-1 of every piece and SHA-256
// of the whole of image.zst. Computed once, when the image is published or first asked for, and kept beside it as `forms`.
// That file appears by a rename, so it is whole or not there, whoever is killed meanwhile.
import { createHash } from 'node:crypto'
import { readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { Failure, invariant } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { choosePieceBytes, type PieceGeometry } from '../model/swarm.ts'
import { decodeBencode, encodeBencode, isDictionary } from '../protocol/bencode.ts'
import type { MappedRange } from '../protocol/bmap.ts'
import { infoHashOf, type TorrentInfo } from '../protocol/torrent.ts'
import { checkFrame, inflateFrame, rawBytesOf } from './frames.ts'
import {
  imagePaths,
  type Library,
  makeIncoming,
  openStored,
  readAt,
  readManifest,
  readSeekTable,
  syncFolder,
} from './library.ts'
import { isErrno, LibraryFile } from './library-file.ts'

export type Forms = {
  /** Size of image.zst. */
  readonly totalBytes: number
  readonly pieceBytes: number
  /** SHA-1 of every piece, 20 bytes each, one behind the other. */
  readonly pieceHashes: Buffer
  /** Of the whole image.zst, lower-case hex. */
  readonly sha256: string
  /** Of the torrent, 40 hex digits: it depends on nothing but the bytes of image.zst. */
  readonly infoHash: string
}

/** The info dictionary of the image's torrent. */
export function torrentInfoOf({ totalBytes, pieceBytes, pieceHashes }: Omit<Forms, 'infoHash'>): TorrentInfo {
  return { name: 'image.zst', totalBytes, pieceBytes, pieceHashes }
}

/** Callers of one process share the work; the key is the image's folder. */
const underWay = new Map<string, Promise<Forms>>()

/**
 * The forms of an image, from its folder. For an image without, as of an older version, they are computed and kept, which
 * reads image.zst once. Throws Failure `unknown-image`, `image-corrupt` (its bytes are not those of the manifest),
 * `library-full`.
 */
export function readForms(library: Library, digest: string): Promise<Forms> {
  const { folder } = imagePaths(library, digest)
  const running = underWay.get(folder)
  if (running) return running
  const forms = readOrMake(library, digest).finally(() => underWay.delete(folder))
  underWay.set(folder, forms)
  return forms
}

async function readOrMake(library: Library, digest: string): Promise<Forms> {
  const { image, forms: path } = imagePaths(library, digest)
  const kept = await readKept(path)
  if (kept === undefined) return await makeForms(library, digest)
  // A file cut short since then is told now, not by every host.
  await (await openStored(image, kept.totalBytes)).close()
  return kept
}

async function makeForms(library: Library, digest: string): Promise<Forms> {
  const { folder, image, forms: path } = imagePaths(library, digest)
  const manifest = await readManifest(library, digest)
  const forms = await computeForms(image, manifest)
  const draft = await makeIncoming(library)
  try {
    await writeForms(join(draft, 'forms'), forms)
    await rename(join(draft, 'forms'), path)
    await syncFolder(folder)
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) throw cause
    throw new Failure('unknown-image', `the image ${digest} was removed meanwhile`, { cause })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  return forms
}

/** Writes `forms` as a new file, flushed. Throws Failure `library-full`. */
export async function writeForms(path: string, forms: Forms): Promise<void> {
  const { totalBytes, pieceBytes, pieceHashes, sha256, infoHash } = forms
  const file = await LibraryFile.create(path)
  try {
    const fields = { format: 1, infoHash, length: totalBytes, 'piece length': pieceBytes, pieces: pieceHashes, sha256 }
    await file.write(encodeBencode(fields))
    await file.finish()
  } finally {
    await file.close()
  }
}

/** 20 bytes for each piece of the largest image, and the other fields. */
const formsBytesMax = 24 * 1024 * 1024

/** Undefined when there is no file, or it is damaged: then it is made anew. */
async function readKept(path: string): Promise<Forms | undefined> {
  let bytes: Buffer
  try {
    if ((await stat(path)).size > formsBytesMax) return undefined
    bytes = await readFile(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    return parseForms(bytes)
  } catch {
    return undefined
  }
}

function parseForms(bytes: Buffer): Forms {
  const value = decodeBencode(bytes, { bytesMax: formsBytesMax })
  if (!isDictionary(value) || value.format !== 1) throw new Error('not of format 1')
  const { length, 'piece length': pieceBytes, pieces, sha256, infoHash } = value
  if (typeof length !== 'number' || typeof pieceBytes !== 'number') throw new Error('a number is missing')
  if (!Buffer.isBuffer(pieces) || !Buffer.isBuffer(sha256) || !Buffer.isBuffer(infoHash))
    throw new Error('a hash is missing')
  const fields = { totalBytes: length, pieceBytes, pieceHashes: pieces, sha256: sha256.toString('latin1') }
  // The info-hash covers the pieces: a flipped bit among them does not go out.
  const expected = infoHashOf(torrentInfoOf(fields))
  if (expected !== infoHash.toString('latin1') || !/^[0-9a-f]{64}$/.test(fields.sha256)) throw new Error('damaged')
  return { ...fields, infoHash: expected }
}

/**
 * Reads image.zst at `path` once, a frame at a time, and computes its forms. What does not hold what the manifest says
 * ends in Failure `image-corrupt`: hashes of damaged bytes would make every host refuse the good ones.
 */
export async function computeForms(
  path: string,
  manifest: Manifest,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Forms> {
  const file = await openStored(path, manifest.storedBytes)
  try {
    const totalBytes = manifest.storedBytes
    const hasher = new FormsHasher({ totalBytes, pieceBytes: choosePieceBytes(totalBytes) })
    let zeroFrame: Buffer | undefined
    for (const [number, frame] of manifest.frames.entries()) {
      options.signal?.throwIfAborted()
      const bytes = await readAt(file, frame.offset, frame.length)
      // A data frame is known by its hash; a frame of zeros has none, but few differ: what was inflated once is known.
      const isKnown = frame.class === 'data' || zeroFrame?.equals(bytes) === true
      const checked = isKnown ? checkFrame(manifest, number, bytes) : inflateFrame(manifest, number, bytes)
      await Promise.all([checked, hasher.update(bytes)])
      if (frame.class !== 'data') zeroFrame = bytes
    }
    await hasher.update(await readSeekTable(file, manifest))
    return hasher.finish()
  } finally {
    await file.close()
  }
}

/** So many bytes are hashed before others get their turn: a few milliseconds on the slowest machine. */
const hashedAtOnce = 1024 * 1024

/** Takes image.zst front to back. */
export class FormsHasher {
  readonly #totalBytes: number
  readonly #pieceBytes: number
  readonly #hashes: Buffer[] = []
  readonly #whole = createHash('sha256')
  #piece = createHash('sha1')
  #done = 0

  constructor({ totalBytes, pieceBytes }: PieceGeometry) {
    this.#totalBytes = totalBytes
    this.#pieceBytes = pieceBytes
  }

  async update(bytes: Buffer): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const roomInPiece = this.#pieceBytes - (this.#done % this.#pieceBytes)
      const part = bytes.subarray(from, from + Math.min(roomInPiece, hashedAtOnce))
      this.#whole.update(part)
      this.#piece.update(part)
      from += part.length
      this.#done += part.length
      if (part.length === roomInPiece) this.#endPiece()
      if (Math.floor(this.#done / hashedAtOnce) > Math.floor((this.#done - part.length) / hashedAtOnce)) await turn()
    }
  }

  #endPiece(): void {
    this.#hashes.push(this.#piece.digest())
    this.#piece = createHash('sha1')
  }

  finish(): Forms {
    invariant(this.#done === this.#totalBytes, `${this.#done} bytes hashed of ${this.#totalBytes}`)
    if (this.#done % this.#pieceBytes !== 0) this.#endPiece()
    const fields = {
      totalBytes: this.#totalBytes,
      pieceBytes: this.#pieceBytes,
      pieceHashes: Buffer.concat(this.#hashes),
      sha256: this.#whole.digest('hex'),
    }
    return { ...fields, infoHash: infoHashOf(torrentInfoOf(fields)) }
  }
}

/**
 * What a block map of the image says: every frame is mapped but those that may read as anything. A zero frame must read as
 * zeros on any target. Free blocks beside used ones in a frame are mapped too: a range needs its hash, and there is one a frame.
 */
export function mappedRangesOf(manifest: Manifest): MappedRange[] {
  const zeros = new Map<number, string>()
  const sha256OfZeros = (length: number): string => {
    const sha256 = zeros.get(length) ?? createHash('sha256').update(Buffer.alloc(length)).digest('hex')
    zeros.set(length, sha256)
    return sha256
  }
  return manifest.frames.flatMap((frame, number) => {
    if (frame.class === 'free') return []
    const length = rawBytesOf(manifest, number)
    const sha256 = frame.class === 'data' ? frame.rawSha256 : sha256OfZeros(length)
    return [{ offset: number * manifest.frameSizeBytes, length, sha256 }]
  })
}
