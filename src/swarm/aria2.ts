// The engine `aria2`: stock aria2c brings image.zst, we watch its bitfield and hand on what is whole and hashes right. It
// goes by the flags that did best (docs/swarm.md): every peer that the tracker names and no web seed, because a web seed
// makes every host fetch the same bytes from the origin; only a host to which nothing comes is given the URL.
import { type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../lib/free-port.ts'
import type { Secret } from '../lib/secret.ts'
import { type PieceGeometry, pieceCount, pieceLength } from '../model/swarm.ts'
import { encodeTorrent, type TorrentInfo } from '../protocol/torrent.ts'
import { type Aria2Process, isRecord, startAria2Process } from './aria2-process.ts'
import { largest, type PeerBytes, type PieceSupply, type SupplyCounts } from './piece-supply.ts'

export type Aria2EngineOptions = {
  readonly info: TorrentInfo
  /**
   * A folder of its own with room for the image, best in memory. `image.zst` in it may be there already as a link to a block
   * device.
   */
  readonly folder: string
  readonly tracker: { readonly url: string; readonly token: Secret }
  /** URLs of image.zst, the origin first. */
  readonly webSeeds: readonly string[]
  /** Where peers connect to it; 0 is any. A taken port makes it try the next ones. */
  readonly port: number
  readonly egressBytesPerSecond?: number | undefined
  readonly ingressBytesPerSecond?: number | undefined
  readonly log: (line: string) => void
  readonly limits?: Partial<Aria2Limits>
}

export type Aria2Limits = {
  /** aria2 tells of no piece by itself: it is asked so often. */
  readonly pollMs: number
  /** Nothing came for so long, and up to twice that, so that not all hosts do at once: it is given the web seeds. */
  readonly quietMs: number
  /** Nothing came for so long: it is given up. */
  readonly stallMs: number
  /** Nobody has taken anything for so long: nobody gains from us. */
  readonly idleMs: number
}

const defaultLimits: Aria2Limits = { pollMs: 250, quietMs: 2_000, stallMs: 60_000, idleMs: 5_000 }

const portsTried = 16

/** From the last answer of a process that dies to the news of its end. */
const endMsMax = 500

/** What aria2 calls whole may not be in the file yet: it is looked at again so often, and then it is wrong. */
const looksMax = 40

const minute = 60
const lingerSecondsMax = 24 * 3600

/** Starts aria2c. Throws an Error with its words when it does not start or does not take the torrent. */
export async function startAria2(options: Aria2EngineOptions): Promise<Aria2> {
  const { info, folder, tracker } = options
  const port = options.port === 0 ? await freePort() : options.port
  const child = await startAria2Process(folder, {
    // The tracker knows a host by this, and the origin does not mind.
    header: `Authorization: Bearer ${tracker.token.reveal()}`,
    'listen-port': `${port}-${Math.min(65_535, port + portsTried)}`,
    'allow-overwrite': true,
    'file-allocation': 'none',
    'check-integrity': false,
    'auto-save-interval': 0,
    'bt-max-peers': 32,
    'bt-tracker-interval': 5,
    'bt-request-peer-speed-limit': '1000M',
    'enable-dht': false,
    'enable-dht6': false,
    'bt-enable-lpd': false,
    'enable-peer-exchange': false,
    'seed-ratio': '0.0',
    'seed-time': lingerSecondsMax / minute,
    'max-overall-upload-limit': options.egressBytesPerSecond ?? 0,
    'max-overall-download-limit': options.ingressBytesPerSecond ?? 0,
  })
  try {
    const torrent = encodeTorrent({ info, announce: [tracker.url], webSeeds: [] })
    const gid = await child.call('addTorrent', torrent.toString('base64'), [], {})
    if (typeof gid !== 'string') throw new Error('aria2 gave the download no name')
    return new Aria2(options, child, gid)
  } catch (error) {
    await child.close()
    throw error
  }
}

type Peer = {
  readonly name: string
  /** Bytes a second that it gives and takes. */
  readonly gives: number
  readonly takes: number
  readonly isSeeder: boolean
}

const statusKeys = ['status', 'bitfield', 'completedLength', 'uploadLength', 'errorCode', 'errorMessage']

export class Aria2 implements PieceSupply {
  readonly #options: Aria2EngineOptions
  readonly #limits: Aria2Limits
  readonly #geometry: PieceGeometry
  readonly #process: Aria2Process
  readonly #gid: string
  readonly #closing = new AbortController()
  readonly #watching: Promise<void>
  /** Between 1 and 2. */
  readonly #patience = 1 + Math.random()
  readonly #originHosts: ReadonlySet<string>
  readonly #isVerified: Uint8Array
  /** How often a piece was looked at that aria2 calls whole. */
  readonly #looks = new Map<number, number>()
  readonly #arrivals: number[] = []
  readonly #received = new Map<string, number>()
  readonly #sent = new Map<string, number>()
  #file: FileHandle | undefined
  #verifiedBytes = 0
  #receivedBytes = 0
  #sentBytes = 0
  #sentAtMs = performance.now()
  #movedAtMs = performance.now()
  #peers: readonly Peer[] = []
  #hasWebSeeds = false
  #failure: Error | undefined
  #wake = Promise.withResolvers<void>()

  constructor(options: Aria2EngineOptions, child: Aria2Process, gid: string) {
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
    this.#geometry = { totalBytes: options.info.totalBytes, pieceBytes: options.info.pieceBytes }
    this.#process = child
    this.#gid = gid
    this.#isVerified = new Uint8Array(pieceCount(this.#geometry))
    this.#originHosts = new Set(options.webSeeds.map((url) => new URL(url).hostname))
    this.#watching = this.#watch()
  }

  /** Of aria2c. */
  get pid(): number | undefined {
    return this.#process.pid
  }

  async *pieces(): AsyncGenerator<number> {
    for (let taken = 0; taken < this.#isVerified.length; ) {
      const piece = this.#arrivals[taken]
      if (piece !== undefined) {
        taken += 1
        yield piece
      } else {
        // What has come before is good whatever happened since.
        if (this.#failure !== undefined) throw this.#failure
        this.#wake = Promise.withResolvers()
        await this.#wake.promise
      }
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length)
    await this.#readInto(bytes, offset)
    return bytes
  }

  /** aria2 keeps what it has: the file is its memory, and it seeds from it. */
  release(): void {}

  progress(): SupplyCounts {
    const fromOriginBytes = Math.round(this.#received.get('origin') ?? 0)
    return {
      receivedBytes: this.#receivedBytes,
      verifiedBytes: this.#verifiedBytes,
      fromOriginBytes,
      fromPeersBytes: Math.max(0, this.#receivedBytes - fromOriginBytes),
      toPeersBytes: this.#sentBytes,
      ramBytes: this.#verifiedBytes,
      spilledBytes: 0,
      sources: largest(peerBytesOf(this.#received)),
      uploads: largest(peerBytesOf(this.#sent)),
    }
  }

  async linger({ maxMs, signal }: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void> {
    const until = performance.now() + maxMs
    this.#sentAtMs = performance.now()
    const isNeeded = () =>
      this.#failure === undefined &&
      this.#peers.some(({ isSeeder }) => !isSeeder) &&
      performance.now() - this.#sentAtMs < this.#limits.idleMs
    while (performance.now() < until && isNeeded()) await delay(this.#limits.pollMs, undefined, { signal })
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort()
      this.#fail(new Error('aria2 was ended'))
      await this.#watching
      await this.#process.close()
      await this.#file?.close()
      await rm(join(this.#options.folder, 'aria2.conf'), { force: true })
    }
    await this.#process.ended
  }

  async #watch(): Promise<void> {
    const closed = this.#closing.signal
    try {
      while (!closed.aborted && this.#failure === undefined) {
        await this.#poll()
        await delay(this.#limits.pollMs, undefined, { signal: closed }).catch(() => undefined)
      }
    } catch (cause) {
      // When it is gone, that is the reason, and not that it does not answer, which is heard of sooner.
      await Promise.race([this.#process.ended, delay(endMsMax, undefined, { signal: closed }).catch(() => undefined)])
      const { end } = this.#process
      this.#fail(end === undefined ? new Error('aria2 does not go on', { cause }) : new Error(end))
    }
  }

  async #poll(): Promise<void> {
    const status = await this.#process.call('tellStatus', this.#gid, statusKeys)
    if (!isRecord(status)) throw new Error('aria2 told no status')
    if (status.status === 'error') {
      throw new Error(`aria2 failed with code ${String(status.errorCode)}: ${String(status.errorMessage)}`)
    }
    await this.#count(Number(status.completedLength), Number(status.uploadLength))
    if (this.#arrivals.length === this.#isVerified.length) return
    if (typeof status.bitfield === 'string') await this.#verify(Buffer.from(status.bitfield, 'hex'))
    const quietMs = performance.now() - this.#movedAtMs
    if (quietMs > this.#limits.stallMs) throw new Error(`nothing came by aria2 for ${Math.round(quietMs / 1000)} s`)
    if (!this.#hasWebSeeds && quietMs > this.#limits.quietMs * this.#patience) await this.#addWebSeeds()
  }

  /** aria2 tells totals, and of each peer how fast it is now: what came since the last look is dealt out by that. */
  async #count(receivedBytes: number, sentBytes: number): Promise<void> {
    const [received, sent] = [receivedBytes - this.#receivedBytes, sentBytes - this.#sentBytes]
    this.#peers = peersIn(await this.#process.call('getPeers', this.#gid), this.#originHosts)
    if (sent > 0) {
      this.#sentAtMs = performance.now()
      this.#sentBytes = sentBytes
      dealOut(
        this.#sent,
        sent,
        this.#peers.map(({ name, takes }) => ({ name, speed: takes })),
      )
    }
    if (received <= 0) return
    this.#movedAtMs = performance.now()
    this.#receivedBytes = receivedBytes
    const givers = this.#peers.map(({ name, gives }) => ({ name, speed: gives }))
    const seeds = this.#hasWebSeeds ? [{ name: 'origin', speed: await this.#webSeedSpeed() }] : []
    dealOut(this.#received, received, [...seeds, ...givers])
  }

  async #webSeedSpeed(): Promise<number> {
    const files = await this.#process.call('getServers', this.#gid)
    const servers = listIn(files).flatMap(({ servers }) => listIn(servers))
    return servers.reduce((sum, { downloadSpeed }) => sum + Number(downloadSpeed), 0)
  }

  async #verify(bitfield: Buffer): Promise<void> {
    for (let piece = 0; piece < this.#isVerified.length; piece++) {
      if (this.#closing.signal.aborted) return
      const isWhole = ((bitfield[piece >> 3] ?? 0) & (0x80 >> (piece & 7))) !== 0
      if (!isWhole || this.#isVerified[piece] !== 0) continue
      const bytes = Buffer.allocUnsafeSlow(pieceLength(this.#geometry, piece))
      const problem = await this.#readInto(bytes, piece * this.#geometry.pieceBytes).then(
        () => undefined,
        (error: unknown) => error,
      )
      const expected = this.#options.info.pieceHashes.subarray(piece * 20, piece * 20 + 20)
      const digest = problem === undefined ? Buffer.from(await crypto.subtle.digest('SHA-1', bytes)) : undefined
      if (digest?.equals(expected)) this.#onVerified(piece)
      else this.#onLookedInVain(piece, problem)
    }
  }

  #onVerified(piece: number): void {
    this.#isVerified[piece] = 1
    this.#looks.delete(piece)
    this.#verifiedBytes += pieceLength(this.#geometry, piece)
    this.#arrivals.push(piece)
    this.#wake.resolve()
  }

  #onLookedInVain(piece: number, cause: unknown): void {
    const looks = (this.#looks.get(piece) ?? 0) + 1
    this.#looks.set(piece, looks)
    if (looks < looksMax) return
    throw new Error(`aria2 calls piece ${piece} whole, and it is not in its file`, { cause })
  }

  async #addWebSeeds(): Promise<void> {
    this.#hasWebSeeds = true
    const { webSeeds, log } = this.#options
    log(`no peer gives aria2 anything: it asks ${webSeeds.join(' and ')}`)
    await this.#process.call('changeUri', this.#gid, 1, [], webSeeds)
  }

  async #readInto(bytes: Buffer, offset: number): Promise<void> {
    this.#file ??= await open(join(this.#options.folder, this.#options.info.name), 'r')
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await this.#file.read(bytes, done, bytes.length - done, offset + done)
      if (bytesRead === 0) throw new Error(`aria2's file ends at ${offset + done}`)
      done += bytesRead
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#wake.resolve()
  }
}

type Speed = { readonly name: string; readonly speed: number }

/** Adds `bytes` to the totals by name, as much to each as its share of the speed; equal shares when nobody moves now. */
function dealOut(totals: Map<string, number>, bytes: number, speeds: readonly Speed[]): void {
  const sum = speeds.reduce((total, { speed }) => total + speed, 0)
  for (const { name, speed } of speeds) {
    const share = sum > 0 ? speed / sum : 1 / speeds.length
    totals.set(name, (totals.get(name) ?? 0) + bytes * share)
  }
}

function peerBytesOf(totals: ReadonlyMap<string, number>): readonly PeerBytes[] {
  return [...totals].map(([name, bytes]) => ({ name, bytes: Math.round(bytes) }))
}

/** The seeder beside a web seed is the origin too. */
function peersIn(answer: unknown, originHosts: ReadonlySet<string>): readonly Peer[] {
  return listIn(answer).map(({ ip, downloadSpeed, uploadSpeed, seeder }) => ({
    name: originHosts.has(String(ip)) && seeder === 'true' ? 'origin' : String(ip),
    gives: Number(downloadSpeed),
    takes: Number(uploadSpeed),
    isSeeder: seeder === 'true',
  }))
}

function listIn(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isRecord) : []
}
