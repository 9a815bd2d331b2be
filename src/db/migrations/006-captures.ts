// Captures: deployments of a kind of their own, each with its order, and images that know what was found in them.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('deployments')
    .addColumn('kind', name, (c) => c.notNull().defaultTo('deploy'))
    .execute()
  await db.schema.alterTable('images').addColumn('hygiene', sql`mediumtext`).execute()
  await db.schema
    .createTable('captures')
    .addColumn('deployment_id', 'integer', (c) => c.primaryKey().references('deployments.id').onDelete('cascade'))
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('version', name, (c) => c.notNull())
    .addColumn('disk', name)
    .addColumn('hints', 'text', (c) => c.notNull())
    .addColumn('partition_number', 'integer')
    .addColumn('repair', 'integer', (c) => c.notNull())
    .addColumn('finish', name, (c) => c.notNull())
    .addColumn('deadline_ms', 'bigint', (c) => c.notNull())
    .addColumn('stored_bytes_max', 'bigint')
    .addColumn('size_bytes', 'bigint')
    .addColumn('sector_bytes', 'integer')
    .addColumn('frames', 'integer', (c) => c.notNull())
    .addColumn('stored_bytes', 'bigint', (c) => c.notNull())
    .addColumn('chain', 'varchar(64)', (c) => c.notNull())
    .addColumn('report', sql`mediumtext`)
    .addColumn('digest', 'varchar(64)')
    .execute()
  await db.schema.createIndex('captures_reference').on('captures').columns(['name', 'version']).execute()
  // Every rollout points at a setup. Captures have none: they point at this one, of a version that no document can get.
  const xml = `<setup xmlns="urn:hades:setup:1" name="capture"><disk><image>capture:0</image></disk></setup>`
  await sql`insert into setups (name, version, xml, created_at) values ('capture', 0, ${xml}, 0)`.execute(db)
}
