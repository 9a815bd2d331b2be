// An origin for tests: a real HTTP server on loopback that knows ranges and, by a rule, misbehaves as origins do.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export type Fault =
  | { readonly kind: 'status'; readonly status: number; readonly body: string }
  | { readonly kind: 'ignore-range' }
  | { readonly kind: 'wrong-range' }
  /** Announces and sends fewer bytes than were asked for. */
  | { readonly kind: 'short-length'; readonly bytes: number }
  /** Announces all, sends so many bytes and then resets or closes the connection, or sends nothing more. */
  | { readonly kind: 'reset' | 'close' | 'stall'; readonly afterBytes: number }
  /** Flips the lowest bit of the byte at this offset of the file, when it is in the range. */
  | { readonly kind: 'flip'; readonly offset: number }

/** One request as it came: `start` is the first byte of its range, 0 without one; `count` counts from 1. */
export type Asked = { readonly path: string; readonly start: number; readonly end: number; readonly count: number }

export type Rule = (asked: Asked) => Fault | undefined

export class FakeOrigin {
  /** Every request so far. */
  readonly asked: Asked[] = []
  /** Bytes of bodies that left, faulty ones included. */
  bytesSent = 0
  rule: Rule = () => undefined
  readonly #files: ReadonlyMap<string, Buffer>
  readonly #sockets = new Set<Socket>()
  #server = createServer()
  #port = 0

  /** `files` by path, such as `/image.zst`. */
  constructor(files: Readonly<Record<string, Buffer>>) {
    this.#files = new Map(Object.entries(files))
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.#port}${path}`
  }

  /** Begins to listen; after `kill`, on the same port as before. */
  async start(): Promise<void> {
    this.#server = createServer((request, response) => this.#answer(request, response))
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve))
    // A server that listens on TCP has an address of this kind.
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Ends as a killed process does: every connection is reset, the port refuses. */
  async kill(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.resetAndDestroy()
    await closed
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '/'
    const file = this.#files.get(path)
    if (file === undefined) {
      response.writeHead(404).end('no such file')
      return
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
    const [start, end] = range === null ? [0, file.length - 1] : [Number(range[1]), Number(range[2])]
    const asked = { path, start, end, count: this.asked.length + 1 }
    this.asked.push(asked)
    const fault = this.rule(asked)
    const body = Buffer.from(file.subarray(start, end + 1))
    const headers = { 'content-range': `bytes ${start}-${end}/${file.length}`, 'content-length': body.length }
    const send = (status: number, fields: Record<string, string | number>, bytes: Buffer) => {
      this.bytesSent += bytes.length
      response.writeHead(status, fields).end(bytes)
    }
    if (fault === undefined) {
      if (range === null) send(200, {}, body)
      else send(206, headers, body)
      return
    }
    switch (fault.kind) {
      case 'status':
        send(fault.status, {}, Buffer.from(fault.body))
        break
      case 'ignore-range':
        send(200, {}, file)
        break
      case 'wrong-range':
        send(206, { ...headers, 'content-range': `bytes 0-${body.length - 1}/${file.length}` }, body)
        break
      case 'short-length':
        send(206, { ...headers, 'content-length': fault.bytes }, body.subarray(0, fault.bytes))
        break
      case 'flip': {
        const at = fault.offset - start
        if (at >= 0 && at < body.length) body.writeUInt8(body.readUInt8(at) ^ 1, at)
        send(206, headers, body)
        break
      }
      default: {
        const part = body.subarray(0, fault.afterBytes)
        this.bytesSent += part.length
        response.writeHead(range === null ? 200 : 206, headers)
        response.write(part, () => {
          if (fault.kind === 'reset') request.socket.resetAndDestroy()
          if (fault.kind === 'close') request.socket.destroy()
        })
      }
    }
  }
}
