// Rows that nobody needs any more, taken out in small batches. What explains a present deployment stays: the events of a host
// with a deployment under way, and those of each host's last deployment.
import { SqliteAdapter, sql } from 'kysely'
import { activeStates } from '../model/deployment.ts'
import type { Db } from './open.ts'

/** Few enough that other statements wait a few milliseconds. */
const batchMax = 500

/** Removes these rows. Returns how many they were. */
async function removeRows(
  db: Db,
  table: 'events' | 'tasks' | 'dead_deliveries' | 'audit',
  rows: readonly { readonly id: number }[],
): Promise<number> {
  const ids = rows.map(({ id }) => id)
  if (ids.length > 0) await db.deleteFrom(table).where('id', 'in', ids).execute()
  return ids.length
}

/** The newest deployment of each host: what it is explained by. */
const lastOfHosts = (db: Db) =>
  db
    .selectFrom('deployments')
    .select((eb) => eb.fn.max('id').as('id'))
    .groupBy('host_id')

/**
 * Removes one batch of events older than `before`, walking on from the id `after`. Returns where to walk on from, undefined
 * at the end.
 */
export async function removeOldEvents(
  db: Db,
  { before, after }: { readonly before: number; readonly after: number },
): Promise<{ readonly removed: number; readonly after: number | undefined }> {
  const busyHosts = db.selectFrom('deployments').select('host_id').where('state', 'in', activeStates)
  const rows = await db
    .selectFrom('events')
    .select('id')
    .where('id', '>', after)
    .where('at', '<', before)
    .where((eb) => eb.or([eb('host_id', 'is', null), eb('host_id', 'not in', busyHosts)]))
    .where((eb) => eb.or([eb('deployment_id', 'is', null), eb('deployment_id', 'not in', lastOfHosts(db))]))
    .orderBy('id')
    .limit(batchMax)
    .execute()
  const removed = await removeRows(db, 'events', rows)
  return { removed, after: removed < batchMax ? undefined : rows.at(-1)?.id }
}

/** The moment before which events must go so that no more than `most` are left; undefined when there are no more. */
export async function eventsBeyond(db: Db, most: number): Promise<number | undefined> {
  const row = await db.selectFrom('events').select('at').orderBy('id', 'desc').offset(most).limit(1).executeTakeFirst()
  // Those of this very moment go too: one millisecond more or less.
  return row && row.at + 1
}

/** Removes one batch of tasks that ended before `before`, with the rows of their hosts. Returns how many. */
export async function removeOldTasks(db: Db, before: number): Promise<number> {
  const rows = await db
    .selectFrom('tasks')
    .select('id')
    .where('ended_at', '<', before)
    .where('state', '!=', 'running')
    .limit(batchMax)
    .execute()
  return await removeRows(db, 'tasks', rows)
}

/** Removes one batch of logs of deployments that ended before `before`, but for each host's last. Returns how many. */
export async function removeOldLogs(db: Db, before: number): Promise<number> {
  const rows = await db
    .selectFrom('deployments')
    .select('id')
    .where('ended_at', '<', before)
    .where('log', 'is not', null)
    .where('id', 'not in', lastOfHosts(db))
    .limit(batchMax)
    .execute()
  const ids = rows.map(({ id }) => id)
  if (ids.length > 0) await db.updateTable('deployments').set({ log: null }).where('id', 'in', ids).execute()
  return ids.length
}

/** Removes one batch of dead deliveries that were given up before `before`. Returns how many. */
export async function removeOldDeliveries(db: Db, before: number): Promise<number> {
  const rows = await db
    .selectFrom('dead_deliveries')
    .select('id')
    .where('died_at', '<', before)
    .limit(batchMax)
    .execute()
  return await removeRows(db, 'dead_deliveries', rows)
}

/** The id up to which the audit must go so that no more than `most` rows are left; 0 when there are no more. */
export async function auditBeyond(db: Db, most: number): Promise<number> {
  const row = await db.selectFrom('audit').select('id').orderBy('id', 'desc').offset(most).limit(1).executeTakeFirst()
  return row?.id ?? 0
}

/** Removes one batch of the audit: what is older than `before`, and what has an id up to `upTo`. Returns how many. */
export async function removeOldAudit(
  db: Db,
  { before, upTo }: { readonly before: number; readonly upTo: number },
): Promise<number> {
  const rows = await db
    .selectFrom('audit')
    .select('id')
    .where((eb) => eb.or([eb('at', '<', before), eb('id', '<=', upTo)]))
    .limit(batchMax)
    .execute()
  return await removeRows(db, 'audit', rows)
}

/**
 * Puts SQLite's log of writes into its file and empties it, and lets it look anew at what its tables hold. Its file keeps the
 * room of what was removed and fills it again. Nothing to do for other databases.
 */
export async function tidyDatabase(db: Db): Promise<void> {
  if (!(db.getExecutor().adapter instanceof SqliteAdapter)) return
  await sql`pragma wal_checkpoint(truncate)`.execute(db)
  await sql`pragma optimize`.execute(db)
}
