// Foreign SOAP stacks drive a whole rollout from the WSDL alone, and a foreign client from the OpenAPI document alone: host, setup,
// start, watch to the end, proof. The service, engine and controllers are real; the machine is played at its edge, its agent speaks
// to the real Service Port. The programs are the examples of docs/clients.md; test/clients.test.ts has them deploy real machines.
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createClient, inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { bootByMac } from '../db/boot.ts'
import { addEvent } from '../db/events.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { openCertificates } from '../main/certificates.ts'
import { proofProblem } from '../model/proof.ts'
import { bootToken } from '../model/token.ts'
import { controlHandlers } from '../operations/control.ts'
import { onceRunner } from '../operations/once.ts'
import { powerHandlers } from '../operations/power.ts'
import { serviceHandlers } from '../operations/service.ts'
import { exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, type PortServer, servePorts } from '../ports/http.ts'
import { type IpmiSim, startIpmiSim } from '../power/ipmi-sim.ts'
import { type Engine, startEngine } from './engine.ts'
import {
  buildGsoap,
  drive,
  type ExampleClient,
  exampleClients,
  gsoapCommands,
  type Order,
  type ServiceAt,
} from './example-clients.ts'

const token = 'the-admin-token'
const mac = '52:54:00:00:00:01'

let world: TestWorld
let sim: IpmiSim
let engine: Engine
let server: PortServer
let baseUrl: string
let folder: string
/** The same service by TLS. */
let service: ServiceAt

beforeEach(async () => {
  world = await openTestWorld()
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  await nameImage(world, 'debian', '12')
  folder = await mkdtemp(join(tmpdir(), 'hades-clients-'))
  const tls = await openCertificates({ folder, names: ['localhost'], now: world.now })
  const power = powerHandlers(world)
  engine = await startEngine({ ...world, power: inProcess(powerPort, power) })
  server = await servePorts({
    ports: [
      served(controlPort, controlHandlers(world)),
      served(powerPort, power),
      served(servicePort, serviceHandlers(world)),
    ],
    listen: [
      { host: '127.0.0.1', port: 0 },
      { host: '127.0.0.1', port: 0, tls },
    ],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'silent' }),
    runOnce: onceRunner(world),
  })
  const [plain = 0, secure = 0] = server.addresses.map((at) => ('port' in at ? at.port : 0))
  baseUrl = `http://127.0.0.1:${plain}`
  service = { url: `https://localhost:${secure}`, caFile: join(folder, 'ca.pem'), token, before: [] }
})
afterEach(async () => {
  await server.close(0)
  await engine.close()
  await sim.close()
  await world.close()
  await rm(folder, { recursive: true, force: true })
})

/** What the machine does: it registers when its boot record says so, writes, and comes up as the new system. */
async function playMachine(): Promise<void> {
  const boot = await until(
    'the armed record',
    async () => {
      const view = await bootByMac(world.db, mac)
      return view?.deployment?.state === 'booting' ? view : undefined
    },
    { timeoutMs: 60_000 },
  )
  const word = boot.deployment && bootToken(world.keyring, boot.deployment)
  const agent = (key: string) => createClient(servicePort, { kind: 'http', baseUrl, token: new Secret(key) })
  const registration = { host: 'n1', agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await agent(word?.reveal() ?? '').registerHost(registration)
  const deployment = boot.deployment?.id ?? 0
  await agent(sessionKey).completeDeployment({ deployment, proof: exampleProof })
  const seen = { source: 'dhcp', kind: 'dhcp-system', text: 'the new system', hostId: boot.hostId }
  await addEvent(world.db, { ...seen, deploymentId: deployment }, world.now())
}

/** What the simulated controller of n1 wants, and the setup called `setup`, which is there when it is `demo`. */
function orderFor(setup: string): Order {
  const { driver, address, username, password, options } = sim.method('n1')
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  const power = { driver, address, username, password: password.reveal(), options: given }
  const setupXml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
  return { host: 'n1', mac, ip: '127.0.0.1', power, setup, setupXml }
}

/** Runs a client with the service at its address by TLS. */
function run(client: ExampleClient, setup: string) {
  return drive(client, { service, order: orderFor(setup), timeoutMs: 120_000 })
}

describe('the example for', () => {
  beforeEach(async () => {
    await buildGsoap(service)
  }, 300_000)

  test.each(Object.values(exampleClients))(
    '$peer drives a whole rollout by TLS, starts it once with one key, and reads its proof',
    async (client) => {
      const [ended] = await Promise.all([run(client, 'demo'), playMachine()])
      expect(ended).toMatchObject({ stderr: '', exitCode: 0 })
      const lines = ended.stdout.split('\n')
      const signed = JSON.parse(lines.pop() ?? '')
      expect(lines).toEqual([...client.says, 'can start: yes', 'rollout: 1', 'rollout: 1', 'n1: done'])
      expect(signed.proof).toMatchObject({ deployment: 1, host: 'n1', outcome: 'done' })
      expect(proofProblem(signed, world.signingKey.publicKey)).toBeUndefined()
    },
    120_000,
  )

  test.each(Object.values(exampleClients))(
    '$peer reads the code and the sentences of a failure',
    async (client) => {
      const ended = await run(client, 'other')
      expect(ended.exitCode).toBe(2)
      expect(ended.stderr).toMatch(/^unknown-setup: .*other.*\(.+\)$/)
    },
    120_000,
  )

  test.each(['zeep', 'php', 'openapi'] as const)('%s trusts no authority but the given one', async (name) => {
    const stranger = join(folder, 'stranger')
    await openCertificates({ folder: stranger, names: ['localhost'], now: world.now })
    const other = { ...service, caFile: join(stranger, 'ca.pem') }
    const ended = await drive(exampleClients[name], { service: other, order: orderFor('demo'), timeoutMs: 60_000 })
    expect(ended).toMatchObject({ exitCode: 2, stdout: '' })
    // php-soap says only that it could not load the WSDL.
    expect(ended.stderr).toMatch(name === 'php' ? /load/ : /certificate/)
  })

  test('gSOAP is built by the commands of docs/clients.md', async () => {
    expect(await readFile(join(import.meta.dirname, '..', '..', 'docs', 'clients.md'), 'utf8')).toContain(
      gsoapCommands.join('\n'),
    )
  })
})
