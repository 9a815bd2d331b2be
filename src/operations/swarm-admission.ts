// Who may be in the swarm of an image: agents by the session key of their deployment, stock clients by the address of a host
// that fetches that image, and anyone for a published image when the operator has opened the swarm.
import { hash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { listImages } from '../db/images.ts'
import { type FetchingHost, fetchingHostAt, fetchingHosts, rolloutBrings } from '../db/swarm-members.ts'
import { readForms } from '../image/forms.ts'
import { type PieceGeometry, pieceCount } from '../model/swarm.ts'
import { announceWord, sessionKey } from '../model/token.ts'
import type { World } from './world.ts'

/** Who it is, and what image it asks for; `pieces` are of its torrent. */
export type SwarmAdmission =
  | {
      readonly kind: 'agent' | 'stranger'
      readonly host: string | undefined
      readonly site: string | undefined
      readonly rack: string | undefined
      readonly pieces: number
      readonly digest: string
      readonly geometry: PieceGeometry
    }
  | { readonly kind: 'refused'; readonly reason: string }

type Asking = { readonly infoHash: string; readonly address: string; readonly token: string | undefined }

/** What was read so long ago is good enough for whoever was known then. */
const hostsMs = 1000
/** A session key that is not known may be a minute old or a second: one look so often, whoever asks. */
const newHostsMs = 100
/** The same of published images. */
const imagesMs = 10_000
const newImagesMs = 500
/** Hashing an image of an older version takes minutes: who asks for it is not kept waiting longer than this. */
const formsWaitMs = 2000
/** An image whose forms cannot be read is not tried again before. */
const brokenMs = 60_000

/** Makes the function that the tracker asks. It throws only when the database cannot be read. */
export function swarmAdmission(
  world: Pick<World, 'db' | 'keyring' | 'library' | 'log'>,
  options: { readonly isOpen: boolean },
): (asking: Asking) => Promise<SwarmAdmission> {
  const torrents = new Torrents(world)
  const agents = new Agents(world)
  const rollouts = new Rollouts(world)
  return async ({ infoHash, address, token }) => {
    const torrent = await torrents.find(infoHash)
    if (torrent === undefined) return refused(`there is no published image with the info-hash ${infoHash}`)
    const row = token === undefined ? await fetchingHostAt(world.db, address) : await agents.find(token)
    const admit = (kind: 'agent' | 'stranger'): SwarmAdmission => ({
      kind,
      host: row?.host,
      site: row?.site ?? undefined,
      rack: row?.rack ?? undefined,
      pieces: pieceCount(torrent.geometry),
      ...torrent,
    })
    if (row !== undefined && (await rollouts.bring(row.rolloutId, torrent.digest))) {
      return admit(token === undefined ? 'stranger' : 'agent')
    }
    if (options.isOpen) return admit('stranger')
    if (row !== undefined) return refused(`the deployment of ${row.host} fetches another image`)
    if (token !== undefined) return refused('the session key is not the one of a deployment under way')
    return refused(`no host with the address ${address} fetches this image now`)
  }
}

function refused(reason: string): SwarmAdmission {
  return { kind: 'refused', reason }
}

/** Runs one at a time; who comes while it runs waits for that run. */
class Refresh {
  readonly #run: () => Promise<void>
  #underWay: Promise<void> | undefined
  #atMs = Number.NEGATIVE_INFINITY

  constructor(run: () => Promise<void>) {
    this.#run = run
  }

  /** Runs unless the last run began less than `olderMs` ago. */
  async unlessNewer(olderMs: number): Promise<void> {
    if (this.#underWay === undefined && performance.now() - this.#atMs >= olderMs) {
      this.#atMs = performance.now()
      this.#underWay = this.#run().finally(() => {
        this.#underWay = undefined
      })
    }
    await this.#underWay
  }
}

/** The agents at work, by the words that come from their session keys. */
class Agents {
  readonly #world: Pick<World, 'db' | 'keyring'>
  readonly #refresh = new Refresh(() => this.#read())
  #byKey = new Map<string, FetchingHost>()
  /** The hash of each deployment's key, so that it is derived once and not every second. */
  #keys = new Map<string, string>()

  constructor(world: Pick<World, 'db' | 'keyring'>) {
    this.#world = world
  }

  async find(token: string): Promise<FetchingHost | undefined> {
    // Found by its hash: how long the look takes tells nothing of the keys that there are.
    const key = hash('sha256', token)
    await this.#refresh.unlessNewer(this.#byKey.has(key) ? hostsMs : newHostsMs)
    return this.#byKey.get(key)
  }

  async #read(): Promise<void> {
    const byKey = new Map<string, FetchingHost>()
    const keys = new Map<string, string>()
    for (const row of await fetchingHosts(this.#world.db)) {
      const { deploymentId: id, nonce, agent } = row
      const name = `${id} ${nonce} ${agent}`
      const secret = this.#keys.has(name) ? undefined : sessionKey(this.#world.keyring, { id, nonce, agent })
      const key = this.#keys.get(name) ?? (secret && hash('sha256', announceWord(secret).reveal()))
      if (key === undefined) continue
      keys.set(name, key)
      byKey.set(key, row)
    }
    this.#byKey = byKey
    this.#keys = keys
  }
}

/** Rollout and digest pairs kept; more than a service has under way. */
const broughtMax = 10_000

/** Which rollout brings which image: that never changes, so it is looked up once. */
class Rollouts {
  readonly #db: World['db']
  readonly #brought = new Map<string, Promise<boolean>>()

  constructor({ db }: Pick<World, 'db'>) {
    this.#db = db
  }

  async bring(rolloutId: number, digest: string): Promise<boolean> {
    const key = `${rolloutId} ${digest}`
    if (this.#brought.size >= broughtMax) this.#brought.clear()
    const known = this.#brought.get(key) ?? rolloutBrings(this.#db, rolloutId, digest)
    this.#brought.set(key, known)
    known.catch(() => this.#brought.delete(key))
    return await known
  }
}

type Torrent = { readonly digest: string; readonly geometry: PieceGeometry }

/** The published images, by the info-hash of their torrents. */
class Torrents {
  readonly #world: Pick<World, 'db' | 'library' | 'log'>
  readonly #refresh = new Refresh(() => this.#read())
  #byHash = new Map<string, Torrent>()
  readonly #brokenMs = new Map<string, number>()

  constructor(world: Pick<World, 'db' | 'library' | 'log'>) {
    this.#world = world
  }

  async find(infoHash: string): Promise<Torrent | undefined> {
    const refreshed = this.#refresh.unlessNewer(this.#byHash.has(infoHash) ? imagesMs : newImagesMs)
    // Known torrents need not wait for a look at new ones.
    const known = this.#byHash.get(infoHash)
    if (known === undefined) await Promise.race([refreshed, delay(formsWaitMs, undefined, { ref: false })])
    else refreshed.catch((error: unknown) => this.#world.log.error({ err: error }, 'the images could not be listed'))
    return this.#byHash.get(infoHash)
  }

  async #read(): Promise<void> {
    const { db, library, log } = this.#world
    const digests = new Set((await listImages(db)).map(({ digest }) => digest))
    const known = [...this.#byHash].filter(([, { digest }]) => digests.has(digest))
    this.#byHash = new Map(known)
    for (const [, { digest }] of known) digests.delete(digest)
    for (const digest of digests) {
      if (performance.now() < (this.#brokenMs.get(digest) ?? 0)) continue
      try {
        const { infoHash, totalBytes, pieceBytes } = await readForms(library, digest)
        this.#byHash.set(infoHash, { digest, geometry: { totalBytes, pieceBytes } })
        this.#brokenMs.delete(digest)
      } catch (error) {
        this.#brokenMs.set(digest, performance.now() + brokenMs)
        log.error({ err: error, digest }, 'an image has no torrent: it is not tracked')
      }
    }
  }
}
