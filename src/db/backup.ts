// A backup is a folder: `manifest.json`, and for each table a file of its rows, one JSON object a line. It is of one moment, and
// can be restored into SQLite and MariaDB alike. What lies outside the database (images, keys) is not in it.
import { createHash } from 'node:crypto'
import { type FileHandle, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Kysely, sql } from 'kysely'
import { Failure } from '../model/failure.ts'
import { appliedMigrations, connect, migrate, migrationNames, refuseNewer, withMigrating } from './open.ts'
import { type DatabasePlace, nameOfPlace } from './place.ts'
import type { Schema } from './schema.ts'
import { settleRestored } from './settle.ts'
import { anyTables, isMysql, primaryKeyOf, tableNames } from './tables.ts'

export type BackupManifest = {
  readonly format: 'hades-backup-1'
  readonly takenAt: number
  /** Which the database had gone through. */
  readonly migrations: readonly string[]
  readonly tables: readonly { readonly name: string; readonly rows: number; readonly sha256: string }[]
}

/** Rows read, and written, at a time. */
const pageRows = 500

/** No line of a backup is longer: the longest texts have 16 MiB, which JSON may write six times as long. */
const lineBytesMax = 256 * 1024 * 1024

/** Writes a backup to `folder`, which must not be there yet. A service may work on the database meanwhile. */
export async function backUp(place: DatabasePlace, folder: string, now: number): Promise<BackupManifest> {
  const draft = `${folder}.part`
  await rm(draft, { recursive: true, force: true })
  await makeFolder(draft)
  try {
    // SQLite has one writer and we would hold it up: a copy is made in one go, and read at leisure.
    const copy = place.kind === 'sqlite' ? join(draft, 'copy.db') : undefined
    if (copy !== undefined) await copySqlite(place, copy)
    const manifest = await dump(copy === undefined ? place : { kind: 'sqlite', path: copy }, draft, now)
    for (const suffix of ['', '-wal', '-shm']) if (copy !== undefined) await rm(copy + suffix, { force: true })
    await writeFile(join(draft, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`, {
      mode: 0o600,
      flush: true,
    })
    // Fails when there is something of this name, unless it is an empty folder.
    await rename(draft, folder)
    return manifest
  } catch (cause) {
    await rm(draft, { recursive: true, force: true })
    if (cause instanceof Failure) throw cause
    throw new Failure('bad-input', `no backup could be written to ${folder}`, { cause, at: 'folder' })
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (cause) {
    throw new Failure('bad-input', `the folder ${folder} cannot be made`, { cause, at: 'folder' })
  }
}

async function copySqlite(place: DatabasePlace, to: string): Promise<void> {
  const db = connect(place)
  try {
    await sql`vacuum into ${to}`.execute(db)
  } finally {
    await db.destroy()
  }
}

async function dump(place: DatabasePlace, folder: string, now: number): Promise<BackupManifest> {
  const db = connect(place)
  try {
    const migrations = await appliedMigrations(db)
    refuseNewer(nameOfPlace(place), migrations)
    if (migrations.length === 0) throw new Failure('bad-input', `${nameOfPlace(place)} holds nothing of HaDeS`)
    const names = await tableNames(db)
    const keys = new Map<string, string[]>()
    for (const name of names) keys.set(name, await primaryKeyOf(db, name))
    // All reads of it see the moment of the first.
    return await db
      .transaction()
      .setIsolationLevel('repeatable read')
      .execute(async (tx) => {
        const tables: { name: string; rows: number; sha256: string }[] = []
        for (const name of names) tables.push(await dumpTable(tx, folder, name, keys.get(name) ?? []))
        return { format: 'hades-backup-1', takenAt: now, migrations, tables }
      })
  } finally {
    await db.destroy()
  }
}

async function dumpTable(db: Kysely<Schema>, folder: string, name: string, key: readonly string[]) {
  const file = await open(join(folder, `${name}.jsonl`), 'wx', 0o600)
  const hash = createHash('sha256')
  let rows = 0
  try {
    let last: readonly unknown[] | undefined
    for (;;) {
      const page = await pageAfter(db, name, key, last)
      const text = page.map((row) => `${JSON.stringify(row)}\n`).join('')
      hash.update(text)
      await file.writeFile(text)
      rows += page.length
      const end = page.at(-1)
      if (page.length < pageRows || end === undefined) break
      last = key.map((column) => end[column])
    }
    await file.sync()
  } finally {
    await file.close()
  }
  return { name, rows, sha256: hash.digest('hex') }
}

async function pageAfter(
  db: Kysely<Schema>,
  table: string,
  key: readonly string[],
  last: readonly unknown[] | undefined,
): Promise<readonly Record<string, unknown>[]> {
  const columns = sql.join(key.map((column) => sql.ref(column)))
  const after = last === undefined ? sql`` : sql`where (${columns}) > (${sql.join([...last])})`
  const query = sql<
    Record<string, unknown>
  >`select * from ${sql.table(table)} ${after} order by ${columns} limit ${sql.lit(pageRows)}`
  return (await query.execute(db)).rows
}

/**
 * Puts a backup into an empty database, or with `replace` into any, brings it to this program's schema, and ends what was under
 * way when it was taken. Failure when the backup is damaged (before anything is changed) or of a newer program.
 */
export async function restore(
  place: DatabasePlace,
  folder: string,
  { replace, now }: { readonly replace: boolean; readonly now: number },
): Promise<{ readonly rows: number; readonly ended: number }> {
  const manifest = await readManifest(folder)
  for (const table of manifest.tables) await verifyTable(folder, table)
  const last = manifest.migrations.at(-1)
  await withMigrating(place, async (db) => {
    await makeRoom(db, place, replace)
    // The rows are of that time's tables; what the later migrations do to rows is done to them.
    await migrate(db, place, last)
    await insertAll(db, folder, manifest)
    await migrate(db, place)
  })
  const db = connect(place)
  try {
    const ended = await settleRestored(db, manifest.takenAt, now)
    return { rows: manifest.tables.reduce((sum, { rows }) => sum + rows, 0), ended }
  } finally {
    await db.destroy()
  }
}

const damaged = (folder: string, why: string, cause?: unknown): Failure =>
  new Failure('bad-input', `the backup ${folder} ${why}`, { cause, at: 'folder' })

async function readManifest(folder: string): Promise<BackupManifest> {
  let manifest: Partial<BackupManifest>
  try {
    manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Partial<BackupManifest>
  } catch (cause) {
    throw damaged(folder, 'has no manifest.json that can be read', cause)
  }
  const { format, migrations, tables } = manifest
  if (format !== 'hades-backup-1' || !Array.isArray(migrations) || !Array.isArray(tables) || migrations.length === 0) {
    throw damaged(folder, 'is of no form that this program knows')
  }
  refuseNewer(`the backup ${folder}`, migrations)
  if (migrations.some((name, index) => name !== migrationNames[index])) {
    throw damaged(folder, 'has gone through migrations that do not follow each other')
  }
  for (const { name } of tables)
    if (!/^[a-z_]+$/.test(name)) throw damaged(folder, 'names a table that there cannot be')
  // The fields that are used have just been looked at.
  return manifest as BackupManifest
}

async function verifyTable(folder: string, { name, sha256 }: BackupManifest['tables'][number]): Promise<void> {
  const hash = createHash('sha256')
  const file = await openTable(folder, name)
  for await (const chunk of file.createReadStream()) hash.update(chunk as Buffer)
  if (hash.digest('hex') !== sha256) throw damaged(folder, `is damaged: ${name}.jsonl is not what was written`)
}

async function openTable(folder: string, name: string): Promise<FileHandle> {
  try {
    return await open(join(folder, `${name}.jsonl`))
  } catch (cause) {
    throw damaged(folder, `lacks ${name}.jsonl`, cause)
  }
}

/** Tables whose rows are people's: while one of them has any, a database is in use. */
const usedTables = ['hosts', 'images', 'rollouts', 'events', 'tasks'] as const

async function makeRoom(db: Kysely<Schema>, place: DatabasePlace, replace: boolean): Promise<void> {
  const names = (await db.introspection.getTables({ withInternalKyselyTables: true })).map(({ name }) => name)
  if (!replace) {
    for (const name of usedTables.filter((name) => names.includes(name))) {
      const row = await sql`select 1 from ${sql.table(name)} limit 1`.execute(db)
      if (row.rows.length === 0) continue
      throw new Failure(
        'already-exists',
        `${nameOfPlace(place)} is not empty (${name}): --replace gives up what it holds`,
      )
    }
  }
  await withoutForeignKeys(db, async (one) => {
    for (const name of names) await sql`drop table ${sql.table(name)}`.execute(one)
  })
}

async function insertAll(db: Kysely<Schema>, folder: string, manifest: BackupManifest): Promise<void> {
  await withoutForeignKeys(db, async (one) => {
    const tables = await tableNames(one)
    // On SQLite one transaction for all of it: a killed restore leaves an empty database. On MariaDB the same.
    await one.transaction().execute(async (tx) => {
      for (const name of tables) await sql`delete from ${sql.table(name)}`.execute(tx)
      for (const { name } of manifest.tables) {
        if (!tables.includes(name)) throw damaged(folder, `has a table ${name} that its migrations do not make`)
        await insertTable(tx, folder, name)
      }
    })
  })
}

async function insertTable(db: Kysely<Schema>, folder: string, name: string): Promise<void> {
  const file = await openTable(folder, name)
  let page: Record<string, unknown>[] = []
  let bytes = 0
  const flush = async (): Promise<void> => {
    if (page.length > 0) await anyTables(db).insertInto(name).values(page).execute()
    page = []
    bytes = 0
  }
  for await (const line of file.readLines()) {
    if (line.length > lineBytesMax) throw damaged(folder, `has a row in ${name}.jsonl that is too long`)
    // The hash of the file was right: this is what backUp has written.
    page.push(JSON.parse(line) as Record<string, unknown>)
    bytes += line.length
    // SQLite takes 32,766 parameters in one statement, MariaDB 16 MiB.
    if (page.length >= pageRows || bytes > 2 ** 20) await flush()
  }
  await flush()
}

/** On one connection on which rows may come, and tables go, in any order. */
async function withoutForeignKeys(db: Kysely<Schema>, work: (one: Kysely<Schema>) => Promise<void>): Promise<void> {
  await db.connection().execute(async (one) => {
    const set = (on: boolean) =>
      isMysql(one)
        ? sql`set foreign_key_checks = ${sql.lit(on ? 1 : 0)}`.execute(one)
        : sql`pragma foreign_keys = ${sql.raw(on ? 'on' : 'off')}`.execute(one)
    await set(false)
    try {
      await work(one)
    } finally {
      await set(true)
    }
  })
}
