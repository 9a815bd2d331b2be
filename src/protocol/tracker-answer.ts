// What a tracker answers over HTTP: peers (BEP 3, 7, 23), refusals (BEP 31), counts (BEP 48), and the route that only our own
// agents are given. Bytes only; the questions are in tracker-wire.ts.
import {
  type Bencode,
  type BencodeDictionary,
  type BencodeValue,
  decodeBencode,
  encodeBencode,
  isDictionary,
} from './bencode.ts'
import {
  decodeEndpoints,
  decodeNamedEndpoints,
  type Endpoint,
  encodeEndpoints,
  encodeNamedEndpoints,
  ipBytes,
  ipText,
  type NamedEndpoint,
} from './compact-peers.ts'
import type { Announce } from './tracker-wire.ts'

/** A peer as strangers are told of it. */
export type ListedPeer = Endpoint & { readonly peerId?: string | undefined }

/** A route, as model/swarm.ts has it; one list of sources for each stripe. */
export type WireRoute = {
  readonly version: number
  readonly stripes: number
  readonly stripePieces: number
  readonly sources: readonly (readonly NamedEndpoint[])[]
  readonly depth: readonly number[]
  readonly successors: readonly NamedEndpoint[]
  /** Peer ids. */
  readonly far: readonly string[]
}

export type AnnounceAnswer = {
  readonly intervalSeconds: number
  readonly minIntervalSeconds: number
  /** How many have everything, how many do not. */
  readonly complete: number
  readonly incomplete: number
  readonly peers: readonly ListedPeer[]
  readonly warning?: string | undefined
  readonly agent?: AgentAnswer | undefined
}

export type AgentAnswer = {
  /** When to announce again: finer than the interval's seconds. */
  readonly nextMs: number
  /** Only when it is not the one that the agent has already. */
  readonly route: WireRoute | undefined
}

/** `retryInMinutes` as in BEP 31; `never` when asking again cannot help. */
export type Refusal = { readonly reason: string; readonly retryInMinutes?: number | 'never' | undefined }

export function encodeAnswer(
  answer: AnnounceAnswer,
  { isCompact, noPeerId }: Pick<Announce, 'isCompact' | 'noPeerId'>,
): Buffer {
  const { agent } = answer
  return encodeBencode({
    complete: answer.complete,
    incomplete: answer.incomplete,
    interval: answer.intervalSeconds,
    'min interval': answer.minIntervalSeconds,
    ...(answer.warning === undefined ? {} : { 'warning message': answer.warning }),
    ...(agent === undefined ? {} : { hades: agentForm(agent) }),
    ...(isCompact ? compactForm(answer.peers) : { peers: answer.peers.map((peer) => listForm(peer, noPeerId)) }),
  })
}

function compactForm(peers: readonly ListedPeer[]): { [key: string]: Bencode } {
  const { ipv4, ipv6 } = encodeEndpoints(peers)
  return ipv6.length === 0 ? { peers: ipv4 } : { peers: ipv4, peers6: ipv6 }
}

function listForm({ ip, port, peerId }: ListedPeer, noPeerId: boolean): { [key: string]: Bencode } {
  return { ip, port, ...(noPeerId || peerId === undefined ? {} : { 'peer id': Buffer.from(peerId, 'hex') }) }
}

function agentForm({ nextMs, route }: AgentAnswer): { [key: string]: Bencode } {
  if (route === undefined) return { next: nextMs }
  return {
    next: nextMs,
    version: route.version,
    run: route.stripePieces,
    sources: route.sources.map((line) => encodeNamedEndpoints(line)),
    depth: route.depth,
    successors: encodeNamedEndpoints(route.successors),
    ...(route.far.length === 0 ? {} : { far: Buffer.from(route.far.join(''), 'hex') }),
  }
}

export function encodeRefusal({ reason, retryInMinutes }: Refusal): Buffer {
  return encodeBencode({
    'failure reason': reason,
    ...(retryInMinutes === undefined ? {} : { 'retry in': retryInMinutes }),
  })
}

/** What a scrape tells of one torrent; `downloaded` counts who has ever fetched it whole. */
export type ScrapeCounts = { readonly complete: number; readonly downloaded: number; readonly incomplete: number }

/** Torrents that are not there are left out, as BEP 48 has it. */
export function encodeScrape(files: ReadonlyMap<string, ScrapeCounts>): Buffer {
  const entries = [...files].map(([infoHash, counts]) => [Buffer.from(infoHash, 'hex').toString('latin1'), counts])
  return encodeBencode({ files: Object.fromEntries(entries) as Record<string, ScrapeCounts> })
}

/** The longest answer that is read. */
export const answerBytesMax = 256 * 1024
const stripesMax = 16
/** A host in two trees has few successors; a head of many racks still fewer than this. */
const routePeersMax = 1024

/** Reads a tracker's answer to an announce. Throws an Error for what is none. */
export function decodeAnswer(bytes: Buffer): AnnounceAnswer | Refusal {
  const answer = decodeBencode(bytes, { bytesMax: answerBytesMax, depthMax: 6 })
  if (!isDictionary(answer)) throw new Error('the answer of the tracker is no dictionary')
  const reason = textIn(answer, 'failure reason')
  if (reason !== undefined) return { reason, retryInMinutes: retryIn(answer['retry in']) }
  const { hades } = answer
  return {
    intervalSeconds: numberIn(answer, 'interval'),
    minIntervalSeconds: numberIn(answer, 'min interval', 0),
    complete: numberIn(answer, 'complete', 0),
    incomplete: numberIn(answer, 'incomplete', 0),
    peers: peersIn(answer),
    warning: textIn(answer, 'warning message'),
    agent: hades === undefined ? undefined : decodeAgentAnswer(hades),
  }
}

export function isRefusal(answer: AnnounceAnswer | Refusal): answer is Refusal {
  return 'reason' in answer
}

function decodeAgentAnswer(hades: BencodeValue): AgentAnswer {
  if (!isDictionary(hades)) throw new Error('`hades` is no dictionary')
  const nextMs = numberIn(hades, 'next')
  if (hades.sources === undefined) return { nextMs, route: undefined }
  const sources = listIn(hades, 'sources').map((line) => namedPeers('sources', line))
  const depth = listIn(hades, 'depth').map((one) => wholeNumber('depth', one))
  const stripePieces = numberIn(hades, 'run')
  if (sources.length === 0 || sources.length > stripesMax || depth.length !== sources.length || stripePieces === 0) {
    throw new Error(`a route with ${sources.length} stripes and ${depth.length} depths is none`)
  }
  return {
    nextMs,
    route: {
      version: numberIn(hades, 'version'),
      stripes: sources.length,
      stripePieces,
      sources,
      depth,
      successors: namedPeers('successors', hades.successors),
      far: peerIds('far', hades.far),
    },
  }
}

function namedPeers(name: string, value: BencodeValue | undefined): NamedEndpoint[] {
  if (!Buffer.isBuffer(value)) throw new Error(`\`${name}\` is no string`)
  const peers = decodeNamedEndpoints(value)
  if (peers.length > routePeersMax) throw new Error(`\`${name}\` names ${peers.length} peers`)
  return peers
}

/** Ids of 20 bytes each; none is no list. */
function peerIds(name: string, value: BencodeValue | undefined): string[] {
  if (value === undefined) return []
  if (!Buffer.isBuffer(value) || value.length % 20 !== 0 || value.length > 20 * routePeersMax) {
    throw new Error(`\`${name}\` is no list of peer ids`)
  }
  return Array.from({ length: value.length / 20 }, (_, at) => value.toString('hex', at * 20, at * 20 + 20))
}

function peersIn(answer: BencodeDictionary): ListedPeer[] {
  const { peers, peers6 } = answer
  const second = Buffer.isBuffer(peers6) ? decodeEndpoints(peers6, 'ipv6') : []
  if (peers === undefined) return second
  if (Buffer.isBuffer(peers)) return [...decodeEndpoints(peers, 'ipv4'), ...second]
  if (typeof peers === 'number' || isDictionary(peers)) throw new Error('`peers` is neither a string nor a list')
  return [...peers.map(listedPeer), ...second]
}

function listedPeer(value: BencodeValue): ListedPeer {
  if (!isDictionary(value)) throw new Error('`peers` has an item that is no dictionary')
  const id = value['peer id']
  const ip = ipText(ipBytes(textIn(value, 'ip') ?? ''))
  const port = numberIn(value, 'port')
  if (port > 65_535) throw new Error(`\`port\` is ${port}`)
  return { ip, port, ...(Buffer.isBuffer(id) && id.length === 20 ? { peerId: id.toString('hex') } : {}) }
}

function retryIn(value: BencodeValue | undefined): number | 'never' | undefined {
  if (typeof value === 'number') return Math.max(0, value)
  return Buffer.isBuffer(value) && value.toString('latin1') === 'never' ? 'never' : undefined
}

const textBytesMax = 1000

function textIn(from: BencodeDictionary, name: string): string | undefined {
  const value = from[name]
  return Buffer.isBuffer(value) ? value.toString('utf8', 0, textBytesMax) : undefined
}

function numberIn(from: BencodeDictionary, name: string, otherwise?: number): number {
  const value = from[name]
  return value === undefined && otherwise !== undefined ? otherwise : wholeNumber(name, value)
}

function wholeNumber(name: string, value: BencodeValue | undefined): number {
  if (typeof value !== 'number' || value < 0) throw new Error(`\`${name}\` is no number`)
  return value
}

function listIn(from: BencodeDictionary, name: string): readonly BencodeValue[] {
  const value = from[name]
  if (!Array.isArray(value)) throw new Error(`\`${name}\` is no list`)
  // Array.isArray forgets `readonly`; buffers and dictionaries are no arrays, so this is the list of the union.
  return value as readonly BencodeValue[]
}
