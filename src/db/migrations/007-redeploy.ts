// Whether the hosts of a rollout compare what they hold first; erasures, deployments of a kind of their own with their orders.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  // Null in rollouts of before, which wrote everything.
  await db.schema.alterTable('rollouts').addColumn('redeploy', name).execute()
  await db.schema
    .createTable('erasures')
    .addColumn('deployment_id', 'integer', (c) => c.primaryKey().references('deployments.id').onDelete('cascade'))
    .addColumn('method', name, (c) => c.notNull())
    .addColumn('disk', name)
    .addColumn('finish', name, (c) => c.notNull())
    .addColumn('deadline_ms', 'bigint', (c) => c.notNull())
    .addColumn('report', sql`mediumtext`)
    .execute()
  // As for captures: a rollout points at a setup, and this is of a version that no document can get.
  const xml = `<setup xmlns="urn:hades:setup:1" name="erase"><disk><image>erase:0</image></disk></setup>`
  await sql`insert into setups (name, version, xml, created_at) values ('erase', 0, ${xml}, 0)`.execute(db)
}
