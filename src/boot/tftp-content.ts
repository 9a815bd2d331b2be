// The bytes of one boot file in order, from disk or from memory, as octets or as netascii. Nothing larger than what is
// asked for is held, so a transfer of any size costs the same memory.
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { BootContent } from '../model/boot.ts'
import { type TftpMode, toNetascii } from '../protocol/tftp.ts'

/** Reads one content from its start to its end, once. */
export interface ContentReader {
  /** Bytes that `fill` gives in all; undefined where that is known only at the end. */
  readonly sizeBytes: number | undefined
  /** Fills `target` and resolves to the bytes written: fewer than its length only at the end. Throws on a read error. */
  fill(target: Buffer): Promise<number>
  close(): Promise<void>
}

/** Opens `content`. Throws when its file is gone, is no regular file, or cannot be read. */
export async function openContent(content: BootContent, mode: TftpMode): Promise<ContentReader> {
  const octets =
    content.kind === 'rendered' ? new MemoryReader(Buffer.from(content.body, 'utf8')) : await openFile(content.path)
  return mode === 'octet' ? octets : new NetasciiReader(octets)
}

class MemoryReader implements ContentReader {
  readonly sizeBytes: number
  #rest: Buffer

  constructor(bytes: Buffer) {
    this.sizeBytes = bytes.length
    this.#rest = bytes
  }

  fill(target: Buffer): Promise<number> {
    const length = this.#rest.copy(target)
    this.#rest = this.#rest.subarray(length)
    return Promise.resolve(length)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

async function openFile(path: string): Promise<FileReader> {
  // O_NONBLOCK: should the path have become a FIFO since it was checked, opening it must not hang a thread for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw new Error(`${path} is no regular file`)
    return new FileReader(file, path, { sizeBytes: found.size, mtimeMs: found.mtimeMs })
  } catch (error) {
    await file.close()
    throw error
  }
}

class FileReader implements ContentReader {
  readonly sizeBytes: number
  readonly #file: FileHandle
  readonly #path: string
  readonly #mtimeMs: number
  #position = 0

  constructor(file: FileHandle, path: string, found: { sizeBytes: number; mtimeMs: number }) {
    this.#file = file
    this.#path = path
    this.sizeBytes = found.sizeBytes
    this.#mtimeMs = found.mtimeMs
  }

  async fill(target: Buffer): Promise<number> {
    const wanted = Math.min(target.length, this.sizeBytes - this.#position)
    let length = 0
    while (length < wanted) {
      const { bytesRead } = await this.#file.read(target, length, wanted - length, this.#position)
      if (bytesRead === 0) throw new Error(`${this.#path} became shorter while it was sent`)
      length += bytesRead
      this.#position += bytesRead
    }
    if (length > 0 && this.#position === this.sizeBytes) await this.#checkUnchanged()
    return length
  }

  /** Asked before the last bytes go out: a machine must not take the two halves of two files for one. */
  async #checkUnchanged(): Promise<void> {
    const found = await this.#file.stat()
    if (found.size !== this.sizeBytes || found.mtimeMs !== this.#mtimeMs) {
      throw new Error(`${this.#path} changed while it was sent`)
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** Octets translated at a time: netascii is asked for by hand only, so this need not be fast. */
const netasciiStepBytes = 4096

class NetasciiReader implements ContentReader {
  readonly sizeBytes = undefined
  readonly #octets: ContentReader
  readonly #step = Buffer.alloc(netasciiStepBytes)
  #translated: Buffer = Buffer.alloc(0)

  constructor(octets: ContentReader) {
    this.#octets = octets
  }

  async fill(target: Buffer): Promise<number> {
    let length = 0
    while (length < target.length) {
      if (this.#translated.length === 0) {
        const read = await this.#octets.fill(this.#step)
        if (read === 0) break
        this.#translated = toNetascii(this.#step.subarray(0, read))
      }
      const copied = this.#translated.copy(target, length)
      this.#translated = this.#translated.subarray(copied)
      length += copied
    }
    return length
  }

  close(): Promise<void> {
    return this.#octets.close()
  }
}
