// Erasures: the order of each, and what the agent said at the end. An erasure is a deployment of its own kind; who moves it and
// how it ends is in its row of `deployments`.
import type { Selectable } from 'kysely'
import type { EraseFinish, ErasingMethod } from '../model/erase.ts'
import { Failure } from '../model/failure.ts'
import { defaultTransferPolicy } from '../model/transfer-policy.ts'
import { addRollout } from './deployments.ts'
import type { Db } from './open.ts'
import type { ErasureRow } from './schema.ts'

export type Erasure = Selectable<ErasureRow>

export type EraseOrder = {
  readonly method: ErasingMethod
  readonly disk: string | undefined
  readonly finish: EraseFinish
  readonly deadlineMs: number
}

/** Writes a rollout that erases disks of these hosts, all `queued` and due at once. Call it in a transaction. */
export async function addErasure(
  db: Db,
  hostIds: readonly number[],
  order: EraseOrder,
  now: number,
): Promise<{ rolloutId: number; deployments: ReadonlyMap<number, number> }> {
  const setup = await db
    .selectFrom('setups')
    .select('id')
    .where('name', '=', 'erase')
    .where('version', '=', 0)
    .executeTakeFirstOrThrow()
  const rollout = { setupId: setup.id, kind: 'erase', images: [], hostIds, policy: defaultTransferPolicy } as const
  const { rolloutId, deployments } = await addRollout(db, rollout, now)
  const { method, disk = null, finish, deadlineMs } = order
  for (const deploymentId of deployments.values()) {
    const row = { deployment_id: deploymentId, method, disk, finish, deadline_ms: deadlineMs }
    await db.insertInto('erasures').values(row).execute()
  }
  return { rolloutId, deployments }
}

/** The erasure; Failure `unknown-deployment`. */
export async function findErasure(db: Db, deploymentId: number): Promise<Erasure> {
  const row = await db.selectFrom('erasures').selectAll().where('deployment_id', '=', deploymentId).executeTakeFirst()
  if (!row) throw new Failure('unknown-deployment', `deployment ${deploymentId} erases nothing`, { at: 'deployment' })
  return row
}

export async function recordErasure(db: Db, deploymentId: number, report: string): Promise<void> {
  await db.updateTable('erasures').set({ report }).where('deployment_id', '=', deploymentId).execute()
}
