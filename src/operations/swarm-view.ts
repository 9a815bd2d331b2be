// How the image spreads in a rollout, from the rows of its deployments: what came from whom, who is slow, when it ends.
import type { SwarmHostView, SwarmView } from '../contract/swarm-types.ts'
import type { TransferCounts } from '../contract/types.ts'
import type { NamedDeployment, Rollout, RolloutImage } from '../db/deployments.ts'
import { formatImageReference } from '../model/image.ts'
import { estimateEnd, type Pace, rateOf } from '../model/pace.ts'
import { copiesOf, originBytes, storedBytesOf, sum, trackOf, transferOf } from './transfers.ts'
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
  readonly images: readonly RolloutImage[]
}

/** One deployment, with what its row says read once. `pace` is undefined for a host that is lost. */
function memberOf(row: NamedDeployment, storedBytes: number) {
  const transfer = transferOf(row)
  const part = partOf(row)
  const member = { row, part, track: trackOf(row), transfer, fromOriginBytes: originBytes(row, transfer) }
  if (part === 'lost') return { ...member, pace: undefined }
  // Frames on the disk, in the bytes that all hosts have in common; without counts, bytes of the disk itself.
  const [doneBytes, saidBytes] =
    transfer && storedBytes > 0
      ? [Math.min(transfer.writtenBytes, storedBytes), storedBytes]
      : [row.done_bytes, row.total_bytes]
  const totalBytes = saidBytes > 0 ? saidBytes : storedBytes
  const has = { waiting: 0, running: doneBytes, ended: totalBytes }[part]
  return { ...member, pace: { state: part, doneBytes: has, totalBytes, track: member.track } satisfies Pace }
}

/** At most `limit` hosts, those that are fetching first, the slowest of them before all. */
export function swarmView({ rollout, setup, rows, images }: SwarmRows, limit: number, now: number): SwarmView {
  const storedBytes = storedBytesOf(images)
  const members = rows.map((row) => memberOf(row, storedBytes))
  const known = members.flatMap(({ pace }) => pace ?? [])
  const estimate = estimateEnd(known, now)
  const slow = new Set(known.filter((_, index) => estimate.isStraggler[index]))
  const hosts = members.map((member) => ({
    ...member,
    bytesPerSecond: member.part === 'running' ? Math.round(rateOf(member.track, now)) : 0,
  }))
  const count = (part: Part): number => hosts.filter((one) => one.part === part).length
  const order: readonly Part[] = ['running', 'waiting', 'lost', 'ended']
  hosts.sort((a, b) => order.indexOf(a.part) - order.indexOf(b.part) || a.bytesPerSecond - b.bytesPerSecond)
  const fromOriginBytes = sum(members.map((member) => member.fromOriginBytes))
  return {
    rollout: rollout.id,
    setup,
    startedAt: dateTime(rollout.started_at),
    ...policyView(rollout),
    images: images.map((image) => ({
      reference: formatImageReference(image),
      digest: image.digest,
      storedBytes: image.stored_bytes,
    })),
    totals: {
      hosts: hosts.length,
      waiting: count('waiting'),
      running: count('running'),
      ended: count('ended'),
      lost: count('lost'),
      originBytes: fromOriginBytes,
      peersBytes: sum(members.map(({ transfer }) => transfer?.fromPeersBytes ?? 0)),
      ...present({ copiesOutOfOrigin: copiesOf(fromOriginBytes, images) }),
      receivedBytesPerSecond: sum(hosts.map(({ bytesPerSecond }) => bytesPerSecond)),
    },
    ...(estimate.endAt === undefined ? {} : { estimateEndAt: dateTime(estimate.endAt) }),
    ...(estimate.stragglersEndAt === undefined ? {} : { stragglersEndAt: dateTime(estimate.stragglersEndAt) }),
    hosts: hosts.slice(0, limit).map(({ row, transfer, pace, bytesPerSecond, fromOriginBytes: bytes }) => ({
      ...hostView(row, transfer),
      fromOriginBytes: bytes,
      doneBytes: pace?.doneBytes ?? row.done_bytes,
      totalBytes: pace?.totalBytes ?? row.total_bytes,
      bytesPerSecond,
      isSlow: pace !== undefined && slow.has(pace),
    })),
  }
}

type CountedView = Omit<
  SwarmHostView,
  'fromOriginBytes' | 'doneBytes' | 'totalBytes' | 'bytesPerSecond' | 'isSlow' | 'predecessor'
>

function hostView(row: NamedDeployment, transfer: TransferCounts | undefined): CountedView {
  return {
    host: row.host,
    deployment: row.id,
    state: row.state,
    ...present({ site: row.site, rack: row.rack, step: row.step }),
    receivedBytes: transfer?.receivedBytes ?? 0,
    verifiedBytes: transfer?.verifiedBytes ?? 0,
    writtenBytes: transfer?.writtenBytes ?? 0,
    durableBytes: transfer?.durableBytes ?? 0,
    fromPeersBytes: transfer?.fromPeersBytes ?? 0,
    toPeersBytes: transfer?.toPeersBytes ?? 0,
    sources: transfer?.sources ?? [],
  }
}

/** The view with the names of hosts for their addresses, which is how agents know each other. */
export function withNames(swarm: SwarmView, hostByAddress: ReadonlyMap<string, string>): SwarmView {
  const hosts = swarm.hosts.map((host) => {
    const sources = host.sources.map(({ name, bytes }) => ({ name: hostByAddress.get(name) ?? name, bytes }))
    return { ...host, sources, ...present({ predecessor: sources.find(({ name }) => name !== 'origin')?.name }) }
  })
  return { ...swarm, hosts }
}
