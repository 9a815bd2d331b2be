// The cases that `hades explain` is measured by: what is done to a machine of the small site, and which cause must come out
// first. `null`: none, because nothing is wrong, or nothing known fits. tools/record-explain.ts runs them.
import { appendFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createLog } from '../src/agent/log.ts'
import { Origin } from '../src/agent/origin.ts'
import { chooseDisks } from '../src/model/choose-disk.ts'
import { causeChain, Failure } from '../src/model/failure.ts'
import { checkSignature } from '../src/model/image-signature.ts'
import { address, hostAddress, mac, type Site } from './explain-world.ts'

export type ExplainCase = {
  readonly name: string
  readonly expected: string | null
  /** How it was obtained, for the fixture. */
  readonly how: string
  readonly dhcp?: 'off'
  /** Spanning tree on the bridge, with this forward delay in hundredths of a second. */
  readonly stp?: number
  readonly run: (site: Site) => Promise<void>
  /** Console lines, and where they are from. */
  readonly console?: string
}

const failed = (site: Site, id: number) => site.reaches(id, ['failed', 'done'])

/** The agent as far as its step `disk`, then the failure that really comes out of `act`. */
async function agentFails(site: Site, act: () => unknown, log = ''): Promise<void> {
  const id = await site.deploy()
  const agent = await site.agent(await site.boot('bios'))
  await agent.step('disk')
  const error = await Promise.resolve()
    .then(act)
    .then(
      () => new Error('nothing failed'),
      (error: unknown) => error,
    )
  const code = error instanceof Failure ? error.code : 'internal'
  await agent.service.reportFailure({ deployment: id, step: 'disk', code, message: causeChain(error), log })
  await failed(site, id)
}

const disk = (path: string, serial: string) => ({
  path,
  serial,
  sizeBytes: 2 ** 32,
  sectorBytes: 512,
  rotational: false,
})
const anyDisk = { name: 'system', hints: [], erase: 'none', partitions: [] } as never

async function completed(site: Site, observe = '16s'): Promise<number> {
  const id = await site.deploy({ observe })
  const agent = await site.agent(await site.boot('bios'))
  await agent.step('transfer')
  await agent.complete()
  return id
}

const played = 'The machine is played by udhcpc and curl against the real DHCP, TFTP and HTTP servers in a namespace; '
const documented = 'The console lines are written from documentation, not recorded. '

/** A machine that stops after a stage of its boot until the boot deadline of its setup has passed. */
function stopsAfter(kind: 'bios' | 'uefi', stage: 'loader' | 'script' | 'kernel' | 'stage-1' | 'stage-2') {
  return async (site: Site) => {
    const id = await site.deploy()
    await site.boot(kind, stage)
    await failed(site, id)
  }
}

const powerCases: readonly ExplainCase[] = [
  {
    name: 'bmc-wrong-password',
    expected: 'bmc-password',
    how: 'ipmi_sim, and a power method with another password.',
    run: async (site) => {
      await site.control.changeHost({ name: 'n01', powerMethods: [{ ...site.powerMethod(), password: 'wrong' }] })
      await failed(site, await site.deploy({}, ''))
    },
  },
  {
    name: 'bmc-unreachable',
    expected: 'bmc-unreachable',
    how: 'A power method with an address at which nothing listens; read while the engine still tries.',
    run: async (site) => {
      const method = { ...site.powerMethod(), address: '127.99.99.99:6230' }
      await site.control.changeHost({ name: 'n01', powerMethods: [method] })
      await site.deploy({}, 'powering')
      await site.hasEvent('power-failed')
    },
  },
  {
    name: 'bmc-lies',
    expected: 'bmc-lies',
    how: 'ipmi_sim whose machine ignores what the controller has accepted; read while the engine still tries.',
    run: async (site) => {
      site.sim.behave('n01', 'ignores')
      await site.deploy({}, 'powering')
      await site.hasEvent('power-failed')
    },
  },
  {
    name: 'bmc-refuses',
    expected: 'bmc-refused',
    how: 'ipmi_sim whose controller answers every command with an error.',
    run: async (site) => {
      site.sim.behave('n01', 'refuses')
      await failed(site, await site.deploy({}, ''))
    },
  },
  {
    name: 'pxe-disabled',
    expected: 'network-boot-off',
    how: 'The controller says on, the machine asks for nothing, and never did before.',
    run: async (site) => failed(site, await site.deploy()),
  },
  {
    name: 'silent-after-power',
    expected: 'silent-after-power',
    how: `${played}it boots once before; in its deployment it asks for nothing.`,
    run: async (site) => {
      await site.boot('bios', 'script')
      await failed(site, await site.deploy())
    },
  },
  {
    name: 'not-switched',
    expected: 'not-switched',
    how: 'A host with the power method `manual` that nobody switches.',
    run: async (site) => {
      await site.control.changeHost({ name: 'n01', powerMethods: [{ driver: 'manual', options: [] }] })
      await failed(site, await site.deploy())
    },
  },
  {
    name: 'dhcp-mode-off',
    expected: 'dhcp-off',
    how: 'A service with --dhcp off, no other server, and a machine that asks in vain.',
    dhcp: 'off',
    run: async (site) => {
      const id = await site.deploy()
      await site.pxe('bios')
      await failed(site, id)
    },
  },
  {
    name: 'mac-unknown',
    expected: 'mac-unknown',
    how: `${played}its card has another MAC address than its host.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.machine('ip', 'link', 'set', 'machine', 'address', '52:54:00:77:00:99')
      await site.pxe('bios')
      await failed(site, id)
    },
  },
  {
    name: 'disk-before-network',
    expected: 'disk-before-network',
    how: `${played}after power-on only the DHCP request of an installed system comes.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.systemDhcp()
      await failed(site, id)
    },
  },
]

const dhcpCases: readonly ExplainCase[] = [
  {
    name: 'host-without-address',
    expected: 'no-address-given',
    how: `${played}the interface of its host has no IP address.`,
    run: async (site) => {
      await site.control.changeHost({ name: 'n01', interfaces: [{ mac }] })
      const id = await site.deploy()
      await site.pxe('bios')
      await failed(site, id)
    },
  },
  {
    name: 'duplicate-address',
    expected: 'duplicate-address',
    how: `${played}another machine has its address, and udhcpc -a finds that by ARP and declines.`,
    run: async (site) => {
      await site.other('ip', 'address', 'add', `${hostAddress}/24`, 'dev', 'other')
      const id = await site.deploy()
      await site.pxe('bios', { args: ['-a500'] })
      await failed(site, id)
    },
  },
  {
    name: 'second-dhcp-server',
    expected: 'second-dhcp-server',
    how: `${played}busybox udhcpd on another machine of the network offers first: a firewall drops our first offers, as a slow server would.`,
    run: async (site) => {
      await site.other('ip', 'address', 'add', '10.77.0.2/24', 'dev', 'other')
      const config = join(site.folder, 'udhcpd.conf')
      const lines = ['start 10.77.0.200', 'end 10.77.0.210', 'interface other', `static_lease ${mac} 10.77.0.200`]
      await writeFile(
        config,
        [...lines, `lease_file ${site.folder}/leases`, `pidfile ${site.folder}/pid`, ''].join('\n'),
      )
      await writeFile(join(site.folder, 'leases'), '')
      const id = await site.deploy()
      const rogue = site.other('timeout', '12', 'busybox', 'udhcpd', '-f', config)
      await site.block('ip saddr 10.77.0.1 udp sport 67 drop')
      await site.wait(1)
      await site.pxe('bios', { tries: 3 })
      await rogue
      await failed(site, id)
    },
  },
  {
    name: 'wrong-architecture-arm64',
    expected: 'wrong-architecture',
    how: `${played}option 93 says 11 (UEFI on ARM).`,
    run: async (site) => {
      const id = await site.deploy()
      await site.pxe('arm64')
      await failed(site, id)
    },
  },
  {
    name: 'wrong-architecture-ia32',
    expected: 'wrong-architecture',
    how: `${played}option 93 says 6 (32-bit UEFI).`,
    run: async (site) => {
      const id = await site.deploy()
      await site.pxe('uefi32')
      await failed(site, id)
    },
  },
  {
    name: 'stp-delay',
    expected: 'stp-delay',
    how: `${played}the bridge runs spanning tree and lets its port learn for 12 s; the boot deadline is shorter than ROMs wait.`,
    stp: 600,
    run: async (site) => {
      await site.machine('ip', 'link', 'set', 'machine', 'down')
      const id = await site.deploy({ boot: '24s' })
      await site.machine('ip', 'link', 'set', 'machine', 'up')
      await site.pxe('bios', { tries: 10, everyS: 2 })
      await failed(site, id)
    },
  },
  {
    name: 'firewall-of-the-server',
    expected: 'dhcp-server-failed',
    how: `${played}a firewall on the server itself drops what it sends from UDP 67.`,
    run: async (site) => {
      await site.firewall('output', 'udp sport 67 drop')
      const id = await site.deploy()
      await site.pxe('bios', { tries: 3 })
      await failed(site, id)
    },
  },
  {
    name: 'offers-do-not-arrive',
    expected: 'offer-not-taken',
    how: `${played}a firewall between them drops answers from UDP 67.`,
    run: async (site) => {
      await site.block('udp sport 67 drop')
      const id = await site.deploy()
      await site.pxe('bios', { tries: 4 })
      await failed(site, id)
    },
  },
]

const bootCases: readonly ExplainCase[] = [
  {
    name: 'tftp-answers-blocked',
    expected: 'tftp-blocked',
    how: `${played}a firewall between them drops UDP from the high ports of the server.`,
    run: async (site) => {
      await site.block('udp sport 1024-65535 drop')
      const id = await site.deploy({ boot: '60s' })
      await site.pxe('bios')
      await site.tftp('lpxelinux.0')
      await failed(site, id)
    },
  },
  {
    name: 'mtu-black-hole',
    expected: 'mtu',
    how: `${played}the port of the bridge has an MTU of 600, both ends have 1500, and the TFTP client asks for blocks of 1400.`,
    run: async (site) => {
      const id = await site.deploy({ boot: '60s' })
      await site.pxe('bios')
      await site.tftp('lpxelinux.0', ['--tftp-blksize', '1400'])
      await failed(site, id)
    },
  },
  {
    name: 'loader-not-asked',
    expected: 'loader-not-asked',
    how: `${played}a firewall on the server drops requests to UDP 69 and TCP 7780.`,
    run: async (site) => {
      await site.firewall('input', 'udp dport 69 drop')
      const id = await site.deploy()
      await site.pxe('bios')
      await site.tftp('lpxelinux.0')
      await failed(site, id)
    },
  },
  {
    name: 'loader-missing',
    expected: 'file-missing',
    how: `${played}the loaders' folder of the service lacks lpxelinux.0.`,
    run: async (site) => {
      await rm(join(site.folder, 'loaders', 'lpxelinux.0'))
      const id = await site.deploy()
      await site.boot('bios', 'loader')
      await failed(site, id)
    },
  },
  {
    name: 'secure-boot-silent',
    expected: 'secure-boot',
    how: `${played}as a UEFI firmware with Secure Boot it fetches the unsigned loader, refuses it and tries again.`,
    run: async (site) => {
      const id = await site.deploy({ boot: '20s' })
      await site.boot('uefi', 'loader')
      await site.boot('uefi', 'loader')
      await failed(site, id)
    },
  },
  {
    name: 'secure-boot-console',
    expected: 'secure-boot',
    how: `${played}${documented}`,
    console:
      'BdsDxe: failed to load Boot0003 "UEFI PXEv4 (MAC:525400770001)" from PciRoot(0x0)/Pci(0x2,0x0): Access Denied',
    run: stopsAfter('uefi', 'loader'),
  },
  {
    name: 'loader-without-network',
    expected: 'loader-no-network',
    how: `${played}it stops after its loader.`,
    run: stopsAfter('bios', 'loader'),
  },
  {
    name: 'script-of-second-card',
    expected: 'script-for-stranger',
    how: `${played}its loader asks for the script of another card's MAC address.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.boot('bios', 'loader')
      await site.http('ipxe/52-54-00-77-00-aa')
      await failed(site, id)
    },
  },
  {
    name: 'kernel-not-fetched',
    expected: 'kernel-not-fetched',
    how: `${played}a firewall on the server drops TCP 7780; the script comes by TFTP.`,
    run: async (site) => {
      await site.firewall('input', 'tcp dport 7780 drop')
      const id = await site.deploy()
      await site.boot('bios', 'script')
      await site.fetch('scout/vmlinuz')
      await failed(site, id)
    },
  },
  {
    name: 'kernel-missing',
    expected: 'file-missing',
    how: `${played}the scout's folder lacks its kernel.`,
    run: async (site) => {
      await rm(join(site.folder, 'scout', 'vmlinuz'))
      await stopsAfter('bios', 'kernel')(site)
    },
  },
  {
    name: 'loader-says-it-failed',
    expected: 'loader-could-not-boot',
    how: `${played}it asks for the path by which a loader tells that its script came to nothing.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.boot('bios', 'script')
      await site.http(`ipxe/${mac.replaceAll(':', '-')}/failed`)
      await failed(site, id)
    },
  },
  {
    name: 'scout-silent',
    expected: 'scout-silent',
    how: `${played}it stops after the kernel.`,
    run: stopsAfter('bios', 'kernel'),
  },
  {
    name: 'kernel-panic',
    expected: 'kernel-panic',
    how: `${played}${documented}`,
    console:
      '[    2.114]  Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n[    2.115] ---[ end Kernel panic',
    run: stopsAfter('bios', 'kernel'),
  },
  {
    name: 'no-carrier',
    expected: 'no-link',
    how: `${played}The console line is what scout/stage1/init writes in that case.`,
    console: 'hades-scout: link failed: no Ethernet link has carrier; links: eth0 eth1; this machine reboots in 60 s',
    run: stopsAfter('bios', 'kernel'),
  },
  {
    name: 'stage-2-blocked',
    expected: 'stage-2-not-fetched',
    how: `${played}a firewall on the server drops TCP 7780 after the kernel.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.boot('bios', 'stage-1')
      await site.firewall('input', 'tcp dport 7780 drop')
      await site.fetch('scout/stage2.squashfs')
      await failed(site, id)
    },
  },
  {
    name: 'stage-2-damaged',
    expected: 'stage-2-damaged',
    how: `${played}stage 2 was changed after the service read its digest; the scout fetches it again and again.`,
    run: async (site) => {
      await appendFile(join(site.folder, 'scout', 'stage2.squashfs'), 'damage')
      const id = await site.deploy()
      await site.boot('bios')
      await site.fetch('scout/stage2.squashfs')
      await site.fetch('scout/stage2.squashfs')
      await failed(site, id)
    },
  },
  {
    name: 'little-memory',
    expected: 'scout-out-of-memory',
    how: `${played}an earlier deployment found 512 MiB; this one ends after stage 2.`,
    run: async (site) => {
      const first = await site.deploy()
      const agent = await site.agent(await site.boot('bios'), { memoryBytes: 512 * 2 ** 20 })
      await agent.service.reportFailure({
        deployment: first,
        step: 'disk',
        code: 'disk-none',
        message: ['none'],
        log: '',
      })
      await stopsAfter('bios', 'stage-2')(site)
    },
  },
  {
    name: 'oom-console',
    expected: 'scout-out-of-memory',
    how: `${played}${documented}`,
    console: '[   14.2] Out of memory: Killed process 211 (node) total-vm:1204300kB, anon-rss:310200kB, file-rss:0kB',
    run: stopsAfter('bios', 'stage-2'),
  },
  {
    name: 'boot-loop',
    expected: 'boot-loop',
    how: `${played}it boots as far as the kernel three times.`,
    run: async (site) => {
      const id = await site.deploy({ boot: '40s' })
      for (let i = 0; i < 3; i += 1) await site.boot('bios', 'kernel')
      await failed(site, id)
    },
  },
]

const agentCases: readonly ExplainCase[] = [
  {
    name: 'token-replayed',
    expected: 'token-replayed',
    how: 'Two agents register with the same boot token; the service is real, the agents are its typed client.',
    run: async (site) => {
      await site.deploy()
      const token = await site.boot('bios')
      const first = await site.agent(token)
      await first.step('transfer')
      await site.agent(token).catch(() => undefined)
    },
  },
  {
    name: 'token-stale',
    expected: 'token-stale',
    how: 'An agent registers with the boot token of an earlier deployment.',
    run: async (site) => {
      const first = await site.deploy()
      const token = await site.boot('bios')
      await failed(site, first)
      const second = await site.deploy()
      await site.boot('bios')
      await site.agent(token).catch(() => undefined)
      await failed(site, second)
    },
  },
  {
    name: 'clock-wrong',
    expected: 'clock-wrong',
    how: 'An agent whose inventory says 2001; its failure has the words of OpenSSL for a certificate that is not yet valid, from documentation.',
    run: async (site) => {
      const id = await site.deploy()
      const agent = await site.agent(await site.boot('bios'), { clockAt: '2001-01-01T00:00:00Z' })
      const message = ['the origin could not be reached', 'certificate is not yet valid']
      await agent.service.reportFailure({ deployment: id, step: 'disk', code: 'origin-unreachable', message, log: '' })
      await failed(site, id)
    },
  },
  {
    name: 'tls-self-signed',
    expected: 'tls',
    how: 'The failure has the words of Node 26 for a server that shows a self-signed certificate (recorded from openssl s_server).',
    run: (site) =>
      agentFails(site, () => {
        const cause = new Error('self-signed certificate; code DEPTH_ZERO_SELF_SIGNED_CERT')
        throw new Failure('origin-unreachable', 'the manifest could not be fetched', { cause })
      }),
  },
  {
    name: 'disk-none',
    expected: 'disk-none',
    how: 'What chooseDisks really throws for a machine without disks.',
    run: (site) => agentFails(site, () => chooseDisks([], [anyDisk])),
  },
  {
    name: 'disk-ambiguous',
    expected: 'disk-ambiguous',
    how: 'What chooseDisks really throws for two equal disks.',
    run: (site) => agentFails(site, () => chooseDisks([disk('/dev/sda', 'A'), disk('/dev/sdb', 'B')], [anyDisk])),
  },
  {
    name: 'disk-error',
    expected: 'disk-error',
    how: 'The failure as the agent words it (src/agent/verify.ts); the log line is from the documentation of Linux.',
    run: (site) =>
      agentFails(
        site,
        () => {
          throw new Failure('disk-error', '/dev/sda does not hold what was written: frame 7 differs')
        },
        'blk_update_request: I/O error, dev sda, sector 57344 op 0x0:(READ)',
      ),
  },
  {
    name: 'image-unsigned',
    expected: 'image-corrupt',
    how: 'What checkSignature really throws for an image without a signature.',
    run: (site) =>
      agentFails(site, () =>
        checkSignature({ reference: 'tiny:1', digest: 'd'.repeat(64), signature: undefined, publicKey: '' }),
      ),
  },
  {
    name: 'origin-unreachable',
    expected: 'origin-unreachable',
    how: 'What the agent really throws for an origin at a port where nothing listens, with short limits.',
    run: (site) =>
      agentFails(site, async () => {
        const limits = { stallMs: 500, noProgressMs: 1500, wrongAnswersMax: 2, pauseMs: 50, pauseMsMax: 100 }
        const origin = new Origin({
          connections: 1,
          limits,
          log: createLog(() => {}),
          ingressBytesPerSecond: undefined,
        })
        const url = `http://${address}:9/manifest.json`
        await origin.fetchManifest(url, '0'.repeat(64), AbortSignal.timeout(20_000)).finally(() => origin.close())
      }),
  },
  {
    name: 'post-install-failed',
    expected: 'post-install-failed',
    how: 'A failure as the agent words it.',
    run: (site) =>
      agentFails(site, () => {
        throw new Failure('post-install-failed', 'script join-cluster ended with status 1')
      }),
  },
  {
    name: 'slow-link',
    expected: 'slow-link',
    how: 'An agent whose card runs at 100 Mbit/s, as its inventory says, and the deploy deadline passes in its transfer.',
    run: async (site) => {
      const id = await site.deploy({ deploy: '6s' })
      const interfaces = [{ name: 'eth0', mac, carrier: true, speedMbit: 100 }]
      const agent = await site.agent(await site.boot('bios'), { interfaces })
      await agent.step('transfer')
      await failed(site, id)
    },
  },
  {
    name: 'deadline',
    expected: 'too-slow',
    how: 'The deploy deadline passes in the transfer, on a link of 1 Gbit/s.',
    run: async (site) => {
      const id = await site.deploy({ deploy: '6s' })
      const agent = await site.agent(await site.boot('bios'))
      await agent.step('transfer')
      await failed(site, id)
    },
  },
  {
    name: 'agent-silent',
    expected: 'agent-silent',
    how: 'An agent that reports nothing for 130 s in its transfer.',
    run: async (site) => {
      const id = await site.deploy()
      const agent = await site.agent(await site.boot('bios'))
      await agent.step('transfer')
      await failed(site, id)
    },
  },
  {
    name: 'machine-restarted',
    expected: 'machine-restarted',
    how: `${played}it asks for its script again while its agent is at work.`,
    run: async (site) => {
      const id = await site.deploy()
      const agent = await site.agent(await site.boot('bios'))
      await agent.step('transfer')
      await site.boot('bios', 'script')
      await failed(site, id)
    },
  },
]

const systemCases: readonly ExplainCase[] = [
  {
    name: 'disk-does-not-boot',
    expected: 'disk-does-not-boot',
    how: `${played}after the proof it is sent to its disk three times.`,
    run: async (site) => {
      const id = await completed(site, '24s')
      for (let i = 0; i < 3; i += 1) await site.boot('bios', 'script')
      await failed(site, id)
    },
  },
  {
    name: 'probe-not-answered',
    expected: 'probe-not-answered',
    how: `${played}the new system asks for its address and has nothing on TCP 22.`,
    run: async (site) => {
      const id = await completed(site)
      await site.boot('bios', 'script')
      await site.systemDhcp()
      await failed(site, id)
    },
  },
  {
    name: 'system-hangs',
    expected: 'system-hangs',
    how: `${played}it is sent to its disk once, and nothing comes.`,
    run: async (site) => {
      const id = await completed(site)
      await site.boot('bios', 'script')
      await failed(site, id)
    },
  },
  {
    name: 'no-restart',
    expected: 'no-restart',
    how: 'After the proof nothing comes.',
    run: async (site) => failed(site, await completed(site)),
  },
  {
    name: 'service-restarted',
    expected: 'service-restarted',
    how: `${played}the service is stopped after the loader was fetched, and started again.`,
    run: async (site) => {
      const id = await site.deploy()
      await site.boot('bios', 'loader')
      await site.stop()
      await site.start()
      await failed(site, id)
    },
  },
]

const quietCases: readonly ExplainCase[] = [
  ...(['bios', 'uefi'] as const).map(
    (kind): ExplainCase => ({
      name: `healthy-${kind}`,
      expected: null,
      how: `${played}all goes well; the probe is answered by netcat on the machine.`,
      run: async (site) => {
        const id = await site.deploy()
        const agent = await site.agent(await site.boot(kind))
        await agent.step('transfer')
        await agent.complete()
        await site.boot(kind, 'script')
        await site.systemDhcp()
        const answering = site.machine('timeout', '30', 'busybox', 'nc', '-l', '-p', '22')
        await failed(site, id)
        await answering
      },
    }),
  ),
  {
    name: 'healthy-under-way',
    expected: null,
    how: `${played}read a moment after the kernel was fetched.`,
    run: async (site) => {
      await site.deploy({ boot: '120s' })
      await site.boot('bios', 'kernel')
    },
  },
  {
    name: 'healthy-just-on',
    expected: null,
    how: 'Read a moment after the controller has switched the machine on.',
    run: async (site) => void (await site.deploy({ boot: '120s' })),
  },
  {
    name: 'unknown-after-stage-2',
    expected: null,
    how: `${played}it stops after stage 2 with enough memory: nothing known fits, and that must be said.`,
    run: stopsAfter('bios', 'stage-2'),
  },
  {
    name: 'unknown-defect',
    expected: null,
    how: 'The agent fails by a defect: nothing known fits.',
    run: (site) => agentFails(site, () => undefined),
  },
]

export const explainCases: readonly ExplainCase[] = [
  ...powerCases,
  ...dhcpCases,
  ...bootCases,
  ...agentCases,
  ...systemCases,
  ...quietCases,
]
