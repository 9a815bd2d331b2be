// The timeline while another connection holds a lock of the database: on SQLite another process, on MariaDB another session.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type Kysely, sql } from 'kysely'
import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type BothDatabases, databaseKinds, startBoth } from '../db/both-testing.ts'
import { pageOfEvents } from '../db/events.ts'
import { addHost } from '../db/hosts.ts'
import { openDatabase } from '../db/open.ts'
import type { DatabasePlace } from '../db/place.ts'
import type { Schema } from '../db/schema.ts'
import { until } from '../lib/until.ts'
import { bootRecorder } from './record.ts'

let both: BothDatabases
beforeAll(async () => {
  both = await startBoth()
}, 120_000)
afterAll(() => both.close())

/** Nobody else writes events until the lock is let go. */
async function lockEvents(place: DatabasePlace): Promise<{ letGo(): Promise<void> }> {
  if (place.kind === 'mariadb') {
    const [node] = place.nodes
    if (!node || !('socketPath' in node)) throw new Error('the test server listens at a socket')
    const connection = await createConnection({ socketPath: node.socketPath, user: 'root', database: place.database })
    await connection.query('start transaction')
    await connection.query('select * from events for update')
    return { letGo: () => connection.end() }
  }
  const script = `
    const db = new (require('node:sqlite').DatabaseSync)(process.argv[1])
    db.exec('begin immediate')
    process.stdout.write('locked')
    process.stdin.resume().on('end', () => db.close())`
  const child = spawn(process.execPath, ['-e', script, place.path], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const ended = once(child, 'exit')
  return {
    async letGo() {
      child.stdin.end()
      await ended
    },
  }
}

async function recorderOn(place: DatabasePlace, waitingMax?: number) {
  const db: Kysely<Schema> = await openDatabase(place)
  const interfaces = [{ mac: '52:54:00:00:00:01', ip: '10.0.0.1' }]
  await addHost(db, { name: 'n1', loader: 'auto', defaultTarget: 'local', interfaces, powerMethods: [] }, 0)
  let clock = 0
  const told = { lost: [] as string[], heldUp: 0 }
  const recorder = bootRecorder(db, {
    now: () => {
      clock += 1
      return clock
    },
    onLost: (_error, text) => told.lost.push(text),
    onHeldUp: () => {
      told.heldUp += 1
    },
    ...(waitingMax === undefined ? {} : { waitingMax }),
  })
  const ask = (path: string): void =>
    recorder.http({ path, peerAddress: '10.0.0.1', status: 200, bytes: 5, ms: 7, isWhole: true })
  return { db, recorder, told, ask }
}

const heldUp = (told: { heldUp: number }) =>
  until('a write that failed for the lock', () => told.heldUp > 0, { timeoutMs: 60_000 })

test.each(databaseKinds)(
  'on %s, events wait for a lock that lasts longer than a statement does, and keep their order and times',
  async (kind) => {
    const place = await both.emptyPlace(kind)
    const { db, recorder, told, ask } = await recorderOn(place)
    const lock = await lockEvents(place)
    for (const path of ['a', 'b', 'c']) ask(path)
    await heldUp(told)
    ask('d')
    await lock.letGo()
    await recorder.settled()
    expect(told.lost).toEqual([])
    const { rows } = await pageOfEvents(db, {}, { limit: 10 })
    expect(rows.map(({ at, host, text }) => [at, host, text.slice(0, 9)])).toEqual([
      [1, 'n1', 'fetched a'],
      [2, 'n1', 'fetched b'],
      [3, 'n1', 'fetched c'],
      [4, 'n1', 'fetched d'],
    ])
    await db.destroy()
  },
  120_000,
)

test('more events than may wait are counted, and the number is an event where they would have been', async () => {
  const place = await both.emptyPlace('sqlite')
  const { db, recorder, told, ask } = await recorderOn(place, 10)
  const lock = await lockEvents(place)
  for (let i = 0; i < 17; i += 1) ask(`${i}`)
  await heldUp(told)
  await lock.letGo()
  await until(
    'the number',
    async () => (await sql`select 1 from events where kind = 'events-lost'`.execute(db)).rows[0],
    {
      timeoutMs: 60_000,
    },
  )
  ask('after')
  await recorder.settled()
  const { rows } = await pageOfEvents(db, { newest: true }, { limit: 3 })
  expect(rows.map(({ source, text }) => [source, text])).toEqual([
    ['http', expect.stringContaining('fetched 9 ')],
    ['service', '7 requests of machines are in no timeline: 10 events were waiting for the database'],
    ['http', expect.stringContaining('fetched after ')],
  ])
  // The log has one line of all of them.
  expect(told.lost).toHaveLength(1)
  await db.destroy()
}, 120_000)

test('a service that stops does not wait for the lock, and says how many events it loses', async () => {
  const place = await both.emptyPlace('sqlite')
  const { db, recorder, told, ask } = await recorderOn(place)
  const lock = await lockEvents(place)
  for (const path of ['a', 'b']) ask(path)
  await heldUp(told)
  await recorder.close()
  expect(told.lost).toEqual([expect.stringMatching(/^2 events .*fetched a /)])
  await lock.letGo()
  await db.destroy()
}, 120_000)
