// Every earlier schema, with a row in each of its tables, comes forward on either database.
import { type Kysely, sql } from 'kysely'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type BothDatabases, databaseKinds, startBoth } from './both-testing.ts'
import { checkDatabase } from './check.ts'
import { migrate, migrationNames, openDatabase, withMigrating } from './open.ts'
import type { DatabasePlace } from './place.ts'
import type { Schema } from './schema.ts'
import { anyTables, foreignKeysOf, primaryKeyOf, tableNames } from './tables.ts'

// Statements cross to another process, which a busy machine makes long.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

let both: BothDatabases
beforeAll(async () => {
  both = await startBoth()
})
afterAll(async () => {
  await both.close()
})

type Rows = Map<string, readonly Record<string, unknown>[]>

async function allRows(db: Kysely<Schema>): Promise<Rows> {
  const rows: Rows = new Map()
  for (const table of await tableNames(db)) {
    rows.set(table, await anyTables(db).selectFrom(table).selectAll().execute())
  }
  return rows
}

/** One row in every table that has none, of values that fit, pointing at the first row of what it names. */
async function fill(db: Kysely<Schema>): Promise<void> {
  const tables = await db.introspection.getTables()
  let open = tables.map(({ name }) => name)
  while (open.length > 0) {
    const left: string[] = []
    for (const name of open) {
      const keys = await foreignKeysOf(db, name)
      const primary = await primaryKeyOf(db, name)
      const row: Record<string, unknown> = {}
      for (const column of tables.find((table) => table.name === name)?.columns ?? []) {
        // SQLite says of the columns of a primary key that they may be null.
        const isOptional = column.isNullable && !primary.includes(column.name)
        if (isOptional || column.hasDefaultValue || column.name === 'id') continue
        row[column.name] = /int|double/i.test(column.dataType) ? 1 : '{}'
      }
      const parents = keys.filter(({ column }) => column in row)
      let isReady = true
      for (const { column, parent, parentColumn } of parents) {
        const found = await sql<{ id: unknown }>`
          select ${sql.ref(parentColumn)} as id from ${sql.table(parent)} order by 1 desc limit 1`.execute(db)
        if (found.rows[0]) row[column] = found.rows[0].id
        else isReady = false
      }
      if (isReady) await anyTables(db).insertInto(name).values(row).execute()
      else left.push(name)
    }
    if (left.length === open.length) throw new Error(`no row fits into ${left.join(', ')}`)
    open = left
  }
}

/** Columns that a migration drops because nothing reads them. */
const dropped: Readonly<Record<string, readonly string[]>> = { deployments: ['lease_until'] }

function expectKept(before: Rows, after: Rows): void {
  for (const [table, rows] of before) {
    const now = after.get(table) ?? []
    for (const row of rows) {
      const kept = Object.entries(row).filter(([column]) => !dropped[table]?.includes(column))
      expect(now, table).toContainEqual(expect.objectContaining(Object.fromEntries(kept)))
    }
  }
}

for (const kind of databaseKinds) {
  test.each(migrationNames.slice(0, -1))(
    `on ${kind}, a database of %s comes forward with all its rows`,
    async (name) => {
      const place = await both.emptyPlace(kind)
      const before = await withMigrating(place, async (db) => {
        await migrate(db, place, name)
        await fill(db)
        return await allRows(db)
      })
      const db = await openDatabase(place)
      try {
        for (const table of await db.introspection.getTables()) {
          const columns = table.columns.map((column) => column.name)
          expect(columns).not.toEqual(expect.arrayContaining([...(dropped[table.name] ?? [''])]))
        }
        expectKept(before, await allRows(db))
      } finally {
        await db.destroy()
      }
      expect((await checkDatabase(place, Date.now())).problems).toEqual([])
    },
  )
}

test.runIf(databaseKinds.includes('mariadb'))(
  'on MariaDB, migrations that were done and not recorded, because the service was killed, are gone through again',
  async () => {
    const place: DatabasePlace = await both.emptyPlace('mariadb')
    const db = await openDatabase(place)
    await fill(db)
    const before = await allRows(db)
    for (const name of migrationNames.toReversed()) {
      await sql`delete from kysely_migration where name >= ${name}`.execute(db)
      await (await openDatabase(place)).destroy()
      expectKept(before, await allRows(db))
    }
    await db.destroy()
  },
)

test.runIf(databaseKinds.includes('mariadb'))('both databases get the same tables and columns', async () => {
  const shapes: unknown[] = []
  for (const kind of databaseKinds) {
    const db = await openDatabase(await both.emptyPlace(kind))
    const columns: string[] = []
    for (const table of await db.introspection.getTables()) {
      const primary = await primaryKeyOf(db, table.name)
      for (const { name, isNullable } of table.columns) {
        columns.push(`${table.name}.${name}${isNullable && !primary.includes(name) ? ' or null' : ''}`)
      }
    }
    shapes.push(columns.sort((a, b) => a.localeCompare(b)))
    const keys: unknown[] = []
    for (const name of await tableNames(db)) keys.push(await foreignKeysOf(db, name))
    shapes.push(keys)
    await db.destroy()
  }
  expect(shapes.slice(2)).toEqual(shapes.slice(0, 2))
})
