// Foreign SOAP stacks drive a whole rollout from the WSDL alone: hosts, setup, start, watch to the end. The service, engine and
// controllers are real; the machine is played at its edge, its agent speaks to the real Service Port.
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { execa } from 'execa'
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient, inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { bootByMac } from '../db/boot.ts'
import { addEvent } from '../db/events.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
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

const token = 'the-admin-token'
const mac = '52:54:00:00:00:01'

let world: TestWorld
let sim: IpmiSim
let engine: Engine
let server: PortServer
let baseUrl: string

beforeEach(async () => {
  world = await openTestWorld()
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  await nameImage(world, 'debian', '12')
  const power = powerHandlers(world)
  engine = await startEngine({ ...world, power: inProcess(powerPort, power) })
  server = await servePorts({
    ports: [
      served(controlPort, controlHandlers(world)),
      served(powerPort, power),
      served(servicePort, serviceHandlers(world)),
    ],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'silent' }),
    runOnce: onceRunner(world),
  })
  const [at] = server.addresses
  baseUrl = `http://127.0.0.1:${at && 'port' in at ? at.port : 0}`
})
afterEach(async () => {
  await server.close(0)
  await engine.close()
  await sim.close()
  await world.close()
})

const testdata = join(import.meta.dirname, '..', 'ports', 'testdata')

type Call = { readonly operation: string; readonly input: object }

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

test.each([
  { peer: 'python3-zeep', program: '/usr/bin/python3', script: 'zeep_client.py', version: '1.2', unwraps: true },
  { peer: 'php-soap', program: 'php', script: 'php_client.php', version: '1.1', unwraps: false },
])(
  '$peer adds a host, puts a setup, starts a rollout and watches it to its end',
  async ({ program, script, version, unwraps }) => {
    const call = async (...calls: readonly Call[]) => {
      const input = JSON.stringify(calls.map((one) => ({ port: 'control', ...one })))
      const { stdout } = await execa(program, [join(testdata, script), baseUrl, token, version], { input })
      return JSON.parse(stdout) as { output?: unknown; fault?: unknown }[]
    }
    const { driver, address, username, password, options } = sim.method('n1')
    const given = Object.entries(options).map(([name, value]) => ({ name, value }))
    const powerMethods = [{ driver, address, username, password: password.reveal(), options: given }]
    const xml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
    const answers = await call(
      { operation: 'addHost', input: { name: 'n1', interfaces: [{ mac, ip: '127.0.0.1' }], powerMethods } },
      { operation: 'putSetup', input: { xml } },
      { operation: 'planRollout', input: { nodeset: 'n1', setup: 'demo' } },
      { operation: 'startRollout', input: { nodeset: 'n1', setup: 'demo' } },
    )
    expect(answers.map(({ fault }) => fault ?? null)).toEqual([null, null, null, null])
    const machine = playMachine()
    const ended = await until(
      'the end',
      async () => {
        const [answer] = await call({ operation: 'getRollout', input: { rollout: 1 } })
        const output = answer?.output as Record<string, unknown>
        const rollout = (unwraps ? output : output.rollout) as { endedAt?: unknown; deployments: { state: string }[] }
        return rollout.endedAt ? rollout : undefined
      },
      { timeoutMs: 90_000, everyMs: 200 },
    )
    await machine
    expect(ended.deployments.map(({ state }) => state)).toEqual(['done'])
  },
  120_000,
)
