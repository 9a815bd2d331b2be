// Rollouts as the conductor sees them: which are conducted, where each of their hosts stands, and the guarded statements
// that act on them. Whatever is done to a rollout as a whole takes its turn first: who read it before that comes late.
import type { Member, MemberStanding, RolloutState } from '../model/conduct.ts'
import { conductedStates } from '../model/conduct.ts'
import { activeStates, type DeploymentState, openStates } from '../model/deployment.ts'
import { defaultPolicy, type Policy } from '../model/rollout-policy.ts'
import { releaseBootRecord } from './boot.ts'
import { deploymentsOf, findDeployment, moveDeployment, type NamedDeployment, type Rollout } from './deployments.ts'
import { about, addEvent } from './events.ts'
import type { Db } from './open.ts'

/** The policy of a rollout; that of one whose hosts all began at once binds nothing. */
export function policyOf({ policy }: Pick<Rollout, 'policy'>): Policy {
  // Reader of our own JSON: `addRollout` and `takeTurn` are its only writers.
  return policy === null ? defaultPolicy : (JSON.parse(policy) as Policy)
}

/** The rollouts that have not ended, oldest first. */
export async function conductedRollouts(db: Db): Promise<Rollout[]> {
  return await db.selectFrom('rollouts').selectAll().where('state', 'in', conductedStates).orderBy('id').execute()
}

/** How many of a rollout's deployments are in each state, those that were done again left out. */
export async function countMembers(db: Db, rolloutId: number): Promise<Map<DeploymentState, number>> {
  const rows = await db
    .selectFrom('deployments')
    .select((eb) => ['state', eb.fn.countAll<number>().as('count')])
    .where('rollout_id', '=', rolloutId)
    .where((eb) => eb.or([eb('standing', 'is', null), eb('standing', '!=', 'retried')]))
    .groupBy('state')
    .execute()
  return new Map(rows.map(({ state, count }) => [state, count]))
}

/** Where each host of a rollout stands, in the order in which they begin. */
export async function membersOf(db: Db, rolloutId: number): Promise<Member[]> {
  const rows = await db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .select(['deployments.id', 'host_id', 'hosts.name as host', 'state', 'wave', 'standing'])
    .where('rollout_id', '=', rolloutId)
    .where((eb) => eb.or([eb('standing', 'is', null), eb('standing', '!=', 'retried')]))
    .orderBy('wave')
    .orderBy('position')
    .orderBy('deployments.id')
    .execute()
  const isWaiting = rows.some(({ state }) => state === 'waiting')
  const ahead = isWaiting ? await deploymentsAhead(db, rolloutId) : new Map<number, number>()
  return rows.map((row) => ({ ...row, behind: ahead.get(row.id) }))
}

/**
 * Which other rollout has the host of each waiting deployment of this one before it: one that is at work on the host, or
 * one that was ordered earlier. By deployment. They wait for those with lower ids only, so none wait for each other.
 */
async function deploymentsAhead(db: Db, rolloutId: number): Promise<Map<number, number>> {
  const rows = await db
    .selectFrom('deployments as mine')
    .innerJoin('deployments as other', 'other.host_id', 'mine.host_id')
    .select(['mine.id', 'other.rollout_id'])
    .where('mine.rollout_id', '=', rolloutId)
    .where('mine.state', '=', 'waiting')
    .where('other.rollout_id', '!=', rolloutId)
    .where('other.state', 'in', openStates)
    .where((eb) => eb.or([eb('other.state', '!=', 'waiting'), eb('other.id', '<', eb.ref('mine.id'))]))
    .execute()
  return new Map(rows.map((row) => [row.id, row.rollout_id]))
}

/**
 * Takes the turn of a rollout, as it was read, and changes it. False when somebody else has acted on it since: then
 * nothing of what was read may be acted upon. Call it first in a transaction.
 */
export async function takeTurn(
  db: Db,
  rollout: Pick<Rollout, 'id' | 'turn'>,
  change: { readonly state?: RolloutState; readonly reason?: string | null; readonly policy?: Policy } = {},
): Promise<boolean> {
  const { state, reason, policy } = change
  const result = await db
    .updateTable('rollouts')
    .set({
      turn: rollout.turn + 1,
      ...(state === undefined ? {} : { state }),
      ...(reason === undefined ? {} : { state_reason: reason }),
      ...(policy === undefined ? {} : { policy: JSON.stringify(policy) }),
    })
    .where('id', '=', rollout.id)
    .where('turn', '=', rollout.turn)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/**
 * Points a host at the scout for a deployment, unless its boot record belongs to another that is under way. The record is
 * what two rollouts that want the same host at the same moment collide on.
 */
export async function armBootRecord(db: Db, hostId: number, deploymentId: number, now: number): Promise<boolean> {
  const result = await db
    .updateTable('boot_records')
    .set({ target: 'scout', deployment_id: deploymentId, changed_at: now, is_once: 0, asked_at: null })
    .where('host_id', '=', hostId)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('deployments')
            .select('deployments.id')
            .whereRef('deployments.id', '=', 'boot_records.deployment_id')
            .where('deployments.id', '!=', deploymentId)
            .where('deployments.state', 'in', activeStates),
        ),
      ),
    )
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Lets a deployment begin; false when its host is not free, or when it does not wait any more. Call it in a transaction. */
export async function beginDeployment(db: Db, id: number, now: number): Promise<boolean> {
  const row = await findDeployment(db, id)
  if (row.state !== 'waiting' || !(await armBootRecord(db, row.host_id, id, now))) return false
  if (!(await moveDeployment(db, row, 'queued', { waiting_for: 'its turn' }, { by: 'conductor', at: now }))) {
    await releaseBootRecord(db, row.host_id, id, undefined, now)
    return false
  }
  const text = `rollout ${row.rollout_id} lets it begin, ${row.wave === 0 ? 'as a canary' : `in wave ${row.wave}`}`
  await addEvent(db, { source: 'conductor', kind: 'begun', text, ...about(row) }, now)
  return true
}

/** Cancels the deployments of a rollout that wait to begin. Call it in a transaction. */
export async function cancelWaiting(db: Db, rolloutId: number, why: string, now: number): Promise<void> {
  const rows = await db
    .selectFrom('deployments')
    .selectAll()
    .where('rollout_id', '=', rolloutId)
    .where('state', '=', 'waiting')
    .execute()
  const failure = JSON.stringify({ code: 'cancelled', message: [`it did not begin: ${why}`] })
  for (const row of rows) {
    if (!(await moveDeployment(db, row, 'cancelled', { failure }, { by: 'conductor', at: now }))) continue
    const text = `rollout ${rolloutId} does not begin it: ${why}`
    await addEvent(db, { source: 'conductor', kind: 'cancelled', text, ...about(row) }, now)
  }
}

/** Sets what deployments count for, of a rollout, in these states, as far as nothing was said of them yet. */
export async function acceptEnds(db: Db, rolloutId: number): Promise<void> {
  await db
    .updateTable('deployments')
    .set({ standing: 'accepted' })
    .where('rollout_id', '=', rolloutId)
    .where('state', 'in', ['failed', 'cancelled'])
    .where('standing', 'is', null)
    .execute()
}

/** The newest deployment of each host of a rollout. */
export async function currentDeployments(db: Db, rolloutId: number): Promise<NamedDeployment[]> {
  return (await deploymentsOf(db, [rolloutId])).filter(({ standing }) => standing !== 'retried')
}

/** Says that a newer deployment stands for this one, and of one that its host was cancelled alone. */
export async function setStanding(db: Db, id: number, standing: MemberStanding): Promise<void> {
  await db.updateTable('deployments').set({ standing }).where('id', '=', id).execute()
}
