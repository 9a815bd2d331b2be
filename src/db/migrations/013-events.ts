// Calls that happen once, webhooks with what they could not deliver, and machines that were seen and belong to no host.
import { type CreateTableBuilder, type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

function table(db: Kysely<unknown>, of: string): CreateTableBuilder<string, 'id'> {
  return db.schema.createTable(of).addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
}

export async function up(db: Kysely<unknown>): Promise<void> {
  await table(db, 'once_calls')
    .addColumn('caller', name, (c) => c.notNull())
    .addColumn('idempotency_key', name, (c) => c.notNull())
    .addColumn('operation', name, (c) => c.notNull())
    .addColumn('input_mac', 'varchar(64)', (c) => c.notNull())
    .addColumn('answer', sql`mediumtext`)
    .addColumn('claim', name, (c) => c.notNull())
    .addColumn('lease_until', 'bigint', (c) => c.notNull())
    .addColumn('expires_at', 'bigint', (c) => c.notNull())
    .addUniqueConstraint('once_calls_key', ['caller', 'idempotency_key'])
    .execute()
  await db.schema.createIndex('once_calls_expiry').on('once_calls').column('expires_at').execute()
  await table(db, 'webhooks')
    .addColumn('name', name, (c) => c.notNull().unique())
    .addColumn('url', 'text', (c) => c.notNull())
    .addColumn('sealed_secret', 'text', (c) => c.notNull())
    .addColumn('kinds', 'text', (c) => c.notNull())
    .addColumn('nodeset', 'text')
    .addColumn('is_enabled', 'integer', (c) => c.notNull())
    .addColumn('last_event_id', 'bigint', (c) => c.notNull())
    .addColumn('failures', 'integer', (c) => c.notNull())
    .addColumn('said', 'text')
    .addColumn('due_at', 'bigint', (c) => c.notNull())
    .addColumn('lease_owner', name)
    .addColumn('lease_until', 'bigint', (c) => c.notNull())
    .execute()
  await table(db, 'dead_deliveries')
    .addColumn('webhook_id', 'integer', (c) => c.notNull().references('webhooks.id').onDelete('cascade'))
    .addColumn('event_id', 'integer', (c) => c.notNull())
    .addColumn('died_at', 'bigint', (c) => c.notNull())
    .addColumn('said', 'text', (c) => c.notNull())
    .addUniqueConstraint('dead_deliveries_event', ['webhook_id', 'event_id'])
    .execute()
  await table(db, 'discovered')
    .addColumn('mac', 'varchar(17)', (c) => c.notNull().unique())
    .addColumn('state', name, (c) => c.notNull())
    .addColumn('first_seen_at', 'bigint', (c) => c.notNull())
    .addColumn('last_seen_at', 'bigint', (c) => c.notNull())
    .addColumn('sightings', 'integer', (c) => c.notNull())
    .addColumn('source', name, (c) => c.notNull())
    .addColumn('said', 'text', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('discovered_seen').on('discovered').columns(['state', 'last_seen_at']).execute()
  await db.schema
    .createTable('settings')
    .addColumn('name', name, (c) => c.primaryKey())
    .addColumn('value', 'text', (c) => c.notNull())
    .execute()
}
