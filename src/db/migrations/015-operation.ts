// What keeps a service running: leases of what one of several services does, and the indexes that housekeeping and figures need.
import type { Kysely } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('leases')
    .addColumn('name', name, (column) => column.primaryKey())
    .addColumn('owner', name, (column) => column.notNull())
    .addColumn('until', 'bigint', (column) => column.notNull())
    .execute()
  await db.schema.createIndex('deployments_ended').on('deployments').column('ended_at').execute()
  await db.schema.createIndex('tasks_ended').on('tasks').column('ended_at').execute()
}
