// The disk being written: reads and writes at sector boundaries that go past the page cache, so that what was read back
// came from the disk. A regular file can stand for a disk, with the same code. Linux only: open(2) O_DIRECT, blkdiscard(8).
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { execa } from 'execa'
import { Failure, invariant } from '../model/failure.ts'

/** Without O_DIRECT this much may wait in the page cache: a larger backlog stalls the last sync for minutes. */
const dirtyBytesMax = 64 * 1024 * 1024

/** A range of at most a few hundred MiB; disks that write zeros at 5 MB/s are broken. */
const discardTimeoutMs = 300_000

/**
 * Opens a disk, for reading and writing unless `readOnly`. A block device is claimed unless told otherwise: nothing else may mount or claim it
 * until it is closed. Throws Failure `disk-error` with the path and the errno.
 */
export async function openDisk(
  path: string,
  sectorBytes: number,
  { claim = true, readOnly = false }: { readonly claim?: boolean; readonly readOnly?: boolean } = {},
): Promise<OpenDisk> {
  const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | (claim ? constants.O_EXCL : 0)
  const opened = await open(path, flags | constants.O_DIRECT).then(
    (handle) => ({ handle, direct: true }),
    async (error: NodeJS.ErrnoException) => {
      // Some file systems know no direct I/O and say EINVAL.
      if (error.code !== 'EINVAL') throw diskError(`open ${path}`, error)
      const handle = await open(path, flags).catch((cause: unknown) => {
        throw diskError(`open ${path}`, cause)
      })
      return { handle, direct: false }
    },
  )
  try {
    const isBlockDevice = (await opened.handle.stat()).isBlockDevice()
    return new OpenDisk(path, sectorBytes, isBlockDevice, opened.direct, opened.handle)
  } catch (error) {
    await opened.handle.close()
    throw error
  }
}

export class OpenDisk {
  readonly path: string
  readonly sectorBytes: number
  readonly isBlockDevice: boolean
  /** False where the file system refused O_DIRECT: dirty pages are bounded by this class instead. */
  readonly isDirect: boolean
  readonly #handle: FileHandle
  #dirtyBytes = 0
  #isClosed = false

  constructor(path: string, sectorBytes: number, isBlockDevice: boolean, isDirect: boolean, handle: FileHandle) {
    this.path = path
    this.sectorBytes = sectorBytes
    this.isBlockDevice = isBlockDevice
    this.isDirect = isDirect
    this.#handle = handle
  }

  /**
   * Writes the first `length` bytes of `slot` (of `alignedBuffers`) at `offset`, a sector boundary; what is left of the
   * last sector becomes zeros. Throws Failure `disk-error` with path, offset and errno.
   */
  async write(slot: Buffer, length: number, offset: number): Promise<void> {
    const end = this.#toSector(slot, length, offset)
    slot.fill(0, length, end)
    for (let at = 0; at < end; ) {
      const { bytesWritten } = await this.#handle.write(slot, at, end - at, offset + at).catch((cause: unknown) => {
        throw diskError(`write ${end - at} bytes at offset ${offset + at} of ${this.path}`, cause)
      })
      at += bytesWritten
    }
    if (this.isDirect) return
    this.#dirtyBytes += end
    if (this.#dirtyBytes >= dirtyBytesMax) await this.flush()
  }

  /** Reads `length` bytes at `offset`, a sector boundary, to the beginning of `slot`. Throws Failure `disk-error`. */
  async read(slot: Buffer, length: number, offset: number): Promise<void> {
    const end = this.#toSector(slot, length, offset)
    for (let at = 0; at < end; ) {
      const { bytesRead } = await this.#handle.read(slot, at, end - at, offset + at).catch((cause: unknown) => {
        throw diskError(`read ${end - at} bytes at offset ${offset + at} of ${this.path}`, cause)
      })
      // A regular file may end before the last sector does.
      if (bytesRead === 0 && at >= length) return
      if (bytesRead === 0) throw diskError(`read at offset ${offset + at} of ${this.path}: it ends there`)
      at += bytesRead
    }
  }

  /**
   * Makes a range of whole sectors read as zeros, by the disk's own command where it has one. `zeros` is a slot of zeros
   * to write where that is refused.
   */
  async zero(offset: number, length: number, zeros: Buffer, signal: AbortSignal): Promise<void> {
    const whole = Math.ceil(length / this.sectorBytes) * this.sectorBytes
    if (this.isBlockDevice && (await this.#zeroOut(offset, whole, signal))) return
    for (let at = 0; at < whole; at += zeros.length) {
      signal.throwIfAborted()
      await this.write(zeros, Math.min(zeros.length, whole - at), offset + at)
    }
  }

  /** Resolves when what was written is on the disk. Throws Failure `disk-error`. */
  async flush(): Promise<void> {
    this.#dirtyBytes = 0
    await this.#handle.datasync().catch((cause: unknown) => {
      throw diskError(`flush ${this.path}`, cause)
    })
  }

  /** Lets the disk go. Closing again does nothing. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#handle.close().catch((cause: unknown) => {
      throw diskError(`close ${this.path}`, cause)
    })
  }

  /** False when the device refuses: then zeros must be written. */
  async #zeroOut(offset: number, length: number, signal: AbortSignal): Promise<boolean> {
    // --zeroout never only discards: a discarded block may read as anything. --force, because the claim on the disk is ours.
    const options = ['--force', '--zeroout', '--offset', String(offset), '--length', String(length)]
    const result = await execa('blkdiscard', [...options, this.path], {
      cancelSignal: signal,
      timeout: discardTimeoutMs,
      stdin: 'ignore',
      reject: false,
    })
    signal.throwIfAborted()
    return !result.failed
  }

  /** The end of the last sector, from the beginning of the slot. */
  #toSector(slot: Buffer, length: number, offset: number): number {
    const end = Math.ceil(length / this.sectorBytes) * this.sectorBytes
    invariant(offset % this.sectorBytes === 0, `offset ${offset} of ${this.path} is no sector boundary`)
    invariant(end <= slot.length, `${length} bytes in a slot of ${slot.length}`)
    return end
  }
}

function diskError(what: string, cause?: unknown): Failure {
  return new Failure('disk-error', what, { cause })
}
