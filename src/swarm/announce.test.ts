import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import type { Route } from '../model/swarm.ts'
import { type AgentStatus, TrackerClient, type TrackerClientOptions } from './announce.ts'
import { Tracker } from './tracker.ts'
import { addTrackerRoutes } from './tracker-routes.ts'

const infoHash = 'ab'.repeat(20)
const idOf = (name: string): string => Buffer.from(name.padEnd(20, '.')).toString('hex')

/** The real tracker on a real port; the token of an agent is the name of its host. */
async function openTracker({ port = 0, firstVersion = 0 } = {}) {
  const tracker = new Tracker({ firstVersion })
  const app = fastify({ logger: false })
  app.register(async (scope) =>
    addTrackerRoutes(scope, {
      tracker,
      onError: (error) => expect.fail(String(error)),
      admit: async ({ token }) =>
        token === undefined || token === 'nobody'
          ? { kind: 'refused', reason: 'the session key is none' }
          : { kind: 'agent', host: token, site: undefined, rack: undefined, pieces: 100 },
    }),
  )
  const url = await app.listen({ host: '127.0.0.1', port })
  const close = () => app.close()
  onTestFinished(close)
  const members = () => tracker.snapshot(infoHash, performance.now())?.members ?? []
  return { url: `${url}/announce`, port: Number(new URL(url).port), members, close }
}

function join(name: string, url: string, options: Partial<TrackerClientOptions> = {}) {
  const routes: Route[] = []
  const told: string[] = []
  let status: AgentStatus = {
    have: 0,
    rate: 0,
    slow: [],
    lagMs: 0,
    isLeaving: false,
    isPartial: false,
    uploaded: 0,
    downloaded: 0,
    left: 100,
  }
  const client = new TrackerClient({
    url,
    infoHash,
    peerId: idOf(name),
    port: 6881,
    token: new Secret(name),
    status: () => status,
    onRoute: (route) => routes.push(route),
    onAway: (error) => told.push(`away: ${error.message}`),
    onBack: () => told.push('back'),
    ...options,
  })
  onTestFinished(() => client.close())
  const setStatus = (change: Partial<AgentStatus>): void => {
    status = { ...status, ...change }
  }
  return { client, routes, told, setStatus }
}

describe('an agent', () => {
  test('is given its route, and another one soon after others have come or gone', async () => {
    const tracker = await openTracker()
    const first = join('n1', tracker.url)
    await until('n1 is the head', () => first.routes.at(-1)?.sources[0]?.length === 0, { timeoutMs: 2000 })
    const second = join('n2', tracker.url)
    await until('n2 comes behind n1', () => second.routes.at(-1)?.sources[0]?.[0]?.peerId === idOf('n1'), {
      timeoutMs: 2000,
    })
    await until('n1 knows', () => first.routes.at(-1)?.successors[0]?.peerId === idOf('n2'), { timeoutMs: 3000 })
    await first.client.close()
    await until('n2 is the head', () => second.routes.at(-1)?.sources[0]?.length === 0, { timeoutMs: 3000 })
    expect(second.routes.length).toBeLessThanOrEqual(3)
    expect([first.told, second.told]).toEqual([[], []])
  })

  test('announces at once when asked', async () => {
    const tracker = await openTracker()
    const { client, routes, setStatus } = join('n1', tracker.url)
    await until('it has a route', () => routes.length > 0, { timeoutMs: 2000 })
    setStatus({ have: 70, isLeaving: true })
    client.announceNow()
    await until('the tracker knows', () => tracker.members()[0]?.have === 70, { timeoutMs: 600, everyMs: 10 })
    expect(tracker.members()).toMatchObject([{ state: 'leaving' }])
  })

  test('goes on when the tracker is away, and takes the route of a new one', async () => {
    let tracker = await openTracker({ firstVersion: 1000 })
    const { client, routes, told, setStatus } = join('n1', tracker.url)
    await until('it has a route', () => routes.length > 0, { timeoutMs: 2000 })
    await tracker.close()
    client.announceNow()
    await until('it is away', () => client.awaySinceMs, { timeoutMs: 3000 })
    setStatus({ have: 40 })
    tracker = await openTracker({ port: tracker.port })
    await until('there is another route', () => routes.length === 2, { timeoutMs: 15_000 })
    expect(client.awaySinceMs).toBeUndefined()
    expect(told).toEqual([expect.stringMatching(/^away: the announce to http.* failed$/), 'back'])
  }, 20_000)

  test('that is refused says so once, and asks on', async () => {
    const tracker = await openTracker()
    const { client, told, routes } = join('nobody', tracker.url)
    await until('it is refused', () => told.length > 0, { timeoutMs: 2000 })
    client.announceNow()
    await client.close()
    expect(told).toEqual([expect.stringContaining('refuses us: the session key is none')])
    expect(routes).toEqual([])
  })
})

describe('whatever the tracker does', () => {
  async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void) {
    const urls: string[] = []
    let connections = 0
    const server: Server = createServer((request, response) => {
      urls.push(request.url ?? '')
      answer(request, response)
    })
    server.on('connection', () => {
      connections += 1
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    // A TCP server's address is an object.
    const { port } = server.address() as AddressInfo
    return { url: `http://127.0.0.1:${port}/announce`, urls, connections: () => connections }
  }
  const plain = 'd8:intervali1ee'
  const soon = (next: number): string => `d5:hadesd4:nexti${next}ee8:intervali1ee`

  test('it says what happened in order, over one connection', async () => {
    const server = await serve((_, response) => response.end(soon(0)))
    const { client, setStatus } = join('n1', server.url, { limits: { gapMs: 5 } })
    await until('it has announced', () => server.urls.length >= 3, { timeoutMs: 2000, everyMs: 5 })
    setStatus({ left: 0 })
    await until('it has completed', () => server.urls.some((url) => url.includes('event=completed')), {
      timeoutMs: 2000,
    })
    expect(server.connections()).toBe(1)
    await client.close()
    const events = server.urls.map((url) => /event=(\w+)/.exec(url)?.[1]).filter((event) => event !== undefined)
    expect(events).toEqual(['started', 'completed', 'stopped'])
    expect(server.urls.join()).not.toContain('token')
  })

  test('it never asks more often than the gap, whoever wants it to', async () => {
    const server = await serve((_, response) => response.end(soon(0)))
    const { client } = join('n1', server.url, { limits: { gapMs: 50 } })
    const begun = performance.now()
    await until('ten announces', () => client.announceNow() ?? server.urls.length >= 10, {
      timeoutMs: 5000,
      everyMs: 1,
    })
    expect(performance.now() - begun).toBeGreaterThan(9 * 50 - 20)
  })

  test('a tracker that never answers is given up in time, and closing is not held up', async () => {
    const server = await serve(() => undefined)
    const { client, told } = join('n1', server.url, { limits: { callMs: 200, stoppedMs: 100 } })
    await until('it is away', () => told.length > 0, { timeoutMs: 2000 })
    const begun = performance.now()
    await client.close()
    expect(performance.now() - begun).toBeLessThan(1000)
  })

  test('a farewell that nobody takes is given up after its bound', async () => {
    const server = await serve((request, response) => {
      if (!request.url?.includes('stopped')) response.end(plain)
    })
    const { client } = join('n1', server.url, { limits: { stoppedMs: 150 } })
    await until('it has announced', () => server.urls.length > 0, { timeoutMs: 2000 })
    const begun = performance.now()
    await client.close()
    expect(performance.now() - begun).toBeLessThan(1500)
    expect(server.urls.at(-1)).toContain('event=stopped')
  })

  test.each([
    ['what is no bencode', (response: ServerResponse) => response.end('<html>')],
    ['status 500', (response: ServerResponse) => response.writeHead(500).end()],
    ['more than an answer can be', (response: ServerResponse) => response.end('x'.repeat(300_000))],
    [
      'half an answer',
      (response: ServerResponse) => response.writeHead(200, { 'content-length': 99 }).write('d') && response.destroy(),
    ],
    ['a reset', (response: ServerResponse) => response.socket?.resetAndDestroy()],
  ])('%s counts as away', async (_, answer) => {
    let isBroken = true
    const server = await serve((_, response) => (isBroken ? answer(response) : response.end(plain)))
    const { client, told } = join('n1', server.url)
    await until('it is away', () => client.awaySinceMs, { timeoutMs: 2000 })
    isBroken = false
    await until('it is back', () => told.includes('back'), { timeoutMs: 10_000 })
    await client.close()
  })
})
