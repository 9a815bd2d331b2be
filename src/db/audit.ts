// The audit: a row for each call that changes something, written before it begins and completed when it has ended.
import type { Insertable, Selectable } from 'kysely'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { AuditRow } from './schema.ts'

export type AuditEntry = Selectable<AuditRow>

export async function beginAudit(db: Db, entry: Omit<Insertable<AuditRow>, 'ended_at'>): Promise<number> {
  const { insertId } = await db
    .insertInto('audit')
    .values({ ...entry, ended_at: null })
    .executeTakeFirstOrThrow()
  return Number(insertId)
}

export async function endAudit(db: Db, id: number, outcome: AuditRow['outcome'], now: number): Promise<void> {
  await db
    .updateTable('audit')
    .set({ outcome, ended_at: now })
    .where('id', '=', id)
    .where('outcome', '=', 'begun')
    .execute()
}

/** The newest first. */
export async function listAudit(
  db: Db,
  which: {
    readonly user?: string | undefined
    readonly operation?: string | undefined
    readonly before?: number | undefined
  },
  page: Page,
): Promise<Paged<AuditEntry>> {
  const { user, operation, before } = which
  const query = db
    .selectFrom('audit')
    .selectAll()
    .$if(user !== undefined, (query) => query.where('user_name', '=', user ?? ''))
    .$if(operation !== undefined, (query) => query.where('operation', '=', operation ?? ''))
    .$if(before !== undefined, (query) => query.where('id', '<', before ?? 0))
  return await readPage(query, [{ by: 'id', of: (row) => row.id, descending: true }], page)
}
