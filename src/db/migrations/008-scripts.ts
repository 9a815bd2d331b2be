// The script library, what a rollout has taken from it, and the disks of each host that may be overwritten.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('scripts')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('version', 'integer', (c) => c.notNull())
    .addColumn('text', sql`mediumtext`, (c) => c.notNull())
    .addColumn('sha256', 'varchar(64)', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addUniqueConstraint('scripts_reference', ['name', 'version'])
    .execute()
  await db.schema
    .createTable('rollout_scripts')
    .addColumn('rollout_id', 'integer', (c) => c.notNull().references('rollouts.id').onDelete('cascade'))
    .addColumn('reference', name, (c) => c.notNull())
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('version', 'integer', (c) => c.notNull())
    .addColumn('sha256', 'varchar(64)', (c) => c.notNull())
    .addPrimaryKeyConstraint('rollout_scripts_key', ['rollout_id', 'reference'])
    .execute()
  await db.schema
    .createTable('approved_disks')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('host_id', 'integer', (c) => c.notNull().references('hosts.id').onDelete('cascade'))
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('size_bytes', 'bigint', (c) => c.notNull())
    .addColumn('model', name)
    .addColumn('serial', name)
    .addColumn('wwn', name)
    .addColumn('approved_at', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('approved_disks_host').on('approved_disks').column('host_id').execute()
  await db.schema.alterTable('rollouts').addColumn('accept_new_disk', 'integer').execute()
  await approveProven(db.withTables<OldTables>())
}

type OldTables = {
  deployments: { id: number; host_id: number; state: string; proof: string | null; ended_at: number | null }
  approved_disks: {
    host_id: number
    name: string
    size_bytes: number
    serial: string | null
    wwn: string | null
    approved_at: number
  }
}

/** As much of a proof as is needed here. */
type OldProof = { readonly diskSizeBytes: number; readonly diskSerial?: string; readonly diskWwn?: string }

/** The disk that each host's newest deployment has proven may be overwritten again; until now there was only one. */
async function approveProven(db: Kysely<OldTables>): Promise<void> {
  const newest = await db
    .selectFrom('deployments')
    .select((eb) => eb.fn.max('id').as('id'))
    .where('state', '=', 'done')
    .where('proof', 'is not', null)
    .groupBy('host_id')
    .execute()
  for (const { id } of newest) {
    const row = await db.selectFrom('deployments').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
    const { diskSizeBytes, diskSerial, diskWwn } = JSON.parse(row.proof ?? '{}') as OldProof
    const disk = { size_bytes: diskSizeBytes, serial: diskSerial ?? null, wwn: diskWwn ?? null }
    await db
      .insertInto('approved_disks')
      .values({ host_id: row.host_id, name: 'system', ...disk, approved_at: row.ended_at ?? 0 })
      .execute()
  }
}
