// Claims: which engine works on which deployment. An engine counts the beat of its claims up as long as it lives; another one
// that has seen a beat stand still for `silentMs`, by its own clock that nobody sets, frees the claim. No time of day is
// compared with another machine's, so clocks may be wrong by hours. A claim that was lost shows in every guarded statement.
import { activeStates } from '../model/deployment.ts'
import { inChunks } from './chunks.ts'
import { type NamedDeployment, namedDeployments, type ReadAs, unlookedMs } from './deployments.ts'
import type { Db } from './open.ts'

/** How long the beat of a claim stands still before others take what was claimed. */
export const silentMs = 15_000

/** How often a living engine counts up. */
export const beatEveryMs = 3_000

/**
 * Takes up to `limit` deployments that are due, for `owner` alone. One whose host has an ended deployment that is still claimed
 * is left: whoever has that claim may still be giving the machine an order, and two at once would meet in its controller.
 * An ended deployment is never claimed again, so what was seen here stays true until the claim is taken.
 */
export async function claimDue(
  db: Db,
  { owner, limit }: { readonly owner: string; readonly limit: number },
  now: number,
): Promise<NamedDeployment[]> {
  const due = await db
    .selectFrom('deployments')
    .select('id')
    .where('state', 'in', activeStates)
    .where((eb) => eb.or([eb('due_at', '<=', now), eb('due_at', '>', now + unlookedMs)]))
    .where('lease_owner', 'is', null)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('deployments as before')
            .select('before.id')
            .whereRef('before.host_id', '=', 'deployments.host_id')
            .whereRef('before.id', '<', 'deployments.id')
            .where('before.lease_owner', 'is not', null),
        ),
      ),
    )
    .orderBy('due_at')
    .limit(limit)
    .execute()
  const mine: number[] = []
  for (const { id } of due) {
    const result = await db
      .updateTable('deployments')
      .set((eb) => ({ lease_owner: owner, lease_beat: eb('lease_beat', '+', 1) }))
      .where('id', '=', id)
      .where('lease_owner', 'is', null)
      .where('state', 'in', activeStates)
      .executeTakeFirst()
    if (result.numUpdatedRows === 1n) mine.push(id)
  }
  return await inChunks(mine, (chunk) => namedDeployments(db).where('deployments.id', 'in', chunk).execute())
}

/** Counts the beats of claims up, and returns those that `owner` still has. */
export async function keepClaims(db: Db, owner: string, ids: readonly number[]): Promise<Set<number>> {
  const kept = await inChunks(ids, async (chunk) => {
    await db
      .updateTable('deployments')
      .set((eb) => ({ lease_beat: eb('lease_beat', '+', 1) }))
      .where('id', 'in', chunk)
      .where('lease_owner', '=', owner)
      .execute()
    return await db
      .selectFrom('deployments')
      .select('id')
      .where('id', 'in', chunk)
      .where('lease_owner', '=', owner)
      .execute()
  })
  return new Set(kept.map(({ id }) => id))
}

/** A claim as it was seen. */
export type Claim = { readonly id: number; readonly owner: string; readonly beat: number }

/** Every claim there is, of whatever engine. */
export async function listClaims(db: Db): Promise<Claim[]> {
  const rows = await db
    .selectFrom('deployments')
    .select(['id', 'lease_owner as owner', 'lease_beat as beat'])
    .where('lease_owner', 'is not', null)
    .execute()
  return rows.flatMap(({ id, owner, beat }) => (owner === null ? [] : [{ id, owner, beat }]))
}

/** Frees a claim whose owner is dead, if it is still as it was seen. */
export async function freeClaim(db: Db, { id, owner, beat }: Claim): Promise<boolean> {
  const result = await db
    .updateTable('deployments')
    .set({ lease_owner: null })
    .where('id', '=', id)
    .where('lease_owner', '=', owner)
    .where('lease_beat', '=', beat)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/**
 * Gives a claimed deployment back, to be looked at again at `dueAt`; at once, as it says itself, when it is not in the state any
 * more in which it was claimed. Then its times may be of another service's clock, and ours would not belong to them.
 */
export async function releaseClaim(db: Db, claimed: ReadAs, owner: string, dueAt: number): Promise<void> {
  const { id, state, attempt } = claimed
  await db
    .updateTable('deployments')
    .set((eb) => ({
      lease_owner: null,
      due_at: eb
        .case()
        .when(eb.and([eb('state', '=', state), eb('attempt', '=', attempt)]))
        .then(dueAt)
        .else(eb.ref('due_at'))
        .end(),
    }))
    .where('id', '=', id)
    .where('lease_owner', '=', owner)
    .execute()
}
