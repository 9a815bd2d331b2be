// How the image spreads in a rollout, from the rows of its deployments: what came from whom, who is slow, when it ends.
import type { SwarmHostView, SwarmView } from '../contract/swarm-types.ts'
import type { TransferCounts } from '../contract/types.ts'
import type { NamedDeployment, Rollout } from '../db/deployments.ts'
import type { Image } from '../db/images.ts'
import { formatImageReference } from '../model/image.ts'
import { estimateEnd, type Pace, rateOf } from '../model/pace.ts'
import { copiesOutOfOrigin, originBytes, sum, trackOf, transferOf } from './transfers.ts'
import { dateTime, policyView, present } from './views.ts'

/** Where a host stands in the spreading of the image. */
type Part = 'running' | 'waiting' | 'ended' | 'lost'

function partOf({ state, step }: NamedDeployment): Part {
  if (state === 'failed' || state === 'cancelled') return 'lost'
  if (state === 'rebooting' || state === 'done') return 'ended'
  if (state !== 'deploying' || step === null || step === 'inventory' || step === 'disk') return 'waiting'
  return step === 'transfer' ? 'running' : 'ended'
}

export type SwarmRows = {
  readonly rollout: Rollout
  readonly setup: string
  readonly rows: readonly NamedDeployment[]
  readonly image: Image | undefined
  /** The names of hosts by their addresses: agents know each other by these. */
  readonly hostByAddress: ReadonlyMap<string, string>
}

/** At most `limit` hosts, those that are fetching first, the slowest of them before all. */
export function swarmView(
  { rollout, setup, rows, image, hostByAddress }: SwarmRows,
  limit: number,
  now: number,
): SwarmView {
  const members = rows.map((row) => ({ row, part: partOf(row), track: trackOf(row), transfer: transferOf(row) }))
  const paces = members.map(({ row, part, track, transfer }): Pace | undefined => {
    if (part === 'lost') return undefined
    // Frames on the disk, in the bytes that all hosts have in common; without counts, bytes of the disk itself.
    const [doneBytes, totalBytes] =
      transfer && image
        ? [Math.min(transfer.writtenBytes, image.stored_bytes), image.stored_bytes]
        : [row.done_bytes, row.total_bytes]
    const allBytes = totalBytes > 0 ? totalBytes : (image?.stored_bytes ?? 0)
    const running = part === 'running' ? doneBytes : 0
    return { state: part, doneBytes: part === 'ended' ? allBytes : running, totalBytes: allBytes, track }
  })
  const known = paces.filter((pace) => pace !== undefined)
  const estimate = estimateEnd(known, now)
  const slow = new Set(known.filter((_, index) => estimate.isStraggler[index]))
  const hosts = members.map(({ row, part, track, transfer }, index) => {
    const pace = paces[index]
    const rate = part === 'running' ? rateOf(track, now) : 0
    const view = hostView(row, transfer, hostByAddress)
    return {
      part,
      view: {
        ...view,
        doneBytes: pace?.doneBytes ?? row.done_bytes,
        totalBytes: pace?.totalBytes ?? row.total_bytes,
        bytesPerSecond: Math.round(rate),
        isSlow: pace !== undefined && slow.has(pace),
      },
    }
  })
  const count = (part: Part): number => hosts.filter((one) => one.part === part).length
  const order: readonly Part[] = ['running', 'waiting', 'lost', 'ended']
  const sorted = hosts.sort(
    (a, b) => order.indexOf(a.part) - order.indexOf(b.part) || a.view.bytesPerSecond - b.view.bytesPerSecond,
  )
  const copies = copiesOutOfOrigin(rows, image)
  return {
    rollout: rollout.id,
    setup,
    startedAt: dateTime(rollout.started_at),
    ...policyView(rollout),
    images: image
      ? [{ reference: formatImageReference(image), digest: image.digest, storedBytes: image.stored_bytes }]
      : [],
    totals: {
      hosts: hosts.length,
      waiting: count('waiting'),
      running: count('running'),
      ended: count('ended'),
      lost: count('lost'),
      originBytes: sum(rows.map(originBytes)),
      peersBytes: sum(members.map(({ transfer }) => transfer?.fromPeersBytes ?? 0)),
      ...present({ copiesOutOfOrigin: copies }),
      receivedBytesPerSecond: sum(hosts.map(({ view }) => view.bytesPerSecond)),
    },
    ...(estimate.endAt === undefined ? {} : { estimateEndAt: dateTime(estimate.endAt) }),
    ...(estimate.stragglersEndAt === undefined ? {} : { stragglersEndAt: dateTime(estimate.stragglersEndAt) }),
    hosts: sorted.slice(0, limit).map(({ view }) => view),
  }
}

type CountedView = Omit<SwarmHostView, 'doneBytes' | 'totalBytes' | 'bytesPerSecond' | 'isSlow'>

function hostView(
  row: NamedDeployment,
  transfer: TransferCounts | undefined,
  hostByAddress: ReadonlyMap<string, string>,
): CountedView {
  const sources = (transfer?.sources ?? []).map(({ name, bytes }) => ({ name: hostByAddress.get(name) ?? name, bytes }))
  return {
    host: row.host,
    deployment: row.id,
    state: row.state,
    ...present({ site: row.site, rack: row.rack, step: row.step }),
    receivedBytes: transfer?.receivedBytes ?? 0,
    verifiedBytes: transfer?.verifiedBytes ?? 0,
    writtenBytes: transfer?.writtenBytes ?? 0,
    durableBytes: transfer?.durableBytes ?? 0,
    fromOriginBytes: originBytes(row),
    fromPeersBytes: transfer?.fromPeersBytes ?? 0,
    toPeersBytes: transfer?.toPeersBytes ?? 0,
    ...present({ predecessor: sources.find(({ name }) => name !== 'origin')?.name }),
    sources,
  }
}
