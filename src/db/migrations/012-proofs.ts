// The signed proofs of deployments, which outlive their hosts; and what the agent says of itself when it registers.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('proofs')
    .addColumn('deployment_id', 'integer', (c) => c.primaryKey().notNull())
    .addColumn('host', name, (c) => c.notNull())
    .addColumn('signed_at', 'bigint', (c) => c.notNull())
    .addColumn('document', sql`mediumtext`, (c) => c.notNull())
    .addColumn('signature', name, (c) => c.notNull())
    .addColumn('public_key', name, (c) => c.notNull())
    .execute()
  await db.schema.alterTable('deployments').addColumn('agent_version', name).execute()
  await db.schema.alterTable('deployments').addColumn('scout_sha256', 'varchar(64)').execute()
}
