// The blocks of one content as DATA packets in memory: the part the client has not acknowledged, and the part after it.
// Reading ahead keeps the disk out of the way of the wire; reading no further keeps the memory of a transfer bounded.
import { dataHeaderBytes, writeDataHeader } from '../protocol/tftp.ts'
import type { ContentReader } from './tftp-content.ts'

/** A chunk is at least this long: a read costs about as much as sending two packets, so one serves many. */
const chunkBytesLeast = 32 * 1024

/** Two chunks, each no smaller than a window: a window touches both at most, and one is free once a window has left it. */
export class BlockBuffer {
  readonly #reader: ContentReader
  readonly #blksize: number
  readonly #stride: number
  readonly #blocksPerChunk: number
  readonly #chunks: [Buffer | undefined, Buffer | undefined] = [undefined, undefined]
  #chunksLoaded = 0
  #isLoading = false
  #bytesLoaded = 0
  #last: number | undefined

  constructor(reader: ContentReader, shape: { blksize: number; windowsize: number }) {
    this.#reader = reader
    this.#blksize = shape.blksize
    this.#stride = dataHeaderBytes + shape.blksize
    const wholeFile = reader.sizeBytes === undefined ? Infinity : Math.floor(reader.sizeBytes / shape.blksize) + 1
    const chunk = Math.max(shape.windowsize, Math.floor(chunkBytesLeast / shape.blksize))
    this.#blocksPerChunk = Math.min(wholeFile, chunk)
  }

  /** The last block in memory. */
  get ready(): number {
    return this.#last ?? this.#chunksLoaded * this.#blocksPerChunk
  }

  /** The short block that ends the content, once it was read. */
  get last(): number | undefined {
    return this.#last
  }

  /** Whether there is something left to read and room for it, when the client has all blocks up to `acked`. */
  hasRoom(acked: number): boolean {
    if (this.#isLoading || this.#last !== undefined) return false
    return this.#chunksLoaded - Math.floor(acked / this.#blocksPerChunk) < 2
  }

  /**
   * Reads the next chunk; call it only when `hasRoom`. `inFreshMemory`: packets of the chunk that makes room still wait
   * in the socket's queue, so their bytes must stay as they are. Throws on a read error.
   */
  async load(inFreshMemory: boolean): Promise<void> {
    this.#isLoading = true
    const slot = this.#chunksLoaded % 2
    const kept = inFreshMemory ? undefined : this.#chunks[slot]
    const chunk = kept ?? Buffer.allocUnsafeSlow(this.#blocksPerChunk * this.#stride)
    this.#chunks[slot] = chunk
    // The bytes are read to the end of the chunk and then moved down block by block, each behind its header: no block
    // reaches the place of one that has not moved yet.
    const start = this.#blocksPerChunk * dataHeaderBytes
    const length = await this.#reader.fill(chunk.subarray(start))
    const isLast = start + length < chunk.length
    const blocks = isLast ? Math.floor(length / this.#blksize) + 1 : this.#blocksPerChunk
    const before = this.#chunksLoaded * this.#blocksPerChunk
    for (let i = 0; i < blocks; i++) {
      const from = start + i * this.#blksize
      chunk.copyWithin(i * this.#stride + dataHeaderBytes, from, Math.min(from + this.#blksize, start + length))
      writeDataHeader(chunk, i * this.#stride, before + i + 1)
    }
    this.#chunksLoaded++
    this.#bytesLoaded += length
    if (isLast) this.#last = before + blocks
    this.#isLoading = false
  }

  /** The DATA packet of a block that is in memory. */
  packet(block: number): Buffer {
    const index = block - 1
    // Blocks up to `ready` have been loaded, so their chunk is there.
    const chunk = this.#chunks[Math.floor(index / this.#blocksPerChunk) % 2] as Buffer
    const at = (index % this.#blocksPerChunk) * this.#stride
    const length = block === this.#last ? this.#bytesLoaded - index * this.#blksize : this.#blksize
    return chunk.subarray(at, at + dataHeaderBytes + length)
  }

  /** Bytes of content in the blocks up to `block`. */
  bytesUpTo(block: number): number {
    return Math.min(block * this.#blksize, this.#bytesLoaded)
  }

  close(): Promise<void> {
    return this.#reader.close()
  }
}
