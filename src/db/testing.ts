// A database for a test. Vitest's project `unit` runs on SQLite in memory; its project `mariadb` runs the same files once more
// on a MariaDB that the project starts (mariadb-project.ts).
import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import { inject } from 'vitest'
import { Failure } from '../model/failure.ts'
import { openDatabase } from './open.ts'
import type { MariadbPlace } from './place.ts'
import type { Schema } from './schema.ts'

/** The database as a process has it that loses it for its next `statements`. */
export function losing(db: Kysely<Schema>, statements: number): Kysely<Schema> {
  let left = statements
  return db.withPlugin({
    transformQuery({ node }) {
      left -= 1
      if (left >= 0) throw new Failure('database-unavailable', 'the database is away')
      return node
    },
    transformResult: async ({ result }) => result,
  })
}

/** Migrated and emptied again: making the tables takes MariaDB longer than most tests. */
const free: Recycled[] = []

type Recycled = {
  readonly place: MariadbPlace
  /** What the migrations have put into each table. */
  readonly rows: ReadonlyMap<string, readonly Record<string, unknown>[]>
}

/** A migrated database of the test's own; `destroy` it afterwards. */
export async function openTestDatabase(): Promise<Kysely<Schema>> {
  const socketPath = inject('mariadbSocket')
  if (socketPath === undefined) return await openDatabase(':memory:')
  const recycled = free.pop() ?? (await createRecycled(socketPath))
  const db = await openDatabase(recycled.place)
  const destroy = db.destroy.bind(db)
  db.destroy = async () => {
    await restoreRows(db, recycled.rows)
    await destroy()
    free.push(recycled)
  }
  return db
}

async function createRecycled(socketPath: string): Promise<Recycled> {
  const root = {
    kind: 'mariadb',
    nodes: [{ socketPath }],
    user: 'root',
    password: undefined,
    tls: undefined,
  } as const
  const database = `test_${randomBytes(6).toString('hex')}`
  const { createConnection } = await import('mysql2/promise')
  const connection = await createConnection({ socketPath, user: 'root' })
  await connection.query(`create database ${database}`)
  await connection.end()
  const place: MariadbPlace = { ...root, database }
  const db = await openDatabase(place)
  try {
    const rows = new Map<string, Record<string, unknown>[]>()
    for (const { name } of await db.introspection.getTables()) {
      rows.set(name, (await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(db)).rows)
    }
    return { place, rows }
  } finally {
    await db.destroy()
  }
}

/** Empties every table, so that ids begin at 1 again, and puts back what the migrations had put there. */
async function restoreRows(db: Kysely<Schema>, kept: Recycled['rows']): Promise<void> {
  await db.connection().execute(async (one) => {
    await sql`set foreign_key_checks = 0`.execute(one)
    for (const [table, rows] of kept) {
      await sql`truncate table ${sql.table(table)}`.execute(one)
      for (const row of rows) {
        const columns = sql.join(Object.keys(row).map((column) => sql.ref(column)))
        await sql`insert into ${sql.table(table)} (${columns}) values (${sql.join(Object.values(row))})`.execute(one)
      }
    }
  })
}
