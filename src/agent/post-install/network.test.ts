import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { setNetwork } from './network.ts'
import { TargetRoot } from './target-root.ts'
import { networkTrees, put } from './test-system.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'hades-network-test-'))
})
afterEach(() => rm(root, { recursive: true }))

const mac = '52:54:00:12:34:56'
const fixed = { mac, fixed: { ip: '10.0.0.5', prefixLength: 24, gateway: '10.0.0.1', dns: ['10.0.0.2', '10.0.0.3'] } }
const read = (name: string) => readFile(join(root, name), 'utf8')
const modeOf = async (name: string) => (await stat(join(root, name))).mode & 0o777
const set = (config: Parameters<typeof setNetwork>[1]) => setNetwork(new TargetRoot(root), config)

test('netplan gets a file of its own, and the image’s are set aside', async () => {
  await put(root, networkTrees.netplan)
  const { text } = await set(fixed)
  expect(await read('etc/netplan/01-hades.yaml')).toBe(`# Written by HaDeS when it deployed this host.
network:
  version: 2
  ethernets:
    hades:
      match:
        macaddress: "${mac}"
      dhcp4: false
      addresses:
        - "10.0.0.5/24"
      routes:
        - to: 0.0.0.0/0
          via: "10.0.0.1"
      nameservers:
        addresses:
          - "10.0.0.2"
          - "10.0.0.3"
`)
  expect(await modeOf('etc/netplan/01-hades.yaml')).toBe(0o600)
  expect(await readdir(join(root, 'etc/netplan'))).toEqual(['01-hades.yaml', '50-cloud-init.yaml.before-hades'])
  expect(text).toContain('/etc/netplan/50-cloud-init.yaml of the image is set aside (ens3)')
})

test('NetworkManager gets a key file that only root reads, and old connections are told', async () => {
  await put(root, networkTrees.NetworkManager)
  const { text } = await set(fixed)
  const file = 'etc/NetworkManager/system-connections/hades.nmconnection'
  expect(await read(file)).toContain(`[ethernet]\nmac-address=${mac.toUpperCase()}\n`)
  expect(await read(file)).toContain('method=manual\naddress1=10.0.0.5/24,10.0.0.1\ndns=10.0.0.2;10.0.0.3;\n')
  expect(await modeOf(file)).toBe(0o600)
  expect(text).toContain('old.nmconnection of the image stays (ens9)')
})

test('systemd-networkd gets the first file in order, by MAC address and only for an ether', async () => {
  await put(root, networkTrees['systemd-networkd'])
  const { text } = await set(fixed)
  const written = await read('etc/systemd/network/00-hades.network')
  expect(written).toContain(`[Match]\nMACAddress=${mac}\nType=ether\n`)
  expect(written).toContain('Address=10.0.0.5/24\nGateway=10.0.0.1\nDNS=10.0.0.2\nDNS=10.0.0.3\n')
  expect(await read('etc/resolv.conf')).toBe('nameserver 10.0.0.2\nnameserver 10.0.0.3\n')
  expect(text).toContain('50-dhcp.network of the image stays for other interfaces (ens4, 192.0.2.7)')
})

test('ifupdown finds the interface by its MAC address, and nothing else of the image configures one', async () => {
  await put(root, networkTrees.ifupdown)
  const { text } = await set(fixed)
  expect(await read('etc/network/interfaces.d/hades')).toContain(
    `auto /mac/${mac}/=hades\niface hades inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n`,
  )
  expect(await read('etc/network/interfaces')).not.toContain('eth0')
  expect(await read('etc/network/interfaces.before-hades')).toContain('eth0')
  expect(await readdir(join(root, 'etc/network/interfaces.d'))).toEqual(['hades'])
  expect(text).toContain('/etc/network/interfaces of the image is set aside (eth0, 192.0.2.9)')
  expect(text).toContain('/etc/network/interfaces.d/extra of the image is set aside (eth1)')
  await set({ mac })
  expect(await read('etc/network/interfaces.before-hades')).toContain('eth0')
  expect(await read('etc/network/interfaces.d/hades')).toContain('iface hades inet dhcp')
})

test.each(Object.entries(networkTrees))('%s asks DHCP under the MAC address', async (system, files) => {
  await put(root, files)
  const { text } = await set({ mac })
  expect(text).toContain(`for ${system}: ${mac} asks DHCP`)
})

test('a system in which nothing configures the network is refused, with what was looked for', async () => {
  await expect(set(fixed)).rejects.toThrow(/nothing in the new system would configure its network: of netplan/)
})

test('systemd-networkd is enabled where it is all there is', async () => {
  await put(root, { 'usr/lib/systemd/systemd-networkd': '' })
  expect((await set(fixed)).text).toContain('systemd-networkd was not enabled, and is now')
  expect(await readdir(join(root, 'etc/systemd/system/multi-user.target.wants'))).toEqual(['systemd-networkd.service'])
})

test('cloud-init is told to leave the network alone', async () => {
  await put(root, { ...networkTrees['systemd-networkd'], 'etc/cloud/cloud.cfg': '' })
  await set(fixed)
  expect(await read('etc/cloud/cloud.cfg.d/99-hades-network.cfg')).toBe('network: {config: disabled}\n')
})
