// What the tests of the web seed share: a server on loopback that misbehaves by a rule, and a web seed whose events are kept.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { expect, onTestFinished } from 'vitest'
import { until } from '../lib/until.ts'
import { type PieceGeometry, pieceCount } from '../model/swarm.ts'
import { WebSeed } from './web-seed.ts'

export const geometry = { totalBytes: 40 * 64 * 1024 - 7, pieceBytes: 64 * 1024 }
export const pieces = pieceCount(geometry)
export const content = Buffer.from(Array.from({ length: geometry.totalBytes }, (_, at) => (at * 31 + (at >> 9)) & 0xff))

type Asked = {
  /** Pieces, inferred from the bytes. */
  readonly first: number
  readonly last: number
  /** Counts from 1. */
  readonly count: number
  readonly body: Buffer
  /** As they are right. */
  readonly headers: { readonly 'content-range': string; readonly 'content-length': number }
}

/** Answers in place of the server; returns false to leave it to the server. */
export type Rule = (asked: Asked, response: ServerResponse, request: IncomingMessage) => boolean

/** A server of `content` on loopback whose `rule` may answer in its place. */
export async function startServer() {
  const asked: { first: number; last: number }[] = []
  const world: { rule: Rule } = { rule: () => false }
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    const [start, end] = [Number(from), Number(to) + 1]
    const first = start / geometry.pieceBytes
    const last = Math.ceil(end / geometry.pieceBytes) - 1
    asked.push({ first, last })
    const body = content.subarray(start, end)
    const headers = {
      'content-range': `bytes ${start}-${end - 1}/${content.length}`,
      'content-length': body.length,
    }
    if (world.rule({ first, last, count: asked.length, body, headers }, response, request)) return
    response.writeHead(206, headers).end(body)
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  // A server that listens on TCP has an address of this kind.
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/image.zst`
  return { url, asked, world, sockets, server }
}

/** A web seed whose events are kept. Pauses are short. */
export function makeSeed(
  url: string,
  options: Partial<ConstructorParameters<typeof WebSeed>[1]> = {},
  of: PieceGeometry = geometry,
) {
  const got = new Map<number, Buffer>()
  const order: number[] = []
  const refused: number[] = []
  const closed: (Error | undefined)[] = []
  const wells: boolean[] = []
  let bytes = 0
  const seed: WebSeed = new WebSeed(
    {
      onPiece: (source, piece, bytes) => {
        expect(source).toBe(seed)
        got.set(piece, bytes)
        order.push(piece)
      },
      onBytes: (_, count) => {
        bytes += count
      },
      onRefused: (_, piece) => refused.push(piece),
      onHave: () => undefined,
      onDontHave: () => undefined,
      onClosed: (_, reason) => closed.push(reason),
    },
    {
      url,
      geometry: of,
      limits: { pauseMs: 20, pauseMsMax: 100, ...options.limits },
      onStatus: () => wells.push(seed.status().isWell),
      ...options,
    },
  )
  onTestFinished(() => seed.close())
  const wait = (what: string, fact: () => boolean) => until(what, fact, { timeoutMs: 10_000, everyMs: 2 })
  const expectRight = () => {
    for (const [piece, bytes] of got) {
      const start = piece * geometry.pieceBytes
      expect(bytes.equals(content.subarray(start, start + geometry.pieceBytes)), `piece ${piece}`).toBe(true)
    }
  }
  return { seed, got, order, refused, closed, wells, wait, expectRight, bytes: () => bytes }
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index)
}
