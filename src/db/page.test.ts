import fc from 'fast-check'
import type { Kysely } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase } from './open.ts'
import { type Page, type Paged, readPage, slicePage } from './page.ts'
import type { Schema } from './schema.ts'

let db: Kysely<Schema>
const names = Array.from({ length: 1234 }, (_, i) => `n${String(i * 7).padStart(5, '0')}`)

beforeAll(async () => {
  db = await openDatabase(':memory:')
  for (const [i, name] of names.entries()) {
    const host = { name, site: `s${i % 3}`, rack: null, loader: 'auto' as const, setup: null, created_at: i % 10 }
    await db.insertInto('hosts').values(host).execute()
  }
})
afterAll(() => db.destroy())

type Row = { readonly id: number; readonly name: string; readonly created_at: number }
const byAge = [
  { by: 'created_at' as const, of: (row: Row) => row.created_at, descending: true },
  { by: 'name' as const, of: (row: Row) => row.name },
]
const hosts = () => db.selectFrom('hosts').select(['id', 'name', 'created_at'])

/** Every row of a list, page by page, and the sizes of the pages. */
async function walk(limit: number, read: (page: Page) => Promise<Paged<Row>> | Paged<Row>) {
  const rows: Row[] = []
  const sizes: number[] = []
  for (let cursor: string | undefined; ; ) {
    const page = await read({ limit, cursor })
    rows.push(...page.rows)
    sizes.push(page.rows.length)
    cursor = page.nextCursor
    if (cursor === undefined) return { rows, sizes }
  }
}

test('pages of any size give every row once, in the order of the columns, on every way to read them', async () => {
  const all = (await hosts().orderBy('created_at', 'desc').orderBy('name').execute()).map(({ name }) => name)
  const whole = await hosts().execute()
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2000 }), async (size) => {
      const limit = Math.max(size, 100)
      const among = { column: 'id' as const, values: whole.map(({ id }) => id) }
      for (const read of [
        (page: Page) => readPage(hosts(), byAge, page),
        (page: Page) => readPage(hosts(), byAge, page, among),
        (page: Page) => slicePage(whole, byAge, page),
      ]) {
        const { rows, sizes } = await walk(limit, read)
        expect(rows.map(({ name }) => name)).toEqual(all)
        expect(sizes.every((count) => count > 0 && count <= limit)).toBe(true)
      }
    }),
    { numRuns: 5 },
  )
})

test('what is added or removed between two pages shifts no other row', async () => {
  const order = [{ by: 'name' as const, of: (row: Row) => row.name }]
  const first = await readPage(hosts(), order, { limit: 10 })
  await db
    .deleteFrom('hosts')
    .where('name', '=', names[3] ?? '')
    .execute()
  const second = await readPage(hosts(), order, { limit: 10, cursor: first.nextCursor })
  expect(second.rows.map(({ name }) => name)).toEqual(names.slice(10, 20))
})

test('a cursor that is none, or of another order, is refused by its name', async () => {
  const order = [{ by: 'name' as const, of: (row: Row) => row.name }]
  const { nextCursor = '' } = await readPage(hosts(), byAge, { limit: 1 })
  const forged = [nextCursor, 'x', '', 'bm9uc2Vuc2U', Buffer.from('["+",{"a":1}]').toString('base64url')]
  for (const cursor of forged) {
    await expect(readPage(hosts(), order, { limit: 1, cursor })).rejects.toMatchObject({
      code: 'bad-input',
      at: 'cursor',
    })
  }
})
