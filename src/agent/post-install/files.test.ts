import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Content } from '../../model/layout.ts'
import type { Place } from '../place.ts'
import { writeSeed } from './cloud-init.ts'
import { parseIdentity } from './file-systems.ts'
import { writeFstab } from './fstab.ts'
import { addAuthorizedKeys, hostsWith, renewHostKeys, setMachineId, withKeys } from './identity.ts'
import { parseFstab } from './target.ts'
import { TargetRoot } from './target-root.ts'
import { put } from './test-system.ts'

let root: string
let tree: TargetRoot
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'hades-files-test-'))
  tree = new TargetRoot(root)
})
afterEach(() => rm(root, { recursive: true }))

const read = (name: string) => readFile(join(root, name), 'utf8')
const signal = new AbortController().signal

const place = (name: string, content: Content, uuid?: string): Place => ({
  name,
  content,
  device: { path: `/dev/${name}`, sizeBytes: 1, sectorBytes: 512 },
  uuid,
})

test('fstab has every mount of the setup from the root down, and swap; rows of no disk stay', async () => {
  await put(root, {
    'etc/fstab': '# old\nUUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\ntmpfs /tmp tmpfs size=1g 0 0\n',
  })
  const places = [
    place('a', { kind: 'filesystem', filesystem: 'vfat', mount: '/boot/efi' }, 'AA-BB'),
    place('b', { kind: 'filesystem', filesystem: 'ext4', mount: '/', options: 'noatime' }, 'u-root'),
    place('c', { kind: 'swap' }, 'u-swap'),
    place('d', { kind: 'filesystem', filesystem: 'xfs', mount: '/srv' }),
    place('e', { kind: 'filesystem', filesystem: 'ext4' }, 'u-none'),
  ]
  const { text } = await writeFstab(tree, places, [])
  expect((await read('etc/fstab')).split('\n').slice(1)).toEqual([
    'UUID=u-root / ext4 noatime 0 1',
    'UUID=u-swap none swap sw 0 0',
    '/dev/d /srv xfs defaults 0 0',
    'UUID=AA-BB /boot/efi vfat umask=0077 0 2',
    'tmpfs /tmp tmpfs size=1g 0 0',
    '',
  ])
  expect(text).toContain('2 rows of the image')
})

test('a setup that mounts nothing leaves the image’s fstab', async () => {
  await put(root, { 'etc/fstab': 'x' })
  expect(await writeFstab(tree, [place('a', { kind: 'image', image: 'i:1' })], [])).toMatchObject({
    outcome: 'skipped',
  })
  expect(await read('etc/fstab')).toBe('x')
})

const seed = { userData: '#cloud-config\n', deployment: 7, host: 'n01' }

test('a seed is a new instance with each deployment, and only root reads it', async () => {
  await put(root, { 'usr/bin/cloud-init': '' })
  const { text } = await writeSeed(tree, { ...seed, networkConfig: 'version: 2\n' })
  expect(text).toContain('network-config; instance hades-7')
  const folder = 'var/lib/cloud/seed/nocloud'
  expect(await read(`${folder}/meta-data`)).toBe('instance-id: hades-7\nlocal-hostname: n01\n')
  expect((await stat(join(root, folder, 'user-data'))).mode & 0o777).toBe(0o600)
  await writeSeed(tree, { ...seed, deployment: 8, metaData: 'local-hostname: x\n' })
  expect(await read(`${folder}/meta-data`)).toBe('instance-id: hades-8\nlocal-hostname: x\n')
  // What an earlier seed said of the network is gone.
  await expect(read(`${folder}/network-config`)).rejects.toThrow('ENOENT')
  expect(await read('etc/cloud/cloud.cfg.d/99-hades-seed.cfg')).toContain('NoCloud')
})

test('a seed that nobody would read is refused', async () => {
  await expect(writeSeed(tree, seed)).rejects.toThrow('the new system has no cloud-init')
  await put(root, { 'usr/bin/cloud-init': '', 'etc/cloud/cloud-init.disabled': '' })
  await expect(writeSeed(tree, seed)).rejects.toThrow('switched off in the image')
})

test('a machine id is new in both places, and `uninitialized` is the image’s own wish', async () => {
  expect(await setMachineId(tree)).toMatchObject({ outcome: 'skipped' })
  await put(root, { 'etc/machine-id': '', 'var/lib/dbus/machine-id': 'old\n' })
  await setMachineId(tree)
  expect(await read('etc/machine-id')).toMatch(/^[0-9a-f]{32}\n$/)
  expect(await read('var/lib/dbus/machine-id')).toBe(await read('etc/machine-id'))
  await put(root, { 'etc/machine-id': 'uninitialized\n' })
  expect(await setMachineId(tree)).toMatchObject({ outcome: 'skipped' })
})

test('host keys are of the kinds that the system had or its server names; others go', async () => {
  expect(await renewHostKeys(tree, 'n01', signal)).toMatchObject({ outcome: 'skipped' })
  await put(root, {
    'etc/ssh/sshd_config': 'Port 22\n',
    'etc/ssh/sshd_config.d/x.conf': 'HostKey /etc/ssh/ssh_host_ecdsa_key\n',
    'etc/ssh/ssh_host_dsa_key': 'old',
    'etc/ssh/ssh_host_dsa_key.pub': 'old',
  })
  const { text } = await renewHostKeys(tree, 'n01', signal)
  expect(text).toMatch(/^new SSH host keys: ecdsa SHA256:\S+$/)
  expect(await tree.list('/etc/ssh')).toEqual([
    'ssh_host_ecdsa_key',
    'ssh_host_ecdsa_key.pub',
    'sshd_config',
    'sshd_config.d',
  ])
  expect((await stat(join(root, 'etc/ssh/ssh_host_ecdsa_key'))).mode & 0o777).toBe(0o600)
  const first = await read('etc/ssh/ssh_host_ecdsa_key')
  await renewHostKeys(tree, 'n01', signal)
  expect(await read('etc/ssh/ssh_host_ecdsa_key')).not.toBe(first)
})

test('keys go to users that there are', async () => {
  await put(root, { 'etc/passwd': 'root:x:0:0::/root:/bin/sh\nghost:x:9:9::/nowhere:/bin/sh\n' })
  await expect(addAuthorizedKeys(tree, [{ user: 'alice', key: 'ssh-rsa AA' }])).rejects.toThrow('has no user alice')
  await expect(addAuthorizedKeys(tree, [{ user: 'ghost', key: 'ssh-rsa AA' }])).rejects.toThrow('/nowhere, is not in')
})

test('a key is there once, whatever its comment and options', () => {
  const old = 'from="10.0.0.1" ssh-ed25519 AAAA old@host'
  expect(withKeys(old, ['ssh-ed25519 AAAA new', 'ssh-ed25519 BBBB b', 'ssh-ed25519 BBBB c'])).toEqual({
    text: `${old}\nssh-ed25519 BBBB b\n`,
    added: 1,
  })
})

test('the hosts file names this machine once', () => {
  expect(hostsWith('', 'n01')).toBe('127.0.0.1\tlocalhost\n127.0.1.1\tn01\n')
  expect(hostsWith('127.0.0.1 localhost\n::1 localhost\n127.0.1.1 old\n', 'n01.a.b')).toBe(
    '127.0.0.1 localhost\n127.0.1.1\tn01.a.b n01\n::1 localhost\n',
  )
})

test('what blkid and fstab say is read', () => {
  const text = 'DEVNAME=/dev/x\nUUID=AB-CD\nTYPE=vfat\nLABEL=my\\ disk\nPART_ENTRY_NAME=esp\nPART_ENTRY_UUID=1\n'
  expect(parseIdentity(text)).toEqual({
    filesystem: 'vfat',
    uuid: 'AB-CD',
    label: 'my disk',
    partLabel: 'esp',
    partUuid: '1',
  })
  expect(parseFstab('# c\nUUID="1"  /boot//efi/ vfat noauto,umask=0077 0 1\nproc none proc\n\n')).toEqual([
    { source: 'UUID=1', at: '/boot/efi', filesystem: 'vfat', options: ['noauto', 'umask=0077'] },
  ])
})
