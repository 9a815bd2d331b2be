// Users, the tokens and sessions that prove who calls, and the audit of what they changed.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('users')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('name', name, (c) => c.notNull().unique())
    .addColumn('role', name, (c) => c.notNull())
    .addColumn('password', sql`text`)
    .addColumn('oidc_subject', name, (c) => c.unique())
    .addColumn('is_disabled', 'integer', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('changed_at', 'bigint', (c) => c.notNull())
    .addColumn('last_login_at', 'bigint')
    .execute()
  await db.schema
    .createTable('tokens')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('kind', name, (c) => c.notNull())
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('user_id', 'integer', (c) => c.references('users.id').onDelete('cascade'))
    .addColumn('hash', 'varchar(64)', (c) => c.notNull().unique())
    .addColumn('role', name, (c) => c.notNull())
    .addColumn('nodeset', sql`text`)
    .addColumn('site', name)
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('expires_at', 'bigint', (c) => c.notNull())
    .addColumn('idle_ms', 'bigint')
    .addColumn('last_used_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('tokens_user').on('tokens').columns(['user_id', 'kind']).execute()
  await db.schema.createIndex('tokens_expire').on('tokens').column('expires_at').execute()
  await db.schema
    .createTable('audit')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('at', 'bigint', (c) => c.notNull())
    .addColumn('user_name', name, (c) => c.notNull())
    .addColumn('role', name)
    .addColumn('via', name, (c) => c.notNull())
    .addColumn('address', name, (c) => c.notNull())
    .addColumn('operation', name, (c) => c.notNull())
    .addColumn('target', sql`text`, (c) => c.notNull())
    .addColumn('outcome', name, (c) => c.notNull())
    .addColumn('ended_at', 'bigint')
    .addColumn('request', name, (c) => c.notNull())
    .execute()
  await db.schema.createIndex('audit_at').on('audit').column('at').execute()
  await db.schema.createIndex('audit_user').on('audit').columns(['user_name', 'id']).execute()
  await db.schema.createIndex('audit_operation').on('audit').columns(['operation', 'id']).execute()
}
