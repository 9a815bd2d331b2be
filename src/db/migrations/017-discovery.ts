// What a machine of no host says of itself, the word that lets it say so once, and the address that it has meanwhile.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  const add = db.schema.alterTable('discovered')
  await add.addColumn('nonce', name).execute()
  await add.addColumn('armed_at', 'bigint').execute()
  await add.addColumn('agent', name).execute()
  await add.addColumn('found', 'text').execute()
  await add.addColumn('inventory', sql`mediumtext`).execute()
  await add.addColumn('inventory_at', 'bigint').execute()
  await add.addColumn('ip', name).execute()
  await add.addColumn('leased_until', 'bigint').execute()
  await db.schema.createIndex('discovered_ip').unique().on('discovered').column('ip').execute()
  await db.schema.createIndex('discovered_inventory').on('discovered').column('inventory_at').execute()
}
