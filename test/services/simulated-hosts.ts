// Services that share one database, and simulated hosts that they deploy: their agents speak to the real Service Ports. What the
// tests of several services have in common.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Kysely } from 'kysely'
import pLimit from 'p-limit'
import { expect } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import { controlPort } from '../../src/contract/control.ts'
import { servicePort } from '../../src/contract/service.ts'
import { type MariadbPlace, nameOfNode } from '../../src/db/place.ts'
import type { Schema } from '../../src/db/schema.ts'
import { freePort } from '../../src/lib/free-port.ts'
import { Secret } from '../../src/lib/secret.ts'
import { until } from '../../src/lib/until.ts'
import { exampleInventory, exampleProof } from '../../src/operations/testing.ts'

const root = join(import.meta.dirname, '../..')

export type Service = { readonly child: ChildProcess; readonly folder: string; readonly base: string }

const nameOf = (index: number): string => `n${String(index).padStart(3, '0')}`
const macOf = (index: number): string => `52:54:00:00:00:${index.toString(16).padStart(2, '0')}`

/** Starts one in `folder/name`, with the keys and images of the first, which was started as `a`. */
export async function startService(folder: string, name: string, place: MariadbPlace): Promise<Service> {
  const own = join(folder, name)
  await mkdir(own)
  if (name !== 'a') {
    for (const key of ['secrets.key', 'signing.key']) await cp(join(folder, 'a', key), join(own, key))
    await symlink(join(folder, 'a', 'images'), join(own, 'images'))
  }
  // Nobody boots it: the scripts only name its parts.
  const scout = { files: { 'stage2.squashfs': { sha256: '0'.repeat(64) } } }
  await writeFile(join(own, 'scout.json'), JSON.stringify(scout))
  const ports = { control: await freePort(), http: await freePort(), tftp: await freePort(), seeder: await freePort() }
  const args = ['--data', own, 'up', '--database', addressOf(place), '--address', '127.0.0.1', '--dhcp', 'off']
  args.push('--log-level', 'error', '--loaders', own, '--scout', own, '--seeder-port', String(ports.seeder))
  args.push(...['--http-port', ports.http, '--tftp-port', ports.tftp, '--control-port', ports.control].map(String))
  const child = spawn(join(root, 'bin/hades'), args, { stdio: ['ignore', 'inherit', 'inherit'] })
  const control = createClient(controlPort, { kind: 'unix', socketPath: join(own, 'control.sock') })
  await until('the service', () => control.getStatus({}), { timeoutMs: 120_000 })
  return { child, folder: own, base: `http://127.0.0.1:${ports.http}` }
}

function addressOf({ user, nodes, database }: MariadbPlace): string {
  const [first] = nodes
  if (first && 'socketPath' in first) return `mariadb://${user}@localhost/${database}?socket=${first.socketPath}`
  return `mariadb://${user}@${nodes.map(nameOfNode).join(',')}/${database}`
}

export const controlOf = ({ folder }: Service) =>
  createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'control.sock') })

export async function killService({ child }: Service): Promise<void> {
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
export async function deployAs(index: number, services: readonly Service[]): Promise<void> {
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

/** Publishes an image, adds so many hosts, and begins their rollout. */
export async function begin(service: Service, hosts: number): Promise<number> {
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
  await Promise.all(Array.from({ length: hosts }, (_, index) => add(index)))
  const nodeset = `n[000-${String(hosts - 1).padStart(3, '0')}]`
  const { rollout } = await control.startRollout({ nodeset, setup: 'tiny', confirm: String(hosts) })
  return rollout.id
}

export async function countDone(db: Kysely<Schema>, rollout: number): Promise<number> {
  const rows = await db.selectFrom('deployments').select('state').where('rollout_id', '=', rollout).execute()
  return rows.filter(({ state }) => state === 'done').length
}

/** All of so many hosts were deployed, each by one attempt, and none twice. */
export async function expectEachOnce(db: Kysely<Schema>, hosts: number): Promise<void> {
  const rows = await db.selectFrom('deployments').select(['host_id', 'attempt', 'history']).execute()
  expect(rows.length).toBe(hosts)
  expect(new Set(rows.map((row) => row.host_id)).size).toBe(hosts)
  for (const row of rows) {
    const states = (JSON.parse(row.history) as { state: string }[]).map(({ state }) => state)
    expect(states.filter((state) => state === 'done')).toEqual(['done'])
    expect(states.filter((state) => state === 'deploying')).toEqual(['deploying'])
    expect(row.attempt).toBe(1)
  }
  const completed = await db.selectFrom('events').select('host_id').where('kind', '=', 'completed').execute()
  expect(completed.length).toBe(hosts)
}

/** How often its engine has taken a row to look at it. */
export async function claimsOf({ folder }: Service): Promise<number> {
  const metrics = await new Promise<string>((resolve, reject) => {
    const asked = request({ socketPath: join(folder, 'control.sock'), path: '/metrics', timeout: 20_000 }, (answer) => {
      text(answer).then(resolve, reject)
    })
    asked.on('error', reject).on('timeout', () => asked.destroy(new Error('the service does not tell its figures')))
    asked.end()
  })
  return Number(/^hades_engine_claims_total (\d+)/m.exec(metrics)?.[1])
}
