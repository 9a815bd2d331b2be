// Events by list, stream and webhook, over the wire, with real rows and receivers on loopback.
import { createHmac } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { execa } from 'execa'
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { addEvent, eventHorizon } from '../db/events.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, type PortServer, servePorts } from '../ports/http.ts'
import { controlHandlers } from './control.ts'
import { eventItems } from './events.ts'
import { openTestWorld, type TestWorld } from './testing.ts'
import { backoffMs, deliveryDeadlineMs, startWebhookSender } from './webhook-sender.ts'

let world: TestWorld
let server: PortServer
let baseUrl: string
const token = 'the-admin-token'
const closing: (() => Promise<void>)[] = []

beforeEach(async () => {
  world = { ...(await openTestWorld()), allowsLocalWebhooks: true }
  server = await servePorts({
    ports: [served(controlPort, controlHandlers(world), { streamEvents: eventItems(world) })],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'silent' }),
    limits: { stallMs: 500 },
  })
  const [at] = server.addresses
  baseUrl = `http://127.0.0.1:${at && 'port' in at ? at.port : 0}`
})
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
  await server.close(0)
  await world.close()
})

const control = () => createClient(controlPort, { kind: 'http', baseUrl, token: new Secret(token) })
const happens = (kind: string, text = kind, hostId?: number) =>
  addEvent(world.db, { source: 'test', kind, text, hostId }, world.now())

/** Follows the stream; `text` is what has come. */
async function follow(query = '', headers: Record<string, string> = {}) {
  const abort = new AbortController()
  const answer = await fetch(`${baseUrl}/control/v1/events/stream${query}`, {
    headers: { authorization: `Bearer ${token}`, ...headers },
    signal: abort.signal,
  })
  const got = { text: '', ended: false }
  const reading = (async () => {
    const decoder = new TextDecoder()
    for await (const chunk of answer.body ?? []) got.text += decoder.decode(chunk as Uint8Array, { stream: true })
    got.ended = true
  })().catch(() => {})
  const stop = async () => {
    abort.abort()
    await reading
  }
  closing.push(stop)
  return { answer, got, stop }
}

const ids = (text: string) => [...text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]))
const within = { timeoutMs: 10_000, everyMs: 20 }

test('the stream gives what happens from now on, with its number, and goes on where a reader was', async () => {
  await happens('old')
  const first = await follow()
  expect(first.answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  await happens('new')
  await until('the event', () => first.got.text.includes('"kind":"new"'), within)
  expect(ids(first.got.text)).toEqual([2])
  await first.stop()
  await happens('later')
  const second = await follow('', { 'last-event-id': '1' })
  await until('both', () => ids(second.got.text).length === 2, within)
  expect(ids(second.got.text)).toEqual([2, 3])
})

test('the stream filters by kind, and refuses strangers and bad input with a failure', async () => {
  const some = await follow('?kinds=dhcp.*&kinds=done&after=0')
  for (const kind of ['dhcp.discover', 'tftp', 'done', 'done-not']) await happens(kind)
  await happens('done')
  await until('three', () => ids(some.got.text).length === 3, within)
  expect(ids(some.got.text)).toEqual([1, 3, 5])
  const stranger = await follow('', { authorization: 'Bearer wrong' })
  expect(stranger.answer.status).toBe(401)
  for (const [query, headers] of [
    ['?after=x', {}],
    ['?kinds=A%20B', {}],
    ['?nodeset=n%5B1', {}],
    ['', { 'last-event-id': '1 or 2' }],
  ] as const) {
    const refused = await follow(query, headers)
    // What the handler finds out after the headers is said at the end of the stream.
    if (refused.answer.status !== 200) expect(refused.answer.status, query).toBe(400)
    else await until('the end', () => refused.got.text.includes('event: end') && refused.got.ended, within)
  }
})

test('a service that ends says so to its readers', async () => {
  const reader = await follow()
  await until('the beginning', () => reader.got.text.includes('retry:'), within)
  await server.close(1000)
  expect(reader.got.text).toContain('event: end')
})

test('a reader that takes nothing is cut off', async () => {
  const { port } = new URL(baseUrl)
  const socket = connect(Number(port), '127.0.0.1').on('error', () => {})
  socket.pause()
  socket.write(`GET /control/v1/events/stream?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`)
  const isOpen = async () =>
    (await execa('ss', ['-Htn', 'state', 'established', `( sport = :${port} )`])).stdout.includes(port)
  await until('the connection', isOpen, within)
  await world.db.transaction().execute(async (tx) => {
    for (let i = 0; i < 9000; i += 1) await addEvent(tx, { source: 'test', kind: 'flood', text: 'x'.repeat(1900) }, 1)
  })
  await until('the cut', async () => !(await isOpen()), within)
  socket.destroy()
}, 20_000)

test('a list waits for news, in pages, and never goes beyond an event that may still appear', async () => {
  const waiting = control().listEvents({ after: 0, waitMs: 20_000 })
  await happens('one')
  expect((await waiting).events.map(({ kind }) => kind)).toEqual(['one'])
  for (let i = 0; i < 5; i += 1) await happens(`k${i}`)
  const page = await control().listEvents({ newest: true, limit: 2 })
  const older = await control().listEvents({ newest: true, limit: 2, cursor: page.nextCursor ?? '' })
  expect([older, page].flatMap(({ events }) => events.map(({ id }) => id))).toEqual([3, 4, 5, 6])
  await world.db.deleteFrom('events').where('id', '=', 5).execute()
  expect(await eventHorizon(world.db, world.now())).toBe(4)
  expect((await control().listEvents({ after: 3 })).events.map(({ id }) => id)).toEqual([4])
  world.clock.offsetMs += 6000
  expect((await control().listEvents({ after: 3 })).events.map(({ id }) => id)).toEqual([4, 6])
})

type Got = { readonly headers: IncomingHttpHeaders; readonly body: string }

async function receiver(
  answer: (got: Got) => number | undefined,
): Promise<{ url: string; got: Got[]; server: Server }> {
  const got: Got[] = []
  const http = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += chunk))
    request.on('end', () => {
      const one = { headers: request.headers, body }
      got.push(one)
      const status = answer(one)
      if (status !== undefined) response.writeHead(status, { location: `${url}elsewhere` }).end('x')
    })
  })
  await new Promise<void>((done) => http.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`
  closing.push(
    () =>
      new Promise<void>((done) => {
        http.close(() => done())
        http.closeAllConnections()
      }),
  )
  return { url, got, server: http }
}

function send(): void {
  const sender = startWebhookSender(world)
  closing.push(() => sender.close())
}

const secret = 'a-secret-of-the-webhook'
const kindsOf = (got: readonly Got[]) => got.map(({ body }) => (JSON.parse(body) as { type: string }).type)
const listed = async () => (await control().listWebhooks({})).webhooks[0]

test('a webhook is told of each event in order, signed so that the receiver can check it', async () => {
  await happens('before')
  const { url, got } = await receiver(() => 204)
  await control().putWebhook({ name: 'vida', url, secret, kinds: ['k*'] })
  send()
  for (const kind of ['k1', 'other', 'k2', 'k3']) await happens(kind)
  await until('three', () => got.length === 3, within)
  expect(kindsOf(got)).toEqual(['k1', 'k2', 'k3'])
  const [{ headers, body } = { headers: {}, body: '' }] = got
  const signed = [headers['webhook-id'], headers['webhook-timestamp'], body].join('.')
  expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', secret).update(signed).digest('base64')}`)
  await until('the place', async () => (await listed())?.behind === 0, within)
  expect(JSON.stringify(await world.db.selectFrom('webhooks').selectAll().execute())).not.toContain(secret)
})

test('a delivery that fails is tried again with its id, later each time, and no event is lost or overtaken', async () => {
  let failing = 2
  const { url, got } = await receiver(() => (failing-- > 0 ? 503 : 200))
  await control().putWebhook({ name: 'vida', url, secret, kinds: ['k*'] })
  await happens('k1')
  await happens('k2')
  send()
  await until('the first failure', async () => (await listed())?.failures === 1, within)
  expect((await listed())?.said).toContain('503')
  await until('both', () => got.length === 4, { ...within, timeoutMs: 15_000 })
  expect(kindsOf(got)).toEqual(['k1', 'k1', 'k1', 'k2'])
  expect(new Set(got.map(({ headers }) => headers['webhook-id'])).size).toBe(2)
  expect([backoffMs(1), backoffMs(4), backoffMs(1000)]).toEqual([1000, 8000, 300_000])
}, 30_000)

test('an event that nobody took in time is dead, and can be delivered by hand', async () => {
  let status = 500
  const { url, got } = await receiver(() => status)
  await control().putWebhook({ name: 'vida', url, secret, kinds: ['k*'] })
  await happens('k1')
  world.clock.offsetMs += deliveryDeadlineMs + 1000
  await happens('k2')
  send()
  await until('a dead one', async () => (await listed())?.dead === 1, within)
  const [dead] = (await control().listDeadDeliveries({ webhook: 'vida' })).deliveries
  expect(dead).toMatchObject({ webhook: 'vida', event: { kind: 'k1' }, said: expect.stringContaining('500') })
  const retry = { delivery: dead?.id ?? 0 }
  await expect(control().retryDelivery(retry)).rejects.toMatchObject({ code: 'delivery-failed' })
  status = 200
  await control().retryDelivery(retry)
  expect((await control().listDeadDeliveries({})).deliveries).toEqual([])
  await expect(control().retryDelivery(retry)).rejects.toMatchObject({ code: 'unknown-delivery' })
  expect(kindsOf(got)).toContain('k1')
})

test('two services send each event once, and one goes on where a killed one was', async () => {
  const { url, got } = await receiver(() => 200)
  await control().putWebhook({ name: 'vida', url, secret, kinds: ['k'] })
  send()
  send()
  for (let i = 0; i < 20; i += 1) await happens('k')
  await until('all', async () => (await listed())?.behind === 0, within)
  expect(new Set(got.map(({ headers }) => headers['webhook-id'])).size).toBe(20)
  expect(got).toHaveLength(20)
  // What a killed one leaves: its lease, and its place.
  await happens('k')
  world.clock.offsetMs += 60_000
  await until('the last', () => got.length === 21, within)
})

test('redirects are not followed, and this machine itself is not called unless that is allowed', async () => {
  const { url, got } = await receiver(() => 302)
  await control().putWebhook({ name: 'vida', url, secret })
  send()
  await until('the refusal', async () => (await listed())?.said?.includes('302'), within)
  expect(got.every(({ headers }) => headers['webhook-id'] !== undefined)).toBe(true)
  const strict = controlHandlers({ ...world, allowsLocalWebhooks: false })
  const admin = { kind: 'user', name: 'admin', role: 'admin', address: 'test' } as const
  for (const bad of [
    url,
    'http://localhost:1/',
    'http://[::1]/',
    'http://[::ffff:7f00:1]/',
    'http://2130706433/',
    'http://169.254.169.254/latest',
    'ftp://x.example/',
    'http://u:p@x.example/',
    'nonsense-url',
  ]) {
    await expect(strict.putWebhook({ name: 'x', url: bad, secret }, admin), bad).rejects.toMatchObject({
      code: 'bad-input',
      at: 'url',
    })
  }
  await expect(control().putWebhook({ name: 'new', url })).rejects.toMatchObject({ code: 'bad-input', at: 'secret' })
})
