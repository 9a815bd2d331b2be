// After a restore: what the rows say is under way was so when the backup was taken. Nobody knows what the machines have done
// since, so nothing of it goes on: each deployment ends, and each host boots its default until somebody says otherwise.
import type { Kysely } from 'kysely'
import { activeStates } from '../model/deployment.ts'
import { releaseBootRecord } from './boot.ts'
import { moveDeployment } from './deployments.ts'
import { about, addEvent } from './events.ts'
import type { Schema } from './schema.ts'

/** Ends what was under way, and says how many deployments that were. */
export async function settleRestored(db: Kysely<Schema>, takenAt: number, now: number): Promise<number> {
  const text = `the database was restored from a backup of ${new Date(takenAt).toISOString()}`
  const failure = JSON.stringify({ code: 'cancelled', message: [`${text}, in which this was under way`] })
  return await db.transaction().execute(async (tx) => {
    const active = await tx.selectFrom('deployments').selectAll().where('state', 'in', activeStates).execute()
    for (const row of active) {
      await moveDeployment(
        tx,
        row,
        'failed',
        { failure, failed_step: row.step ?? row.state },
        { by: 'repair', at: now },
      )
      await releaseBootRecord(tx, row.host_id, row.id, undefined, now)
      await addEvent(tx, { source: 'control', kind: 'failed', text, ...about(row) }, now)
    }
    await tx
      .updateTable('reboots')
      .set({ state: 'failed', failure, lease_owner: null, lease_until: 0 })
      .where('state', 'in', ['waiting', 'switching', 'booting'])
      .execute()
    await tx
      .updateTable('tasks')
      .set({ state: 'failed', failure, ended_at: now })
      .where('state', '=', 'running')
      .execute()
    await addEvent(tx, { source: 'control', kind: 'database-restored', text }, now)
    return active.length
  })
}
