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
  readonly #bytesMax: number
  #size = 0
  #writtenBytes = 0
  #nextCheck = 0

  private constructor(path: string, handle: FileHandle, bytesMax: number) {
    this.#path = path
    this.#handle = handle
    this.#bytesMax = bytesMax
  }

  /** `bytesMax` is what a quota leaves; writing more throws Failure `library-full` too. */
  static async create(path: string, bytesMax = Number.POSITIVE_INFINITY): Promise<LibraryFile> {
    return new LibraryFile(path, await open(path, 'wx', 0o644).catch((cause: unknown) => fail(path, cause)), bytesMax)
  }

  get sizeBytes(): number {
    return this.#size
  }

  /** Appends all of `bytes`. Throws Failure `library-full`. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#writtenBytes + bytes.length > this.#bytesMax) {
      const message = `the quota of the image library leaves ${this.#bytesMax} bytes, and the image takes more`
      throw new Failure('library-full', message)
    }
    try {
      if (this.#writtenBytes >= this.#nextCheck) await this.#checkSpace()
      for (let done = 0; done < bytes.length; ) {
        done += (await this.#handle.write(bytes, done, bytes.length - done, this.#size + done)).bytesWritten
      }
      this.#size += bytes.length
      this.#writtenBytes += bytes.length
    } catch (cause) {
      fail(this.#path, cause)
    }
  }

  /** Appends zeros that take no room. */
  skip(bytes: number): void {
    this.#size += bytes
  }

  /** Gives the file its full size, zeros at its end included. */
  async end(): Promise<void> {
    await this.#handle.truncate(this.#size).catch((cause: unknown) => fail(this.#path, cause))
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
    await checkSpace(this.#path)
    this.#nextCheck = this.#writtenBytes + spaceCheckBytes
  }
}

/** Throws Failure `library-full` when less than the reserve of the volume of `path` is free. */
export async function checkSpace(path: string): Promise<void> {
  const { bavail, blocks, bsize } = await statfs(path)
  const reserve = Math.min(reserveBytesMax, (blocks * bsize) / 20)
  if (bavail * bsize >= reserve) return
  const free = `${Math.floor((bavail * bsize) / 1_000_000)} MB are free`
  const message = `the volume of the image library is full: ${free}, ${Math.ceil(reserve / 1_000_000)} MB must stay so`
  throw new Failure('library-full', message, { at: path })
}

const watchEveryMs = 250

/**
 * Looks at the room beside a file that somebody else writes and calls `onFull` once when the reserve is touched; `check` then
 * throws Failure `library-full`. Must be stopped.
 */
export function watchSpace(
  path: string,
  onFull: () => void,
): { readonly check: () => void; readonly stop: () => void } {
  let full: { readonly error: unknown } | undefined
  const look = async () => {
    await checkSpace(path).catch((error: unknown) => {
      if (full === undefined) onFull()
      full ??= { error }
    })
  }
  const timer = setInterval(() => void look(), watchEveryMs)
  return {
    check: () => {
      if (full !== undefined) throw full.error
    },
    stop: () => clearInterval(timer),
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
