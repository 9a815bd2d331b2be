import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kysely } from 'kysely'
import { Migrator } from 'kysely/migration'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { approveDisk, approvedDisksOf } from './approved-disks.ts'
import { bootByMac } from './boot.ts'
import { addRollout, findDeployment, findRollout, newestDeployments, recordProgress } from './deployments.ts'
import { addEvent, pageOfEvents } from './events.ts'
import { addHost, findHosts, interfacesOf } from './hosts.ts'
import { findImage } from './images.ts'
import { up as first } from './migrations/001-first.ts'
import { openDatabase } from './open.ts'
import { listSites, setSiteLimits } from './sites.ts'
import { sqliteDialect } from './sqlite.ts'
import { openTestDatabase } from './testing.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-db-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** A database as the first release left it, with a host whose rollout is under way. */
async function writeFirstRelease(path: string): Promise<void> {
  const db = new Kysely<Record<string, Record<string, unknown>>>({ dialect: sqliteDialect(path) })
  const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ '001-first': { up: first } }) } })
  expect((await migrator.migrateToLatest()).error).toBeUndefined()
  const rows: readonly (readonly [string, Record<string, unknown>])[] = [
    ['hosts', { id: 1, name: 'n1', site: 'turin', loader: 'auto', created_at: 1 }],
    ['setups', { id: 1, name: 'demo', version: 1, xml: '<setup/>', created_at: 1 }],
    [
      'images',
      {
        id: 1,
        name: 'debian',
        version: '12',
        digest: 'd',
        size_bytes: 3,
        data_bytes: 2,
        stored_bytes: 1,
        published_at: 4,
      },
    ],
    ['rollouts', { id: 1, setup_id: 1, started_at: 5 }],
    [
      'deployments',
      {
        id: 1,
        rollout_id: 1,
        host_id: 1,
        setup_id: 1,
        image_digest: 'd',
        state: 'deploying',
        state_since: 6,
        started_at: 5,
        due_at: 7,
        attempt: 1,
        step: 'transfer',
        done_bytes: 5,
        total_bytes: 10,
        bytes_per_second: 2.5,
        history: '[{"state":"queued","at":5}]',
        lease_until: 0,
      },
    ],
    ['boot_records', { host_id: 1, target: 'scout', default_target: 'local', deployment_id: 1, changed_at: 5 }],
    ['interfaces', { id: 1, host_id: 1, mac: '52:54:00:00:00:01' }],
    ['events', { id: 1, at: 5, source: 'control', kind: 'rollout-started', host_id: 1, deployment_id: 1, text: 'x' }],
  ]
  for (const [table, row] of rows) await db.insertInto(table).values(row).execute()
  await db.destroy()
}

test('a database of the first release comes forward with all that is in it, and a rollout under way goes on', async () => {
  const path = join(folder, 'hades.db')
  await writeFirstRelease(path)
  const db = await openDatabase(path)
  try {
    expect(await findRollout(db, 1)).toEqual({
      id: 1,
      setup_id: 1,
      started_at: 5,
      engine: null,
      egress_bytes_per_second: null,
      ingress_bytes_per_second: null,
      linger_seconds: null,
      redeploy: null,
      accept_new_disk: null,
      state: 'running',
      state_reason: null,
      turn: 0,
      policy: null,
      excluded: null,
    })
    expect(await bootByMac(db, '52:54:00:00:00:01')).toMatchObject({
      record: { target: 'scout', defaultTarget: 'local', isOnce: false, askedAt: null },
      deployment: { id: 1, state: 'deploying' },
    })
    const progress = { step: 'transfer', doneBytes: 6, totalBytes: 10, bytesPerSecond: 1 } as const
    expect(await findDeployment(db, 1)).toMatchObject({ host: 'n1', done_bytes: 5, transfer: null, track: null })
    const report = { ...progress, sequence: undefined, transfer: '{}', track: undefined }
    expect(await recordProgress(db, await findDeployment(db, 1), report, 8)).toBe(true)
    expect(await findDeployment(db, 1)).toMatchObject({ done_bytes: 6, transfer: '{}', track: null })
    const kept = {
      digest: 'd',
      kind: 'disk',
      free_bytes: 0,
      is_protected: 0,
      owner: null,
      description: null,
      contents: null,
    }
    expect(await findImage(db, { name: 'debian', version: '12' })).toMatchObject(kept)
    expect((await pageOfEvents(db, {}, { limit: 10 })).rows.map(({ text }) => text)).toEqual(['x'])
    expect(await listSites(db)).toEqual([
      { name: 'turin', hosts: 1, egress_bytes_per_second: null, ingress_bytes_per_second: null },
    ])
  } finally {
    await db.destroy()
  }
  // A second start finds nothing more to do.
  await (await openDatabase(path)).destroy()
})

test('the disk that the newest deployment of a host has proven may be overwritten after the upgrade', async () => {
  const path = join(folder, 'hades.db')
  await writeFirstRelease(path)
  const old = new Kysely<Record<string, Record<string, unknown>>>({ dialect: sqliteDialect(path) })
  const [first] = await old.selectFrom('deployments').selectAll().execute()
  const proof = (diskSerial: string) => JSON.stringify({ diskPath: '/dev/sda', diskSizeBytes: 5, diskSerial })
  for (const [id, serial] of [
    [2, 'OLD'],
    [3, 'A1'],
  ] as const) {
    const row = { ...first, id, state: 'done', ended_at: id, proof: proof(serial) }
    await old.insertInto('deployments').values(row).execute()
  }
  await old.destroy()
  const db = await openDatabase(path)
  try {
    expect(await approvedDisksOf(db, [1])).toEqual(new Map([[1, [{ name: 'system', sizeBytes: 5, serial: 'A1' }]]]))
  } finally {
    await db.destroy()
  }
})

test('rollouts of before have the states that their deployments tell of after the upgrade', async () => {
  const path = join(folder, 'hades.db')
  await writeFirstRelease(path)
  const old = new Kysely<Record<string, Record<string, unknown>>>({ dialect: sqliteDialect(path) })
  const [first] = await old.selectFrom('deployments').selectAll().execute()
  const ends = [['done'], ['done', 'failed'], ['failed'], ['cancelled'], ['done', 'queued']]
  for (const [index, states] of ends.entries()) {
    const rollout_id = index + 2
    await old.insertInto('rollouts').values({ id: rollout_id, setup_id: 1, started_at: 5 }).execute()
    for (const [n, state] of states.entries()) {
      const row = { ...first, id: rollout_id * 10 + n, rollout_id, state }
      await old.insertInto('deployments').values(row).execute()
    }
  }
  await old.destroy()
  const db = await openDatabase(path)
  try {
    const rows = await db.selectFrom('rollouts').select('state').orderBy('id').execute()
    const states = rows.map(({ state }) => state)
    expect(states).toEqual(['running', 'succeeded', 'partly-failed', 'failed', 'cancelled', 'running'])
  } finally {
    await db.destroy()
  }
})

test('no host remembers more disks than the newest 64', async () => {
  const db = await openTestDatabase()
  try {
    const host = { name: 'n1', loader: 'auto', defaultTarget: 'local', interfaces: [], powerMethods: [] } as const
    const id = await addHost(db, host, 1)
    for (let i = 0; i < 66; i += 1) await approveDisk(db, id, { name: 'system', sizeBytes: i }, 1)
    const disks = (await approvedDisksOf(db, [id])).get(id) ?? []
    expect([disks.length, disks[0]?.sizeBytes, disks.at(-1)?.sizeBytes]).toEqual([64, 2, 65])
  } finally {
    await db.destroy()
  }
})

test('a database that a newer program has used is refused', async () => {
  const path = join(folder, 'hades.db')
  const db = await openDatabase(path)
  const migrations = db.withTables<{ kysely_migration: { name: string; timestamp: string } }>()
  await migrations.insertInto('kysely_migration').values({ name: '999-future', timestamp: '' }).execute()
  await db.destroy()
  await expect(openDatabase(path)).rejects.toThrow(/999-future/)
})

test('twelve hundred hosts are looked up like one', async () => {
  const db = await openTestDatabase()
  try {
    const names = Array.from({ length: 1200 }, (_, i) => `n${String(i).padStart(4, '0')}`)
    const hostIds: number[] = []
    await db.transaction().execute(async (tx) => {
      for (const [i, name] of names.entries()) {
        const mac = `52:54:00:00:${Math.floor(i / 256)
          .toString(16)
          .padStart(2, '0')}:${(i % 256).toString(16).padStart(2, '0')}`
        const host = { name, loader: 'auto', defaultTarget: 'local', interfaces: [{ mac }], powerMethods: [] } as const
        hostIds.push(await addHost(tx, host, 1))
      }
      for (const hostId of hostIds) await addEvent(tx, { source: 'test', kind: 'k', text: '', hostId }, 1)
      await tx.insertInto('setups').values({ name: 's', version: 1, xml: '', created_at: 1 }).execute()
      const image = { name: 'i', version: '1', digest: 'd', stored_bytes: 1 }
      const policy = { engine: 'swarm', lingerSeconds: 0, egressBytesPerSecond: 5000 } as const
      const rollout = {
        setupId: 1,
        images: [image] as const,
        hostIds,
        policy: { ...policy, ingressBytesPerSecond: undefined },
      }
      await addRollout(tx, rollout, 1)
    })
    expect((await findHosts(db, names)).map(({ name }) => name)).toEqual(names)
    expect((await interfacesOf(db, hostIds)).size).toBe(1200)
    expect((await newestDeployments(db, hostIds)).size).toBe(1200)
    expect(await newestDeployments(db, [])).toEqual(new Map())
    // The newest, or the oldest, of all of them, not of each part of the list.
    const ids = async (newest: boolean) =>
      (await pageOfEvents(db, { hostIds: hostIds.toReversed(), newest }, { limit: 3 })).rows.map(({ id }) => id)
    expect(await ids(false)).toEqual([1, 2, 3])
    expect(await ids(true)).toEqual([1198, 1199, 1200])
  } finally {
    await db.destroy()
  }
})

test('the limits of a site replace the old ones', async () => {
  const db = await openTestDatabase()
  try {
    await setSiteLimits(db, 'turin', { egressBytesPerSecond: 5000, ingressBytesPerSecond: 6000 })
    await setSiteLimits(db, 'turin', { egressBytesPerSecond: undefined, ingressBytesPerSecond: 7000 })
    const turin = { name: 'turin', hosts: 0, egress_bytes_per_second: null, ingress_bytes_per_second: 7000 }
    expect(await listSites(db)).toEqual([turin])
  } finally {
    await db.destroy()
  }
})
