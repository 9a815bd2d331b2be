// The story of docs/boot.md on real firmware: a UEFI and a BIOS machine are deployed at once, the service is killed in the
// middle of the transfer, and every event and function that the page names is there, in its order.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addLabHosts, type Cluster, eventsOf, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { missingEvent, namedEvents } from '../lab/story.ts'
import type { DeploymentView, EventView } from '../src/contract/types.ts'
import { until } from '../src/lib/until.ts'

const root = join(import.meta.dirname, '..')
const page = await readFile(join(root, 'docs', 'boot.md'), 'utf8')

const config = readLabConfig(`
network: hades-one
subnet: 10.78.0.0/24
machines:
  - { name: n01, firmware: bios, memory: 1024, disks: [2GiB], address: 10.78.0.11, bmc: 10.78.0.101 }
  - { name: n02, firmware: uefi, memory: 1024, disks: [2GiB], address: 10.78.0.12, bmc: 10.78.0.102 }
`)

let folder: string
let cluster: Cluster
let deployments: readonly DeploymentView[]
let timelines: ReadonlyMap<string, readonly EventView[]>
/** The machine whose transfer was under way when the service was killed. */
let atKill: DeploymentView

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-one-'))
  cluster = await openCluster(config, folder, { address: '10.78.0.1' })
  await addLabHosts(cluster, (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim())
  await publish(cluster, join(root, 'build', 'os-image', 'current', 'debian.raw'), 'debian:12')
  await cluster.control.putSetup({ xml: await readFile(join(root, 'examples', 'debian.xml'), 'utf8') })
  const { rollout } = await cluster.control.startRollout({ nodeset: 'n[01-02]', setup: 'debian' })
  atKill = await until(
    'a machine in the middle of its transfer',
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      const failed = now.deployments.find(({ state }) => state === 'failed')
      if (failed) throw new Error(JSON.stringify(failed))
      return now.deployments.find(
        (one) => one.step === 'transfer' && one.doneBytes > 0 && one.doneBytes < one.totalBytes,
      )
    },
    { timeoutMs: 400_000, everyMs: 100 },
  )
  await cluster.stopService('SIGKILL')
  await cluster.startService()
  deployments = await until(
    'both new systems',
    async () => {
      const now = (await cluster.control.getRollout({ rollout: rollout.id })).rollout
      return now.endedAt === undefined ? undefined : now.deployments
    },
    { timeoutMs: 500_000, everyMs: 500 },
  )
  const found = new Map<string, readonly EventView[]>()
  for (const { host, id } of deployments) {
    // The requests of the new boot come after the deployment has let go of the record: by host, not by deployment.
    const { events } = await cluster.control.listEvents({ nodeset: host, limit: 10_000 })
    found.set(host, events)
    expect(await eventsOf(cluster, id)).not.toEqual([])
  }
  timelines = found
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

test('both machines run their new system, proven and observed', () => {
  for (const deployment of deployments) {
    expect(deployment, JSON.stringify(deployment)).toMatchObject({ state: 'done' })
    expect(deployment.proof?.bytesReadBack).toBeGreaterThan(0)
    expect(deployment.states.map(({ step }) => step)).toContain('rebooting')
  }
})

test('the kill of the service in the middle cost no frame: nobody fetched the image twice', async () => {
  const { images } = await cluster.control.listImages({})
  const fetched = deployments.find(({ id }) => id === atKill.id)?.proof?.bytesFetched ?? 0
  expect(fetched).toBeGreaterThan(0)
  // What was in flight when the connection broke is fetched again: at most a window of frames of 4 MiB.
  expect(fetched).toBeLessThan((images[0]?.storedBytes ?? 0) + 64 * 2 ** 20)
  expect(deployments.find(({ id }) => id === atKill.id)?.attempt).toBe(atKill.attempt)
})

test('the new systems answer under their own names', async () => {
  for (const { name, address } of cluster.lab.machines) {
    const key = join(root, 'build', 'os-image', 'current', 'id_ed25519')
    const quiet = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR']
    const ssh = ['ssh', '-i', key, ...quiet.flatMap((option) => ['-o', option]), `root@${address}`, 'hostname']
    expect((await cluster.inside(...ssh)).trim()).toBe(name)
  }
})

test.each(['n01', 'n02'])('the timeline of %s has every event that docs/boot.md names, in its order', (host) => {
  const kinds = (timelines.get(host) ?? []).map(({ kind }) => kind)
  const named = namedEvents(page, kinds)
  expect(named.length).toBeGreaterThan(12)
  expect(missingEvent(named, kinds)).toBeUndefined()
})

test('every function that docs/boot.md names is where it says', async () => {
  const named = [...page.matchAll(/`([a-zA-Z]+)` in `([^`]+\.ts)`/g)]
  expect(named.length).toBeGreaterThan(15)
  for (const [, name, file] of named) {
    const source = await readFile(join(root, file ?? ''), 'utf8')
    expect(source, `${name} in ${file}`).toMatch(new RegExp(`function ${name}\\b`))
  }
})
