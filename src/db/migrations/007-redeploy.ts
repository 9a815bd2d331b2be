// Whether the hosts of a rollout compare what they hold first.
import type { Kysely } from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  // Null in rollouts of before, which wrote everything.
  await db.schema.alterTable('rollouts').addColumn('redeploy', 'varchar(190)').execute()
}
