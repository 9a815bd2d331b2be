// The network configuration of one interface, found by its MAC address, in the words of the four systems that Linux
// distributions configure networks with. Pure.

export const networkSystems = ['netplan', 'NetworkManager', 'systemd-networkd', 'ifupdown'] as const
export type NetworkSystem = (typeof networkSystems)[number]

export type InterfaceConfig = {
  readonly mac: string
  /** Undefined: the interface asks DHCP. */
  readonly fixed?:
    | {
        readonly ip: string
        readonly prefixLength: number
        readonly gateway?: string | undefined
        readonly dns: readonly string[]
      }
    | undefined
}

export type ConfigFile = { readonly path: string; readonly mode: number; readonly text: string }

const writer = '# Written by HaDeS when it deployed this host.'

/** What to write for `system`. */
export function configFile(system: NetworkSystem, config: InterfaceConfig, uuid: string): ConfigFile {
  switch (system) {
    case 'netplan':
      return { path: '/etc/netplan/01-hades.yaml', mode: 0o600, text: netplan(config) }
    case 'NetworkManager': {
      const path = '/etc/NetworkManager/system-connections/hades.nmconnection'
      // NetworkManager takes no file that others may read.
      return { path, mode: 0o600, text: networkManager(config, uuid) }
    }
    case 'systemd-networkd':
      // The first file in the order of names that fits an interface is the only one that counts.
      return { path: '/etc/systemd/network/00-hades.network', mode: 0o644, text: networkd(config) }
    case 'ifupdown':
      return { path: '/etc/network/interfaces.d/hades', mode: 0o644, text: ifupdown(config) }
  }
}

// Everywhere DHCP identifies the host by its MAC address, as firmware and scout did: it gets the same address.

function networkd({ mac, fixed }: InterfaceConfig): string {
  // Bridges and VLANs carry the MAC address of the interface below them, but are no `ether`.
  const lines = [writer, '[Match]', `MACAddress=${mac}`, 'Type=ether', '', '[Network]']
  if (fixed === undefined) lines.push('DHCP=yes', '', '[DHCPv4]', 'ClientIdentifier=mac')
  else {
    lines.push(`Address=${fixed.ip}/${fixed.prefixLength}`)
    if (fixed.gateway !== undefined) lines.push(`Gateway=${fixed.gateway}`)
    for (const server of fixed.dns) lines.push(`DNS=${server}`)
  }
  return `${lines.join('\n')}\n`
}

function networkManager({ mac, fixed }: InterfaceConfig, uuid: string): string {
  const lines = [writer, '[connection]', 'id=hades', `uuid=${uuid}`, 'type=ethernet', 'autoconnect-priority=100', '']
  lines.push('[ethernet]', `mac-address=${mac.toUpperCase()}`, '', '[ipv4]')
  if (fixed === undefined) lines.push('method=auto', 'dhcp-client-id=mac')
  else {
    const gateway = fixed.gateway === undefined ? '' : `,${fixed.gateway}`
    lines.push('method=manual', `address1=${fixed.ip}/${fixed.prefixLength}${gateway}`)
    if (fixed.dns.length > 0) lines.push(`dns=${fixed.dns.join(';')};`)
  }
  return `${[...lines, '', '[ipv6]', 'method=auto'].join('\n')}\n`
}

function netplan({ mac, fixed }: InterfaceConfig): string {
  const lines = [writer, 'network:', '  version: 2', '  ethernets:', '    hades:', '      match:']
  lines.push(`        macaddress: "${mac}"`)
  if (fixed === undefined) lines.push('      dhcp4: true', '      dhcp-identifier: mac')
  else {
    lines.push('      dhcp4: false', '      addresses:', `        - "${fixed.ip}/${fixed.prefixLength}"`)
    if (fixed.gateway !== undefined)
      lines.push('      routes:', '        - to: 0.0.0.0/0', `          via: "${fixed.gateway}"`)
    if (fixed.dns.length > 0) {
      lines.push('      nameservers:', '        addresses:', ...fixed.dns.map((server) => `          - "${server}"`))
    }
  }
  return `${lines.join('\n')}\n`
}

function ifupdown({ mac, fixed }: InterfaceConfig): string {
  // interfaces(5): the interface whose /sys/class/net/*/address is this one, under the name of the stanza below.
  const lines = [writer, `auto /mac/${mac}/=hades`]
  if (fixed === undefined) lines.push('iface hades inet dhcp')
  else {
    lines.push('iface hades inet static', `    address ${fixed.ip}/${fixed.prefixLength}`)
    if (fixed.gateway !== undefined) lines.push(`    gateway ${fixed.gateway}`)
    if (fixed.dns.length > 0) lines.push(`    dns-nameservers ${fixed.dns.join(' ')}`)
  }
  return `${lines.join('\n')}\n`
}

/**
 * The text of /etc/network/interfaces that brings up the loopback and reads interfaces.d; everything else in the old text
 * is for interfaces of another machine, or would configure this one twice.
 */
export const plainInterfaces = `${writer} What was here is in interfaces.before-hades.
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
`

/** What an old configuration fixes, for the record: names of interfaces, MAC addresses and IPv4 addresses in it. */
export function fixedIn(text: string): readonly string[] {
  const found = new Set<string>()
  const lines = text.split('\n').filter((line) => !/^\s*[#;]/.test(line))
  for (const line of lines) {
    const [, name] =
      /^\s*(?:iface|auto|allow-hotplug)\s+(\S+)/.exec(line) ??
      /^\s*(?:Name|interface-name|DEVICE)\s*=\s*"?([^"\s]+)/i.exec(line) ??
      []
    if (name !== undefined && name !== 'lo') found.add(name)
    const [, ethernet] = /^\s*((?:en|eth|wl|ib|bond|br)[a-z0-9.]*):\s*$/.exec(line) ?? []
    if (ethernet !== undefined && ethernet !== 'ethernets') found.add(ethernet)
    for (const [address] of line.matchAll(/\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\b\d{1,3}(?:\.\d{1,3}){3}\b/gi)) {
      if (address !== '127.0.0.1') found.add(address)
    }
  }
  return [...found].slice(0, 16)
}
