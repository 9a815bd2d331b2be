// What an agent is told of its transfer: the rollout's policy, the torrent of the image, the limits of the host's site.
import { setTimeout as delay } from 'node:timers/promises'
import type { TransferOrder } from '../contract/types.ts'
import { countInRollout, countInSite, findRollout, type NamedDeployment } from '../db/deployments.ts'
import { findSite } from '../db/sites.ts'
import { readForms } from '../image/forms.ts'
import { bytesPerSecondMin } from '../model/transfer-policy.ts'
import { present } from './views.ts'
import type { World } from './world.ts'

/** Hashing an image of an older version takes minutes: an agent is not kept waiting for it longer than this. */
const hashWaitMs = 2000

/**
 * Single blocks come from the origin alone, packed to about a seventieth of an image where one block in a hundred differs: to
 * more hosts than this it would send more than the one copy that a swarm takes.
 */
const blockHostsMax = 64

/** An image whose torrent could not be made is not tried again before. */
const brokenMs = 60_000

/** Info-hashes kept; more than a service has images in use. */
const hashesMax = 1000

export type TransferOrders = (
  row: NamedDeployment,
  digest: string,
) => Promise<{
  readonly order: TransferOrder
  /** Why the order is another than the rollout's policy, for the host's timeline. */
  readonly remark: string | undefined
}>

/** Makes the function that gives each deployment its order. It answers at once for an image it has answered for before. */
export function transferOrders(world: Pick<World, 'db' | 'library' | 'log' | 'bootBase'>): TransferOrders {
  const { db, bootBase } = world
  const infoHashOf = infoHashes(world)
  return async (row, digest) => {
    const { engine: usual, ...policy } = await findRollout(db, row.rollout_id)
    // An attempt whose transfer failed is followed by one that takes another way.
    const wanted = row.transfer_engine ?? usual
    const site = row.site === null ? undefined : await findSite(db, row.site)
    const infoHash = (wanted ?? 'http') === 'http' ? undefined : await infoHashOf(digest)
    // A rollout of before there were engines, or an image that has no torrent: the origin alone always does.
    const engine = infoHash === undefined ? 'http' : (wanted ?? 'http')
    const across = site === undefined || engine === 'swarm' ? 1 : await countInSite(db, row.rollout_id, site.name)
    const isManyForBlocks = engine === 'swarm' && (await countInRollout(db, row.rollout_id)) > blockHostsMax
    const imageBase = `${bootBase}/images/${digest}`
    const egress = policy.egress_bytes_per_second
    const ingress = policy.ingress_bytes_per_second
    const order = {
      engine,
      torrentUrl: `${imageBase}/image.torrent`,
      metalinkUrl: `${imageBase}/image.meta4`,
      announceUrl: `${bootBase}/announce`,
      lingerSeconds: engine === 'http' ? 0 : (policy.linger_seconds ?? 0),
      ...present({
        infoHash,
        framesUrl: isManyForBlocks ? undefined : `${imageBase}/frames`,
        egressBytesPerSecond: egress,
        ingressBytesPerSecond: ingress,
        siteEgressBytesPerSecond: shareOf(site?.egress_bytes_per_second, egress, across),
        siteIngressBytesPerSecond: shareOf(site?.ingress_bytes_per_second, ingress, across),
      }),
    }
    const remark =
      engine === (wanted ?? 'http') ? undefined : `the image has no torrent yet: by ${engine}, not ${wanted}`
    return { order, remark }
  }
}

/**
 * A site's cap as one host's, no more than the host's own. In the swarm one host a stripe exchanges across its
 * border, and the agents share the cap by stripes themselves. By any other engine every host fetches across, and gets its part.
 */
function shareOf(site: number | null | undefined, host: number | null, hostsAcross: number): number | undefined {
  if (site === null || site === undefined) return undefined
  return Math.max(bytesPerSecondMin, Math.min(Math.floor(site / hostsAcross), host ?? site))
}

/** Looks info-hashes up, each once. Undefined: there is none yet, or the image is broken, which the log tells. */
function infoHashes({ library, log }: Pick<World, 'library' | 'log'>): (digest: string) => Promise<string | undefined> {
  const known = new Map<string, Promise<string | undefined>>()
  const brokenUntil = new Map<string, number>()
  const look = async (digest: string): Promise<string | undefined> => {
    try {
      return (await readForms(library, digest)).infoHash
    } catch (error) {
      log.error({ err: error, digest }, 'an image has no torrent: it is fetched from the origin alone')
      brokenUntil.set(digest, performance.now() + brokenMs)
      return undefined
    }
  }
  return async (digest) => {
    if (performance.now() >= (brokenUntil.get(digest) ?? Number.POSITIVE_INFINITY)) {
      brokenUntil.delete(digest)
      known.delete(digest)
    }
    const found = known.get(digest) ?? look(digest)
    if (known.size >= hashesMax) known.clear()
    known.set(digest, found)
    return await Promise.race([found, delay(hashWaitMs, undefined, { ref: false })])
  }
}
