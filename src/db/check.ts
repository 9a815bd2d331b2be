// What is wrong with a database, in sentences: its schema, its rows, and what they point at. Changes nothing.
import { type Kysely, sql } from 'kysely'
import { activeStates } from '../model/deployment.ts'
import { appliedMigrations, connect, migrationNames, refuseNewer } from './open.ts'
import { type DatabasePlace, nameOfPlace } from './place.ts'
import type { Schema } from './schema.ts'
import { countOrphans, foreignKeysOf, isMysql, tableNames } from './tables.ts'

/** No step of ours holds a lease for longer. */
const leaseMsMax = 60 * 60_000

export type CheckedDatabase = {
  /** Sentences; none when all is well. */
  readonly problems: readonly string[]
  /** The digests that rows name, by what names them. */
  readonly digests: ReadonlyMap<string, string>
}

/** Looks at the database without bringing it forward. Failure `database-newer` when a newer program has used it. */
export async function checkDatabase(place: DatabasePlace, now: number): Promise<CheckedDatabase> {
  const db = connect(place)
  try {
    const applied = await appliedMigrations(db)
    refuseNewer(nameOfPlace(place), applied)
    const missing = migrationNames.filter((name) => !applied.includes(name))
    if (missing.length > 0) {
      const what = applied.length === 0 ? 'holds nothing yet' : `lacks ${missing.join(', ')}`
      return { problems: [`the schema ${what}: run hades db migrate, or start the service`], digests: new Map() }
    }
    const problems = [...(await ofFile(db)), ...(await ofKeys(db)), ...(await ofRows(db, now))]
    const images = await db.selectFrom('images').select(['name', 'version', 'digest']).execute()
    return { problems, digests: new Map(images.map(({ name, version, digest }) => [digest, `${name}:${version}`])) }
  } finally {
    await db.destroy()
  }
}

/** The file as SQLite sees it; the tables' collation on MariaDB. */
async function ofFile(db: Kysely<Schema>): Promise<string[]> {
  if (!isMysql(db)) {
    const { rows } = await sql<{ integrity_check: string }>`pragma integrity_check(20)`.execute(db)
    return rows.map((row) => row.integrity_check).filter((said) => said !== 'ok')
  }
  const { rows } = await sql<{ name: string; collation: string }>`
    select table_name as name, table_collation as collation from information_schema.tables
    where table_schema = database() and table_type = 'BASE TABLE'`.execute(db)
  return rows
    .filter(({ name, collation }) => !name.startsWith('kysely_') && !/_nopad_bin$|_0900_bin$/.test(collation))
    .map(({ name, collation }) => `table ${name} compares names by ${collation}, and not by every byte`)
}

async function ofKeys(db: Kysely<Schema>): Promise<string[]> {
  const problems: string[] = []
  let count = 0
  for (const table of await tableNames(db)) {
    for (const key of await foreignKeysOf(db, table)) {
      count += 1
      const orphans = await countOrphans(db, key)
      if (orphans > 0)
        problems.push(`${orphans} rows of ${table} name a row of ${key.parent} that there is not (${key.column})`)
    }
  }
  if (count === 0) problems.push('the tables have no foreign keys: this server has left them out')
  return problems
}

async function ofRows(db: Kysely<Schema>, now: number): Promise<string[]> {
  const count = async (query: { execute(): Promise<readonly { n: number }[]> }) => (await query.execute())[0]?.n ?? 0
  const n = sql<number>`count(*)`.as('n')
  const unbootable = await count(
    db
      .selectFrom('hosts')
      .leftJoin('boot_records', 'boot_records.host_id', 'hosts.id')
      .select(n)
      .where('boot_records.host_id', 'is', null),
  )
  const adrift = await count(
    db
      .selectFrom('boot_records')
      .leftJoin('deployments', 'deployments.id', 'boot_records.deployment_id')
      .select(n)
      .where('boot_records.deployment_id', 'is not', null)
      .where((eb) => eb.or([eb('deployments.id', 'is', null), eb('deployments.state', 'not in', activeStates)])),
  )
  const doubled = await db
    .selectFrom('deployments')
    .select(['host_id', n])
    .where('state', 'in', activeStates)
    .groupBy('host_id')
    .having(sql<number>`count(*)`, '>', 1)
    .execute()
  const held = await count(
    db
      .selectFrom('reboots')
      .select(n)
      .where('lease_until', '>', now + leaseMsMax),
  )
  return [
    ...(unbootable > 0 ? [`${unbootable} hosts have no boot record`] : []),
    ...(adrift > 0 ? [`${adrift} boot records belong to deployments that are not under way`] : []),
    ...(doubled.length > 0 ? [`${doubled.length} hosts have more than one deployment under way`] : []),
    ...(held > 0 ? [`${held} leases end in more than an hour: a clock has been set back`] : []),
  ]
}
