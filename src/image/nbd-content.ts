// The disk that an NBD server on a unix socket serves, as bytes at any place. One connection; several reads may be under way.
import { connect, type Socket } from 'node:net'
import { Failure } from '../model/failure.ts'
import {
  checkGreeting,
  decodeExport,
  decodeReply,
  encodeHello,
  encodeRead,
  exportBytes,
  greetingBytes,
  replyBytes,
} from '../protocol/nbd.ts'
import type { Content } from './volume.ts'

type Waiting = {
  readonly length: number
  readonly resolve: (bytes: Buffer) => void
  readonly reject: (error: unknown) => void
}

/** A server that has given nothing for so long while a read waits hangs. */
const stallMs = 120_000

/** Connects to the server at `path`. `onEnded` tells why a connection ended, from what the server's process said. */
export async function openNbdContent(path: string, onEnded: () => Promise<unknown>): Promise<Content> {
  const socket = connect(path)
  socket.setTimeout(stallMs)
  const content = new NbdContent(socket, onEnded)
  await content.begin()
  return content
}

class NbdContent implements Content {
  readonly #socket: Socket
  readonly #onEnded: () => Promise<unknown>
  readonly #waiting = new Map<number, Waiting>()
  #received: Buffer[] = []
  #receivedBytes = 0
  #state: 'greeting' | 'export' | 'ready' | 'ended' = 'greeting'
  #reply: Waiting | undefined
  #nextHandle = 1
  readonly #begun = Promise.withResolvers<void>()
  sizeBytes = 0

  constructor(socket: Socket, onEnded: () => Promise<unknown>) {
    this.#socket = socket
    this.#onEnded = onEnded
    socket.on('data', (bytes: Buffer) => {
      try {
        this.#received.push(bytes)
        this.#receivedBytes += bytes.length
        while (this.#step());
      } catch (error) {
        socket.destroy(error as Error)
      }
    })
    socket.on('timeout', () => {
      if (this.#waiting.size > 0) socket.destroy(new Error(`qemu-nbd gave nothing for ${stallMs} ms`))
    })
    socket.on('error', (error) => this.#end(error))
    socket.on('close', () => this.#end(new Error('the connection to qemu-nbd ended')))
  }

  begin(): Promise<void> {
    return this.#begun.promise
  }

  async read(offset: number, length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0)
    if (this.#state !== 'ready') throw await this.#reason(new Error('the connection to qemu-nbd has ended'))
    if (offset + length > this.sizeBytes)
      throw new Failure('image-broken', `the image has no ${length} bytes at ${offset}`)
    const handle = this.#nextHandle++
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    this.#waiting.set(handle, { length, resolve, reject })
    this.#socket.write(encodeRead(handle, offset, length))
    return await promise.catch(async (error: unknown) => {
      throw await this.#reason(error)
    })
  }

  async close(): Promise<void> {
    this.#socket.destroy()
  }

  /** Takes one message from what was received; false when it is not whole. */
  #step(): boolean {
    if (this.#reply !== undefined) {
      const bytes = this.#take(this.#reply.length)
      if (bytes === undefined) return false
      this.#reply.resolve(bytes)
      this.#reply = undefined
      return true
    }
    const expected = {
      greeting: greetingBytes,
      export: exportBytes,
      ready: replyBytes,
      ended: Number.POSITIVE_INFINITY,
    }
    const bytes = this.#take(expected[this.#state])
    if (bytes === undefined) return false
    if (this.#state === 'greeting') {
      checkGreeting(bytes)
      this.#socket.write(encodeHello())
      this.#state = 'export'
    } else if (this.#state === 'export') {
      this.sizeBytes = decodeExport(bytes)
      this.#state = 'ready'
      this.#begun.resolve()
    } else this.#answer(bytes)
    return true
  }

  #answer(bytes: Buffer): void {
    const { handle, error } = decodeReply(bytes)
    const waiting = this.#waiting.get(handle)
    if (waiting === undefined) throw new Error('qemu-nbd answers what was not asked')
    this.#waiting.delete(handle)
    if (error === 0) this.#reply = waiting
    else waiting.reject(new Error(`qemu-nbd cannot read it (errno ${error})`))
  }

  #take(length: number): Buffer | undefined {
    if (this.#receivedBytes < length) return undefined
    const all = this.#received.length === 1 ? this.#received[0] : Buffer.concat(this.#received)
    if (all === undefined) return undefined
    this.#receivedBytes -= length
    this.#received = this.#receivedBytes > 0 ? [all.subarray(length)] : []
    return all.subarray(0, length)
  }

  #end(error: Error): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#begun.reject(error)
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#reply?.reject(error)
    this.#waiting.clear()
  }

  async #reason(error: unknown): Promise<Error> {
    const cause = this.#state === 'ended' ? ((await this.#onEnded()) ?? error) : error
    return new Failure('image-broken', 'the image cannot be read to its end', { cause })
  }
}
