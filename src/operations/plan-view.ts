// The plan of a rollout as the contract shows it, with how long it may take.
import type { RolloutPlanView } from '../contract/rollout-types.ts'
import type { Db } from '../db/open.ts'
import { pastDeployments } from '../db/past-deployments.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { formatImageReference } from '../model/image.ts'
import { estimate } from '../model/rollout-estimate.ts'
import { waveAt } from '../model/rollout-policy.ts'
import type { HostPlan, Plan } from './plan.ts'
import { sum } from './transfers.ts'
import { dateTime, failureReport, present } from './views.ts'

export async function planView(db: Db, plan: Plan, confirmAbove: number): Promise<RolloutPlanView> {
  const { stored, images, hosts, policy, excluded } = plan
  const waves = wavesOf(plan)
  const past = await pastDeployments(db, images[0]?.digest ?? '')
  const storedBytes = sum(images.map((image) => image.stored_bytes))
  const sizes = waves.map((wave) => wave.hosts)
  return {
    setup: `${stored.name}:${stored.version}`,
    images: images.map(formatImageReference),
    sizes: images.map((image) => ({
      reference: formatImageReference(image),
      sizeBytes: image.size_bytes,
      storedBytes: image.stored_bytes,
    })),
    canStart: hosts.length > 0 && hosts.every(({ refusals }) => refusals.length === 0),
    ...(hosts.length === 0 ? {} : { nodeset: foldNodeset(hosts.map(({ host }) => host.name)) }),
    needsConfirm: hosts.length > confirmAbove,
    estimate: estimate(past, storedBytes, { waves: sizes, concurrency: policy.concurrency }),
    waves,
    excluded: [...excluded],
    warnings: [...plan.warnings],
    hosts: hosts.map((one, position) => hostView(one, waveAt(position, policy))),
  }
}

function wavesOf({ hosts, policy }: Plan): RolloutPlanView['waves'] {
  const byWave = Map.groupBy(hosts.entries(), ([position]) => waveAt(position, policy))
  return [...byWave].map(([wave, entries]) => ({
    wave,
    nodeset: foldNodeset(entries.map(([, { host }]) => host.name)),
    hosts: entries.length,
  }))
}

function hostView(one: HostPlan, wave: number): RolloutPlanView['hosts'][number] {
  const { host, holds } = one
  return {
    host: host.name,
    ...(one.seenAt === undefined ? {} : { inventoryAt: dateTime(one.seenAt) }),
    disks: [...one.disks],
    ...(holds ? { holds: { ...holds, images: [...holds.images], provenAt: dateTime(holds.provenAt) } } : {}),
    wave,
    ...present({ behind: one.behind, protected: host.protected_reason }),
    refusals: one.refusals.map(failureReport),
    warnings: [...one.warnings],
  }
}
