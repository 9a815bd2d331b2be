// Machines that a task switches, each a row that outlives the process working on it.
import type { Selectable } from 'kysely'
import type { BootTarget } from '../model/boot.ts'
import type { Db } from './open.ts'
import type { RebootRow } from './schema.ts'

const openStates = ['waiting', 'switching', 'booting'] as const

/** A row with what it takes to decide about it. */
export type Reboot = Selectable<RebootRow> & { readonly host: string }

/** Adds a machine to a task. Call it in the transaction that sets its boot record, at the same `now`. */
export async function addReboot(
  db: Db,
  of: { taskId: number; hostId: number; target: BootTarget },
  now: number,
): Promise<void> {
  const { taskId, hostId, target } = of
  await db
    .insertInto('reboots')
    .values({
      task_id: taskId,
      host_id: hostId,
      target,
      record_changed_at: now,
      state: 'waiting',
      due_at: now,
      lease_until: 0,
    })
    .execute()
}

function rows(db: Db) {
  return db
    .selectFrom('reboots')
    .innerJoin('hosts', 'hosts.id', 'reboots.host_id')
    .selectAll('reboots')
    .select('hosts.name as host')
}

/** The machines of a task, by name. */
export async function rebootsOf(db: Db, taskId: number): Promise<Reboot[]> {
  return await rows(db).where('task_id', '=', taskId).orderBy('hosts.name').execute()
}

/**
 * Takes rows whose machines are to be switched, and that are due, for `owner`, until the lease ends. One whose host has a claimed
 * deployment waits: an order of a rollout that was cancelled may still be under way there.
 */
export async function claimReboots(
  db: Db,
  claim: { readonly owner: string; readonly until: number; readonly limit: number },
  now: number,
): Promise<Reboot[]> {
  const due = await rows(db)
    .where('reboots.state', 'in', ['waiting', 'switching'])
    .where('due_at', '<=', now)
    .where('lease_until', '<=', now)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('deployments')
            .select('deployments.id')
            .whereRef('deployments.host_id', '=', 'reboots.host_id')
            .where('deployments.lease_owner', 'is not', null),
        ),
      ),
    )
    .orderBy('due_at')
    .limit(claim.limit)
    .execute()
  const claimed: Reboot[] = []
  for (const row of due) {
    const result = await db
      .updateTable('reboots')
      .set({ lease_owner: claim.owner, lease_until: claim.until })
      .where('task_id', '=', row.task_id)
      .where('host_id', '=', row.host_id)
      .where('lease_until', '<=', now)
      .where('state', '=', row.state)
      .executeTakeFirst()
    if (result.numUpdatedRows === 1n) claimed.push(row)
  }
  return claimed
}

/** The rows of machines that are on, and of which there is something to say: asked, out of time, or pointed elsewhere. */
export async function settledReboots(db: Db, limit: number, now: number): Promise<Reboot[]> {
  return await rows(db)
    .innerJoin('boot_records', 'boot_records.host_id', 'reboots.host_id')
    .where('reboots.state', '=', 'booting')
    .where((eb) =>
      eb.or([
        eb('boot_records.asked_at', '>=', eb.ref('reboots.began_at')),
        eb('boot_records.changed_at', '!=', eb.ref('reboots.record_changed_at')),
        eb('reboots.deadline_at', '<=', now),
      ]),
    )
    .limit(limit)
    .execute()
}

/** Changes a row that is not over yet; says whether it was. */
export async function changeReboot(
  db: Db,
  { task_id, host_id }: Pick<Reboot, 'task_id' | 'host_id'>,
  change: Partial<
    Pick<Reboot, 'state' | 'said' | 'failure' | 'began_at' | 'deadline_at' | 'due_at' | 'lease_owner' | 'lease_until'>
  >,
): Promise<boolean> {
  const result = await db
    .updateTable('reboots')
    .set(change)
    .where('task_id', '=', task_id)
    .where('host_id', '=', host_id)
    .where('state', 'in', openStates)
    .executeTakeFirst()
  return result.numUpdatedRows > 0n
}

/** How many machines of a task are not there yet. */
export async function countOpenReboots(db: Db, taskId: number): Promise<number> {
  const row = await db
    .selectFrom('reboots')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .where('task_id', '=', taskId)
    .where('state', 'in', openStates)
    .executeTakeFirstOrThrow()
  return row.n
}

/** Frees what a process of this name left claimed: it starts anew and cannot still be working on them. */
export async function releaseRebootsOf(db: Db, owner: string): Promise<void> {
  await db.updateTable('reboots').set({ lease_owner: null, lease_until: 0 }).where('lease_owner', '=', owner).execute()
}
