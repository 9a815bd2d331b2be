import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { pageOfEvents } from '../db/events.ts'
import { type IpmiSim, startIpmiSim } from '../power/ipmi-sim.ts'
import { controlHandlers } from './control.ts'
import { openTestWorld, type TestWorld } from './testing.ts'

const operator: Caller = { kind: 'user', name: 'op', role: 'operator', address: 'test' }

let world: TestWorld
let sim: IpmiSim
let control: ReturnType<typeof controlHandlers>

beforeEach(async () => {
  world = await openTestWorld()
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  control = controlHandlers(world)
})
afterEach(async () => {
  await sim.close()
  await world.close()
})

async function addHost(name: string, password?: string): Promise<void> {
  const { driver, address, username, password: right } = sim.method('n1')
  const method = { driver, address, username, password: password ?? right.reveal(), options: [] }
  const mac = `52:54:00:00:00:0${name.slice(1)}`
  await control.addHost({ name, interfaces: [{ mac }], powerMethods: [method] }, operator)
}

const run = (nodeset?: string) => control.runPreflight(nodeset === undefined ? {} : { nodeset }, operator)

test('a sound service has no failure, and its database is as it was', async () => {
  await addHost('n1')
  const before = (await pageOfEvents(world.db, {}, { limit: 100 })).rows
  const { checks } = await run()
  expect(checks.filter(({ outcome }) => outcome === 'failure')).toEqual([])
  expect(checks.map(({ name }) => name)).toEqual(expect.arrayContaining(['database', 'clock', 'image library']))
  expect(checks.at(-1)).toMatchObject({ name: 'controllers', says: '1 of 1 answer' })
  expect((await pageOfEvents(world.db, {}, { limit: 100 })).rows).toEqual(before)
})

test('a controller that refuses its password is a failure with its host and the words', async () => {
  await addHost('n1')
  await addHost('n2', 'wrong')
  const { outcome, checks } = await run('n[1-2]')
  expect(outcome).toBe('failure')
  expect(checks.find(({ name }) => name === 'controller of n2')).toMatchObject({
    outcome: 'failure',
    says: expect.stringContaining('refused the password'),
  })
  expect(checks.find(({ name }) => name === 'controllers')).toMatchObject({ says: '1 of 2 answer' })
})

test('a clock before the newest event is a failure', async () => {
  await addHost('n1')
  world.clock.offsetMs = -3_600_000
  const { checks } = await run()
  expect(checks.find(({ name }) => name === 'clock')).toMatchObject({ outcome: 'failure' })
})

test('a second preflight beside a running one is refused, and the next one runs again', async () => {
  const first = run()
  await expect(run()).rejects.toMatchObject({ code: 'wrong-state' })
  await first
  await run()
})

test.each([
  [-1, 'failure'],
  [3 * 86_400_000, 'warning'],
  [90 * 86_400_000, 'ok'],
] as const)('a certificate that ends in %d ms is %s', async (leftMs, outcome) => {
  const expiresAt = new Date(world.now() + leftMs).toISOString()
  const certificate = () => ({ isOwnAuthority: true, pem: '', fingerprint: '', names: ['hades'], expiresAt })
  control = controlHandlers({ ...world, certificate })
  const { checks } = await run()
  expect(checks.find(({ name }) => name === 'certificate')).toMatchObject({ outcome })
})
