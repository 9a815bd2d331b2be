// Setups: documents, each change a new version from 1; old versions stay because deployments point at them. Version 0 is our
// own: captures point at it.
import type { Selectable } from 'kysely'
import { Failure } from '../model/failure.ts'
import type { ImageReference } from '../model/image.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { SetupRow } from './schema.ts'

export type StoredSetup = Selectable<SetupRow>

/** Stores the next version of a setup. Call it in a transaction. */
export async function putSetup(
  db: Db,
  setup: { readonly name: string; readonly xml: string; readonly images: readonly ImageReference[] },
  now: number,
): Promise<StoredSetup> {
  const newest = await newestSetup(db, setup.name)
  const version = (newest?.version ?? 0) + 1
  const row = await db
    .insertInto('setups')
    .values({ name: setup.name, version, xml: setup.xml, created_at: now })
    .executeTakeFirstOrThrow()
  const id = Number(row.insertId)
  for (const image of setup.images) {
    await db
      .insertInto('setup_images')
      .values({ setup_id: id, image_name: image.name, image_version: image.version })
      .execute()
  }
  return { id, name: setup.name, version, xml: setup.xml, created_at: now }
}

async function newestSetup(db: Db, name: string): Promise<StoredSetup | undefined> {
  return await db
    .selectFrom('setups')
    .selectAll()
    .where('name', '=', name)
    .where('version', '>', 0)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** A setup by `name` (newest) or `name:version`. Failure `unknown-setup`. */
export async function findSetup(db: Db, reference: string): Promise<StoredSetup> {
  const [name = '', version] = reference.split(':')
  const setup =
    version === undefined
      ? await newestSetup(db, name)
      : await db
          .selectFrom('setups')
          .selectAll()
          .where('name', '=', name)
          .where('version', '=', Number(version))
          .where('version', '>', 0)
          .executeTakeFirst()
  if (!setup) throw new Failure('unknown-setup', `there is no setup ${reference}`, { at: 'setup' })
  return setup
}

/** The setup with this id, which a row of ours points at. */
export async function setupById(db: Db, id: number): Promise<StoredSetup> {
  return await db.selectFrom('setups').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
}

/** Setups in every version, or in their newest only; all or those of one name. */
export async function pageOfSetups(
  db: Db,
  { name, versions }: { readonly name?: string | undefined; readonly versions: boolean },
  page: Page,
): Promise<Paged<StoredSetup>> {
  const query = db
    .selectFrom('setups')
    .selectAll('setups')
    .where('setups.version', '>', 0)
    .$if(name !== undefined, (setups) => setups.where('setups.name', '=', name ?? ''))
    .$if(!versions, (setups) =>
      setups.where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom('setups as newer')
              .select('newer.id')
              .whereRef('newer.name', '=', 'setups.name')
              .whereRef('newer.version', '>', 'setups.version'),
          ),
        ),
      ),
    )
  const order = [
    { by: 'setups.name' as const, of: (setup: StoredSetup) => setup.name },
    { by: 'setups.version' as const, of: (setup: StoredSetup) => setup.version, descending: true },
  ]
  return await readPage(query, order, page)
}

/** Each setup in its newest version. */
export async function listSetups(db: Db): Promise<StoredSetup[]> {
  const rows = await db
    .selectFrom('setups')
    .selectAll()
    .where('version', '>', 0)
    .orderBy('name')
    .orderBy('version', 'desc')
    .execute()
  return rows.filter((row, index) => rows[index - 1]?.name !== row.name)
}
