import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { lookThrough } from './hygiene.ts'
import { Tree } from './tree.ts'

const key = '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n'

/** A tree of these files; a value that begins with `->` is a symbolic link. */
function treeOf(files: Readonly<Record<string, string>>) {
  const folder = mkdtempSync(join(tmpdir(), 'hades-tree-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const root = join(folder, 'root')
  mkdirSync(root)
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    if (text.startsWith('->')) symlinkSync(text.slice(2), join(root, path))
    else writeFileSync(join(root, path), text)
  }
  return { folder, root, tree: new Tree(root), read: (path: string) => readFileSync(join(root, path), 'latin1') }
}

const worn = {
  'etc/machine-id': '0123456789abcdef0123456789abcdef\n',
  'var/lib/dbus/machine-id': '->/etc/machine-id',
  'var/lib/systemd/random-seed': 'seed',
  'etc/hostname': 'n07\n',
  'etc/ssh/ssh_host_rsa_key': key,
  'etc/ssh/ssh_host_rsa_key.pub': 'ssh-rsa AAAA',
  'etc/ssh/sshd_config': 'Port 22\n',
  'etc/udev/rules.d/70-persistent-net.rules': 'SUBSYSTEM=="net", ATTR{address}=="52:54:00:00:00:01", NAME="eth0"\n',
  'etc/udev/rules.d/80-net.rules': 'anything\n',
  'etc/sysconfig/network-scripts/ifcfg-eth0': 'DEVICE=eth0\nHWADDR=52:54:00:00:00:01\nBOOTPROTO=dhcp\n',
  'etc/netplan/50.yaml': 'network:\n  ethernets:\n    a:\n      match:\n        macaddress: 52:54:00:00:00:01\n',
  'etc/NetworkManager/system-connections/a.nmconnection': '[ethernet]\nmac-address=52:54:00:00:00:01\n',
  'etc/systemd/network/10.link': '[Match]\nMACAddress=52:54:00:00:00:01\n',
  'etc/ssl/private/web.key': '-----BEGIN RSA PRIVATE KEY-----\n',
  'etc/ssl/certs/ca.pem': '-----BEGIN CERTIFICATE-----\n',
  'etc/krb5.keytab': 'x',
  'root/.bash_history': 'mysql --password=hunter2\n',
  'root/.ssh/authorized_keys': 'ssh-ed25519 AAAA\n',
  'home/ann/.ssh/id_ed25519': key,
  'home/ann/.aws/credentials': 'aws_secret_access_key = hunter2',
  'home/ann/.bash_history': 'ls\n',
  'var/lib/cloud/instances/i-1/user-data.txt': 'password: hunter2',
  'var/lib/cloud/scripts/per-boot/x': 'x',
  'var/log/syslog': 'x'.repeat(2 ** 20),
  'var/log/syslog.1': 'x',
  'var/log/journal/0123/system.journal': 'x',
}

test('what belongs to one machine is found by name, and never what it holds', async () => {
  const { tree } = treeOf(worn)
  const findings = await lookThrough(tree, { repair: false })
  expect(findings.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
    'machine-id /etc/machine-id',
    'machine-id /var/lib/systemd/random-seed',
    'ssh-host-key /etc/ssh/ssh_host_rsa_key',
    'ssh-host-key /etc/ssh/ssh_host_rsa_key.pub',
    'network-name /etc/udev/rules.d/70-persistent-net.rules',
    'network-name /etc/sysconfig/network-scripts/ifcfg-eth0',
    'network-name /etc/netplan/50.yaml',
    'network-name /etc/NetworkManager/system-connections/a.nmconnection',
    'network-name /etc/systemd/network/10.link',
    'host-name /etc/hostname',
    'secret /etc/krb5.keytab',
    'secret /home/ann/.aws/credentials',
    'secret /home/ann/.ssh/id_ed25519',
    'secret /etc/ssl/private/web.key',
    'history /root/.bash_history',
    'history /home/ann/.bash_history',
    'cloud-init /var/lib/cloud',
    'log /var/log',
  ])
  expect(findings.every(({ repaired }) => !repaired)).toBe(true)
  expect(JSON.stringify(findings)).not.toMatch(/hunter2|0123456789abcdef|AAAA/)
  expect(findings.find(({ path }) => path === '/root/.bash_history')?.text).toContain('password')
})

test('a repair mends what needs no decision, and a second look finds only the rest', async () => {
  const { tree, read } = treeOf(worn)
  const findings = await lookThrough(tree, { repair: true })
  const left = (await lookThrough(tree, { repair: true })).map(({ kind }) => kind)
  expect(new Set(left)).toEqual(new Set(['network-name', 'host-name', 'secret']))
  for (const { kind, path, repaired } of findings) {
    const isTold = ['host-name', 'secret'].includes(kind) || /netplan|NetworkManager|systemd\/network/.test(path)
    expect([path, repaired]).toEqual([path, !isTold])
  }
  expect(read('etc/machine-id')).toBe('')
  expect(read('etc/sysconfig/network-scripts/ifcfg-eth0')).toBe('DEVICE=eth0\nBOOTPROTO=dhcp\n')
  expect(read('etc/ssh/sshd_config')).toBe('Port 22\n')
  expect(read('home/ann/.ssh/id_ed25519')).toBe(key)
  expect(read('var/log/syslog')).toBe('')
  expect(tree.stat('/var/log/journal/0123/system.journal')).toBeUndefined()
  expect(read('var/lib/cloud/scripts/per-boot/x')).toBe('x')
})

test('a fresh system has nothing to be told of', async () => {
  const { tree } = treeOf({ 'etc/machine-id': '', 'etc/hostname': 'localhost\n', 'root/.bashrc': 'x' })
  expect(await lookThrough(tree, { repair: true })).toEqual([])
})

test('links of the captured system lead nowhere outside it', async () => {
  const { folder, tree } = treeOf({
    'etc/machine-id': '->../../outside',
    'etc/ssh': '->/../outside-ssh',
    'var/log': '->../../../../../../../../tmp',
    'root/.bash_history': '->/loop',
    loop: '->/loop',
  })
  writeFileSync(join(folder, 'outside'), '0123456789abcdef0123456789abcdef\n')
  mkdirSync(join(folder, 'outside-ssh'))
  writeFileSync(join(folder, 'outside-ssh', 'ssh_host_rsa_key'), key)
  expect(await lookThrough(tree, { repair: true })).toEqual([])
  expect(readFileSync(join(folder, 'outside'), 'latin1')).toContain('0123')
  expect(readFileSync(join(folder, 'outside-ssh', 'ssh_host_rsa_key'), 'latin1')).toBe(key)
})
