// Two systems side by side on one BIOS and one UEFI machine: how long switching both from one to the other and back takes,
// beside a plain power cycle, and what the service sends to them meanwhile.
//   node bench/switch.ts [--runs 3]
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { addLabHosts, type Cluster, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { takeApart } from '../lab/parts-of-image.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const osImage = join(root, 'build', 'os-image', 'current')
const nodeset = 'n[01-02]'
const deployMs = 900_000
const switchMs = 300_000

const config = readLabConfig(`
network: hades-switch
subnet: 10.86.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [3GiB], address: 10.86.0.11, bmc: 10.86.0.101 }
  - { name: n02, firmware: uefi, memory: 1024, disks: [3GiB], address: 10.86.0.12, bmc: 10.86.0.102 }
`)

const probe = '<probe><tcp port="22" expect="SSH-2.0"/></probe>'
const system = (label: string) =>
  `<filesystem type="ext4" label="${label}" mount="/"><image>debian-tree:12</image></filesystem>`

/** examples/side-by-side.xml and its second system, small, each from the tar of the demo image. */
const production = `<setup xmlns="urn:hades:setup:1" name="production"><disk><table type="gpt">
<partition size="1MiB" type="bios-boot"/>
<partition size="64MiB" type="esp"><filesystem type="vfat" label="ESP" mount="/boot/efi"/></partition>
<partition size="1GiB">${system('production')}</partition>
<partition size="1GiB"/></table></disk>
<post-install root="system:3"><boot-loader/></post-install><finish target="local:3"/>${probe}</setup>`
const development = `<setup xmlns="urn:hades:setup:1" name="development"><disk><table type="keep">
<partition number="3"><keep/></partition>
<partition number="4">${system('development')}</partition></table></disk>
<post-install root="system:4"><boot-loader/></post-install><finish target="local:4"/>${probe}</setup>`

async function deploy({ control }: Cluster, xml: string, setup: string): Promise<void> {
  await control.putSetup({ xml })
  const { rollout } = await control.startRollout({ nodeset, setup })
  const ended = await until(
    `the end of ${setup}`,
    async () => {
      const now = (await control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now
    },
    { timeoutMs: deployMs, everyMs: 500 },
  )
  const failed = ended.deployments.filter(({ state }) => state !== 'done')
  if (failed.length > 0) throw new Error(JSON.stringify(failed.map(({ failure }) => failure)))
}

/** What the system that a machine runs now calls the disk of its root, and since when it runs. */
async function seen(cluster: Cluster, address: string): Promise<{ label: string; bootId: string }> {
  const quiet = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
  const options = ['-i', join(osImage, 'id_ed25519'), ...['ConnectTimeout=2', ...quiet].flatMap((one) => ['-o', one])]
  const command = 'findmnt --noheadings --output LABEL /; cat /proc/sys/kernel/random/boot_id'
  const [label = '', bootId = ''] = (await cluster.inside('ssh', ...options, `root@${address}`, command)).split('\n')
  return { label: label.trim(), bootId: bootId.trim() }
}

/** Bytes that each machine was sent, as its port of the lab's bridge counts them. */
async function sentBytes(cluster: Cluster): Promise<number> {
  let sum = 0
  for (const index of cluster.lab.machines.keys()) {
    const text = await cluster.inside('ip', '-s', '-j', 'link', 'show', `tap${index}`)
    const [link] = JSON.parse(text) as { stats64: { tx: { bytes: number } } }[]
    sum += link?.stats64.tx.bytes ?? 0
  }
  return sum
}

/** Seconds until every machine has been seen to run anew, with the root of this label, and what was sent meanwhile. */
async function timed(cluster: Cluster, label: string, begin: () => Promise<unknown>) {
  const addresses = cluster.lab.machines.map(({ address }) => address)
  const before = new Map<string, string>()
  for (const address of addresses) before.set(address, (await seen(cluster, address)).bootId)
  const sentBefore = await sentBytes(cluster)
  const beganMs = performance.now()
  await begin()
  for (const address of addresses) {
    await until(
      `${label} on ${address}`,
      async () => {
        const now = await seen(cluster, address).catch(() => undefined)
        return now !== undefined && now.bootId !== before.get(address) && now.label === label
      },
      { timeoutMs: switchMs, everyMs: 300 },
    )
  }
  const seconds = (performance.now() - beganMs) / 1000
  return `${seconds.toFixed(1)} s, ${(((await sentBytes(cluster)) - sentBefore) / 1e6).toFixed(1)} MB sent to both`
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { runs: { type: 'string', default: '3' } } })
  const folder = await mkdtemp(join(tmpdir(), 'hades-switch-'))
  const cluster = await openCluster(config, folder, { address: '10.86.0.1' })
  const { control, power } = cluster
  try {
    await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
    const parts = await takeApart(join(osImage, 'debian.raw'), folder)
    await publish(cluster, parts.tar, 'debian-tree:12')
    await deploy(cluster, production, 'production')
    await deploy(cluster, development, 'development')
    const rollouts = (await control.listRollouts({})).rollouts.length
    for (let run = 1; run <= Number(values.runs); run++) {
      const plain = await timed(cluster, 'development', () => power.setPower({ nodeset, action: 'cycle' }))
      console.log(`run ${run}: plain power cycle ${plain}`)
      for (const [target, label] of [
        ['local:3', 'production'],
        ['local:4', 'development'],
      ] as const) {
        const switched = await timed(cluster, label, () => control.setBoot({ nodeset, target, reboot: true }))
        console.log(`run ${run}: to ${label} ${switched}`)
      }
    }
    const after = (await control.listRollouts({})).rollouts.length
    console.log(`rollouts begun meanwhile: ${after - rollouts}`)
  } finally {
    await cluster.close()
    await rm(folder, { recursive: true, force: true })
  }
}

await main()
