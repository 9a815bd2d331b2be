import { appendFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Kysely } from 'kysely'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { defaultTransferPolicy } from '../model/transfer-policy.ts'
import { backUp, restore } from './backup.ts'
import { bootRecordsOf, setBootTarget } from './boot.ts'
import { type BothDatabases, databaseKinds, startBoth } from './both-testing.ts'
import { checkDatabase } from './check.ts'
import { addRollout, findDeployment } from './deployments.ts'
import { addEvent, pageOfEvents } from './events.ts'
import { addHost, findHosts } from './hosts.ts'
import { connect, migrate, openDatabase, withMigrating } from './open.ts'
import type { Schema } from './schema.ts'
import { addTask, findTask } from './tasks.ts'

// Statements cross to another process, which a busy machine makes long.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

let both: BothDatabases
let folders = 0
beforeAll(async () => {
  both = await startBoth()
})
afterAll(async () => {
  await both.close()
})

const newFolder = (): string => {
  folders += 1
  return join(both.folder, `backup-${folders}`)
}

/** A host whose deployment is under way, with text that is hard to carry. */
async function populate(db: Kysely<Schema>): Promise<number> {
  const host = { name: 'n1', loader: 'auto', defaultTarget: 'local', interfaces: [], powerMethods: [] } as const
  const hostId = await addHost(db, host, 1)
  const setup = await db
    .insertInto('setups')
    .values({ name: 's', version: 1, xml: 'é\n\\"😀 ', created_at: 1 })
    .executeTakeFirstOrThrow()
  const setupId = Number(setup.insertId)
  const { deployments } = await addRollout(
    db,
    { setupId, images: [], hostIds: [hostId], policy: defaultTransferPolicy },
    1,
  )
  const deploymentId = deployments.get(hostId) ?? 0
  await setBootTarget(db, hostId, { target: 'scout', deploymentId }, 1)
  await addTask(db, { kind: 'publish-image', subject: 'x', owner: 'me' }, 1)
  for (let i = 0; i < 1200; i += 1) await addEvent(db, { source: 'test', kind: 'k', text: `event ${i}` }, i)
  return deploymentId
}

const pairs = databaseKinds.flatMap((from) => databaseKinds.map((to) => [from, to] as const))

test.each(pairs)('a backup of %s is restored into %s, and what was under way in it has ended', async (from, to) => {
  const source = await both.emptyPlace(from)
  const db = await openDatabase(source)
  const deploymentId = await populate(db)
  const folder = newFolder()
  const manifest = await backUp(source, folder, 5)
  await db.destroy()
  expect(manifest.tables).toContainEqual(expect.objectContaining({ name: 'events', rows: 1200 }))
  expect((await stat(folder)).mode & 0o077).toBe(0)
  const target = await both.emptyPlace(to)
  expect(await restore(target, folder, { replace: false, now: 9 })).toMatchObject({ ended: 1 })
  const restored = await openDatabase(target)
  try {
    const row = await findDeployment(restored, deploymentId)
    expect(row).toMatchObject({ state: 'failed', host: 'n1', ended_at: 9 })
    expect(JSON.parse(row.failure ?? '')).toMatchObject({ code: 'cancelled' })
    expect((await bootRecordsOf(restored, [row.host_id])).get(row.host_id)).toMatchObject({
      target: 'local',
      deploymentId: null,
    })
    expect(await findTask(restored, 1)).toMatchObject({ state: 'failed' })
    expect(await restored.selectFrom('setups').select('xml').where('name', '=', 's').execute()).toEqual([
      { xml: 'é\n\\"😀 ' },
    ])
    expect((await pageOfEvents(restored, {}, { limit: 5000 })).rows.length).toBe(1202)
    // New rows get ids of their own.
    await addEvent(restored, { source: 'test', kind: 'k', text: 'after' }, 10)
    expect((await checkDatabase(target, 10)).problems).toEqual([])
  } finally {
    await restored.destroy()
  }
})

test.each(databaseKinds)('a backup of an older schema is restored into %s and comes forward', async (kind) => {
  const old = await both.emptyPlace('sqlite')
  await withMigrating(old, (db) => migrate(db, old, '001-first'))
  const folder = newFolder()
  await backUp(old, folder, 5)
  const target = await both.emptyPlace(kind)
  await restore(target, folder, { replace: false, now: 9 })
  expect((await checkDatabase(target, 10)).problems).toEqual([])
})

test.each(databaseKinds)('a %s that is in use is not restored into, unless that is asked for', async (kind) => {
  const source = await both.emptyPlace('sqlite')
  await (await openDatabase(source)).destroy()
  const folder = newFolder()
  await backUp(source, folder, 5)
  const target = await both.emptyPlace(kind)
  const db = await openDatabase(target)
  await populate(db)
  await db.destroy()
  await expect(restore(target, folder, { replace: false, now: 9 })).rejects.toMatchObject({ code: 'already-exists' })
  await restore(target, folder, { replace: true, now: 9 })
  const after = connect(target)
  expect(await findHosts(after, undefined)).toEqual([])
  await after.destroy()
})

test('a damaged backup, one of a newer program and what is none are refused before anything is changed', async () => {
  const source = await both.emptyPlace('sqlite')
  const db = await openDatabase(source)
  await populate(db)
  await db.destroy()
  const folder = newFolder()
  const manifest = await backUp(source, folder, 5)
  const refused = async (code: string) => {
    await expect(restore(source, folder, { replace: true, now: 9 })).rejects.toMatchObject({ code })
    const after = connect(source)
    expect((await findHosts(after, undefined)).map(({ name }) => name)).toEqual(['n1'])
    await after.destroy()
  }
  const write = (change: object) => writeFile(join(folder, 'manifest.json'), JSON.stringify({ ...manifest, ...change }))
  await write({ migrations: [...manifest.migrations, '999-future'] })
  await refused('database-newer')
  await write({ tables: [{ name: '../../etc/passwd', rows: 1, sha256: '' }] })
  await refused('bad-input')
  await write({ format: 'other' })
  await refused('bad-input')
  await write({})
  await appendFile(join(folder, 'events.jsonl'), '{}\n')
  await refused('bad-input')
})

test('a backup replaces no other, leaves nothing half-done, and keeps no copy of the database', async () => {
  const source = await both.emptyPlace('sqlite')
  await (await openDatabase(source)).destroy()
  const folder = newFolder()
  await backUp(source, folder, 5)
  await expect(backUp(source, folder, 6)).rejects.toMatchObject({ code: 'bad-input' })
  expect((await readdir(both.folder)).filter((name) => name.endsWith('.part'))).toEqual([])
  expect((await readdir(folder)).filter((name) => !name.endsWith('.jsonl'))).toEqual(['manifest.json'])
  expect(JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8'))).toMatchObject({ takenAt: 5 })
  const none = newFolder()
  await mkdir(none)
  await expect(restore(source, none, { replace: true, now: 9 })).rejects.toMatchObject({ code: 'bad-input' })
})

test.each(databaseKinds)('what is wrong with the rows of a %s is told in sentences', async (kind) => {
  const place = await both.emptyPlace(kind)
  expect((await checkDatabase(place, 10)).problems).toEqual([expect.stringMatching(/holds nothing yet/)])
  const db = await openDatabase(place)
  await populate(db)
  await db.deleteFrom('boot_records').execute()
  await db.updateTable('deployments').set({ attempt: 1 }).execute()
  const [row] = await db.selectFrom('deployments').selectAll().execute()
  if (row)
    await db
      .insertInto('deployments')
      .values({ ...row, id: 77 })
      .execute()
  await db.destroy()
  expect((await checkDatabase(place, 10)).problems).toEqual([
    '1 hosts have no boot record',
    '1 hosts have more than one deployment under way',
  ])
})
