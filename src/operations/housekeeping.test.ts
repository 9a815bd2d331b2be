import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { addEvent } from '../db/events.ts'
import { findHosts } from '../db/hosts.ts'
import { takeLease } from '../db/leases.ts'
import { addTask, endTask } from '../db/tasks.ts'
import { bury, findWebhook, pageOfDead } from '../db/webhooks.ts'
import { overseer } from './audit.ts'
import { controlHandlers } from './control.ts'
import { keepHouse } from './housekeeping.ts'
import { nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const dayMs = 86_400_000
const retention = {
  eventAge: 30 * dayMs,
  events: 1000,
  taskAge: 30 * dayMs,
  logAge: 30 * dayMs,
  deliveryAge: 30 * dayMs,
  auditAge: 400 * dayMs,
  audit: 1000,
}
const never = new AbortController().signal

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let counted: Record<string, number>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  counted = {}
})
afterEach(() => world.close())

const keep = (given = retention) =>
  keepHouse(
    world,
    {
      retention: given,
      onRemoved: (table, rows) => {
        counted[table] = (counted[table] ?? 0) + rows
      },
    },
    never,
  )

async function audited(target: string): Promise<void> {
  const act = { user: 'admin', role: 'admin', via: '', address: '', operation: 'setBoot', request: 'r' } as const
  await (await overseer(world).record({ ...act, target }))('ok')
}

const targets = async () => (await control.listAudit({}, admin)).entries.map(({ target }) => target)

const texts = async () => (await control.listEvents({}, admin)).events.map(({ text }) => text)

async function startedHost(): Promise<{ hostId: number; deploymentId: number }> {
  await nameImage(world, 'debian', '12')
  await control.putSetup(
    { xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>' },
    admin,
  )
  const interfaces = [{ mac: '52:54:00:00:00:01', ip: '127.0.0.1' }]
  await control.addHost({ name: 'n1', interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  const [host] = await findHosts(world.db, ['n1'])
  return { hostId: host?.id ?? 0, deploymentId: rollout.deployments[0]?.id ?? 0 }
}

test('old events go, young ones stay, and it is told what went', async () => {
  await addEvent(world.db, { source: 'dhcp', kind: 'x', text: 'old' }, world.now())
  world.clock.offsetMs += 31 * dayMs
  await addEvent(world.db, { source: 'dhcp', kind: 'x', text: 'young' }, world.now())
  expect(await keep()).toEqual({ events: 1 })
  expect(counted).toEqual({ events: 1 })
  expect(await texts()).toEqual(['young', 'housekeeping removed what was too old or too much: 1 events'])
})

test('what explains a deployment under way stays, however old it is', async () => {
  const { hostId, deploymentId } = await startedHost()
  await addEvent(world.db, { source: 'dhcp', kind: 'x', text: 'of the host', hostId }, world.now())
  await addEvent(world.db, { source: 'agent', kind: 'x', text: 'of the deployment', hostId, deploymentId }, world.now())
  await addEvent(world.db, { source: 'dhcp', kind: 'x', text: 'of a stranger' }, world.now())
  world.clock.offsetMs += 400 * dayMs
  await keep()
  const left = await texts()
  expect(left).toEqual(expect.arrayContaining(['of the host', 'of the deployment']))
  expect(left).not.toContain('of a stranger')
})

test("the events and the log of a host's last deployment stay, those of earlier ones go", async () => {
  const { hostId, deploymentId: first } = await startedHost()
  const endNow = { state: 'failed' as const, log: 'what the agent said', ended_at: world.now() }
  await world.db.updateTable('deployments').set(endNow).execute()
  await addEvent(
    world.db,
    { source: 'agent', kind: 'x', text: 'of the first', hostId, deploymentId: first },
    world.now(),
  )
  const again = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  const last = again.rollout.deployments[0]?.id ?? 0
  await world.db.updateTable('deployments').set(endNow).execute()
  await addEvent(world.db, { source: 'agent', kind: 'x', text: 'of the last', hostId, deploymentId: last }, world.now())
  world.clock.offsetMs += 400 * dayMs
  expect(await keep()).toMatchObject({ logs: 1 })
  const left = await texts()
  expect(left).toContain('of the last')
  expect(left).not.toContain('of the first')
  const logs = await world.db.selectFrom('deployments').select(['id', 'log']).orderBy('id').execute()
  expect(logs).toEqual([
    { id: first, log: null },
    { id: last, log: 'what the agent said' },
  ])
})

test('more events than are kept go in batches, the oldest first', async () => {
  for (let i = 0; i < 1700; i += 1) {
    world.clock.offsetMs += 10
    await addEvent(world.db, { source: 'dhcp', kind: 'x', text: `event ${i}` }, world.now())
  }
  expect(await keep()).toEqual({ events: 700 })
  const { events } = await control.listEvents({ limit: 1 }, admin)
  expect(events[0]?.text).toBe('event 700')
})

test('ended tasks go, running ones never', async () => {
  const ended = await addTask(world.db, { kind: 'publish-image', subject: 'a', owner: 'x' }, world.now())
  await endTask(world.db, ended.id, undefined, world.now())
  const running = await addTask(world.db, { kind: 'publish-image', subject: 'b', owner: 'x' }, world.now())
  world.clock.offsetMs += 400 * dayMs
  expect(await keep()).toMatchObject({ tasks: 1 })
  expect(await world.db.selectFrom('tasks').select('id').execute()).toEqual([{ id: running.id }])
})

test('events that a webhook was not told of go when they were given up long ago', async () => {
  await control.putWebhook({ name: 'w', url: 'https://w.example/', secret: 'a secret of the webhook' }, admin)
  const { id } = await findWebhook(world.db, 'w')
  await bury(world.db, id, [1, 2], { said: 'no answer', now: world.now() })
  world.clock.offsetMs += 29 * dayMs
  await bury(world.db, id, [3], { said: 'no answer', now: world.now() })
  expect(await keep()).not.toHaveProperty('deliveries')
  world.clock.offsetMs += 2 * dayMs
  expect(await keep()).toMatchObject({ deliveries: 2 })
  const { rows } = await pageOfDead(world.db, undefined, { limit: 10 })
  expect(rows.map(({ event_id }) => event_id)).toEqual([3])
})

test('the audit goes by age', async () => {
  await audited('old')
  world.clock.offsetMs += 399 * dayMs
  await audited('young')
  expect(await keep()).not.toHaveProperty('audit')
  world.clock.offsetMs += 2 * dayMs
  expect(await keep()).toMatchObject({ audit: 1 })
  expect(await targets()).toEqual(['young'])
})

test('no more of the audit is kept than is set, and the oldest goes', async () => {
  for (let i = 0; i < 12; i += 1) await audited(`call ${i}`)
  expect(await keep({ ...retention, audit: 3 })).toMatchObject({ audit: 9 })
  expect(await targets()).toEqual(['call 11', 'call 10', 'call 9'])
})

test('one service keeps house at a time; when it is gone, another does', async () => {
  const other = { name: 'housekeeping', owner: 'another', until: world.now() + 60_000 }
  expect(await takeLease(world.db, other, world.now())).toBe(true)
  expect(await keep()).toBeUndefined()
  world.clock.offsetMs += 61_000
  expect(await keep()).toEqual({})
  expect(await keep()).toEqual({})
})
