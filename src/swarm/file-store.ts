// The seeder's pieces: the published image.zst itself, read piece by piece. It has all of them from the beginning.
import { type FileHandle, open } from 'node:fs/promises'
import { type PieceGeometry, pieceCount, pieceLength } from '../model/swarm.ts'
import { fullBitfield } from '../protocol/bitfield.ts'
import type { PieceReader } from './piece-reader.ts'

/** Several agents ask for the same piece within moments: one after the other, as far apart as they have drifted. */
const cacheBytesDefault = 64 * 1024 * 1024

export class FileStore implements PieceReader {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #geometry: PieceGeometry
  readonly #cacheBytesMax: number
  /** The least recently asked for first. What is still being read is shared as it is. */
  readonly #cache = new Map<number, Buffer | Promise<Buffer>>()
  #cacheBytes = 0

  /** The file must be as long as the geometry says; see `openFileStore`. It is closed with the store. */
  constructor(options: { path: string; handle: FileHandle; geometry: PieceGeometry; cacheBytes?: number }) {
    this.#path = options.path
    this.#handle = options.handle
    this.#geometry = options.geometry
    this.#cacheBytesMax = options.cacheBytes ?? cacheBytesDefault
  }

  has(piece: number): boolean {
    return piece >= 0 && piece < pieceCount(this.#geometry)
  }

  /** Rejects when the file cannot be read or has become shorter. */
  read(piece: number): Buffer | Promise<Buffer> {
    const cached = this.#cache.get(piece)
    if (cached !== undefined) {
      this.#cache.delete(piece)
      this.#cache.set(piece, cached)
      return cached
    }
    if (!this.has(piece)) return Promise.reject(new Error(`${this.#path} has no piece ${piece}`))
    const reading = this.#readPiece(piece)
    this.#cache.set(piece, reading)
    this.#cacheBytes += pieceLength(this.#geometry, piece)
    const settle = (bytes: Buffer | undefined) => {
      // It may have left the cache and come back since.
      if (this.#cache.get(piece) !== reading) return
      if (bytes === undefined) this.#evict(piece)
      else this.#cache.set(piece, bytes)
    }
    reading.then(settle, () => settle(undefined))
    for (const oldest of this.#cache.keys()) {
      if (this.#cacheBytes <= this.#cacheBytesMax) break
      this.#evict(oldest)
    }
    return reading
  }

  bitfield(): Buffer {
    return fullBitfield(pieceCount(this.#geometry))
  }

  async close(): Promise<void> {
    this.#cache.clear()
    this.#cacheBytes = 0
    await this.#handle.close()
  }

  #evict(piece: number): void {
    if (this.#cache.delete(piece)) this.#cacheBytes -= pieceLength(this.#geometry, piece)
  }

  async #readPiece(piece: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(pieceLength(this.#geometry, piece))
    const offset = piece * this.#geometry.pieceBytes
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await this.#handle.read(bytes, at, bytes.length - at, offset + at)
      if (bytesRead === 0)
        throw new Error(
          `${this.#path} has become shorter: it ends at ${offset + at} of ${this.#geometry.totalBytes} bytes`,
        )
      at += bytesRead
    }
    return bytes
  }
}

/** Opens `image.zst`. Throws an error that says how long the file is when that is not what it should be. */
export async function openFileStore(path: string, geometry: PieceGeometry, cacheBytes?: number): Promise<FileStore> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    if (size !== geometry.totalBytes)
      throw new Error(`${path} has ${size} bytes, its torrent says ${geometry.totalBytes}`)
    return new FileStore({ path, handle, geometry, ...(cacheBytes === undefined ? {} : { cacheBytes }) })
  } catch (error) {
    await handle.close()
    throw error
  }
}
