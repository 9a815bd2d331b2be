import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { findDeployment, moveDeployment } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.11' })
const agents = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']

let world: TestWorld
let control: ReturnType<typeof controlHandlers>

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers({ ...world, services: [{ name: 'dhcp', listens: '' }] })
  await nameImage(world, 'debian', '12')
  const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  await control.putSetup({ xml }, admin)
  for (const n of [1, 2]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
    await control.addHost({ name: `n${n}`, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
})
afterEach(() => world.close())

async function deploy(host = 'n1'): Promise<number> {
  const { rollout } = await control.startRollout({ nodeset: host, setup: 'demo' }, admin)
  return rollout.deployments[0]?.id ?? 0
}

async function fail(id: number, code: string): Promise<void> {
  const row = await findDeployment(world.db, id)
  const failure = JSON.stringify({ code, message: ['it did'] })
  await moveDeployment(world.db, row, 'failed', { failure }, { by: 'engine', at: world.now() })
}

const explain = async (input: { host: string; deployment?: number; console?: string }) =>
  (await control.explainHost(input, admin)).explanation

test('a host that was never deployed is explained by what was heard of it', async () => {
  const explanation = await explain({ host: 'n1' })
  expect(explanation).toMatchObject({ host: 'n1', causes: [], isStuck: false })
  expect(explanation.summary).toContain('nothing was heard of it')
  expect(explanation.events.map(({ kind }) => kind)).toEqual(['host-added'])
})

test('the last deployment is explained unless another is named, and each has its own events', async () => {
  const first = await deploy()
  await fail(first, 'disk-none')
  world.clock.offsetMs = 60_000
  const second = await deploy()
  await fail(second, 'disk-ambiguous')
  expect(await explain({ host: 'n1' })).toMatchObject({ deployment: second, causes: [{ cause: 'disk-ambiguous' }] })
  const earlier = await explain({ host: 'n1', deployment: first })
  expect(earlier).toMatchObject({ deployment: first, state: 'failed', causes: [{ cause: 'disk-none' }] })
  expect(earlier.events.filter(({ kind }) => kind === 'rollout-started')).toHaveLength(1)
})

test('the deployment of another host is refused', async () => {
  const id = await deploy('n2')
  await expect(explain({ host: 'n1', deployment: id })).rejects.toMatchObject({
    code: 'unknown-deployment',
    at: 'deployment',
  })
  await expect(explain({ host: 'n9' })).rejects.toMatchObject({ code: 'unknown-host' })
})

test('what a stranger asked for in its time is evidence, and no line of the timeline otherwise', async () => {
  const id = await deploy()
  const text = 'no host has 52:54:00:00:00:99, so its discover is not answered'
  await addEvent(world.db, { source: 'dhcp', kind: 'dhcp-unknown', text }, world.now())
  await fail(id, 'boot-timeout')
  const { causes, events } = await explain({ host: 'n1' })
  expect(causes[0]).toMatchObject({ cause: 'mac-unknown', evidence: [{ text }] })
  expect(events.filter(({ kind }) => kind === 'dhcp-unknown')).toHaveLength(1)
})

test('a console is read for what only it shows', async () => {
  const id = await deploy()
  await fail(id, 'boot-timeout')
  const { causes } = await explain({ host: 'n1', console: 'boot\r\n[ 2.1] Kernel panic - not syncing: oh\r\n' })
  expect(causes[0]).toMatchObject({ cause: 'kernel-panic', lines: ['[ 2.1] Kernel panic - not syncing: oh'] })
})

test('an agent that comes with a used token, and a machine whose clock is years behind, are told', async () => {
  const id = await deploy()
  const token = await armDeployment(world, id)
  const service = serviceHandlers(world)
  const inventory = { ...exampleInventory, clockAt: '2001-01-01T00:00:00Z' }
  const register = (agent = '') =>
    service.registerHost({ host: 'n1', agent, agentVersion: '1', inventory }, bearer(token))
  await register(agents[0])
  await expect(register(agents[1])).rejects.toMatchObject({ code: 'token-refused' })
  const { causes } = await explain({ host: 'n1' })
  expect(causes.map(({ cause }) => cause)).toEqual(['token-replayed', 'clock-wrong'])
})
