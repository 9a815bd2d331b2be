// Claims that are kept alive by beats, and what the state machine must not forget: tries, the times of steps, the way in which
// the next attempt goes.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  const add = db.schema.alterTable('deployments')
  // In place of `lease_until`, a time of somebody's clock. Claims of before stand still, and are freed as those of the dead.
  await add.addColumn('lease_beat', 'bigint', (c) => c.notNull().defaultTo(0)).execute()
  await add.addColumn('step_since', 'bigint').execute()
  await add.addColumn('report_sequence', 'bigint').execute()
  await add.addColumn('state_event', 'bigint').execute()
  await add.addColumn('seen_event', 'bigint').execute()
  await add.addColumn('boot_loader', name).execute()
  await add.addColumn('transfer_engine', name).execute()
  await add.addColumn('tries', sql`mediumtext`).execute()
  await add.addColumn('extra_attempts', 'integer', (c) => c.notNull().defaultTo(0)).execute()
  await db.schema.createIndex('deployments_lease').on('deployments').column('lease_owner').execute()
}
