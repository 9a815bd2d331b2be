// What boot targets need: targets for one boot, netboot profiles, and machines that are switched to boot what they were told.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('boot_records')
    .addColumn('is_once', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
  await db.schema.alterTable('boot_records').addColumn('asked_at', 'bigint').execute()
  await db.schema
    .createTable('profiles')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('name', name, (c) => c.notNull().unique())
    .addColumn('json', sql`text`, (c) => c.notNull())
    .addColumn('changed_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema
    .createTable('reboots')
    .addColumn('task_id', 'integer', (c) => c.notNull().references('tasks.id').onDelete('cascade'))
    .addColumn('host_id', 'integer', (c) => c.notNull().references('hosts.id').onDelete('cascade'))
    .addColumn('target', name, (c) => c.notNull())
    .addColumn('record_changed_at', 'bigint', (c) => c.notNull())
    .addColumn('state', name, (c) => c.notNull())
    .addColumn('said', sql`text`)
    .addColumn('failure', sql`text`)
    .addColumn('began_at', 'bigint')
    .addColumn('due_at', 'bigint', (c) => c.notNull())
    .addColumn('deadline_at', 'bigint')
    .addColumn('lease_owner', name)
    .addColumn('lease_until', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('reboots_key', ['task_id', 'host_id'])
    .execute()
  await db.schema.createIndex('reboots_due').on('reboots').columns(['state', 'due_at']).execute()
}
