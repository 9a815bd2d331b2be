// Two services on a Galera cluster of three nodes deploy 200 simulated hosts; in the middle of it one node and one service are
// killed. The agents are simulated, and speak to the real Service Port: every host must end, and none may be done twice.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Kysely } from 'kysely'
import pLimit from 'p-limit'
import { expect, test } from 'vitest'
import { createClient } from '../src/client/client.ts'
import { controlPort } from '../src/contract/control.ts'
import { servicePort } from '../src/contract/service.ts'
import { galeraLibrary, startGalera } from '../src/db/galera-testing.ts'
import { openDatabase } from '../src/db/open.ts'
import { type MariadbPlace, nameOfNode } from '../src/db/place.ts'
import type { Schema } from '../src/db/schema.ts'
import { Secret } from '../src/lib/secret.ts'
import { until } from '../src/lib/until.ts'
import { exampleInventory, exampleProof } from '../src/operations/testing.ts'

const root = join(import.meta.dirname, '..')
const hostsMax = 200

type Service = { readonly child: ChildProcess; readonly folder: string; readonly base: string }

const nameOf = (index: number): string => `n${String(index).padStart(3, '0')}`
const macOf = (index: number): string => `52:54:00:00:00:${index.toString(16).padStart(2, '0')}`

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address ? address.port : 0
}

async function startService(folder: string, place: MariadbPlace): Promise<Service> {
  // Nobody boots it: the scripts only name its parts.
  const scout = { files: { 'stage2.squashfs': { sha256: '0'.repeat(64) } } }
  await writeFile(join(folder, 'scout.json'), JSON.stringify(scout))
  const ports = { control: await freePort(), http: await freePort(), tftp: await freePort(), seeder: await freePort() }
  const database = `mariadb://${place.user}@${place.nodes.map(nameOfNode).join(',')}/${place.database}`
  const args = ['--data', folder, 'up', '--database', database, '--address', '127.0.0.1', '--dhcp', 'off']
  args.push('--log-level', 'error', '--loaders', folder, '--scout', folder, '--seeder-port', String(ports.seeder))
  args.push(...['--http-port', ports.http, '--tftp-port', ports.tftp, '--control-port', ports.control].map(String))
  const child = spawn(join(root, 'bin/hades'), args, { stdio: ['ignore', 'inherit', 'inherit'] })
  const control = createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'control.sock') })
  await until('the service', () => control.getStatus({}), { timeoutMs: 120_000 })
  return { child, folder, base: `http://127.0.0.1:${ports.http}` }
}

const controlOf = ({ folder }: Service) =>
  createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'control.sock') })

async function kill({ child }: Service): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

/** Calls one service, and the next when it does not answer or has no database, until one does it. */
async function anyOf<T>(services: readonly Service[], call: (base: string) => Promise<T>, what: string): Promise<T> {
  let turn = Math.floor(Math.random() * services.length)
  const answer = await until(
    what,
    async () => {
      turn += 1
      return { value: await call(services[turn % services.length]?.base ?? '') }
    },
    { timeoutMs: 120_000, everyMs: 500 },
  )
  return answer.value
}

/** Boots as a machine would, once its record says so, and does what its agent does. */
async function deployAs(index: number, services: readonly Service[]): Promise<void> {
  const host = nameOf(index)
  const agent = randomUUID()
  const token = await anyOf(
    services,
    async (base) => {
      const path = `/boot/ipxe/${macOf(index).replaceAll(':', '-')}`
      const script = await (await fetch(base + path, { signal: AbortSignal.timeout(20_000) })).text()
      const found = /hades\.token=(\S+)/.exec(script)?.[1]
      if (found === undefined) throw new Error(`${host} is not to be deployed yet`)
      return found
    },
    `${host} to be armed`,
  )
  const registration = { host, agent, agentVersion: '1', inventory: exampleInventory }
  const { sessionKey, deployment } = await anyOf(
    services,
    (base) =>
      createClient(servicePort, { kind: 'http', baseUrl: base, token: new Secret(token) }).registerHost(registration),
    `${host} to register`,
  )
  const asAgent = (base: string) =>
    createClient(servicePort, { kind: 'http', baseUrl: base, token: new Secret(sessionKey) })
  const progress = { deployment, step: 'transfer', doneBytes: 1, totalBytes: 2, bytesPerSecond: 1 } as const
  for (let i = 0; i < 3; i += 1) {
    await anyOf(services, (base) => asAgent(base).reportProgress(progress), `${host} to report`)
  }
  await anyOf(
    services,
    (base) => asAgent(base).completeDeployment({ deployment, proof: exampleProof }),
    `${host} to complete`,
  )
}

async function begin(service: Service): Promise<number> {
  const control = controlOf(service)
  const image = join(service.folder, 'tiny.raw')
  await writeFile(image, Buffer.alloc(1024 * 1024, 'hades'))
  const { task } = await control.publishImage({ reference: 'tiny:1', path: image })
  await until('the image', async () => (await control.getTask({ task: task.id })).task.state === 'done', {
    timeoutMs: 30_000,
  })
  const xml = `<setup xmlns="urn:hades:setup:1" name="tiny"><disk><image>tiny:1</image></disk><probe><none/></probe></setup>`
  await control.putSetup({ xml })
  const method = { driver: 'manual', options: [] }
  const limit = pLimit(8)
  const add = (i: number) =>
    limit(() => control.addHost({ name: nameOf(i), interfaces: [{ mac: macOf(i) }], powerMethods: [method] }))
  await Promise.all(Array.from({ length: hostsMax }, (_, index) => add(index)))
  const nodeset = `n[000-${hostsMax - 1}]`
  const { rollout } = await control.startRollout({ nodeset, setup: 'tiny', confirm: String(hostsMax) })
  return rollout.id
}

async function countDone(db: Kysely<Schema>, rollout: number): Promise<number> {
  const rows = await db.selectFrom('deployments').select('state').where('rollout_id', '=', rollout).execute()
  return rows.filter(({ state }) => state === 'done').length
}

test.runIf(existsSync(galeraLibrary))(
  'a node of the database and a service are killed in the middle of 200 deployments: all end, none is done twice',
  async () => {
    const cluster = await startGalera()
    const folder = await mkdtemp(join(tmpdir(), 'hades-galera-'))
    const services: Service[] = []
    try {
      const place = await cluster.createDatabase([0, 1, 2])
      await mkdir(join(folder, 'a'))
      await mkdir(join(folder, 'b'))
      services.push(await startService(join(folder, 'a'), place))
      // What services share: the keys, and the images.
      for (const key of ['secrets.key', 'signing.key']) await cp(join(folder, 'a', key), join(folder, 'b', key))
      await symlink(join(folder, 'a', 'images'), join(folder, 'b', 'images'))
      services.push(await startService(join(folder, 'b'), place))
      const [a, b] = services
      if (!a || !b) throw new Error('two services were started')
      const rollout = await begin(a)
      const limit = pLimit(24)
      const agents = Promise.all(Array.from({ length: hostsMax }, (_, index) => limit(() => deployAs(index, services))))
      const db = await openDatabase(place)
      try {
        await until('a third of the hosts', async () => (await countDone(db, rollout)) > hostsMax / 3, {
          timeoutMs: 120_000,
        })
        await cluster.kill(0)
        await kill(a)
        await agents
        // What the dead service had claimed is taken by the other when its claims have run out.
        await until('all hosts', async () => (await countDone(db, rollout)) === hostsMax, { timeoutMs: 400_000 })
        const rows = await db.selectFrom('deployments').select(['host_id', 'attempt', 'history']).execute()
        expect(rows.length).toBe(hostsMax)
        expect(new Set(rows.map((row) => row.host_id)).size).toBe(hostsMax)
        for (const row of rows) {
          const states = (JSON.parse(row.history) as { state: string }[]).map(({ state }) => state)
          expect(states.filter((state) => state === 'done')).toEqual(['done'])
          expect(states.filter((state) => state === 'deploying')).toEqual(['deploying'])
          expect(row.attempt).toBe(1)
        }
        const completed = await db.selectFrom('events').select('host_id').where('kind', '=', 'completed').execute()
        expect(completed.length).toBe(hostsMax)
        await cluster.rejoin(0)
        expect((await controlOf(b).getStatus({})).hosts).toBe(hostsMax)
      } finally {
        await db.destroy()
      }
    } finally {
      for (const service of services) await kill(service)
      await cluster.close()
      await rm(folder, { recursive: true, force: true })
    }
  },
)
