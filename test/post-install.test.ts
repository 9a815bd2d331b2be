// A copy of an image becomes a system of its own: one machine is deployed with everything that a setup can ask for after the
// images, starts its kernel without the firmware, and says over SSH what it is.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, eventsOf, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import type { DeploymentView, EventView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const config = readLabConfig(`
network: hades-post
subnet: 10.84.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [2GiB], address: 10.84.0.11, bmc: 10.84.0.101 }
`)
const address = '10.84.0.11'

// The image waits for a name by DHCP before it starts its SSH server; this system has a name of its own. The seed is for a
// cloud-init, which this small image does not have: something has to stand where it would be.
const setupOf = (publicKey: string) => `<?xml version="1.0" encoding="UTF-8"?>
<setup xmlns="urn:hades:setup:1" name="own">
  <disk><image>debian:12</image></disk>
  <post-install>
    <hostname>web01.example</hostname>
    <network mode="static" prefix="24" gateway="10.84.0.1" dns="10.84.0.1"/>
    <ssh><authorized-key>${publicKey}</authorized-key></ssh>
    <machine-id/>
    <grow/>
    <cloud-init><user-data>#cloud-config
final_message: seed of the test
</user-data></cloud-init>
    <script name="no-waiting">#!/bin/sh -e
sed -i 's/^tries=150$/tries=0/' /usr/local/sbin/start-sshd
[ -e /usr/bin/cloud-init ] || ln -s /bin/true /usr/bin/cloud-init
echo "$HADES_HOST on $(cat /etc/hostname)" >/etc/made-in-chroot</script>
    <script name="from-outside" in="scout">cat /proc/sys/kernel/osrelease >"$HADES_ROOT/etc/made-by-scout"</script>
  </post-install>
  <transfer engine="http" linger="0s"/>
  <finish action="kexec"/>
  <probe><tcp port="22" expect="SSH-2.0"/></probe>
  <deadlines boot="10min" deploy="20min" observe="5min" attempts="2"/>
</setup>`

let folder: string
let cluster: Cluster
let deployment: DeploymentView
let events: readonly EventView[]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-post-'))
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'key')])
  cluster = await openCluster(config, folder, { address: '10.84.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  await publish(cluster, join(root, 'build', 'os-image', 'current', 'debian.raw'), 'debian:12')
  await cluster.control.putSetup({ xml: setupOf((await readFile(join(folder, 'key.pub'), 'utf8')).trim()) })
  const { rollout } = await cluster.control.startRollout({ nodeset: 'n01', setup: 'own' })
  deployment = await until(
    'the new system',
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments[0]
    },
    { timeoutMs: 500_000, everyMs: 500 },
  )
  events = await eventsOf(cluster, deployment.id)
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

/** Logs in with the key that the setup gave, trusting only the host key that the proof names. */
async function ssh(command: string): Promise<string> {
  const options = ['BatchMode=yes', `UserKnownHostsFile=${join(folder, 'known')}`, 'HashKnownHosts=no']
  const args = ['-i', join(folder, 'key'), ...options.flatMap((option) => ['-o', option]), `root@${address}`, command]
  return (await cluster.inside('ssh', ...args)).trim()
}

const textOf = (name: string) => deployment.proof?.actions.find((action) => action.name === name)?.text ?? ''

test('the record has every action, each done', () => {
  expect(deployment, JSON.stringify({ deployment, events: events.slice(-10) }, null, 1)).toMatchObject({
    state: 'done',
  })
  const actions = deployment.proof?.actions.map(({ name, outcome }) => `${name} ${outcome}`)
  const names = ['grow', 'root', 'hostname', 'machine-id', 'ssh-host-keys', 'authorized-keys', 'network']
  const expected = [...names, 'script no-waiting', 'script from-outside', 'cloud-init'].map((name) => `${name} done`)
  expect(actions).toEqual(expected)
  expect(events.filter(({ kind }) => kind === 'post-install')).toHaveLength(expected.length)
})

test('the system is what the record says, and only who was let in gets in', async () => {
  const [, print = ''] = /ed25519 (\S+)/.exec(textOf('ssh-host-keys')) ?? []
  const scanned = await cluster.inside('ssh-keyscan', '-t', 'ed25519', address)
  await writeFile(join(folder, 'known'), scanned)
  const { stdout } = await execa('ssh-keygen', ['-l', '-f', join(folder, 'known')])
  expect(stdout.split(' ')[1]).toBe(print)
  const show = 'hostname; cat /etc/machine-id /etc/made-in-chroot; ip -brief -4 address show scope global'
  const [name, machineId, made, ip] = (await ssh(show)).split('\n')
  expect(name).toBe('web01.example')
  expect(textOf('machine-id')).toContain(machineId)
  expect(made).toBe('n01 on web01.example')
  expect(ip).toContain('10.84.0.11/24')
  expect(await ssh('ip route show default; cat /etc/resolv.conf')).toMatch(
    /via 10\.84\.0\.1.*\nnameserver 10\.84\.0\.1/,
  )
  expect(await ssh('getent hosts 127.0.1.1')).toMatch(/web01\.example web01/)
  expect(Number(await ssh('df --output=size -B1 / | tail -n 1'))).toBeGreaterThan(1.7 * 1024 ** 3)
  expect(await ssh('cat /var/lib/cloud/seed/nocloud/*')).toContain(`instance-id: hades-${deployment.id}\n`)
  expect(await ssh('cat /etc/made-by-scout; uname -r')).not.toMatch(/^(.*)\n\1$/)
})

test('the new kernel was started by the scout, not by firmware', () => {
  expect(events.find(({ kind }) => kind === 'kexec')?.text).toContain('/boot/vmlinuz-')
  const handedOver = events.findIndex(({ kind }) => kind === 'completed')
  expect(handedOver).toBeGreaterThan(0)
  expect(events.slice(handedOver).map(({ kind }) => kind)).not.toContain('boot-script')
})
