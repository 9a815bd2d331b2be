import { afterEach, beforeEach, expect, test } from 'vitest'
import { controlOperations } from '../contract/control.ts'
import type { Caller } from '../contract/operation.ts'
import { compileCheck } from '../lib/schema.ts'
import { controlHandlers } from './control.ts'
import { nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  await nameImage(world, 'debian', '12')
})
afterEach(async () => {
  await world.close()
})

const document = (inside: string, name = 'demo'): string =>
  `<setup xmlns="urn:hades:setup:1" name="${name}">\n${inside}\n</setup>`
const disk = '<disk><image>debian:12</image></disk>'
const scripted = (attributes: string): string =>
  document(`${disk}\n<post-install>\n<script name="s" ${attributes}/>\n</post-install>`)

test('an image that there is not is refused with the line, whether the setup is stored or only checked', async () => {
  const xml = document('<disk>\n<image>debian:13</image></disk>')
  const refused = { code: 'unknown-image', at: 'line 2', message: 'line 2: there is no image debian:13' }
  await expect(control.putSetup({ xml }, admin)).rejects.toMatchObject(refused)
  await expect(control.validateSetup({ xml }, admin)).rejects.toMatchObject(refused)
  expect((await control.listSetups({}, admin)).setups).toEqual([])
})

test('an image that does not fit into its partition, by its size or its kind, is refused with the line', async () => {
  await nameImage(world, 'root', '12', 'partition')
  const put = (image: string, size: string) =>
    control.putSetup(
      {
        xml: document(
          `<disk><table type="gpt">\n<partition size="${size}"><image>${image}</image></partition></table></disk>`,
        ),
      },
      admin,
    )
  await expect(put('root:12', '512MiB')).rejects.toMatchObject({
    code: 'setup-invalid',
    at: 'line 3',
    message: expect.stringMatching(/`system:1`: image root:12 has 1073741824 bytes, and the place has 536870912/),
  })
  await expect(put('debian:12', '4GiB')).rejects.toMatchObject({
    code: 'setup-invalid',
    at: 'line 3',
    message: expect.stringMatching(/`system:1`: image debian:12 is one of a whole disk/),
  })
  await put('root:12', '4GiB')
})

test('a profile to boot afterwards that there is not is refused with the line', async () => {
  const xml = document(`${disk}\n<finish target="netboot:rescue"/>`)
  await expect(control.putSetup({ xml }, admin)).rejects.toMatchObject({
    code: 'unknown-profile',
    at: 'line 3',
    message: expect.stringMatching(/^line 3: .*rescue/),
  })
})

test('a host name for an image without a Linux file system is refused with the line', async () => {
  const volume = { partition: 1, offset: 0, sizeBytes: 1, freeBytes: 0 }
  const holds = async (...names: string[]) => {
    const volumes = names.map((fileSystem) => ({ ...volume, fileSystem }))
    await world.db
      .updateTable('images')
      .set({ contents: JSON.stringify({ volumes }) })
      .execute()
  }
  const xml = document(`${disk}\n<post-install><hostname/></post-install>`)
  await holds('fat', 'ntfs')
  await expect(control.putSetup({ xml }, admin)).rejects.toMatchObject({
    code: 'setup-invalid',
    at: 'line 3',
    message: expect.stringMatching(/asks for hostname, .* `system` holds debian:12, in which there is fat, ntfs/),
  })
  await holds('fat', 'unknown')
  await control.putSetup({ xml }, admin)
  await holds('fat', 'ext4')
  await control.putSetup({ xml }, admin)
})

test('versions are listed, the newest first, of one setup or of all', async () => {
  await control.putSetup({ xml: document(disk, 'a') }, admin)
  await control.putSetup({ xml: document(disk, 'b') }, admin)
  await control.putSetup({ xml: document(disk, 'a') }, admin)
  const list = async (input: { name?: string; versions?: boolean }) =>
    (await control.listSetups(input, admin)).setups.map(({ name, version }) => `${name}:${version}`)
  expect(await list({})).toEqual(['a:2', 'b:1'])
  expect(await list({ name: 'a' })).toEqual(['a:2'])
  expect(await list({ name: 'a', versions: true })).toEqual(['a:2', 'a:1'])
  expect(await list({ versions: true })).toEqual(['a:2', 'a:1', 'b:1'])
  await expect(list({ name: 'c', versions: true })).rejects.toMatchObject({ code: 'unknown-setup' })
})

test('two versions, or a version and a document, are compared by what they mean', async () => {
  await control.putSetup({ xml: document(disk) }, admin)
  await control.putSetup({ xml: document(`${disk}<finish action="poweroff"/>`) }, admin)
  const change = { kind: 'changed', subject: 'finish', what: 'action', from: 'reboot', to: 'poweroff' }
  const stored = await control.diffSetups({ from: 'demo:1', to: 'demo' }, admin)
  expect(stored).toEqual({ from: 'demo:1', to: 'demo:2', changes: [change] })
  const xml = document(`${disk}\n<!-- the same -->`)
  const other = await control.diffSetups({ from: 'demo:1', xml, withText: true }, admin)
  expect(other.changes).toEqual([])
  expect(other.text).toBe(
    [
      '--- demo:1',
      '+++ the document',
      '@@ -1,3 +1,4 @@',
      ' <setup xmlns="urn:hades:setup:1" name="demo">',
      ` ${disk}`,
      '+<!-- the same -->',
      ' </setup>',
      '',
    ].join('\n'),
  )
  const neither = { code: 'bad-input', at: 'to' }
  await expect(control.diffSetups({ from: 'demo:1' }, admin)).rejects.toMatchObject(neither)
  await expect(control.diffSetups({ from: 'demo:1', to: 'demo:2', xml }, admin)).rejects.toMatchObject(neither)
})

test('scripts are kept in versions, and no version is ever given twice', async () => {
  const put = async (text: string) => (await control.putScript({ name: 's', text }, admin)).script.version
  expect([await put('one'), await put('two')]).toEqual([1, 2])
  expect(await control.getScript({ reference: 's' }, admin)).toMatchObject({ text: 'two', script: { characters: 3 } })
  expect((await control.getScript({ reference: 's:1' }, admin)).text).toBe('one')
  expect((await control.listScripts({}, admin)).scripts.map(({ version }) => version)).toEqual([2])
  expect((await control.listScripts({ name: 's' }, admin)).scripts.map(({ version }) => version)).toEqual([2, 1])
  await control.removeScript({ reference: 's:1' }, admin)
  await expect(control.getScript({ reference: 's:1' }, admin)).rejects.toMatchObject({ code: 'unknown-script' })
  await control.removeScript({ reference: 's' }, admin)
  for (const call of [control.listScripts({ name: 's' }, admin), control.removeScript({ reference: 's' }, admin)]) {
    await expect(call).rejects.toMatchObject({ code: 'unknown-script' })
  }
})

test('a setup names scripts that there are, and templates that can be filled in', async () => {
  const refused = { code: 'unknown-script', at: 'line 4', message: 'line 4: there is no script s' }
  await expect(control.putSetup({ xml: scripted('library="s"') }, admin)).rejects.toMatchObject(refused)
  await control.putScript({ name: 's', text: 'docker ps --format {{.Names}}' }, admin)
  await control.putSetup({ xml: scripted('library="s"') }, admin)
  await expect(control.putSetup({ xml: scripted('library="s" template="yes"') }, admin)).rejects.toMatchObject({
    code: 'setup-invalid',
    at: 'line 4',
    message: expect.stringMatching(/script s:1 of the library: line 1 of it: `\{\{\.Names\}\}` is no word/),
  })
  await control.putScript({ name: 's', text: 'ip route add default via {{gateway}}' }, admin)
  await expect(control.putSetup({ xml: scripted('library="s" template="yes"') }, admin)).rejects.toMatchObject({
    message: expect.stringMatching(/`gateway` of a static network/),
  })
  const misspelt = document(`${disk}\n<post-install>\n<hostname>{{hots}}</hostname>\n</post-install>`)
  await expect(control.putSetup({ xml: misspelt }, admin)).rejects.toMatchObject({
    code: 'setup-invalid',
    at: 'line 4',
    message: expect.stringMatching(/element `hostname`: `\{\{hots\}\}` is no word of a template/),
  })
})

test('a script that a setup or a deployment under way uses is not removed', async () => {
  await control.putScript({ name: 's', text: 'one' }, admin)
  await control.putScript({ name: 's', text: 'two' }, admin)
  await control.putSetup({ xml: scripted('library="s:1"') }, admin)
  const inUse = (user: string) => ({ code: 'in-use', message: expect.stringContaining(user) })
  for (const reference of ['s', 's:1']) {
    await expect(control.removeScript({ reference }, admin)).rejects.toMatchObject(inUse('setup demo:1'))
  }
  await control.putSetup({ xml: scripted('library="s"') }, admin)
  await expect(control.removeScript({ reference: 's:2' }, admin)).rejects.toMatchObject(inUse('setup demo:2'))
  const powerMethods = [{ driver: 'manual', options: [] }]
  await control.addHost({ name: 'n1', interfaces: [{ mac: '52:54:00:00:00:01' }], powerMethods }, admin)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  await control.putSetup({ xml: document(disk) }, admin)
  await expect(control.removeScript({ reference: 's' }, admin)).rejects.toMatchObject(inUse('the deployments of n1'))
  await control.cancelRollout({ rollout: rollout.id }, admin)
  await control.removeScript({ reference: 's' }, admin)
  // A rollout that is over tells of s:2: that name is not given to another text.
  expect((await control.putScript({ name: 's', text: 'three' }, admin)).script.version).toBe(3)
})

test('setups are listed by a name without a version', () => {
  const check = compileCheck(controlOperations.listSetups.input)
  expect(check({ name: 'web' })).toEqual([])
  // MariaDB was asked for version NaN, which it took for the name of a column.
  expect(check({ name: 'web:x' })).toMatchObject([{ at: 'name' }])
})
