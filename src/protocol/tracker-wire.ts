// What clients ask a tracker over HTTP: announce (BEP 3, 7) and scrape (BEP 48), and what our own agents add. Text only;
// sockets, state and admission are the caller's, and the answers are in tracker-answer.ts.
import { type Endpoint, ipBytes, ipText } from './compact-peers.ts'

export const announceEvents = ['started', 'stopped', 'completed'] as const
export type AnnounceEvent = (typeof announceEvents)[number]

/** What an announce says, whoever sends it. Hashes and peer ids have 40 hex digits. */
export type Announce = {
  readonly infoHash: string
  readonly peerId: string
  /** Where the client takes connections; its address is the one it calls from. */
  readonly port: number
  readonly uploaded: number
  readonly downloaded: number
  /** Bytes that it still lacks. */
  readonly left: number
  readonly event: AnnounceEvent | undefined
  /** False: peers as a list of dictionaries, as before BEP 23. */
  readonly isCompact: boolean
  readonly noPeerId: boolean
  readonly numwant: number | undefined
  /** Its other address (BEP 7). */
  readonly ipv6: Endpoint | undefined
  /** A word of the client's own that proves that it is the same when its address changes. */
  readonly key: string | undefined
  /** Only of our own agents. */
  readonly agent: AgentReport | undefined
}

export type AgentReport = {
  /** Pieces that are verified. */
  readonly have: number
  /** Bytes received a second. */
  readonly rate: number
  /** Peer ids that starve us although others have more. */
  readonly slow: readonly string[]
  /** How far writing is behind receiving, in ms. */
  readonly lagMs: number
  /** The version of the route that is in use; the same one is not sent again. */
  readonly route: number | undefined
  readonly isLeaving: boolean
  /** It needs only some of the pieces, and will never have the others. */
  readonly isPartial: boolean
}

/** The longest query that is read; an announce with all of `slowMax` needs 1,200. */
export const queryCharactersMax = 4096
const parametersMax = 64
export const slowMax = 16
/** Info-hashes in one scrape; more fit into no query anyway. */
const scrapeMax = 64
const keyCharactersMax = 64

/** Reads the query of an announce, as it stands in the URL. Throws an Error that says which parameter is wrong, and how. */
export function parseAnnounce(query: string): Announce {
  const given = new Parameters(query)
  const port = given.number('port', { max: 65_535 })
  if (port === undefined || port === 0) throw new Error('`port` is missing or 0')
  const key = given.text('key')
  if (key !== undefined && key.length > keyCharactersMax)
    throw new Error(`\`key\` is over ${keyCharactersMax} characters`)
  return {
    infoHash: given.id('info_hash'),
    peerId: given.id('peer_id'),
    port,
    uploaded: given.number('uploaded') ?? 0,
    downloaded: given.number('downloaded') ?? 0,
    left: given.required('left'),
    event: given.event(),
    isCompact: given.flag('compact'),
    noPeerId: given.flag('no_peer_id'),
    numwant: given.numwant(),
    ipv6: given.ipv6(port),
    key: key === '' ? undefined : key,
    agent: given.flag('hades') ? given.agent() : undefined,
  }
}

/** Reads the query of a scrape: the info-hashes that it names, at least one. Throws like `parseAnnounce`. */
export function parseScrape(query: string): string[] {
  const hashes = new Parameters(query, ['info_hash']).ids('info_hash')
  if (hashes.length === 0) throw new Error('`info_hash` is missing: name the torrents to scrape')
  if (hashes.length > scrapeMax) throw new Error(`there are ${hashes.length} info-hashes, more than ${scrapeMax}`)
  return hashes
}

/** The parameters of a query. Values are bytes, one character each: ids are no text. */
class Parameters {
  readonly #values = new Map<string, string[]>()

  constructor(query: string, repeatable: readonly string[] = []) {
    if (query.length > queryCharactersMax) throw new Error(`the query is over ${queryCharactersMax} characters`)
    const pairs = query === '' ? [] : query.split('&')
    if (pairs.length > parametersMax) throw new Error(`there are over ${parametersMax} parameters`)
    for (const pair of pairs) {
      const equals = pair.indexOf('=')
      const name = equals < 0 ? pair : pair.slice(0, equals)
      const values = this.#values.get(name) ?? []
      if (values.length > 0 && !repeatable.includes(name)) throw new Error(`\`${shown(name)}\` is there twice`)
      values.push(equals < 0 ? '' : pair.slice(equals + 1))
      this.#values.set(name, values)
    }
  }

  text(name: string): string | undefined {
    const raw = this.#values.get(name)?.[0]
    return raw === undefined ? undefined : unescaped(name, raw)
  }

  ids(name: string): string[] {
    return (this.#values.get(name) ?? []).map((raw) => {
      const bytes = Buffer.from(unescaped(name, raw), 'latin1')
      if (bytes.length !== 20) throw new Error(`\`${name}\` has ${bytes.length} bytes, not 20`)
      return bytes.toString('hex')
    })
  }

  id(name: string): string {
    const [id] = this.ids(name)
    if (id === undefined) throw new Error(`\`${name}\` is missing`)
    return id
  }

  number(name: string, { max = Number.MAX_SAFE_INTEGER }: { max?: number } = {}): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = Number(text)
    if (!/^\d{1,16}$/.test(text) || value > max) throw new Error(`\`${name}\` is no number from 0 to ${max}`)
    return value
  }

  required(name: string): number {
    const value = this.number(name)
    if (value === undefined) throw new Error(`\`${name}\` is missing`)
    return value
  }

  flag(name: string): boolean {
    return this.number(name, { max: 1 }) === 1
  }

  numwant(): number | undefined {
    // Some clients say -1 when they leave it to the tracker.
    return this.text('numwant') === '-1' ? undefined : this.number('numwant')
  }

  event(): AnnounceEvent | undefined {
    const text = this.text('event') ?? ''
    // BEP 21: a client that fetches no more of a partial choice; to us it is just there.
    if (text === '' || text === 'empty' || text === 'paused') return undefined
    const event = announceEvents.find((one) => one === text)
    if (event === undefined) throw new Error(`\`event\` is none of ${announceEvents.join(', ')}`)
    return event
  }

  /** BEP 7: an address, or an address in brackets with a port. */
  ipv6(port: number): Endpoint | undefined {
    const text = this.text('ipv6')
    if (text === undefined || text === '') return undefined
    const [, bracketed, named] = /^\[([0-9a-f:.]{2,45})\]:(\d{1,5})$/i.exec(text) ?? []
    const at = { ip: bracketed ?? text, port: named === undefined ? port : Number(named) }
    const address = at.ip.includes(':') ? ipBytes(at.ip) : undefined
    if (address === undefined || at.port < 1 || at.port > 65_535) throw new Error('`ipv6` is no IPv6 address')
    return { ip: ipText(address), port: at.port }
  }

  agent(): AgentReport {
    const slow = (this.text('slow') ?? '').split(',').filter((id) => id !== '')
    if (slow.length > slowMax) throw new Error(`\`slow\` names ${slow.length} peers, more than ${slowMax}`)
    if (!slow.every((id) => /^[0-9a-f]{40}$/.test(id))) throw new Error('`slow` names a peer without 40 hex digits')
    return {
      have: this.required('have'),
      rate: this.number('rate') ?? 0,
      slow,
      lagMs: this.number('lag') ?? 0,
      route: this.number('route'),
      isLeaving: this.flag('leaving'),
      isPartial: this.flag('partial'),
    }
  }
}

/** Undoes percent-encoding into one character a byte. A plus stays one: BEP 3 knows no form encoding. */
function unescaped(name: string, raw: string): string {
  if (!raw.includes('%')) return raw
  if (/%(?![0-9a-f]{2})/i.test(raw)) throw new Error(`\`${shown(name)}\` has a percent sign without two hex digits`)
  return raw.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function shown(name: string): string {
  return name.slice(0, 40)
}

/** The query of an announce. */
export function formatAnnounce(announce: Announce): string {
  const { agent, ipv6 } = announce
  const pairs: [string, string | number | undefined][] = [
    ['info_hash', escaped(announce.infoHash)],
    ['peer_id', escaped(announce.peerId)],
    ['port', announce.port],
    ['uploaded', announce.uploaded],
    ['downloaded', announce.downloaded],
    ['left', announce.left],
    ['compact', announce.isCompact ? 1 : 0],
    ['no_peer_id', announce.noPeerId ? 1 : undefined],
    ['event', announce.event],
    ['numwant', announce.numwant],
    ['ipv6', ipv6 && encodeURIComponent(`[${ipv6.ip}]:${ipv6.port}`)],
    ['key', announce.key && encodeURIComponent(announce.key)],
    ['hades', agent && 1],
    ['have', agent?.have],
    ['rate', agent && Math.round(agent.rate)],
    ['slow', agent && agent.slow.length > 0 ? agent.slow.join(',') : undefined],
    ['lag', agent && Math.round(agent.lagMs)],
    ['route', agent?.route],
    ['leaving', agent?.isLeaving ? 1 : undefined],
    ['partial', agent?.isPartial ? 1 : undefined],
  ]
  return pairs.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])).join('&')
}

function escaped(hex: string): string {
  return hex.replace(/../g, '%$&')
}
