// Calls with an idempotency key, over the wire on both faces, with the real handlers and rows.
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { Caller, CallOptions, OnceCall } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { recordAnswer } from '../db/once.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, type PortServer, servePorts } from '../ports/http.ts'
import { controlHandlers } from './control.ts'
import { onceKeptMs, onceOf, onceRunner } from './once.ts'
import { powerHandlers } from './power.ts'
import { nameImage, openTestWorld, putState, type TestWorld } from './testing.ts'

let world: TestWorld
let server: PortServer
let baseUrl: string
const token = 'the-admin-token'
const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }

beforeEach(async () => {
  world = await openTestWorld()
  server = await servePorts({
    ports: [served(controlPort, controlHandlers(world)), served(powerPort, powerHandlers(world))],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'silent' }),
    runOnce: onceRunner(world),
  })
  const [at] = server.addresses
  baseUrl = `http://127.0.0.1:${at && 'port' in at ? at.port : 0}`
  const control = client()
  await nameImage(world, 'debian', '12')
  await control.putSetup({
    xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>',
  })
  const powerMethods = [{ driver: 'manual', options: [] }]
  for (const n of [1, 2])
    await control.addHost({ name: `n${n}`, interfaces: [{ mac: `52:54:00:00:00:0${n}` }], powerMethods })
})
afterEach(async () => {
  await server.close(0)
  await world.close()
})

const client = () => createClient(controlPort, { kind: 'http', baseUrl, token: new Secret(token) })
const order = { nodeset: 'n1', setup: 'demo' }
const rollouts = async () => (await client().listRollouts({})).rollouts.length

async function soap(inside: string, header: string) {
  const answer = await fetch(`${baseUrl}/control`, {
    method: 'POST',
    headers: { 'content-type': 'text/xml', authorization: `Bearer ${token}` },
    body: `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header>${header}</e:Header><e:Body>${inside}</e:Body></e:Envelope>`,
  })
  return { status: answer.status, text: await answer.text() }
}

test('a call made twice with one key starts one rollout and answers the same, by REST and by SOAP', async () => {
  const options = { idempotencyKey: 'order-1' }
  const first = await client().startRollout(order, options)
  expect(await client().startRollout(order, options)).toEqual(first)
  const key =
    '<idempotencyKey xmlns="urn:hades:control:1" xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" e:mustUnderstand="1">order-1</idempotencyKey>'
  const inside = '<startRollout xmlns="urn:hades:control:1"><nodeset>n1</nodeset><setup>demo</setup></startRollout>'
  const again = await soap(inside, key)
  expect([again.status, again.text.includes(`<id>${first.rollout.id}</id>`)]).toEqual([200, true])
  const twice = await soap(inside, key + key)
  expect([twice.status, twice.text.includes('two idempotency keys')]).toEqual([500, true])
  expect(await rollouts()).toBe(1)
})

test.each([
  ['retryRollout', (options: CallOptions) => client().retryRollout({ rollout: 1 }, options)],
  ['retryDeployment', (options: CallOptions) => client().retryDeployment({ deployment: 1 }, options)],
] as const)('%s made twice with one key deploys once more', async (_name, retry) => {
  await client().startRollout(order)
  await putState(world, 1, 'failed')
  const options = { idempotencyKey: 'again' }
  const first = await retry(options)
  expect(await retry(options)).toEqual(first)
  expect((await client().listDeployments({ rollout: 1 })).deployments.map(({ id }) => id)).toEqual([2, 1])
  await expect(retry({ idempotencyKey: 'another' })).rejects.toMatchObject({ code: 'wrong-state' })
})

test('a rollout cancelled twice with one key gives the task that switches its machines twice, and makes one', async () => {
  await client().startRollout(order)
  await putState(world, 1, 'booting')
  const cancel = () => client().cancelRollout({ rollout: 1, reboot: true }, { idempotencyKey: 'stop' })
  const first = await cancel()
  expect(first.task).toMatchObject({ kind: 'reboot' })
  expect(await cancel()).toEqual(first)
  expect((await client().listTasks({})).tasks).toHaveLength(1)
})

test('many calls at once with one key start one rollout', async () => {
  const options = { idempotencyKey: 'at once'.replace(' ', '-') }
  const answers = await Promise.all(Array.from({ length: 12 }, () => client().startRollout(order, options)))
  expect(new Set(answers.map(({ rollout }) => rollout.id)).size).toBe(1)
  expect(await rollouts()).toBe(1)
})

test('a key is refused with another input, another operation, where none is taken, and when it is none', async () => {
  const options = { idempotencyKey: 'k' }
  await client().startRollout(order, options)
  const refusals = [
    [client().startRollout({ ...order, nodeset: 'n2' }, options), 'already-exists'],
    [client().startErase({ nodeset: 'n2', method: 'discard', confirm: 1 }, options), 'already-exists'],
    [client().pauseRollout({ rollout: 1 }, options), 'bad-input'],
    [client().listHosts({}, options), 'bad-input'],
    [client().startRollout(order, { idempotencyKey: 'a b' }), 'bad-input'],
    [client().startRollout(order, { idempotencyKey: 'k'.repeat(191) }), 'bad-input'],
  ] as const
  await Promise.all(
    refusals.map(async ([call, code]) => {
      await expect(call).rejects.toMatchObject({ code, at: 'idempotencyKey' })
    }),
  )
  expect(await rollouts()).toBe(1)
})

test('a call that failed gives its key back', async () => {
  const options = { idempotencyKey: 'k' }
  const wrong = { ...order, nodeset: 'n1,n9' }
  for (let i = 0; i < 2; i += 1) {
    await expect(client().startRollout(wrong, options)).rejects.toMatchObject({ code: 'unknown-host' })
  }
  await client().startRollout(order, options)
  expect(await rollouts()).toBe(1)
})

test('a key is forgotten when its time is over', async () => {
  const options = { idempotencyKey: 'k' }
  await client().startRollout(order, options)
  await client().cancelRollout({ rollout: 1 })
  world.clock.offsetMs += onceKeptMs + 1000
  expect((await client().startRollout(order, options)).rollout.id).toBe(2)
})

const call: OnceCall = { key: 'k', operation: 'control.startRollout', isRecorded: true, input: order, caller: admin }

/** What a killed service leaves of a call: its row, claimed by nobody who lives. */
async function leaveClaimed(of: OnceCall): Promise<void> {
  let claimed = false
  void onceRunner(world)(of, () => new Promise(() => (claimed = true)))
  await until('the claim', () => claimed, { timeoutMs: 5000, everyMs: 5 })
  world.clock.offsetMs += 60_000
}

test('a call that died before it wrote anything is made by the next one with its key', async () => {
  await leaveClaimed(call)
  expect(await onceRunner(world)(call, async () => 'made')).toBe('made')
  expect(await onceRunner(world)(call, async () => 'made twice')).toBe('made')
})

test('a call that died after its transaction, before it answered, is not made again', async () => {
  let recorded = false
  void onceRunner(world)(call, async (caller) => {
    await world.db.transaction().execute((tx) => recordAnswer(tx, onceOf(caller), { rollout: 7 }))
    recorded = true
    return await new Promise(() => {})
  })
  await until('the record', () => recorded, { timeoutMs: 5000, everyMs: 5 })
  expect(await onceRunner(world)(call, async () => 'made twice')).toEqual({ rollout: 7 })
})

test('whoever took too long cannot write when another has begun the call anew', async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  const slow = onceRunner(world)(call, async (caller) => {
    await gate
    return await world.db.transaction().execute((tx) => recordAnswer(tx, onceOf(caller), 'slow'))
  })
  await until('the claim', () => world.db.selectFrom('once_calls').selectAll().executeTakeFirst(), { timeoutMs: 5000 })
  world.clock.offsetMs += 60_000
  expect(await onceRunner(world)(call, async () => 'quick')).toBe('quick')
  open()
  await expect(slow).rejects.toMatchObject({ code: 'wrong-state' })
  expect(await onceRunner(world)(call, async () => 'third')).toBe('quick')
})

test('a call on the world that was cut off is not repeated: nobody can tell how far it got', async () => {
  const cycle = { ...call, operation: 'power.setPower', isRecorded: false }
  await leaveClaimed(cycle)
  await expect(onceRunner(world)(cycle, async () => 'cycled')).rejects.toMatchObject({
    code: 'wrong-state',
    message: expect.stringContaining('cut off'),
  })
})
