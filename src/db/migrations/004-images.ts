// What is known of an image beside its digest: its kind, its free space, what people say of it, whether it may go, and who signed it.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  // One column a statement: SQLite takes no more. Images of before are disks of which nothing was left out.
  await db.schema
    .alterTable('images')
    .addColumn('kind', name, (c) => c.notNull().defaultTo('disk'))
    .execute()
  await db.schema
    .alterTable('images')
    .addColumn('free_bytes', 'bigint', (c) => c.notNull().defaultTo(0))
    .execute()
  await db.schema
    .alterTable('images')
    .addColumn('is_protected', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
  await db.schema.alterTable('images').addColumn('owner', name).execute()
  await db.schema.alterTable('images').addColumn('description', sql`text`).execute()
  await db.schema.alterTable('images').addColumn('contents', sql`text`).execute()
  await db.schema.alterTable('images').addColumn('signature', name).execute()
}
