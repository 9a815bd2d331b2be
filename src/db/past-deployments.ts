// What past deployments tell of hosts and of images: what is on their disks, how often they failed, how long it took.
import type { DeploymentState } from '../model/deployment.ts'
import { formatImageReference } from '../model/image.ts'
import type { PastDeployment } from '../model/rollout-estimate.ts'
import { inChunks } from './chunks.ts'
import type { RolloutImage, StateTime } from './deployments.ts'
import type { Db } from './open.ts'

/** What the newest deployment of a host that ended well has put on its disks. */
export type LastProof = {
  readonly deployment: number
  readonly setup: string
  readonly images: readonly string[]
  readonly provenAt: number
}

/** By host id; nothing of hosts that no deployment has ended well on. */
export async function lastProofs(db: Db, hostIds: readonly number[]): Promise<Map<number, LastProof>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db
      .selectFrom('deployments')
      .innerJoin('setups', 'setups.id', 'deployments.setup_id')
      .select([
        'deployments.id',
        'host_id',
        'rollout_id',
        'deployments.kind',
        'ended_at',
        'setups.name as setup',
        'setups.version',
      ])
      .where('deployments.id', 'in', (eb) =>
        eb
          .selectFrom('deployments')
          .select((one) => one.fn.max('id').as('newest'))
          .where('host_id', 'in', chunk)
          .where('state', '=', 'done')
          .where('kind', '!=', 'capture')
          .groupBy('host_id'),
      )
      .execute(),
  )
  // What was erased since holds nothing.
  const deployed = rows.filter(({ kind }) => kind === 'deploy')
  const images = await imagesOfRollouts(
    db,
    deployed.map(({ rollout_id }) => rollout_id),
  )
  return new Map(
    deployed.map((row) => [
      row.host_id,
      {
        deployment: row.id,
        setup: `${row.setup}:${row.version}`,
        images: (images.get(row.rollout_id) ?? []).map(formatImageReference),
        provenAt: row.ended_at ?? 0,
      },
    ]),
  )
}

async function imagesOfRollouts(db: Db, rolloutIds: readonly number[]): Promise<Map<number, RolloutImage[]>> {
  const rows = await inChunks([...new Set(rolloutIds)], (chunk) =>
    db.selectFrom('rollout_images').selectAll().where('rollout_id', 'in', chunk).orderBy('position').execute(),
  )
  return Map.groupBy(rows, ({ rollout_id }) => rollout_id)
}

/** How many deployments of each host have failed since one ended well, by host id. */
export async function failuresInRow(db: Db, hostIds: readonly number[]): Promise<Map<number, number>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db
      .selectFrom('deployments as failed')
      .leftJoin(
        (eb) =>
          eb
            .selectFrom('deployments')
            .select((one) => ['host_id', one.fn.max('id').as('id')])
            .where('host_id', 'in', chunk)
            .where('kind', '=', 'deploy')
            .where('state', '=', 'done')
            .groupBy('host_id')
            .as('done'),
        (join) => join.onRef('done.host_id', '=', 'failed.host_id'),
      )
      .select((eb) => ['failed.host_id as host', eb.fn.countAll<number>().as('count')])
      .where('failed.host_id', 'in', chunk)
      .where('failed.kind', '=', 'deploy')
      .where('failed.state', '=', 'failed')
      .where((eb) => eb.or([eb('done.id', 'is', null), eb('failed.id', '>', eb.ref('done.id'))]))
      .groupBy('failed.host_id')
      .execute(),
  )
  return new Map(rows.map(({ host, count }) => [host, count]))
}

/** Deployments that are looked at for an estimate, the newest: machines and networks change. */
const pastMax = 100

/** The newest deployments that ended well; `digest` is that of the first image to compare with. */
export async function pastDeployments(db: Db, digest: string): Promise<PastDeployment[]> {
  const rows = await db
    .selectFrom('deployments')
    .select(['rollout_id', 'image_digest', 'history', 'ended_at'])
    .where('kind', '=', 'deploy')
    .where('state', '=', 'done')
    .orderBy('id', 'desc')
    .limit(pastMax)
    .execute()
  const images = await imagesOfRollouts(
    db,
    rows.map(({ rollout_id }) => rollout_id),
  )
  return rows.flatMap((row) => {
    // Reader of our own JSON.
    const history = JSON.parse(row.history) as StateTime[]
    const began = history.find(({ state }) => state !== 'waiting')?.at
    if (began === undefined || row.ended_at === null) return []
    return {
      seconds: (row.ended_at - began) / 1000,
      deployingSeconds: secondsIn('deploying', history),
      storedBytes: (images.get(row.rollout_id) ?? []).reduce((sum, image) => sum + image.stored_bytes, 0),
      isSameImage: row.image_digest === digest,
    }
  })
}

function secondsIn(wanted: DeploymentState, history: readonly StateTime[]): number {
  const ms = history.map(({ state, at }, index) => (state === wanted ? (history[index + 1]?.at ?? at) - at : 0))
  return ms.reduce((a, b) => a + b, 0) / 1000
}
