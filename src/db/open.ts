// Opens the database: connects, brings the schema forward, refuses one that is newer than this program.
import { Kysely, type Transaction } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { up as first } from './migrations/001-first.ts'
import { up as swarm } from './migrations/002-swarm.ts'
import { up as imagesOfRollouts } from './migrations/003-images-of-rollouts.ts'
import { up as images } from './migrations/004-images.ts'
import { up as boot } from './migrations/005-boot.ts'
import { up as captures } from './migrations/006-captures.ts'
import { up as redeploy } from './migrations/007-redeploy.ts'
import { up as scripts } from './migrations/008-scripts.ts'
import type { Schema } from './schema.ts'
import { sqliteDialect } from './sqlite.ts'

/** The database, or a transaction in it: every function of this folder takes either. */
export type Db = Kysely<Schema> | Transaction<Schema>

/** In order, forward only; a released migration is never edited. */
const migrations: Readonly<Record<string, Pick<Migration, 'up'>>> = {
  '001-first': { up: first },
  '002-swarm': { up: swarm },
  '003-images-of-rollouts': { up: imagesOfRollouts },
  '004-images': { up: images },
  '005-boot': { up: boot },
  '006-captures': { up: captures },
  '007-redeploy': { up: redeploy },
  '008-scripts': { up: scripts },
}

/**
 * Opens the SQLite file at `path` (`:memory:` for a database of the process's own) and migrates it. Throws when the file
 * holds migrations that this program does not know, because a newer HaDeS has used it.
 */
export async function openDatabase(path: string): Promise<Kysely<Schema>> {
  const db = new Kysely<Schema>({ dialect: sqliteDialect(path) })
  try {
    const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ ...migrations }) } })
    const unknown = (await appliedNames(db)).filter((name) => !(name in migrations))
    if (unknown.length > 0) {
      throw new Error(
        `the database ${path} was used by a newer HaDeS (${unknown.join(', ')}): run that version, or restore a backup`,
      )
    }
    const { error } = await migrator.migrateToLatest()
    if (error) throw new Error(`the database ${path} could not be brought to this version's schema`, { cause: error })
    return db
  } catch (error) {
    await db.destroy()
    throw error
  }
}

async function appliedNames(db: Kysely<Schema>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some((table) => table.name === 'kysely_migration')) return []
  const rows = await db
    .withTables<{ kysely_migration: { name: string } }>()
    .selectFrom('kysely_migration')
    .select('name')
    .execute()
  return rows.map((row) => row.name)
}
