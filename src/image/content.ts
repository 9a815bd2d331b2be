// Where the bytes of an image come from when they can be read at any place: a file, a part of it, parts put together, or a
// stream that was written to a file first.
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Failure } from '../model/failure.ts'
import { isZero } from './frames.ts'
import { LibraryFile } from './library-file.ts'
import type { Content } from './volume.ts'

/** Opens to read. Never waits for somebody to write to a pipe: four that wait take all the threads that Node has for files. */
export async function openToRead(path: string): Promise<FileHandle> {
  return await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
}

export class FileContent implements Content {
  readonly #handle: FileHandle
  readonly sizeBytes: number

  constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle
    this.sizeBytes = sizeBytes
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length)
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await this.#handle
        .read(bytes, filled, length - filled, offset + filled)
        .catch((cause: unknown) => {
          throw new Failure('image-broken', `the image cannot be read at byte ${offset + filled}`, { cause })
        })
      if (bytesRead === 0) {
        const message = `the image changed while it was read: it ends after ${offset + filled} bytes, not ${this.sizeBytes}`
        throw new Failure('image-broken', message)
      }
      filled += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** `sizeBytes` bytes of a content from `from` on; closes it. */
export function partOf(content: Content, from: number, sizeBytes: number): Content {
  return { sizeBytes, read: (offset, length) => content.read(from + offset, length), close: () => content.close() }
}

export type Part = { readonly offset: number; readonly content: Content }

/** A content with others laid over it, which may not overlap; closes all. */
export function overlaid(base: Content, parts: readonly Part[]): Content {
  return {
    sizeBytes: base.sizeBytes,
    async read(offset, length) {
      const bytes = await base.read(offset, length)
      for (const part of parts) {
        const from = Math.max(offset, part.offset)
        const end = Math.min(offset + length, part.offset + part.content.sizeBytes)
        if (from < end) (await part.content.read(from - part.offset, end - from)).copy(bytes, from - offset)
      }
      return bytes
    },
    async close() {
      for (const { content } of [...parts, { content: base }]) await content.close()
    },
  }
}

/** Zeros in runs of so many bytes are left out of the file. */
const holeBytes = 64 * 1024

/**
 * Writes a stream to the new file `path`, in which zeros take no room, and opens it. Throws Failure `image-too-large` when it
 * has more than `bytesMax` bytes, `library-full`, or what the stream throws.
 */
export async function spool(stream: AsyncIterable<Buffer>, path: string, bytesMax: number): Promise<Content> {
  const file = await LibraryFile.create(path)
  try {
    for await (const chunk of stream) {
      if (file.sizeBytes + chunk.length > bytesMax) {
        throw new Failure(
          'image-too-large',
          `the image has more than ${bytesMax} bytes, the most that can be published`,
        )
      }
      for (let from = 0; from < chunk.length; ) {
        const piece = chunk.subarray(from, from + holeBytes - (file.sizeBytes % holeBytes))
        if (isZero(piece)) file.skip(piece.length)
        else await file.write(piece)
        from += piece.length
      }
    }
    await file.end()
    const { sizeBytes } = file
    return new FileContent(await openToRead(path), sizeBytes)
  } finally {
    await file.close()
  }
}
