// Opens the database: connects, brings the schema forward, refuses one that is newer than this program.
import { Kysely, sql, type Transaction } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { Failure } from '../model/failure.ts'
import { mariadbDialect } from './mariadb.ts'
import { up as first } from './migrations/001-first.ts'
import { up as swarm } from './migrations/002-swarm.ts'
import { up as imagesOfRollouts } from './migrations/003-images-of-rollouts.ts'
import { up as images } from './migrations/004-images.ts'
import { up as boot } from './migrations/005-boot.ts'
import { up as captures } from './migrations/006-captures.ts'
import { up as redeploy } from './migrations/007-redeploy.ts'
import { up as scripts } from './migrations/008-scripts.ts'
import { up as users } from './migrations/009-users.ts'
import { up as rolloutPolicy } from './migrations/010-rollout-policy.ts'
import { up as longTexts } from './migrations/011-long-texts.ts'
import { up as proofs } from './migrations/012-proofs.ts'
import { up as events } from './migrations/013-events.ts'
import { up as machine } from './migrations/014-machine.ts'
import { up as operation } from './migrations/015-operation.ts'
import { up as beatsAlone } from './migrations/016-beats-alone.ts'
import { up as discovery } from './migrations/017-discovery.ts'
import { type DatabasePlace, type MariadbPlace, nameOfPlace } from './place.ts'
import { repeated } from './repeat.ts'
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
  '009-users': { up: users },
  '010-rollout-policy': { up: rolloutPolicy },
  '011-long-texts': { up: longTexts },
  '012-proofs': { up: proofs },
  '013-events': { up: events },
  '014-machine': { up: machine },
  '015-operation': { up: operation },
  '016-beats-alone': { up: beatsAlone },
  '017-discovery': { up: discovery },
}

/** How long a transaction is begun again when others get in its way, or the connection is lost before it commits. */
const transactionMs = 30_000

/**
 * Opens the database and migrates it; a string is the path of a SQLite file, or `:memory:` for a database of the process's
 * own. Failure `database-newer` when a newer HaDeS has used it. A transaction of what is returned begins again by itself
 * when the database gave it up for another's sake: its callback must change nothing but the database.
 */
export async function openDatabase(where: DatabasePlace | string): Promise<Kysely<Schema>> {
  const place: DatabasePlace = typeof where === 'string' ? { kind: 'sqlite', path: where } : where
  if (place.kind === 'mariadb') {
    await withMigrating(place, (db) => migrate(db, place))
    return connect(place)
  }
  // The same connection: in memory, another one would be another database.
  const db = connect(place)
  try {
    await migrate(db, place)
    return db
  } catch (error) {
    await db.destroy()
    throw error
  }
}

/** The database as it is, of whatever schema. */
export function connect(place: DatabasePlace): Kysely<Schema> {
  if (place.kind === 'sqlite') return repeating(new Kysely<Schema>({ dialect: sqliteDialect(place.path) }))
  return repeating(new Kysely<Schema>({ dialect: mariadbDialect(place, { isMigrating: false }) }))
}

/** Works on the database by a connection that changes of the schema may go through, and closes it. */
export async function withMigrating<T>(place: DatabasePlace, work: (db: Kysely<Schema>) => Promise<T>): Promise<T> {
  const db =
    place.kind === 'sqlite'
      ? new Kysely<Schema>({ dialect: sqliteDialect(place.path) })
      : new Kysely<Schema>({ dialect: mariadbDialect(place, { isMigrating: true }) })
  try {
    if (place.kind === 'mariadb') await useOurCollation(db, place)
    return await work(db)
  } finally {
    await db.destroy()
  }
}

/** Makes every transaction of `db`, and of what is made of it by `withPlugin`, begin again after a conflict. */
function repeating(db: Kysely<Schema>): Kysely<Schema> {
  const transaction = db.transaction.bind(db)
  db.transaction = () => {
    const builder = transaction()
    const execute = builder.execute.bind(builder)
    builder.execute = (callback) => repeated(() => execute(callback), transactionMs)
    return builder
  }
  const withPlugin = db.withPlugin.bind(db)
  db.withPlugin = (plugin) => repeating(withPlugin(plugin))
  return db
}

/** New tables compare names as SQLite does: by every byte, blanks at the end too. */
async function useOurCollation(db: Kysely<Schema>, place: MariadbPlace): Promise<void> {
  const { rows } = await sql<{ collation: string }>`
    select default_collation_name as collation from information_schema.schemata where schema_name = database()`.execute(
    db,
  )
  const collation = (await isMariadb(db)) ? 'utf8mb4_nopad_bin' : 'utf8mb4_0900_bin'
  if (rows[0]?.collation === collation) return
  const tables = await db.introspection.getTables()
  if (tables.length > 0 && !tables.some((table) => table.name === 'hosts')) {
    throw new Failure('bad-input', `${nameOfPlace(place)} holds tables of another program: give HaDeS its own`, {
      at: '--database',
    })
  }
  await sql`alter database character set utf8mb4 collate ${sql.raw(collation)}`.execute(db)
}

async function isMariadb(db: Kysely<Schema>): Promise<boolean> {
  const { rows } = await sql<{ version: string }>`select version() as version`.execute(db)
  return rows[0]?.version.includes('MariaDB') ?? false
}

/** The names of all migrations of this program, in order. */
export const migrationNames: readonly string[] = Object.keys(migrations)

/** Brings the schema forward, to the migration `to` or the last. Failure `database-newer`. */
export async function migrate(db: Kysely<Schema>, place: DatabasePlace, to?: string): Promise<void> {
  refuseNewer(nameOfPlace(place), await appliedMigrations(db))
  const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ ...migrations }) } })
  const { error } = await (to === undefined ? migrator.migrateToLatest() : migrator.migrateTo(to))
  if (error instanceof Failure) throw error
  if (error) throw new Error(`${nameOfPlace(place)} could not be brought to this version's schema`, { cause: error })
}

/** Failure `database-newer` when `applied` names migrations that this program does not know. */
export function refuseNewer(what: string, applied: readonly string[]): void {
  const unknown = applied.filter((name) => !(name in migrations))
  if (unknown.length === 0) return
  const why = `was used by a newer HaDeS (${unknown.join(', ')})`
  throw new Failure('database-newer', `${what} ${why}: run that version, or restore a backup`)
}

/** The migrations that the database has gone through. */
export async function appliedMigrations(db: Kysely<Schema>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some((table) => table.name === 'kysely_migration')) return []
  const rows = await db
    .withTables<{ kysely_migration: { name: string } }>()
    .selectFrom('kysely_migration')
    .select('name')
    .execute()
  return rows.map((row) => row.name)
}
