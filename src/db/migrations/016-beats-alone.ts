// Claims of deployments live by their beats alone since 014: nothing reads the time that stood beside them.
import type { Kysely } from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('deployments').dropColumn('lease_until').execute()
}
