// A block device as bytes at any place. The page cache reads in larger pieces than it is asked for (folios), and a piece with a
// bad place in it cannot be read at all: where that happens the blocks are read past the cache (O_DIRECT), one by one.
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import { Failure, invariant } from '../model/failure.ts'
import { blockBytes } from '../model/image.ts'
import { FileContent } from './content.ts'
import type { Content } from './volume.ts'

export class DeviceContent implements Content {
  readonly #handle: FileHandle
  readonly #cached: FileContent
  readonly sizeBytes: number
  /** The same device past the cache, and where it is read to. */
  #direct: { readonly handle: FileHandle; readonly slot: Buffer } | undefined
  /** The slot is one: who reads to it waits for the one before. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle
    this.#cached = new FileContent(handle, sizeBytes)
    this.sizeBytes = sizeBytes
  }

  async read(offset: number, length: number): Promise<Buffer> {
    return await this.#cached.read(offset, length).catch(async (error: unknown) => {
      const isBeyond = offset + length > this.sizeBytes
      if (isBeyond) throw error
      const turn = this.#turn.then(() => this.#readBlocks(offset, length))
      this.#turn = turn.catch(() => undefined)
      return await turn
    })
  }

  async close(): Promise<void> {
    await this.#direct?.handle.close()
    this.#direct = undefined
    await this.#cached.close()
  }

  async #readBlocks(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length)
    const end = offset + length
    for (let at = offset - (offset % blockBytes); at < end; at += blockBytes) {
      const wanted = Math.min(blockBytes, this.sizeBytes - at)
      const slot = await this.#readBlock(at, wanted)
      const from = Math.max(offset, at)
      slot.copy(bytes, from - offset, from - at, Math.min(end, at + wanted) - at)
    }
    return bytes
  }

  async #readBlock(at: number, length: number): Promise<Buffer> {
    try {
      this.#direct ??= await this.#openDirect()
      const { handle, slot } = this.#direct
      const { bytesRead } = await handle.read(slot, 0, length, at)
      if (bytesRead === length) return slot
      throw new Error(`${bytesRead} of ${length} bytes came`)
    } catch (cause) {
      throw new Failure('image-broken', `the image cannot be read at byte ${at}`, { cause })
    }
  }

  async #openDirect() {
    const [slot] = alignedBuffers(1, blockBytes)
    invariant(slot, 'alignedBuffers gives as many as it is asked for')
    // By this name the device is the one that is open, whatever has its path now.
    const handle = await open(`/proc/self/fd/${this.#handle.fd}`, constants.O_RDONLY | constants.O_DIRECT)
    return { handle, slot }
  }
}
