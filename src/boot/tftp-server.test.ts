import { createSocket } from 'node:dgram'
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { until } from '../lib/until.ts'
import type { BootContent, BootRequest } from '../model/boot.ts'
import { readBootFile } from './root.ts'
import { startTftpServer, type TftpEvent, type TftpLimits, type TftpServer } from './tftp-server.ts'
import { openTestClient, startBadNetwork, type TestClient } from './tftp-testing.ts'

let root: string
const noise = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 2_654_435_761) >>> 24))

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'hades-tftp-'))
  await writeFile(join(root, 'vmlinuz'), noise)
})
afterAll(() => rm(root, { recursive: true }))

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.close()
})

/** Nothing is sent twice while a test looks, however slow the machine; a test that is about a wait names its own. */
const patient: Partial<TftpLimits> = { retryMs: 20_000, retryMsMax: 20_000 }

async function serve(
  options: { resolve?: (request: BootRequest) => Promise<BootContent | undefined>; limits?: Partial<TftpLimits> } = {},
): Promise<{ server: TftpServer; events: TftpEvent[]; client: (ownPort?: number) => Promise<TestClient> }> {
  const events: TftpEvent[] = []
  const server = await startTftpServer({
    address: '127.0.0.1',
    port: 0,
    resolve: options.resolve ?? ((request) => readBootFile(root, request.path)),
    onEvent: (event) => events.push(event),
    limits: { ...patient, ...options.limits },
  })
  opened.push(server)
  const client = async (ownPort = 0) => {
    const client = await openTestClient(server.port, ownPort)
    opened.push(client)
    return client
  }
  return { server, events, client }
}

const failed = (events: readonly TftpEvent[], why: string) =>
  until(`an event failed: ${why}`, () => events.find((e) => e.kind === 'failed' && e.why === why), {
    timeoutMs: 5000,
    everyMs: 5,
  })
const finished = (events: readonly TftpEvent[]) =>
  until('an event finished', () => events.find((e) => e.kind === 'finished'), { timeoutMs: 5000, everyMs: 5 })

test('a rendered answer is sent for the path without its slashes, and told as started and finished', async () => {
  const asked: BootRequest[] = []
  const { events, client } = await serve({
    resolve: async (request) => {
      asked.push(request)
      return { kind: 'rendered', body: 'LABEL scout\n' }
    },
  })
  const one = await client()
  const { bytes, granted } = await one.fetch('//pxelinux.cfg/01-52', { tsize: 0, blksize: 1024, windowsize: 4 })
  expect(bytes.toString()).toBe('LABEL scout\n')
  expect(granted.get('tsize')).toBe('12')
  expect(asked).toEqual([{ via: 'tftp', path: 'pxelinux.cfg/01-52', peerAddress: '127.0.0.1' }])
  await finished(events)
  const peer = { address: '127.0.0.1', port: one.port }
  expect(events).toEqual([
    {
      kind: 'started',
      path: 'pxelinux.cfg/01-52',
      peer,
      options: { mode: 'octet', blksize: 1024, windowsize: 4, timeoutMs: undefined, sizeBytes: 12 },
    },
    { kind: 'finished', path: 'pxelinux.cfg/01-52', peer, bytes: 12, ms: expect.any(Number) },
  ])
})

test('a transfer without options starts with its first block, from a port of its own', async () => {
  const { server, client } = await serve()
  const one = await client()
  one.ask('vmlinuz')
  const { packet, from } = await one.expect('data')
  expect(packet.block).toBe(1)
  expect(from.port).not.toBe(server.port)
})

test('unknown options and values out of range are ignored', async () => {
  const { client } = await serve()
  const one = await client()
  one.ask('vmlinuz', { blksize: 7, windowsize: 0, multicast: '' })
  expect((await one.expect('data')).packet.data.length).toBe(512)
})

test('a path that resolves to nothing is answered with code 1', async () => {
  const { events, client } = await serve()
  const one = await client()
  for (const path of ['nope', '../etc/passwd', '/../../etc/passwd', '..\\secret', '.']) {
    one.ask(path)
    expect((await one.expect('error')).packet.code).toBe(1)
  }
  expect(events.map((e) => e.kind === 'failed' && [e.path, e.why])).toContainEqual(['../etc/passwd', 'not-found'])
})

test('when we could not look, the client hears code 0 and the event tells why, not that the file is missing', async () => {
  const { events, client } = await serve({
    resolve: () => Promise.reject(new Error('database is locked', { cause: new Error('SQLITE_BUSY') })),
  })
  const one = await client()
  one.ask('pxelinux.0')
  expect((await one.expect('error')).packet).toEqual({ op: 'error', code: 0, message: 'could not look' })
  expect(await failed(events, 'could-not-look')).toMatchObject({ detail: 'database is locked: SQLITE_BUSY' })
})

test('an answer that takes too long to look up counts as could not look', async () => {
  const { events, client } = await serve({ resolve: () => new Promise(() => {}), limits: { resolveMsMax: 20 } })
  const one = await client()
  one.ask('pxelinux.0')
  expect((await one.expect('error')).packet.code).toBe(0)
  await failed(events, 'could-not-look')
})

test('a file that is gone or forbidden since it was found is an error, and no missing file', async () => {
  const { events, client } = await serve({
    resolve: async () => ({ kind: 'file', path: join(root, 'gone'), sizeBytes: 1 }),
  })
  const one = await client()
  one.ask('gone')
  expect((await one.expect('error')).packet.code).toBe(0)
  await failed(events, 'unreadable')
})

test('a write request is refused with code 2', async () => {
  const { events, client } = await serve()
  const one = await client()
  one.send({ op: 'write', path: 'vmlinuz', mode: 'octet', options: new Map() })
  expect((await one.expect('error')).packet.code).toBe(2)
  await failed(events, 'write-refused')
})

test('packets that belong to no transfer are answered with code 5, and an ERROR with nothing', async () => {
  const { events, client } = await serve()
  const one = await client()
  one.send({ op: 'error', code: 0, message: 'never answer this' })
  one.send({ op: 'ack', block: 1 })
  expect((await one.expect('error')).packet.code).toBe(5)
  expect(one.waiting).toEqual([])
  expect(events).toEqual([])
})

test('malformed requests are refused with the right code and told', async () => {
  const { events, client } = await serve()
  const one = await client()
  const cases: [string, number][] = [
    ['\0\x01pxelinux.0', 4],
    ['\0\x01f\0mail\0', 4],
    ['\0\x01f\0octet\0blksize\x008\0blksize\x009\0', 8],
    [`\0\x01${'a'.repeat(3000)}\0octet\0`, 4],
    ['\0\x01gr\xfcn\0octet\0', 4],
    ['', 4],
  ]
  for (const [text, code] of cases) {
    one.send(Buffer.from(text, 'latin1'))
    expect((await one.expect('error')).packet.code).toBe(code)
  }
  expect(events).toHaveLength(cases.length)
  expect(new Set(events.map((e) => e.kind === 'failed' && e.why))).toEqual(new Set(['malformed']))
})

test('after any bytes on any of its ports the server still serves', async () => {
  const { client } = await serve({ limits: { retriesMax: 0 } })
  const one = await client()
  const junk = fc.oneof(
    fc.uint8Array({ maxLength: 600 }),
    fc
      .tuple(fc.integer({ min: 0, max: 7 }), fc.uint8Array({ maxLength: 600 }))
      .map(([op, rest]) => Buffer.from([0, op, ...rest])),
  )
  one.ask('vmlinuz', { blksize: 8 })
  const { from } = await one.expect('option-ack')
  fc.assert(
    fc.property(junk, fc.boolean(), (bytes, isForTransfer) => {
      one.send(bytes, isForTransfer ? from.port : undefined)
    }),
    { numRuns: 300 },
  )
  const other = await client()
  expect((await other.fetch('vmlinuz', { blksize: 8192 }, { patienceMs: 200 })).bytes.equals(noise)).toBe(true)
})

test('a packet from a wrong port is answered with code 5 and does not disturb the transfer', async () => {
  const { events, client } = await serve()
  const [one, stranger] = [await client(), await client()]
  one.ask('vmlinuz', { blksize: 65_464 })
  const { from } = await one.expect('option-ack')
  one.send({ op: 'ack', block: 0 }, from.port)
  await one.expect('data')
  stranger.send({ op: 'error', code: 0, message: 'not mine to stop' }, from.port)
  stranger.send({ op: 'ack', block: 1 }, from.port)
  expect((await stranger.expect('error')).packet.code).toBe(5)
  one.send({ op: 'ack', block: 1 }, from.port)
  for (let length = 65_464; length === 65_464; ) {
    const { packet } = await one.expect('data')
    one.send({ op: 'ack', block: packet.block }, from.port)
    length = packet.data.length
  }
  expect(await finished(events)).toMatchObject({ bytes: 200_000 })
  expect(stranger.waiting).toEqual([])
})

test('copies of a request start no second transfer, while it runs and just after it ended', async () => {
  const { events, client } = await serve()
  const one = await client()
  for (let i = 0; i < 3; i++) one.ask('vmlinuz', { blksize: 65_464 })
  const { from } = await one.expect('option-ack')
  for (let block = 0; block < 4; block++) {
    one.send({ op: 'ack', block }, from.port)
    one.ask('vmlinuz', { blksize: 65_464 })
    expect((await one.expect('data')).from.port).toBe(from.port)
  }
  one.send({ op: 'ack', block: 4 }, from.port)
  await finished(events)
  one.ask('vmlinuz', { blksize: 65_464 })
  // A whole transfer of another client later, the copy would have been answered.
  await (await client()).fetch('vmlinuz', { blksize: 65_464 })
  expect(one.waiting).toEqual([])
  const ofOne = events.filter((e) => e.peer.port === one.port)
  expect(ofOne.map((e) => e.kind)).toEqual(['started', 'finished'])
})

test('another request from the same port takes the place of the first, without an ERROR to confuse the client', async () => {
  const { events, client } = await serve()
  const one = await client()
  one.ask('vmlinuz', { tsize: 0 })
  const { from } = await one.expect('option-ack')
  one.ask('vmlinuz', { blksize: 1024 })
  let answer = await one.expect('option-ack')
  if (answer.from.port === from.port) answer = await one.expect('option-ack')
  expect([...answer.packet.options.keys()]).toEqual(['blksize'])
  await failed(events, 'superseded')
})

test('a client that went silent and asks the same again, as after a reset, is served anew', async () => {
  const { events, client } = await serve({ limits: { retryMs: 50, retryMsMax: 20_000, retriesMax: 20 } })
  const one = await client()
  one.ask('vmlinuz', { blksize: 1024 })
  const { from } = await one.expect('option-ack')
  one.send({ op: 'ack', block: 0 }, from.port)
  for (let copies = 0; copies < 2; ) if ((await one.next())?.packet.op === 'data') copies++
  one.ask('vmlinuz', { blksize: 1024 })
  await failed(events, 'superseded')
  await until('the second transfer', () => events.length === 3, { timeoutMs: 5000, everyMs: 5 })
  expect(events.map((e) => e.kind)).toEqual(['started', 'failed', 'started'])
})

test('more transfers than allowed get no answer but an event, and room again when one ends', async () => {
  const { events, client } = await serve({ limits: { transfersPerPeerMax: 2 } })
  const [one, two, three] = [await client(), await client(), await client()]
  one.ask('vmlinuz', { tsize: 0 })
  two.ask('vmlinuz', { tsize: 0 })
  const { from } = await one.expect('option-ack')
  await two.expect('option-ack')
  three.ask('vmlinuz', { tsize: 0 })
  await failed(events, 'busy')
  one.send({ op: 'error', code: 8, message: 'only the size, thank you' }, from.port)
  expect(await failed(events, 'declined')).toMatchObject({ detail: 'error 8: only the size, thank you', bytes: 0 })
  expect(three.waiting).toEqual([])
  three.ask('vmlinuz', { tsize: 0 })
  await three.expect('option-ack')
})

test('the number of transfers of all peers together is bounded too', async () => {
  const { events, client } = await serve({ limits: { transfersMax: 1 } })
  const [one, two] = [await client(), await client()]
  one.ask('vmlinuz')
  await one.expect('data')
  two.ask('vmlinuz')
  await failed(events, 'busy')
  expect(two.waiting).toEqual([])
})

test('a client that stops in the middle is told as such, with the bytes that it has', async () => {
  const { events, client } = await serve()
  const one = await client()
  one.ask('vmlinuz')
  const { from } = await one.expect('data')
  one.send({ op: 'ack', block: 1 }, from.port)
  await one.expect('data')
  one.send({ op: 'error', code: 3, message: 'disk full' }, from.port)
  expect(await failed(events, 'stopped-by-client')).toMatchObject({ detail: 'error 3: disk full', bytes: 512 })
})

test('a silent client is sent the same block a bounded number of times, and then given up', async () => {
  const { events, client } = await serve({ limits: { retryMs: 5, retryMsMax: 20, retriesMax: 3 } })
  const one = await client()
  one.ask('vmlinuz')
  for (let i = 0; i < 4; i++) expect((await one.expect('data')).packet.block).toBe(1)
  expect((await one.expect('error')).packet.code).toBe(0)
  expect(await failed(events, 'timed-out')).toMatchObject({ bytes: 0 })
})

test('a transfer that takes longer than allowed is ended, however busy its client is', async () => {
  const { events, client } = await serve({ limits: { transferMsMax: 50 } })
  const one = await client()
  const file = one.fetch('vmlinuz', { blksize: 8 })
  await expect(file).rejects.toThrow('error 0: no answer for too long')
  await failed(events, 'timed-out')
})

test('a file that changes while it is sent ends its transfer with an ERROR', async () => {
  const path = join(root, 'changing')
  await writeFile(path, noise)
  const { events, client } = await serve()
  const one = await client()
  one.ask('changing', { blksize: 8192 })
  const { from } = await one.expect('option-ack')
  await appendFile(path, 'more')
  for (let block = 0; ; block++) {
    one.send({ op: 'ack', block }, from.port)
    const heard = await one.next()
    if (heard?.packet.op === 'error') break
    expect(heard?.packet.op).toBe('data')
  }
  expect(await failed(events, 'unreadable')).toMatchObject({
    detail: expect.stringContaining('changed while it was sent'),
  })
})

test.each([1, 7])('a network that doubles every packet starts no storm (windowsize %i)', async (windowsize) => {
  const { server, events } = await serve()
  const network = await startBadNetwork({
    serverPort: server.port,
    seed: 1,
    faults: { drop: 0, double: 100, swap: 0 },
    sparesHandshake: false,
  })
  opened.push(network)
  const client = await openTestClient(network.port)
  opened.push(client)
  const { bytes, dataHeard } = await client.fetch(
    'vmlinuz',
    { blksize: 1024, windowsize },
    { patienceMs: 50, isDone: () => events.length > 1 },
  )
  expect(bytes.equals(noise)).toBe(true)
  const blocks = Math.floor(noise.length / 1024) + 1
  // In windows a doubled block makes the client acknowledge inside the window, which repeats what follows: once each.
  if (windowsize === 1) expect(network.fromServer).toBe(blocks + 1)
  else expect(network.fromServer).toBeLessThan(blocks * windowsize)
  expect(dataHeard).toBeGreaterThan(blocks)
})

test('closing tells open transfers, ends them, and frees the port', async () => {
  const { server, events, client } = await serve()
  const one = await client()
  one.ask('vmlinuz', { tsize: 0 })
  await one.expect('option-ack')
  await server.close()
  expect((await one.expect('error')).packet.message).toBe('the server closes')
  await failed(events, 'server-closed')
  const again = createSocket('udp4')
  await new Promise<void>((resolve) => again.bind(server.port, '127.0.0.1', resolve))
  again.close()
})

test('closing while a file is still looked for starts nothing afterwards', async () => {
  const answer = Promise.withResolvers<BootContent>()
  const { server, events, client } = await serve({ resolve: () => answer.promise })
  const one = await client()
  one.ask('vmlinuz')
  one.send({ op: 'ack', block: 1 })
  await one.expect('error')
  const closed = server.close()
  answer.resolve({ kind: 'rendered', body: 'late' })
  await closed
  expect(events).toMatchObject([{ kind: 'failed', why: 'server-closed' }])
})

test('a port that is taken is refused at start', async () => {
  const { server } = await serve()
  const options = { address: '127.0.0.1', port: server.port, resolve: async () => undefined, onEvent: () => {} }
  await expect(startTftpServer(options)).rejects.toThrow(/EADDRINUSE/)
})

test('a server that drains lets a transfer end and begins no other', async () => {
  const { server, events, client } = await serve()
  const one = await client()
  one.ask('vmlinuz', { blksize: 65_464 })
  const { from } = await one.expect('option-ack')
  const drained = server.drain(5000)
  const other = await client()
  other.ask('vmlinuz')
  for (let block = 0; ; block += 1) {
    one.send({ op: 'ack', block }, from.port)
    const { packet } = await one.expect('data')
    if (packet.data.length < 65_464) {
      one.send({ op: 'ack', block: packet.block }, from.port)
      break
    }
  }
  await drained
  await finished(events)
  expect(events.map(({ kind }) => kind)).toEqual(['started', 'finished'])
  expect(other.waiting).toEqual([])
})
