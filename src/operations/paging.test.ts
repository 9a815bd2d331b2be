// Every list of every port pages in the same way: the contract is looked at whole, and each list is walked with real rows.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inProcess } from '../client/client.ts'
import { allPages } from '../client/pages.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { schemaOf } from '../lib/schema.ts'
import { controlHandlers } from './control.ts'
import { nameImage, openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let control: PortClient<typeof controlPort.operations>

beforeEach(async () => {
  world = await openTestWorld()
  control = inProcess(controlPort, controlHandlers(world))
})
afterEach(() => world.close())

/** Lists that are short whatever anybody does. */
const unpaged = ['listPowerDrivers', 'listKeys']

test('every operation that lists takes limit and cursor and gives nextCursor', () => {
  const lists = [controlPort, powerPort].flatMap((port) => Object.entries(port.operations))
  for (const [name, { input, output }] of lists) {
    if (!name.startsWith('list') || unpaged.includes(name)) continue
    const [given, got] = [schemaOf(input).properties ?? {}, schemaOf(output).properties ?? {}]
    expect([name, 'limit' in given, 'cursor' in given, 'nextCursor' in got]).toEqual([name, true, true, true])
  }
})

async function addHosts(count: number): Promise<void> {
  for (let i = 1; i <= count; i += 1) {
    const two = String(i).padStart(2, '0')
    await control.addHost({
      name: `n${two}`,
      ...(i % 2 === 0 ? { site: i % 4 === 0 ? 'b' : 'a', rack: `r${i % 3}` } : {}),
      interfaces: [{ mac: `52:54:00:00:00:${two}` }],
      powerMethods: [{ driver: 'manual', options: [] }],
    })
  }
}

const names = (hosts: readonly { readonly name: string }[]) => hosts.map(({ name }) => name)

test('hosts are listed page by page, by nodeset, place, state and interface', async () => {
  await addHosts(12)
  const first = await control.listHosts({ limit: 5 })
  expect(names(first.hosts)).toEqual(['n01', 'n02', 'n03', 'n04', 'n05'])
  const second = await control.listHosts({ limit: 5, cursor: first.nextCursor ?? '' })
  const third = await control.listHosts({ limit: 5, cursor: second.nextCursor ?? '' })
  expect([names(third.hosts), third.nextCursor]).toEqual([['n11', 'n12'], undefined])
  const of = async (filter: Parameters<typeof control.listHosts>[0]) => names((await control.listHosts(filter)).hosts)
  expect(await of({ nodeset: 'n[09-11],!n10' })).toEqual(['n09', 'n11'])
  expect(await of({ site: 'a', rack: 'r0' })).toEqual(['n06'])
  expect(await of({ mac: '52-54-00-00-00-07' })).toEqual(['n07'])
  expect(await of({ nodeset: 'n[01-12]', limit: 2, sort: 'newest' })).toEqual(['n12', 'n11'])
  expect((await of({ sort: 'place' })).slice(0, 8)).toEqual(['n01', 'n03', 'n05', 'n07', 'n09', 'n11', 'n06', 'n10'])
  const place = await allPages(control.listHosts, 'hosts', { sort: 'place' })
  expect(names(place.hosts)).toEqual(await of({ sort: 'place' }))
  expect(await of({ state: 'queued' })).toEqual([])
  await expect(control.listHosts({ sort: 'newest', cursor: first.nextCursor ?? '' })).rejects.toMatchObject({
    code: 'bad-input',
    at: 'cursor',
  })
})

test('rollouts, deployments, boot records, setups and images are followed to their end, each row once', async () => {
  await addHosts(3)
  await nameImage(world, 'debian', '12')
  const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  for (let i = 0; i < 5; i += 1) await control.putSetup({ xml })
  for (let i = 0; i < 4; i += 1) {
    const { rollout } = await control.startRollout({ nodeset: 'n[01-03]', setup: 'demo' })
    if (i < 3) await control.cancelRollout({ rollout: rollout.id })
  }
  const small = <T extends object>(list: (input: T) => Promise<unknown>) =>
    ((input: T) => list({ ...input, limit: 2 })) as typeof list
  const { rollouts } = await allPages(small(control.listRollouts) as typeof control.listRollouts, 'rollouts', {})
  expect(rollouts.map(({ id }) => id)).toEqual([4, 3, 2, 1])
  expect((await control.listRollouts({ active: true })).rollouts.map(({ id }) => id)).toEqual([4])
  expect((await control.listRollouts({ active: false })).rollouts.map(({ id }) => id)).toEqual([3, 2, 1])
  const deployments = await control.listDeployments({ nodeset: 'n02', state: 'cancelled' })
  expect(deployments.deployments.map(({ rollout }) => rollout)).toEqual([3, 2, 1])
  expect((await control.listDeployments({ rollout: 4 })).deployments).toHaveLength(3)
  await expect(control.listDeployments({ rollout: 99 })).rejects.toMatchObject({ code: 'unknown-rollout' })
  expect(names((await control.listHosts({ state: 'queued' })).hosts)).toEqual(['n01', 'n02', 'n03'])
  const { records } = await control.listBoot({ target: 'scout', limit: 2 })
  expect(records.map(({ host }) => host)).toEqual(['n01', 'n02'])
  const { setups } = await allPages(small(control.listSetups) as typeof control.listSetups, 'setups', {
    versions: true,
  })
  expect(setups.map(({ version }) => version)).toEqual([5, 4, 3, 2, 1])
  expect((await control.listImages({ kind: 'disk', sort: 'largest' })).images).toHaveLength(1)
  expect((await control.listImages({ isProtected: true })).images).toEqual([])
})
