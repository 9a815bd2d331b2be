// The tracker over HTTP: `/announce` and `/scrape`. It asks who may be in a swarm, holds floods back and puts everything that
// is wrong into words that clients show: bencoded `failure reason`s with status 200 (BEP 3), 429 for floods (BEP 31).
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { plainAddress } from '../lib/plain-address.ts'
import { encodeAnswer, encodeRefusal, encodeScrape, isRefusal, type Refusal } from '../protocol/tracker-answer.ts'
import { parseAnnounce, parseScrape } from '../protocol/tracker-wire.ts'
import type { Announcer } from './tracked-swarm.ts'
import type { Tracker } from './tracker.ts'

/** What is known of who asks, before its question is heard. */
export type Asking = {
  readonly infoHash: string
  readonly address: string
  /** Of the Authorization header. */
  readonly token: string | undefined
}

/** Who it is, and how many pieces the torrent has; or why it may not be in the swarm, in words for its operator. */
export type Admission =
  | (Omit<Announcer, 'address'> & { readonly pieces: number })
  | { readonly kind: 'refused'; readonly reason: string }

export type TrackerRoutes = {
  readonly tracker: Tracker
  readonly admit: (asking: Asking) => Promise<Admission>
  /** A failure to look, which the client is told of only in general. */
  readonly onError: (error: unknown) => void
  readonly limits?: Partial<AskingLimits>
}

/** How often one address may ask: in the long run, and at once. */
export type AskingLimits = { readonly perSecond: number; readonly burst: number }

/** An agent asks once a second, a stock client every five; several of them may share an address. */
const askingLimits: AskingLimits = { perSecond: 20, burst: 100 }
/** Addresses that are counted; the one that has been silent for longest makes room. */
const addressesMax = 50_000
const sweepEveryMs = 250

/** Adds the tracker to a server, and its sweeps for as long as the server is open. */
export function addTrackerRoutes(app: FastifyInstance, routes: TrackerRoutes): void {
  const { tracker } = routes
  const floods = new Floods({ ...askingLimits, ...routes.limits })
  const sweeps = setInterval(() => tracker.sweep(performance.now()), sweepEveryMs)
  sweeps.unref()
  app.addHook('onClose', async () => clearInterval(sweeps))
  const add = (path: string, answer: (request: FastifyRequest) => Promise<Buffer>): void => {
    app.get(path, async (request, reply) => {
      // Announces change the state and are never answered from a cache.
      reply.type('text/plain').header('cache-control', 'no-store')
      // A quarter of each answer is headers that say nothing new: the date, and that an HTTP/1.1 connection stays. For many
      // hosts the answers are a part of what the origin's link carries.
      reply.raw.sendDate = false
      reply.raw.removeHeader('connection')
      if (!floods.pass(addressOf(request), performance.now())) return await refuse429(reply)
      try {
        return await reply.send(await answer(request))
      } catch (error) {
        routes.onError(error)
        return await reply.send(encodeRefusal({ reason: 'the tracker cannot look who you are: ask again later' }))
      }
    })
  }
  add('/announce', (request) => answerAnnounce(routes, request))
  add('/scrape', (request) => answerScrape(routes, request))
}

async function refuse429(reply: FastifyReply): Promise<FastifyReply> {
  const refusal: Refusal = { reason: 'this address asks too often', retryInMinutes: 1 }
  return await reply.code(429).header('retry-after', '1').send(encodeRefusal(refusal))
}

async function answerAnnounce({ tracker, admit }: TrackerRoutes, request: FastifyRequest): Promise<Buffer> {
  const announce = parsed(() => parseAnnounce(queryOf(request)))
  if ('reason' in announce) return encodeRefusal(announce)
  const address = addressOf(request)
  const who = await admit({ infoHash: announce.infoHash, address, token: tokenOf(request) })
  if (who.kind === 'refused') return encodeRefusal({ reason: who.reason })
  const answer = tracker.announce(announce, { ...who, address }, performance.now())
  return isRefusal(answer) ? encodeRefusal(answer) : encodeAnswer(answer, announce)
}

async function answerScrape({ tracker, admit }: TrackerRoutes, request: FastifyRequest): Promise<Buffer> {
  const infoHashes = parsed(() => parseScrape(queryOf(request)))
  if ('reason' in infoHashes) return encodeRefusal(infoHashes)
  const admitted: string[] = []
  for (const infoHash of infoHashes) {
    const who = await admit({ infoHash, address: addressOf(request), token: tokenOf(request) })
    if (who.kind !== 'refused') admitted.push(infoHash)
    else if (infoHashes.length === 1) return encodeRefusal({ reason: who.reason })
  }
  return encodeScrape(tracker.scrape(admitted, performance.now()))
}

/** What a query says, or what is wrong with it. */
function parsed<T extends object>(parse: () => T): T | Refusal {
  try {
    return parse()
  } catch (error) {
    // The parsers throw nothing but Errors whose message is a sentence for the client.
    return { reason: (error as Error).message, retryInMinutes: 'never' }
  }
}

/** The query as it was sent: a parser of form data would break the bytes of the info-hash. */
function queryOf({ raw }: FastifyRequest): string {
  const url = raw.url ?? ''
  const at = url.indexOf('?')
  return at < 0 ? '' : url.slice(at + 1)
}

function addressOf({ raw }: FastifyRequest): string {
  return plainAddress(raw.socket.remoteAddress ?? '').replace(/%.*$/, '')
}

function tokenOf({ headers }: FastifyRequest): string | undefined {
  return /^Bearer +([\w.~+/=-]{1,200}) *$/i.exec(headers.authorization ?? '')?.[1]
}

/** Counts what each address asks. */
class Floods {
  readonly #limits: AskingLimits
  readonly #buckets = new Map<string, { credit: number; atMs: number }>()

  constructor(limits: AskingLimits) {
    this.#limits = limits
  }

  pass(address: string, nowMs: number): boolean {
    const { burst, perSecond } = this.#limits
    const bucket = this.#buckets.get(address) ?? { credit: burst, atMs: nowMs }
    bucket.credit = Math.min(burst, bucket.credit + ((nowMs - bucket.atMs) / 1000) * perSecond)
    bucket.atMs = nowMs
    // Written anew it stands last: the first one in the map is the one that has been silent for longest.
    this.#buckets.delete(address)
    this.#buckets.set(address, bucket)
    const [oldest] = this.#buckets.keys()
    if (this.#buckets.size > addressesMax && oldest !== undefined) this.#buckets.delete(oldest)
    if (bucket.credit < 1) return false
    bucket.credit -= 1
    return true
  }
}
