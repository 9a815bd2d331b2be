// A file being written into the image library. A published image is never worth the service's own life, so writing stops
// with Failure `library-full` before the volume is full to the last byte.
import { type FileHandle, open, statfs } from 'node:fs/promises'
import { Failure } from '../model/failure.ts'

/** How often the room in the library is looked at, in bytes written. */
const spaceCheckBytes = 64 * 1024 * 1024
/** What an import leaves free: the database usually lies on the same volume and must be able to go on. */
const reserveBytesMax = 512 * 1024 * 1024

/** A new file in the library, written front to back, that leaves a reserve of the volume free. */
export class LibraryFile {
  readonly #handle: FileHandle
  readonly #path: string
  #size = 0
  #nextCheck = 0

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  static async create(path: string): Promise<LibraryFile> {
    return new LibraryFile(path, await open(path, 'wx', 0o644).catch((cause: unknown) => fail(path, cause)))
  }

  get sizeBytes(): number {
    return this.#size
  }

  /** Appends all of `bytes`. Throws Failure `library-full`. */
  async write(bytes: Buffer): Promise<void> {
    try {
      if (this.#size >= this.#nextCheck) await this.#checkSpace()
      let done = 0
      while (done < bytes.length) done += (await this.#handle.write(bytes, done)).bytesWritten
      this.#size += bytes.length
    } catch (cause) {
      fail(this.#path, cause)
    }
  }

  /** Flushes to the disk and closes. Full volumes may only tell here. */
  async finish(): Promise<void> {
    await this.#handle.sync().catch((cause: unknown) => fail(this.#path, cause))
    await this.close()
  }

  /** Closes; a second time does nothing. */
  async close(): Promise<void> {
    await this.#handle.close()
  }

  async #checkSpace(): Promise<void> {
    const { bavail, blocks, bsize } = await statfs(this.#path)
    const reserve = Math.min(reserveBytesMax, (blocks * bsize) / 20)
    if (bavail * bsize < reserve) {
      const free = `${Math.floor((bavail * bsize) / 1_000_000)} MB are free`
      const message = `the volume of the image library is full: ${free}, ${Math.ceil(reserve / 1_000_000)} MB must stay so`
      throw new Failure('library-full', message, { at: this.#path })
    }
    this.#nextCheck = this.#size + spaceCheckBytes
  }
}

function fail(path: string, cause: unknown): never {
  if (cause instanceof Failure) throw cause
  if (isErrno(cause, 'ENOSPC', 'EDQUOT')) {
    throw new Failure('library-full', 'the volume of the image library is full', { cause, at: path })
  }
  throw new Failure('internal', `cannot write ${path}`, { cause })
}

/** True for an error of the operating system with one of these codes. */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
}
