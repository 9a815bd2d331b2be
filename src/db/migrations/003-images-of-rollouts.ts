// A setup may bring several images: what each reference meant when a rollout began.
import { type Kysely, sql } from 'kysely'

const name = 'varchar(190)'

export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('rollout_images')
    .addColumn('rollout_id', 'integer', (c) => c.notNull().references('rollouts.id').onDelete('cascade'))
    .addColumn('position', 'integer', (c) => c.notNull())
    .addColumn('name', name, (c) => c.notNull())
    .addColumn('version', name, (c) => c.notNull())
    .addColumn('digest', 'varchar(64)', (c) => c.notNull())
    .addColumn('stored_bytes', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('rollout_images_key', ['rollout_id', 'position'])
    .execute()
  await db.schema.createIndex('rollout_images_digest').on('rollout_images').column('digest').execute()
  // Until now each setup had one.
  await sql`
    insert into rollout_images (rollout_id, position, name, version, digest, stored_bytes)
    select distinct deployments.rollout_id, 0, images.name, images.version, images.digest, images.stored_bytes
    from deployments
    inner join setup_images on setup_images.setup_id = deployments.setup_id
    inner join images on images.name = setup_images.image_name and images.version = setup_images.image_version
    where images.digest = deployments.image_digest`.execute(db)
}
