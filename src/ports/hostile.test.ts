// Bodies without an end and callers without haste, on real sockets.
import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { openPortWorld, type PortWorld } from './port-world.ts'

let world: PortWorld
afterEach(() => world.close())

type Talk = { readonly heard: string; readonly sentBytes: number; readonly ms: number }

/** Sends `head`, then what `next` gives whenever the socket takes more, or every `everyMs`, until the server closes. */
async function talk(head: string, next: () => string | undefined, everyMs?: number): Promise<Talk> {
  const began = performance.now()
  const socket = connect(world.port, '127.0.0.1')
  let heard = ''
  socket.on('data', (chunk) => {
    heard += chunk
  })
  // The server may cut the connection while we still write.
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const send = () => {
    for (let text = next(); text !== undefined && !socket.destroyed; text = next()) {
      if (!socket.write(text) || everyMs !== undefined) return
    }
    if (everyMs === undefined) socket.end()
  }
  socket.write(head)
  if (everyMs === undefined) socket.on('drain', send)
  const timer = everyMs === undefined ? undefined : setInterval(send, everyMs)
  send()
  await closed
  clearInterval(timer)
  return { heard, sentBytes: socket.bytesWritten, ms: performance.now() - began }
}

const hundredMegabytes = 100 * 1024 * 1024
const piece = 'x'.repeat(64 * 1024)

/** The pieces of a body of 100 MB, each as `framed`. */
function pieces(framed: (text: string) => string): () => string | undefined {
  let left = hundredMegabytes / piece.length
  return () => {
    left -= 1
    return left < 0 ? undefined : framed(piece)
  }
}

function headOf(path: string, type: string, more: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token}\r\nContent-Type: ${type}\r\n${more}\r\n\r\n`
}

test.each([
  ['JSON', '/control/v1/setups', 'application/json', '{"xml":"'],
  ['a SOAP message', '/control', 'text/xml', '<a>'],
])('%s of 100 MB is refused when the first megabytes of it have come', async (_what, path, type, begin) => {
  world = await openPortWorld()
  const told = await talk(
    headOf(path, type, `Content-Length: ${hundredMegabytes}`) + begin,
    pieces((text) => text),
  )
  const chunked = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
  const untold = await talk(headOf(path, type, 'Transfer-Encoding: chunked') + chunked(begin), pieces(chunked))
  for (const { heard, sentBytes } of [told, untold]) {
    // Who still writes when the connection is cut may lose the answer; what the kernel holds on its way is sent, too.
    expect(heard).toMatch(/^$|^HTTP\/1.1 413 [\s\S]*too-large/)
    expect(sentBytes).toBeLessThan(hundredMegabytes / 4)
  }
  expect(world.control.seen).toEqual([])
})

test('callers who send a byte now and then are cut off in time, and hold up nobody meanwhile', async () => {
  world = await openPortWorld({ limits: { headersMs: 1000, requestMs: 1000 } })
  const slow = (head: string) => talk(head, () => 'x', 100)
  const body = headOf('/control/v1/setups', 'application/json', 'Content-Length: 1000000')
  const talks = Array.from({ length: 12 }, (_, i) => slow(i % 2 ? body : 'GET /control HTTP/1.1\r\nHost: a\r\nX: '))
  const began = performance.now()
  expect((await fetch(`${world.baseUrl}/control?wsdl`)).status).toBe(200)
  expect(performance.now() - began).toBeLessThan(10_000)
  for (const { heard, ms } of await Promise.all(talks)) {
    expect(heard).toMatch(/^HTTP\/1.1 (408|400)/)
    expect(ms).toBeLessThan(20_000)
  }
})
