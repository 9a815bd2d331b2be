// Machines of no host: seen by the recorder of boot requests, and decided on through the Control Port.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bootRecorder } from '../boot/record.ts'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { recordSighting } from '../db/discovered.ts'
import { controlHandlers } from './control.ts'
import { fillDiscovered, openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let control: PortClient<typeof controlPort.operations>
beforeEach(async () => {
  world = await openTestWorld()
  control = inProcess(controlPort, controlHandlers(world))
})
afterEach(() => world.close())

const mac = '52:54:00:00:00:99'
const seen = async (state?: 'waiting' | 'ignored') =>
  (await control.listDiscovered(state ? { state } : {})).machines.map((one) => [one.mac, one.state, one.sightings])

async function asks(times: number): Promise<void> {
  const recorder = bootRecorder(world.db, {
    now: world.now,
    onLost: (error) => expect(error).toBeUndefined(),
    onHeldUp: (error) => expect(error).toBeUndefined(),
  })
  for (let i = 0; i < times; i += 1) recorder.stranger({ mac, via: 'tftp', loader: 'grub', answer: 'nothing' })
  const client = { kind: 'firmware', arch: 'x64-uefi' } as never
  recorder.dhcp({ kind: 'dhcp.unknown', mac: '52:54:00:00:00:98', client, text: 'asked', suppressed: 0 })
  await recorder.settled()
}

test('machines that ask are listed with what they asked, and one that is approved becomes a host', async () => {
  await asks(2)
  expect(await seen()).toEqual(
    expect.arrayContaining([
      ['52:54:00:00:00:98', 'waiting', 1],
      [mac, 'waiting', 2],
    ]),
  )
  const { host } = await control.approveDiscovered({ mac: mac.toUpperCase(), name: 'n9', ip: '10.0.0.9', rack: 'r1' })
  expect(host).toMatchObject({ name: 'n9', rack: 'r1', bootTarget: 'local', interfaces: [{ mac, ip: '10.0.0.9' }] })
  expect(await seen()).toEqual([['52:54:00:00:00:98', 'waiting', 1]])
  await expect(control.approveDiscovered({ mac, name: 'n10' })).rejects.toMatchObject({ code: 'unknown-machine' })
})

test('a machine can be ignored, and that can be taken back', async () => {
  await asks(1)
  await control.ignoreDiscovered({ mac })
  await asks(1)
  expect(await seen('ignored')).toEqual([[mac, 'ignored', 2]])
  await control.ignoreDiscovered({ mac, ignore: false })
  expect(await seen('ignored')).toEqual([])
})

test('a machine that was added by hand is no stranger any more', async () => {
  await asks(1)
  await control.addHost({ name: 'n9', interfaces: [{ mac }], powerMethods: [] })
  expect((await seen()).map(([who]) => who)).toEqual(['52:54:00:00:00:98'])
})

test('the policy is kept, and a flood of addresses has a bound', async () => {
  expect((await control.listDiscovered({})).policy).toBe('ignore')
  await control.setDiscovery({ policy: 'local' })
  expect((await control.listDiscovered({})).policy).toBe('local')
  await fillDiscovered(world, 10_000, 1)
  for (const n of [1, 2, 3]) {
    await recordSighting(world.db, { mac: `06:00:00:00:00:0${n}`, source: 'dhcp', said: 'asked' }, world.now())
  }
  const { n } = await world.db
    .selectFrom('discovered')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .executeTakeFirstOrThrow()
  expect(n).toBe(10_000)
  expect((await control.listDiscovered({ limit: 1 })).machines).toMatchObject([{ mac: '06:00:00:00:00:03' }])
})
