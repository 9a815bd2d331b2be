// Gives the interface that the host booted from its configuration in the new system, in the words of whatever configures
// networks there. What the image brought for other interfaces is told, and set aside where it would be in the way.
import { randomUUID } from 'node:crypto'
import { Failure } from '../../model/failure.ts'
import { type ActionResult, done } from './action.ts'
import {
  configFile,
  fixedIn,
  type InterfaceConfig,
  type NetworkSystem,
  networkSystems,
  plainInterfaces,
} from './network-files.ts'
import type { TargetRoot } from './target-root.ts'

/** Writes the configuration. Throws Failure `post-install-failed` when nothing in the system would read it. */
export async function setNetwork(tree: TargetRoot, config: InterfaceConfig): Promise<ActionResult> {
  const { system, remark } = await findNetworkSystem(tree)
  const file = configFile(system, config, randomUUID())
  const old = await setAside(tree, system, file.path)
  await tree.write(file.path, file.text, { mode: file.mode })
  const said = [`${file.path} for ${system}: ${config.mac} ${wordsOf(config)}`, ...remark]
  if (await writeResolver(tree, system, config)) said.push('/etc/resolv.conf names the DNS servers')
  if (await keepCloudInitOut(tree)) said.push('cloud-init leaves the network alone')
  return done([...said, ...old].join('; '))
}

function wordsOf({ fixed }: InterfaceConfig): string {
  if (fixed === undefined) return 'asks DHCP'
  return `has ${fixed.ip}/${fixed.prefixLength}${fixed.gateway === undefined ? '' : ` by way of ${fixed.gateway}`}`
}

const programs: Readonly<Record<NetworkSystem, readonly string[]>> = {
  netplan: ['/usr/sbin/netplan', '/usr/bin/netplan'],
  NetworkManager: ['/usr/sbin/NetworkManager', '/usr/bin/NetworkManager'],
  'systemd-networkd': ['/usr/lib/systemd/systemd-networkd', '/lib/systemd/systemd-networkd'],
  ifupdown: ['/usr/sbin/ifup', '/sbin/ifup'],
}

const networkdUnit = 'systemd-networkd.service'
const units: Partial<Record<NetworkSystem, readonly string[]>> = {
  NetworkManager: ['NetworkManager.service'],
  'systemd-networkd': [networkdUnit],
  ifupdown: ['networking.service'],
}

/** What configures the network there: netplan, else what is enabled, else the only one that could be. */
export async function findNetworkSystem(
  tree: TargetRoot,
): Promise<{ readonly system: NetworkSystem; readonly remark: readonly string[] }> {
  const installed: NetworkSystem[] = []
  for (const system of networkSystems) if (await hasOneOf(tree, programs[system])) installed.push(system)
  if (installed.includes('netplan')) return { system: 'netplan', remark: [] }
  const wanted = await enabledUnits(tree)
  const enabled = installed.filter((system) => units[system]?.some((unit) => wanted.has(unit)))
  const [system, ...others] = enabled
  if (system !== undefined) {
    return { system, remark: others.length === 0 ? [] : [`${others.join(' and ')} is enabled as well`] }
  }
  // A system without systemd starts ifupdown by its own scripts.
  if (installed.includes('ifupdown') && !installed.includes('systemd-networkd'))
    return { system: 'ifupdown', remark: [] }
  if (installed.length === 1 && installed[0] === 'systemd-networkd') {
    await tree.link(
      `/usr/lib/systemd/system/${networkdUnit}`,
      `/etc/systemd/system/multi-user.target.wants/${networkdUnit}`,
    )
    return { system: 'systemd-networkd', remark: ['systemd-networkd was not enabled, and is now'] }
  }
  const there =
    installed.length === 0 ? 'none of them is there' : `${installed.join(', ')} installed, none of them enabled`
  throw new Failure(
    'post-install-failed',
    `nothing in the new system would configure its network: of ${networkSystems.join(', ')} ${there}`,
  )
}

async function hasOneOf(tree: TargetRoot, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) if ((await tree.stat(path)) !== undefined) return true
  return false
}

/** The units that some target wants, as `systemctl enable` has left it; the links lead into the system and are only read. */
async function enabledUnits(tree: TargetRoot): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  for (const folder of await tree.list('/etc/systemd/system')) {
    if (!/\.(wants|requires)$/.test(folder)) continue
    for (const unit of await tree.list(`/etc/systemd/system/${folder}`)) names.add(unit)
  }
  return names
}

const asideSuffix = '.before-hades'

/** Tells what the image had configured, and takes out of the way what would count beside the new configuration. */
async function setAside(tree: TargetRoot, system: NetworkSystem, own: string): Promise<readonly string[]> {
  const said: string[] = []
  const tell = async (path: string, what: string) => {
    const fixed = fixedIn((await tree.read(path)) ?? '')
    said.push(`${path} of the image ${what}${fixed.length === 0 ? '' : ` (${fixed.join(', ')})`}`)
  }
  const others = async (folder: string, fits: (name: string) => boolean) => {
    const names = (await tree.list(folder)).filter((name) => fits(name) && !name.endsWith(asideSuffix))
    const files = names.map((name) => `${folder}/${name}`).filter((path) => path !== own)
    const isFile = await Promise.all(files.map(async (path) => (await tree.stat(path))?.isFile()))
    return files.filter((_, index) => isFile[index])
  }
  const aside = async (path: string) => {
    await tell(path, 'is set aside')
    await tree.rename(path, `${path.slice(path.lastIndexOf('/') + 1)}${asideSuffix}`)
  }
  switch (system) {
    case 'netplan':
      for (const path of await others('/etc/netplan', (name) => name.endsWith('.yaml'))) await aside(path)
      break
    case 'NetworkManager':
      for (const path of await others('/etc/NetworkManager/system-connections', () => true)) await tell(path, 'stays')
      for (const path of await others('/etc/sysconfig/network-scripts', (name) => /^ifcfg-(?!lo$)/.test(name))) {
        await tell(path, 'stays')
      }
      break
    case 'systemd-networkd':
      for (const path of await others('/etc/systemd/network', (name) => name.endsWith('.network'))) {
        // Only a name that sorts before ours would count for this interface.
        if (path < own) await aside(path)
        else await tell(path, 'stays for other interfaces')
      }
      break
    case 'ifupdown': {
      const main = '/etc/network/interfaces'
      const old = await tree.read(main)
      if (old !== undefined && old !== plainInterfaces) {
        await tell(main, `is set aside`)
        await tree.write(`${main}${asideSuffix}`, old)
      }
      await tree.write(main, plainInterfaces)
      for (const path of await others('/etc/network/interfaces.d', () => true)) {
        await tell(path, 'is set aside')
        await tree.write(
          `/etc/network/${path.slice(path.lastIndexOf('/') + 1)}${asideSuffix}`,
          (await tree.read(path)) ?? '',
        )
        await tree.remove(path)
      }
    }
  }
  return said
}

/** Where nothing keeps /etc/resolv.conf up to date, it is a file, and nobody else would write the servers there. */
async function writeResolver(tree: TargetRoot, system: NetworkSystem, { fixed }: InterfaceConfig): Promise<boolean> {
  if (fixed === undefined || fixed.dns.length === 0 || system === 'NetworkManager') return false
  const { stats } = await tree.locate('/etc/resolv.conf', { follow: false })
  if (stats?.isSymbolicLink()) return false
  await tree.write('/etc/resolv.conf', fixed.dns.map((server) => `nameserver ${server}\n`).join(''))
  return true
}

/** cloud-init would write its own configuration of the network at the first boot, which asks DHCP. */
async function keepCloudInitOut(tree: TargetRoot): Promise<boolean> {
  if ((await tree.stat('/etc/cloud/cloud.cfg')) === undefined) return false
  await tree.write('/etc/cloud/cloud.cfg.d/99-hades-network.cfg', 'network: {config: disabled}\n')
  return true
}
