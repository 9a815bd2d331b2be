// How many announces one core takes: the tracker in process with so many agents, its plans, and the tracker over HTTP beside
// a plain route of the same server, which is the limit. `node bench/tracker.ts --agents 10000 --seconds 3` prints JSON lines.
import { connect } from 'node:net'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import fastify from 'fastify'
import { encodeAnswer, isRefusal } from '../src/protocol/tracker-answer.ts'
import { type Announce, formatAnnounce, parseAnnounce } from '../src/protocol/tracker-wire.ts'
import { Tracker } from '../src/swarm/tracker.ts'
import { addTrackerRoutes } from '../src/swarm/tracker-routes.ts'

const infoHash = 'ab'.repeat(20)
const pieces = 4096
const connections = 64

const hostOf = (n: number): string => `n${n}`
const placeOf = (n: number) => ({ site: `s${Math.floor(n / 2000)}`, rack: `r${Math.floor(n / 40)}` })
const addressOf = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`

function announceOf(n: number, have: number, route: number | undefined): Announce {
  return {
    infoHash,
    peerId: Buffer.from(`-HD0100-${String(n).padStart(12, '0')}`).toString('hex'),
    port: 6881,
    uploaded: have * 1000,
    downloaded: have * 1000,
    left: (pieces - have) * 1000,
    event: undefined,
    isCompact: true,
    noPeerId: true,
    numwant: 0,
    ipv6: undefined,
    key: undefined,
    agent: { have, rate: 100_000_000, slow: [], lagMs: 0, route, isLeaving: false, isPartial: false },
  }
}

/** All agents announce in turn, each once in its interval, under a clock of our own; what it took, by phase. */
function benchInProcess(agents: number): void {
  const tracker = new Tracker({ firstVersion: 0 })
  const versions = new Map<number, number>()
  let nowMs = 0
  const slowest = { ms: 0 }
  const round = (have: number): number => {
    const begun = performance.now()
    for (let n = 0; n < agents; n++) {
      const before = performance.now()
      nowMs += 5000 / agents
      const announce = parseAnnounce(formatAnnounce(announceOf(n, have, versions.get(n))))
      const who = { kind: 'agent', host: hostOf(n), ...placeOf(n), address: addressOf(n), pieces } as const
      const answer = tracker.announce(announce, who, nowMs)
      if (isRefusal(answer)) throw new Error(answer.reason)
      const { route } = answer.agent ?? {}
      if (route !== undefined) versions.set(n, route.version)
      encodeAnswer(answer, announce)
      slowest.ms = Math.max(slowest.ms, performance.now() - before)
    }
    return performance.now() - begun
  }
  const show = (phase: string, ms: number, rounds = 1): void => {
    const perSecond = Math.round((agents * rounds * 1000) / ms)
    print({ part: 'in process', phase, agents, perSecond, slowestMs: Math.round(slowest.ms) })
    slowest.ms = 0
  }
  show('joining within 5 s', round(0))
  show('each has a new route', round(1))
  let ms = 0
  for (let have = 2; have < 7; have++) ms += round(have)
  show('steady', ms, 5)
}

async function benchOverHttp(agents: number, seconds: number): Promise<void> {
  const tracker = new Tracker({ firstVersion: 0 })
  const app = fastify({ logger: false })
  app.get('/plain', async (_, reply) => await reply.type('text/plain').send(Buffer.alloc(100)))
  app.register(async (scope) =>
    addTrackerRoutes(scope, {
      tracker,
      onError: (error) => print({ error: String(error) }),
      limits: { perSecond: 1e9, burst: 1e9 },
      admit: async ({ token = '' }) => ({ kind: 'agent', host: token, ...placeOf(Number(token.slice(1))), pieces }),
    }),
  )
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const port = Number(new URL(url).port)
  const plain = await load({ port, agents, seconds, path: '/plain' })
  // Once for all to join.
  await load({ port, agents, seconds: Math.max(seconds, agents / 2000), path: '/announce' })
  const announces = await load({ port, agents, seconds, path: '/announce' })
  print({ part: 'over HTTP', agents, plainPerSecond: plain, perSecond: announces, ofPlain: announces / plain })
  await app.close()
}

type Load = { readonly port: number; readonly agents: number; readonly seconds: number; readonly path: string }

/** Requests a second that the server answers to clients in a thread of their own. */
async function load(options: Load): Promise<number> {
  const worker = new Worker(new URL(import.meta.url), { workerData: options })
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  worker.once('message', resolve)
  worker.once('error', reject)
  return await promise
}

async function makeLoad({ port, agents, seconds, path }: Load): Promise<void> {
  const endMs = performance.now() + seconds * 1000
  let done = 0
  const versions = new Map<number, number>()
  const one = async (first: number): Promise<void> => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    let n = first
    const send = (): void => {
      const query = path === '/plain' ? '' : `?${formatAnnounce(announceOf(n, 1, versions.get(n)))}`
      socket.write(`GET ${path}${query} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer ${hostOf(n)}\r\n\r\n`)
    }
    let text = ''
    send()
    for await (const part of socket) {
      text += String(part.toString('latin1'))
      const head = text.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN)
      if (head < 0 || text.length < head + 4 + length) continue
      if (!text.startsWith('HTTP/1.1 200')) throw new Error(text.slice(0, 200))
      const version = /7:versioni(\d+)e/.exec(text)?.[1]
      if (version !== undefined) versions.set(n, Number(version))
      n = (n + connections) % agents
      text = ''
      done += 1
      if (performance.now() >= endMs) break
      send()
    }
    socket.destroy()
  }
  await Promise.all(Array.from({ length: connections }, (_, i) => one(i)))
  // A port of worker_threads has no origin.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  parentPort?.postMessage(Math.round(done / seconds))
}

function print(line: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

if (isMainThread) {
  const { values } = parseArgs({
    options: { agents: { type: 'string', default: '10000' }, seconds: { type: 'string', default: '3' } },
  })
  benchInProcess(Number(values.agents))
  if (values.seconds !== '0') await benchOverHttp(Number(values.agents), Number(values.seconds))
} else {
  // Only `load` starts this thread, with its options.
  await makeLoad(workerData as Load)
}
