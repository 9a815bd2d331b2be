import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bootRecordsOf, setBootTarget } from '../db/boot.ts'
import { addRollout } from '../db/deployments.ts'
import { setDiscoveryPolicy } from '../db/discovered.ts'
import { addHost } from '../db/hosts.ts'
import { putProfile } from '../db/profiles.ts'
import { openTestDatabase } from '../db/testing.ts'
import { Keyring } from '../lib/seal.ts'
import { type BootTarget, onceMs, type ResolveBoot } from '../model/boot.ts'
import { defaultTransferPolicy } from '../model/transfer-policy.ts'
import { bootResolver, type RenderedScript, type StrangersRequest } from './resolve.ts'

const mac = '52:54:00:00:00:01'
const script = 'grub/52-54-00-00-00-01'

let folder: string
let db: Awaited<ReturnType<typeof openTestDatabase>>
let now: number
let hostId: number
let told: RenderedScript[]
let strangers: StrangersRequest[]
let resolve: ResolveBoot

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-resolve-'))
  for (const name of ['loaders', 'scout', 'netboot/rescue']) await mkdir(join(folder, name), { recursive: true })
  await writeFile(join(folder, 'netboot/rescue/linux'), 'kernel')
  await writeFile(join(folder, 'secret'), 'secret')
  await symlink('../../secret', join(folder, 'netboot/rescue/link'))
  db = await openTestDatabase()
  now = 1_000_000
  told = []
  strangers = []
  const interfaces = [{ mac }]
  hostId = await addHost(db, { name: 'n1', loader: 'auto', defaultTarget: 'local', interfaces, powerMethods: [] }, now)
  await putProfile(
    db,
    { name: 'rescue', kernel: 'linux', initrds: [], arguments: 'host={{host}} {{scoutArguments}}' },
    now,
  )
  resolve = bootResolver({
    db,
    now: () => now,
    keyring: new Keyring(Keyring.randomKey()),
    folders: { loaders: join(folder, 'loaders'), scout: join(folder, 'scout'), netboot: join(folder, 'netboot') },
    stage2Sha256: 'abc',
    imageKey: 'KEY+/=',
    httpBase: 'http://10.77.0.1:7780',
    scoutArgs: ['hades.ssh_key=AAA'],
    onScript: (_, rendered) => told.push(rendered),
    onStranger: (request) => strangers.push(request),
  })
})
afterEach(async () => {
  await db.destroy()
  await rm(folder, { recursive: true })
})

async function ask(path = script): Promise<string> {
  const content = await resolve({ via: 'tftp', path, peerAddress: '10.0.0.1' })
  return content?.kind === 'rendered' ? content.body : (content?.path ?? '')
}
async function point(target: BootTarget, once = false): Promise<void> {
  now += 1
  await setBootTarget(db, hostId, { target, once }, now)
}
const recordOf = async () => (await bootRecordsOf(db, [hostId])).get(hostId)

test('a profile is booted with its arguments filled in, without an agent where the scout is meant', async () => {
  await point('netboot:rescue')
  expect(await ask()).toMatch(
    /linux \(tftp,\$server\)\/netboot\/rescue\/linux host=n1 console=tty0 .*hades\.agent=off hades\.ssh_key=AAA;/,
  )
  expect(told).toMatchObject([{ target: 'netboot:rescue', loader: 'grub', why: undefined }])
})

test('files of a profile are served from its folder, and no path or link leaves it', async () => {
  expect(await ask('netboot/rescue/linux')).toBe(join(folder, 'netboot/rescue/linux'))
  for (const path of ['netboot/rescue/link', 'netboot/../secret', 'netboot/rescue', 'netboot/', 'netboot/other/x']) {
    expect(await ask(path)).toBe('')
  }
})

test('a target for one boot is answered again while that boot may still ask, then the record falls back', async () => {
  await point('netboot:rescue', true)
  now += 10 * onceMs
  expect(await ask()).toContain('rescue')
  const asked = now
  now = asked + onceMs - 1
  expect(await ask()).toContain('rescue')
  expect(await recordOf()).toMatchObject({ target: 'netboot:rescue', isOnce: true, askedAt: asked })
  now = asked + onceMs
  expect(await ask()).toContain('boots its disk')
  expect(await recordOf()).toMatchObject({ target: 'local', isOnce: false })
  expect(told.at(-1)?.target).toBe('local')
})

test('a target that is set anew is for one boot anew', async () => {
  await point('netboot:rescue', true)
  await ask()
  now += onceMs - 1
  await point('netboot:rescue', true)
  now += onceMs - 1
  expect(await ask()).toContain('rescue')
  await point('local:2')
  now += 2 * onceMs
  await ask()
  now += 2 * onceMs
  expect(await ask()).toContain('boots partition 2')
})

test('a machine whose profile is gone, or needs an address that it has not, waits and is told why', async () => {
  await point('netboot:gone')
  expect(await ask()).toBe("echo 'hades: n1 is on hold: there is no profile gone'\n")
  expect(told).toMatchObject([{ target: 'hold', why: 'there is no profile gone' }])
  await putProfile(db, { name: 'net', kernel: 'linux', initrds: [], arguments: 'ip={{ip}}' }, now)
  await point('netboot:net')
  expect(await ask()).toContain('the host has no value for ip')
})

test('a loader that tells of its failure is heard, and it changes nothing', async () => {
  await point('local:7')
  await ask()
  const before = await recordOf()
  expect(await ask(`${script}/failed`)).toBe('# noted\n')
  expect(told.at(-1)).toMatchObject({ hasFailed: true, target: 'local:7' })
  expect(await recordOf()).toEqual(before)
})

test('a partition whose UUID the last proof has told is found by it, another by its number', async () => {
  await db.insertInto('setups').values({ name: 's', version: 1, xml: '', created_at: 1 }).execute()
  const image = { name: 'i', version: '1', digest: 'd', stored_bytes: 1 }
  const { engine, lingerSeconds } = defaultTransferPolicy
  const policy = { engine, lingerSeconds, egressBytesPerSecond: undefined, ingressBytesPerSecond: undefined }
  await addRollout(db, { setupId: 1, images: [image], hostIds: [hostId], policy }, now)
  const uuid = '2f0c1c4e-6b7e-4f7a-9a51-0d2f5a1b3c4d'
  const proof = JSON.stringify({ places: [{ place: 'system:2', partition: 2, partitionUuid: uuid }] })
  await db.updateTable('deployments').set({ proof }).execute()
  await point('local:2')
  expect(await ask()).toContain(uuid)
  await point('local:3')
  expect(await ask()).not.toContain(uuid)
})

test('a machine of no host is told nothing, or to boot its disk, as the policy says, and is told of either way', async () => {
  const unknown = 'grub/52-54-00-00-00-99'
  expect(await resolve({ via: 'tftp', path: unknown, peerAddress: '10.0.0.9' })).toBeUndefined()
  await setDiscoveryPolicy(db, 'local')
  const local = await ask(unknown)
  expect(local).not.toMatch(/vmlinuz|hades\.token/)
  await setBootTarget(db, hostId, { target: 'local' }, now)
  expect(local.replaceAll('00-99', '00-01').replaceAll('unknown', 'n1')).toBe(await ask())
  expect(strangers.map((one) => [one.mac, one.answer])).toEqual([
    ['52:54:00:00:00:99', 'nothing'],
    ['52:54:00:00:00:99', 'local'],
  ])
})
