import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EraseReport } from '../contract/erase-types.ts'
import type { Caller } from '../contract/operation.ts'
import { courseOf } from '../db/captures.ts'
import { findDeployment } from '../db/deployments.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const report: EraseReport = {
  disks: [{ path: '/dev/vda', sizeBytes: 100, text: '/dev/vda by zeros: all read as zeros now', seconds: 1 }],
  steps: [{ step: 'erase', seconds: 1 }],
}

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  for (const n of [1, 2]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
    await control.addHost({ name: `n${n}`, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
})
afterEach(async () => {
  await world.close()
})

test('without the right count nothing begins, and the hosts that are meant are named', async () => {
  const order = { nodeset: 'n[1-2]', method: 'zero' } as const
  await expect(control.startErase({ ...order, confirm: 0 }, admin)).rejects.toMatchObject({
    code: 'bad-input',
    at: 'confirm',
    message: expect.stringMatching(/erases the disks of 2 hosts, n\[1-2\], and 0 were confirmed: confirm 2/),
  })
  await expect(control.startErase({ ...order, confirm: 2, max: 1 }, admin)).rejects.toMatchObject({ at: 'max' })
  expect((await control.listRollouts({}, admin)).rollouts).toEqual([])
  const { records } = await control.listBoot({}, admin)
  expect(records.map(({ target }) => target)).toEqual(['local', 'local'])
})

test('a host is told to erase, reports what it read, and gets its boot record back before it is answered', async () => {
  const order = { nodeset: 'n1', method: 'secure', disk: 'all', confirm: 1 } as const
  const { rollout } = await control.startErase(order, admin)
  const id = rollout.deployments[0]?.id ?? 0
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records).toMatchObject([{ target: 'scout' }])
  const token = await armDeployment(world, id)
  const agent = '11111111-1111-4111-8111-111111111111'
  const registered = await service.registerHost(
    { host: 'n1', agent, agentVersion: '1', inventory: exampleInventory },
    { kind: 'bearer', token, address: 'test' },
  )
  expect(registered.instructions).toMatchObject({
    action: 'erase',
    erase: { deployment: id, method: 'secure', disk: 'all', finish: 'poweroff' },
  })
  const caller: Caller = { kind: 'bearer', token: registered.sessionKey, address: 'test' }
  expect(await service.completeErase({ deployment: id, report }, caller)).toEqual({ action: 'continue' })
  const { erasure } = await control.getErasure({ deployment: id }, admin)
  expect(erasure).toMatchObject({ method: 'secure', report, deployment: { state: 'rebooting' } })
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records).toMatchObject([{ target: 'local' }])
  // Its answer was lost: it asks again.
  expect(await service.completeErase({ deployment: id, report }, caller)).toEqual({ action: 'continue' })
  // Nobody looks for a system; the machine must have been switched off.
  expect(await courseOf(world.db, await findDeployment(world.db, id))).toMatchObject({
    finish: { action: 'poweroff' },
    probe: { kind: 'none' },
  })
})

test('a host that is at work is not erased, nor is one of several when one of them is', async () => {
  await control.startErase({ nodeset: 'n1', method: 'zero', confirm: 1 }, admin)
  await expect(control.startErase({ nodeset: 'n[1-2]', method: 'zero', confirm: 2 }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    message: expect.stringMatching(/^n1 are in another rollout/),
  })
  expect((await control.listRollouts({}, admin)).rollouts.length).toBe(1)
})

test('a host whose boot record another deployment holds is not erased', async () => {
  await control.startErase({ nodeset: 'n2', method: 'zero', confirm: 1 }, admin)
  const held = await world.db.selectFrom('hosts').select('id').where('name', '=', 'n1').executeTakeFirstOrThrow()
  // What is left of the moment between two orders: the record is another's, and nothing else says so yet.
  await world.db.updateTable('boot_records').set({ deployment_id: 1 }).where('host_id', '=', held.id).execute()
  await expect(control.startErase({ nodeset: 'n1', method: 'zero', confirm: 1 }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    at: 'nodeset',
    message: 'n1 was taken by another rollout at this moment: ask again',
  })
  expect((await control.listRollouts({}, admin)).rollouts.length).toBe(1)
})

test('of orders to erase a host at one moment one begins', async () => {
  const order = { nodeset: 'n1', method: 'zero', confirm: 1 } as const
  const orders = await Promise.allSettled(Array.from({ length: 6 }, () => control.startErase(order, admin)))
  expect(orders.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  for (const one of orders) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'wrong-state' })
  expect((await control.listRollouts({}, admin)).rollouts.length).toBe(1)
})

test('a deployment that erases nothing cannot be completed as one', async () => {
  await expect(control.getErasure({ deployment: 1 }, admin)).rejects.toMatchObject({ code: 'unknown-deployment' })
})
