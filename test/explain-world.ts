// A small site for recording stories: the real service with its DHCP, TFTP and HTTP on a bridge, a controller of ipmi_sim, and
// a machine that is played at its edge by ordinary clients (udhcpc, curl) in a namespace of its own. It runs inside the
// namespaces that tools/record-explain.ts makes.
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { scriptPathFor } from '../src/boot/scripts.ts'
import { createClient } from '../src/client/client.ts'
import { controlPort } from '../src/contract/control.ts'
import { servicePort } from '../src/contract/service.ts'
import type { Inventory } from '../src/contract/types.ts'
import { openDatabase } from '../src/db/open.ts'
import { Secret } from '../src/lib/secret.ts'
import { until } from '../src/lib/until.ts'
import { readConfig } from '../src/main/config.ts'
import { type Hadesd, startHadesd } from '../src/main/hadesd.ts'
import type { Story } from '../src/model/explain/story.ts'
import { readStory } from '../src/operations/explain.ts'
import { exampleInventory, exampleProof } from '../src/operations/testing.ts'
import { type IpmiSim, startIpmiSim } from '../src/power/ipmi-sim.ts'

export const address = '10.77.0.1'
export const mac = '52:54:00:77:00:01'
export const hostAddress = '10.77.0.11'
const base = `http://${address}:7780`

/** As firmware names itself: option 60, and option 93 in hex. */
export const firmware = {
  bios: { vendorClass: 'PXEClient:Arch:00000:UNDI:002001', arch: '0000' },
  uefi: { vendorClass: 'PXEClient:Arch:00007:UNDI:003016', arch: '0007' },
  uefi32: { vendorClass: 'PXEClient:Arch:00006:UNDI:003016', arch: '0006' },
  arm64: { vendorClass: 'PXEClient:Arch:00011:UNDI:003016', arch: '000b' },
} as const

export type SiteOptions = {
  readonly dhcp?: 'full' | 'off'
  readonly namespaces: { readonly machine: string; readonly other: string }
}

type Deadlines = {
  readonly boot?: string
  readonly deploy?: string
  readonly observe?: string
  readonly attempts?: number
}

/** Opens the site. Host n01 is known, with its card, its controller and one image. */
export async function openSite(options: SiteOptions): Promise<Site> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-explain-'))
  const scout = join(folder, 'scout')
  const loaders = join(folder, 'loaders')
  await mkdir(scout)
  await mkdir(loaders)
  const stage2 = randomBytes(3_000_000)
  await writeFile(join(scout, 'vmlinuz'), randomBytes(400_000))
  await writeFile(join(scout, 'stage1.img'), randomBytes(600_000))
  await writeFile(join(scout, 'stage2.squashfs'), stage2)
  await writeFile(
    join(scout, 'scout.json'),
    JSON.stringify({ files: { 'stage2.squashfs': { sha256: createHash('sha256').update(stage2).digest('hex') } } }),
  )
  for (const loader of ['lpxelinux.0', 'grubpc.0', 'grubx64.efi', 'snponly.efi', 'undionly.kpxe']) {
    await writeFile(join(loaders, loader), randomBytes(90_000))
  }
  const sim = await startIpmiSim({ machines: [{ name: 'n01' }] })
  const site = new Site(folder, sim, options)
  await site.start()
  const image = join(folder, 'tiny.raw')
  await writeFile(image, Buffer.alloc(1024 * 1024, 'hades'))
  const { task } = await site.control.publishImage({ reference: 'tiny:1', path: image })
  await until('the image', async () => (await site.control.getTask({ task: task.id })).task.state === 'done', {
    timeoutMs: 60_000,
  })
  const powerMethods = [site.powerMethod()]
  await site.control.addHost({ name: 'n01', interfaces: [{ mac, ip: hostAddress }], powerMethods })
  return site
}

export class Site {
  readonly folder: string
  readonly sim: IpmiSim
  readonly control
  readonly #options: SiteOptions
  #hadesd: Hadesd | undefined

  constructor(folder: string, sim: IpmiSim, options: SiteOptions) {
    this.folder = folder
    this.sim = sim
    this.#options = options
    this.control = createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'data', 'control.sock') })
  }

  async start(): Promise<void> {
    const flags = {
      data: join(this.folder, 'data'),
      address,
      dhcp: this.#options.dhcp ?? 'full',
      confirmAbove: '100',
      loaders: join(this.folder, 'loaders'),
      scout: join(this.folder, 'scout'),
      'log.level': 'error',
    }
    const { config } = await readConfig({ file: '/dev/null', env: {}, flags })
    this.#hadesd = await startHadesd(config)
  }

  async stop(): Promise<void> {
    await this.#hadesd?.close()
    this.#hadesd = undefined
  }

  async close(): Promise<void> {
    await this.stop()
    await this.sim.close()
    await rm(this.folder, { recursive: true, force: true })
  }

  powerMethod() {
    const { driver, address: at, username, password } = this.sim.method('n01')
    return {
      driver,
      address: at,
      username,
      password: password.reveal(),
      options: [] as { name: string; value: string }[],
    }
  }

  /** Starts a rollout of n01 alone and waits until its machine is switched on, or whatever else is asked for. */
  async deploy(deadlines: Deadlines = {}, state = 'booting'): Promise<number> {
    const { boot = '14s', deploy = '10min', observe = '10min', attempts = 1 } = deadlines
    const times = `boot="${boot}" deploy="${deploy}" observe="${observe}" attempts="${attempts}"`
    const xml = `<setup xmlns="urn:hades:setup:1" name="tiny"><disk><image>tiny:1</image></disk>
      <probe><tcp port="22"/></probe><deadlines ${times}/></setup>`
    await this.control.putSetup({ xml })
    const { rollout } = await this.control.startRollout({ nodeset: 'n01', setup: 'tiny' })
    const id = rollout.deployments[0]?.id ?? 0
    if (state !== '') await this.reaches(id, [state])
    return id
  }

  async reaches(id: number, states: readonly string[]): Promise<void> {
    const is = async () => states.includes((await this.control.getDeployment({ deployment: id })).deployment.state)
    await until(states.join(' or '), is, { timeoutMs: 300_000, everyMs: 50 })
  }

  async hasEvent(kind: string): Promise<void> {
    const has = async () => (await this.control.listEvents({ nodeset: 'n01' })).events.some((e) => e.kind === kind)
    await until(kind, has, { timeoutMs: 300_000, everyMs: 100 })
  }

  /** Runs a command in the machine's namespace; what it answers is its own business. */
  async machine(...command: string[]): Promise<string> {
    return (await this.#in(this.#options.namespaces.machine, command)).stdout
  }

  /** The same on another machine of the network. */
  async other(...command: string[]): Promise<string> {
    return (await this.#in(this.#options.namespaces.other, command)).stdout
  }

  async #in(namespace: string, command: readonly string[]) {
    return await execa('ip', ['netns', 'exec', namespace, ...command], {
      reject: false,
      timeout: 120_000,
      maxBuffer: 2 ** 24,
    })
  }

  /** One rule of a firewall on the server itself. */
  async firewall(chain: 'input' | 'output', rule: string): Promise<void> {
    await execa('nft', ['add', 'table', 'inet', 't'])
    await execa('nft', ['add', 'chain', 'inet', 't', chain, `{ type filter hook ${chain} priority 0; }`])
    await execa('nft', ['add', 'rule', 'inet', 't', chain, ...rule.split(' ')])
  }

  /** One rule of a firewall in the network, on the way from the server to the machine. */
  async block(rule: string): Promise<void> {
    await execa('nft', ['add', 'table', 'netdev', 't'])
    await execa('nft', [
      'add',
      'chain',
      'netdev',
      't',
      'e',
      '{ type filter hook egress device "p-machine" priority 0; }',
    ])
    await execa('nft', ['add', 'rule', 'netdev', 't', 'e', ...rule.split(' ')])
  }

  /** The machine's DHCP, as the firmware, scout or system that `args` say; takes the address. True when it got one. */
  async dhcp(args: readonly string[], { tries = 2, everyS = 2 } = {}): Promise<boolean> {
    const script = join(this.folder, 'udhcpc.sh')
    const take = 'ip address flush dev "$interface"; ip address add "$ip/24" dev "$interface"'
    await writeFile(script, `#!/bin/sh\n[ "$1" = bound ] && { ${take}; echo "bound $ip"; }\nexit 0\n`)
    await chmod(script, 0o755)
    const times = ['-t', String(tries), '-T', String(everyS)]
    const said = await this.machine(
      'busybox',
      'udhcpc',
      '-i',
      'machine',
      '-f',
      '-q',
      '-n',
      '-s',
      script,
      ...times,
      ...args,
    )
    return said.includes('bound')
  }

  async pxe(
    kind: keyof typeof firmware,
    how: { tries?: number; everyS?: number; args?: string[] } = {},
  ): Promise<boolean> {
    const { vendorClass, arch } = firmware[kind]
    await this.machine('ip', 'address', 'flush', 'dev', 'machine')
    return await this.dhcp(['-V', vendorClass, '-x', `0x5d:${arch}`, ...(how.args ?? [])], how)
  }

  async scoutDhcp(): Promise<boolean> {
    await this.machine('ip', 'address', 'flush', 'dev', 'machine')
    return await this.dhcp(['-V', 'hades-scout'])
  }

  async systemDhcp(): Promise<boolean> {
    await this.machine('ip', 'address', 'flush', 'dev', 'machine')
    return await this.dhcp([])
  }

  async tftp(path: string, options: readonly string[] = []): Promise<void> {
    await this.machine('curl', '-s', '-m', '60', ...options, '-o', '/dev/null', `tftp://${address}/${path}`)
  }

  async http(path: string): Promise<string> {
    return await this.machine('curl', '-s', '-m', '5', `${base}/boot/${path}`)
  }

  async fetch(path: string): Promise<void> {
    await this.machine('curl', '-s', '-m', '20', '-o', '/dev/null', `${base}/boot/${path}`)
  }

  /** As pxelinux does it; GRUB fetches the same by TFTP. */
  async kernel(): Promise<void> {
    await this.fetch('scout/vmlinuz')
    await this.fetch('scout/stage1.img')
  }

  async script(loader: 'pxelinux' | 'grub' | 'ipxe'): Promise<string> {
    const path = scriptPathFor(loader, mac)
    if (loader === 'ipxe') return await this.http(path)
    return await this.machine('curl', '-s', '-m', '5', `tftp://${address}/${path}`)
  }

  /** From the firmware's DHCP to the fetched stage 2; gives the boot token of the script. */
  async boot(
    kind: 'bios' | 'uefi',
    until: 'loader' | 'script' | 'kernel' | 'stage-1' | 'stage-2' = 'stage-2',
  ): Promise<string> {
    await this.pxe(kind)
    await this.tftp(kind === 'bios' ? 'lpxelinux.0' : 'grubx64.efi')
    if (until === 'loader') return ''
    const script = await this.script(kind === 'bios' ? 'pxelinux' : 'grub')
    const token = /hades\.token=([^\s;]+)/.exec(script)?.[1] ?? ''
    if (until === 'script') return token
    if (kind === 'bios') await this.kernel()
    else for (const file of ['scout/vmlinuz', 'scout/stage1.img']) await this.tftp(file)
    if (until === 'kernel') return token
    await this.scoutDhcp()
    if (until === 'stage-1') return token
    await this.fetch('scout/stage2.squashfs')
    return token
  }

  /** Registers as the machine's agent does. */
  async agent(token: string, inventory: Partial<Inventory> = {}) {
    const client = (bearer: string) =>
      createClient(servicePort, { kind: 'http', baseUrl: base, token: new Secret(bearer) })
    const interfaces = [{ name: 'eth0', mac, carrier: true, speedMbit: 1000 }]
    const look: Inventory = { ...exampleInventory, memoryBytes: 4 * 2 ** 30, interfaces, ...inventory }
    const input = { host: 'n01', agent: randomUUID(), agentVersion: '0', inventory: look }
    const { deployment, sessionKey } = await client(token).registerHost(input)
    const service = client(sessionKey)
    const step = async (name: 'disk' | 'transfer' | 'verify') => {
      const progress = { deployment, step: name, doneBytes: 1, totalBytes: 1048576, bytesPerSecond: 1000 }
      await service.reportProgress(progress)
    }
    return {
      deployment,
      service,
      step,
      complete: () => service.completeDeployment({ deployment, proof: exampleProof }),
    }
  }

  async wait(seconds: number): Promise<void> {
    await delay(seconds * 1000)
  }

  /** What is known of n01 now. */
  async story(console = ''): Promise<Story> {
    await delay(300)
    const db = await openDatabase(join(this.folder, 'data', 'hades.db'))
    try {
      const services = this.#options.dhcp === 'off' ? [] : [{ name: 'dhcp', listens: '' }]
      const { story } = await readStory({ db, services, now: Date.now }, { host: 'n01', console })
      return console === '' ? { ...story, console: [] } : story
    } finally {
      await db.destroy()
    }
  }
}
