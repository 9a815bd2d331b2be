// The policy of rollouts and how each ended, the place of each deployment in its rollout, and hosts that are protected.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('hosts').addColumn('protected_reason', name).execute()
  await db.schema
    .alterTable('rollouts')
    .addColumn('state', name, (c) => c.notNull().defaultTo('running'))
    .execute()
  await db.schema.alterTable('rollouts').addColumn('state_reason', 'text').execute()
  await db.schema
    .alterTable('rollouts')
    .addColumn('turn', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
  await db.schema.alterTable('rollouts').addColumn('policy', 'text').execute()
  await db.schema.alterTable('rollouts').addColumn('excluded', sql`mediumtext`).execute()
  await db.schema.createIndex('rollouts_state').on('rollouts').column('state').execute()
  for (const column of ['position', 'wave']) {
    await db.schema
      .alterTable('deployments')
      .addColumn(column, 'integer', (c) => c.notNull().defaultTo(1))
      .execute()
  }
  await db.schema.alterTable('deployments').addColumn('standing', name).execute()
  await db.schema.alterTable('deployments').addColumn('retry_of', 'integer').execute()
  await nameEnds(db.withTables<OldTables>())
}

type OldTables = {
  rollouts: { id: number; state: string }
  deployments: { rollout_id: number; state: string }
}

/** Says of each rollout whose deployments have all ended how it ended; the others are running. */
async function nameEnds(db: Kysely<OldTables>): Promise<void> {
  const rows = await db
    .selectFrom('deployments')
    .select((eb) => ['rollout_id', 'state', eb.fn.countAll<number>().as('count')])
    .groupBy(['rollout_id', 'state'])
    .execute()
  for (const [rollout, states] of Map.groupBy(rows, (row) => row.rollout_id)) {
    const count = (state: string): number => states.find((row) => row.state === state)?.count ?? 0
    const [done, failed, cancelled] = [count('done'), count('failed'), count('cancelled')]
    const total = states.reduce((sum, row) => sum + row.count, 0)
    if (done + failed + cancelled < total) continue
    const state =
      done === total ? 'succeeded' : done + failed === 0 ? 'cancelled' : done > 0 ? 'partly-failed' : 'failed'
    await db.updateTable('rollouts').set({ state }).where('id', '=', rollout).execute()
  }
}
