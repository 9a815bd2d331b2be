import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { onceMs } from '../model/boot.ts'
import { controlHandlers } from './control.ts'
import { openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  for (const name of ['n1', 'n2']) {
    const interfaces = [{ mac: `52:54:00:00:00:0${name.slice(1)}` }]
    await control.addHost({ name, interfaces, powerMethods: [] }, admin)
  }
})
afterEach(() => world.close())

async function putRescue(): Promise<void> {
  const folder = join(world.bootFiles.netboot, 'rescue')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'linux'), 'kernel')
  await control.putProfile({ name: 'rescue', kernel: 'linux', arguments: 'host={{host}}' }, admin)
}
const records = async () => (await control.listBoot({}, admin)).records

test('a profile comes back as it was put, with its folder, and a second one of its name replaces it', async () => {
  await putRescue()
  const { profile } = await control.getProfile({ name: 'rescue' }, admin)
  expect(profile).toMatchObject({ name: 'rescue', kernel: 'linux', initrds: [], arguments: 'host={{host}}' })
  expect(profile.folder).toBe(join(world.bootFiles.netboot, 'rescue'))
  await control.putProfile({ name: 'rescue', kernel: 'linux', arguments: 'quiet' }, admin)
  expect((await control.listProfiles({}, admin)).profiles).toMatchObject([{ name: 'rescue', arguments: 'quiet' }])
})

test('a profile whose file is not there is refused, with the folder that is now there to copy it to', async () => {
  const put = control.putProfile({ name: 'rescue', kernel: 'linux', initrds: ['initrd'] }, admin)
  const folder = join(world.bootFiles.netboot, 'rescue')
  await expect(put).rejects.toMatchObject({ code: 'bad-input', at: 'kernel', message: expect.stringContaining(folder) })
  await writeFile(join(folder, 'linux'), 'kernel')
  const again = control.putProfile({ name: 'rescue', kernel: 'linux', initrds: ['initrd'] }, admin)
  await expect(again).rejects.toMatchObject({ at: 'initrds[0]' })
  expect((await control.listProfiles({}, admin)).profiles).toEqual([])
})

test('a target that names a profile that is not there is refused, as next and as default', async () => {
  const target = 'netboot:gone'
  await expect(control.setBoot({ nodeset: 'n1', target }, admin)).rejects.toMatchObject({
    code: 'unknown-profile',
    at: 'target',
  })
  await expect(control.changeHost({ name: 'n1', defaultTarget: target }, admin)).rejects.toMatchObject({
    code: 'unknown-profile',
    at: 'defaultTarget',
  })
})

test('a profile is not removed while a boot record names it', async () => {
  await putRescue()
  await control.setBoot({ nodeset: 'n[1-2]', target: 'netboot:rescue', once: true }, admin)
  await expect(control.removeProfile({ name: 'rescue' }, admin)).rejects.toMatchObject({
    code: 'in-use',
    message: expect.stringContaining('n[1-2]'),
  })
  await control.setBoot({ nodeset: '*', target: 'local' }, admin)
  await control.removeProfile({ name: 'rescue' }, admin)
  await expect(control.getProfile({ name: 'rescue' }, admin)).rejects.toMatchObject({ code: 'unknown-profile' })
})

test('a target for one boot is shown as that, and as the default when the boot is over', async () => {
  await control.setBoot({ nodeset: 'n1', target: 'local:2', once: true }, admin)
  expect((await records())[0]).toMatchObject({ target: 'local:2', once: true, defaultTarget: 'local' })
  await world.db.updateTable('boot_records').set({ asked_at: world.now() }).where('is_once', '=', 1).execute()
  world.clock.offsetMs = onceMs
  expect((await records())[0]).toMatchObject({ target: 'local', once: false })
  expect((await control.getHost({ name: 'n1' }, admin)).host.bootTarget).toBe('local')
})

test.each([
  { target: 'local:2', once: true, asDefault: true },
  { target: 'hold', once: true },
] as const)('%o contradicts itself', async (input) => {
  await expect(control.setBoot({ nodeset: 'n1', ...input }, admin)).rejects.toMatchObject({
    code: 'bad-input',
    at: 'once',
  })
})

test('a reboot is a task with a row a host, written with the records', async () => {
  const { records, task } = await control.setBoot({ nodeset: 'n[1-2]', target: 'local:2', reboot: true }, admin)
  expect(records).toMatchObject([{ target: 'local:2' }, { target: 'local:2' }])
  expect(task).toMatchObject({ kind: 'reboot', subject: 'n[1-2]', state: 'running' })
  expect((await control.getTask({ task: task?.id ?? 0 }, admin)).task.reboots).toEqual([
    { host: 'n1', target: 'local:2', state: 'waiting' },
    { host: 'n2', target: 'local:2', state: 'waiting' },
  ])
  await expect(control.setBoot({ nodeset: 'n[1-3]', target: 'local', reboot: true }, admin)).rejects.toThrow('n3')
  expect(await world.db.selectFrom('reboots').selectAll().execute()).toHaveLength(2)
})
