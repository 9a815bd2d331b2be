// What a MariaDB, its network and its other clients do to a statement, with a real server that is killed, filled and locked.
import { type Kysely, sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { databaseKinds } from './both-testing.ts'
import { isDuplicate } from './errors.ts'
import { addEvent, pageOfEvents } from './events.ts'
import { addHost, findHosts } from './hosts.ts'
import { startMariadb, type TestServer } from './mariadb-testing.ts'
import { openDatabase } from './open.ts'
import type { MariadbPlace } from './place.ts'
import type { Schema } from './schema.ts'

// Statements cross to another process, which a busy machine makes long.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

const host = (name: string) =>
  ({ name, loader: 'auto', defaultTarget: 'local', interfaces: [], powerMethods: [] }) as const

describe.runIf(databaseKinds.includes('mariadb'))('MariaDB', () => {
  let server: TestServer
  let place: MariadbPlace
  let db: Kysely<Schema>
  beforeAll(async () => {
    server = await startMariadb()
    place = await server.createDatabase()
    db = await openDatabase(place)
  }, 120_000)
  afterAll(async () => {
    await db.destroy()
    await server.close()
  })

  test('names are compared by every byte: case, accents and blanks at the end', async () => {
    for (const name of ['n', 'N', 'n ', 'ñ']) await addHost(db, host(name), 1)
    expect((await findHosts(db, ['n '])).map(({ name }) => name)).toEqual(['n '])
    expect((await findHosts(db, undefined)).map(({ name }) => name)).toEqual(['N', 'n', 'n ', 'ñ'])
  })

  test('a value that does not fit is refused, and none is cut', async () => {
    await expect(addHost(db, host('x'.repeat(191)), 1)).rejects.toThrow(/too long/i)
    const xml = 'é'.repeat(262_144)
    await db.insertInto('setups').values({ name: 'long', version: 1, xml, created_at: 1 }).execute()
    const row = await db.selectFrom('setups').select('xml').where('name', '=', 'long').executeTakeFirstOrThrow()
    expect(row.xml === xml).toBe(true)
  })

  test('an update that changes nothing still counts the rows that it found', async () => {
    const same = await db.updateTable('hosts').set({ name: 'n' }).where('name', '=', 'n').executeTakeFirst()
    expect(same.numUpdatedRows).toBe(1n)
  })

  test('a duplicate is told from other errors', async () => {
    const error: unknown = await db
      .insertInto('hosts')
      .values({ name: 'n', loader: 'auto', created_at: 1 })
      .execute()
      .catch((error: unknown) => error)
    expect(isDuplicate(error)).toBe(true)
  })

  test('two transactions that lock each other both end well', async () => {
    const [a, b] = [await addHost(db, host('lock-a'), 1), await addHost(db, host('lock-b'), 1)]
    let begun = 0
    let release = (): void => {}
    const bothBegun = new Promise<void>((resolve) => {
      release = resolve
    })
    const add = (first: number, second: number) =>
      db.transaction().execute(async (tx) => {
        const bump = (id: number) =>
          tx
            .updateTable('hosts')
            .set((eb) => ({ created_at: eb('created_at', '+', 1) }))
            .where('id', '=', id)
            .execute()
        await bump(first)
        begun += 1
        if (begun >= 2) release()
        await bothBegun
        await bump(second)
      })
    await Promise.all([add(a, b), add(b, a)])
    // Three times begun: one of them had to do its work again.
    expect(begun).toBe(3)
    expect((await findHosts(db, ['lock-a', 'lock-b'])).map((row) => row.created_at)).toEqual([3, 3])
  })

  test('of ten that add the same host at once one does, and the others are told that it is there', async () => {
    const added = await Promise.allSettled(
      Array.from({ length: 10 }, () => db.transaction().execute((tx) => addHost(tx, host('wanted'), 1))),
    )
    expect(added.filter(({ status }) => status === 'fulfilled').length).toBe(1)
    for (const result of added) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'already-exists' })
    }
  })

  test('more callers than connections wait for their turn', async () => {
    const rows = await Promise.all(
      Array.from({ length: 200 }, () => sql<{ n: number }>`select sleep(0.01) as n`.execute(db)),
    )
    expect(rows.length).toBe(200)
  })

  test('the server is killed and comes back: whoever asks meanwhile waits, and a transaction begins again', async () => {
    let tries = 0
    await server.kill('SIGKILL')
    const asked = findHosts(db, ['n'])
    const changed = db.transaction().execute(async (tx) => {
      tries += 1
      await addEvent(tx, { source: 'test', kind: 'k', text: 'once' }, 1)
      if (tries === 1) await server.kill('SIGKILL').then(() => server.start())
      await addEvent(tx, { source: 'test', kind: 'k', text: 'twice' }, 2)
    })
    await server.start()
    expect((await asked).length).toBe(1)
    await changed
    expect(tries).toBe(2)
    expect((await pageOfEvents(db, {}, { limit: 10 })).rows.map(({ text }) => text)).toEqual(['once', 'twice'])
  }, 120_000)

  test('a change whose answer is lost is not made again, and its caller is told', async () => {
    const slow = sql`update hosts set created_at = sleep(30) where name = 'n'`.execute(db)
    const failed = expect(slow).rejects.toMatchObject({
      code: 'database-unavailable',
      message: expect.stringMatching(/may have been made/),
    })
    const sleeping = sql<{
      n: number
    }>`select count(*) as n from information_schema.processlist where info like 'update hosts%'`
    await expect.poll(async () => (await sleeping.execute(db)).rows[0]?.n, { timeout: 10_000 }).toBe(1)
    await server.kill('SIGKILL')
    await failed
    await server.start()
  }, 120_000)

  test('a server that goes away and stays away is a failure for who had a connection to it, and no connection is counted twice', async () => {
    const many = (count: number) =>
      Promise.allSettled(Array.from({ length: count }, () => sql`select sleep(0.3)`.execute(db)))
    await many(8)
    await server.kill('SIGKILL')
    for (const result of await many(8)) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { code: 'database-unavailable', message: expect.stringMatching(/cannot be reached/) },
      })
    }
    await server.start()
    await many(60)
    const [most] = (await server.execute(`show status like 'Max_used_connections'`)) as { Value: string }[]
    // The pool's own, and the administrator's.
    expect(Number(most?.Value)).toBeLessThanOrEqual(17)
  }, 180_000)

  test('a server that is not there is a failure that names it, after a while, and so is a wrong password', async () => {
    const nowhere: MariadbPlace = { ...place, nodes: [{ host: '127.0.0.1', port: 1 }] }
    await expect(openDatabase(nowhere)).rejects.toMatchObject({
      code: 'database-unavailable',
      message: expect.stringMatching(/127\.0\.0\.1:1 cannot be reached/),
    })
    await server.execute(`create user 'hades'@'localhost' identified by 'right'`)
    const started = performance.now()
    await expect(openDatabase({ ...place, user: 'hades' })).rejects.toMatchObject({ code: 'database-unavailable' })
    expect(performance.now() - started).toBeLessThan(10_000)
  }, 60_000)

  test('a database that is read-only or full says so, and is well again when it is', async () => {
    await server.execute(`create or replace user 'plain'@'localhost'`)
    await server.execute(`grant all on ${place.database}.* to 'plain'@'localhost'`)
    const plain = await openDatabase({ ...place, user: 'plain' })
    await server.execute('set global read_only = 1')
    const add = () => addEvent(plain, { source: 'test', kind: 'k', text: 'x' }, 1)
    await expect(add()).rejects.toMatchObject({
      code: 'database-unavailable',
      message: expect.stringMatching(/read-only/),
    })
    await server.execute('set global read_only = 0')
    await add()
    await sql`create table small (t varchar(200)) engine = memory`.execute(plain)
    const fill = async () => {
      for (let i = 0; i < 20_000; i += 1) {
        await sql`insert into small select repeat('x', 200) from information_schema.collations`.execute(plain)
      }
    }
    await server.execute('set global max_heap_table_size = 16384')
    const small = await openDatabase({ ...place, user: 'plain' })
    await expect(fill()).rejects.toMatchObject({ code: 'database-unavailable', message: expect.stringMatching(/full/) })
    await small.destroy()
    await plain.destroy()
  }, 120_000)

  test('tables of another program are left alone', async () => {
    const other = await server.createDatabase()
    await server.execute(`create table ${other.database}.customers (id int)`)
    await expect(openDatabase(other)).rejects.toMatchObject({ code: 'bad-input' })
  })
})

test('SQLite that is read-only, full or no database says so', async () => {
  const db = await openDatabase(':memory:')
  const add = (text: string) => addEvent(db, { source: 'test', kind: 'k', text }, 1)
  await sql`pragma query_only = on`.execute(db)
  await expect(add('x')).rejects.toMatchObject({
    code: 'database-unavailable',
    message: expect.stringMatching(/read-only/),
  })
  await sql`pragma query_only = off`.execute(db)
  await sql`pragma max_page_count = 1`.execute(db)
  const fill = async () => {
    for (let i = 0; i < 1000; i += 1) await add('x'.repeat(2000))
  }
  await expect(fill()).rejects.toMatchObject({ code: 'database-unavailable', message: expect.stringMatching(/full/) })
  await db.destroy()
  await expect(openDatabase('/dev/null/hades.db')).rejects.toMatchObject({ code: 'database-unavailable' })
})
