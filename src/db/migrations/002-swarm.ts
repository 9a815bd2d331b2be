// What the swarm needs: the policy of a rollout, the counts of each transfer, the limits of sites.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  // One column a statement: SQLite takes no more. Rows of before keep null, which means what they did: HTTP, no limits.
  await db.schema.alterTable('rollouts').addColumn('engine', name).execute()
  await db.schema.alterTable('rollouts').addColumn('egress_bytes_per_second', 'bigint').execute()
  await db.schema.alterTable('rollouts').addColumn('ingress_bytes_per_second', 'bigint').execute()
  await db.schema.alterTable('rollouts').addColumn('linger_seconds', 'integer').execute()
  await db.schema.alterTable('deployments').addColumn('transfer', sql`text`).execute()
  await db.schema.alterTable('deployments').addColumn('track', sql`text`).execute()
  await db.schema
    .createTable('sites')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('name', name, (c) => c.notNull().unique())
    .addColumn('egress_bytes_per_second', 'bigint')
    .addColumn('ingress_bytes_per_second', 'bigint')
    .execute()
}
