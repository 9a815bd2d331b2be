// Foreign SOAP stacks drive a whole rollout from the WSDL alone, and a foreign client from the OpenAPI document alone: hosts, setup,
// start, watch to the end. The service, engine and controllers are real; the machine is played at its edge, its agent speaks to the
// real Service Port. The programs for gSOAP and OpenAPI are the examples of docs/clients.md.
import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
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
let folder: string
/** The same service by TLS, and the file with the authority that its certificate is of. */
let tlsUrl: string
let caFile: string

beforeEach(async () => {
  world = await openTestWorld()
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  await nameImage(world, 'debian', '12')
  folder = await mkdtemp(join(tmpdir(), 'hades-clients-'))
  caFile = join(folder, 'ca.pem')
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
  tlsUrl = `https://localhost:${secure}`
})
afterEach(async () => {
  await server.close(0)
  await engine.close()
  await sim.close()
  await world.close()
  await rm(folder, { recursive: true, force: true })
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

const setupXml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'

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
    const answers = await call(
      { operation: 'addHost', input: { name: 'n1', interfaces: [{ mac, ip: '127.0.0.1' }], powerMethods } },
      { operation: 'putSetup', input: { xml: setupXml } },
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

const root = join(import.meta.dirname, '..', '..')
const examples = join(root, 'examples', 'clients')

const buildCommands = [
  'wsdl2h -c++11 -o control.h control.wsdl',
  'soapcpp2 -C -j -x -L -c++11 -I/usr/share/gsoap/import control.h',
  'g++ -std=c++17 -DWITH_OPENSSL -o rollout rollout.cpp soapC.cpp soapControlPortSoap11Proxy.cpp -lgsoapssl++ -lssl -lcrypto -lz',
]

/**
 * Builds the C++ example from the WSDL that the service gives, and returns the program. A build takes half a minute, so it is
 * kept for the next test with the same WSDL and example; the address of the service, which is in the WSDL, is no part of it.
 */
async function gsoapProgram(): Promise<string> {
  const { stdout: wsdl } = await execa('curl', ['-fsS', '--cacert', caFile, `${tlsUrl}/control?wsdl`])
  const source = join(examples, 'rollout.cpp')
  const parts = [wsdl.replaceAll(tlsUrl, ''), await readFile(source, 'utf8'), ...buildCommands]
  const kept = join(tmpdir(), `hades-gsoap-${createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 24)}`)
  if (existsSync(kept)) return kept
  const cwd = await mkdtemp(join(folder, 'gsoap-'))
  await writeFile(join(cwd, 'control.wsdl'), wsdl)
  await copyFile(source, join(cwd, 'rollout.cpp'))
  for (const command of buildCommands) await execa('sh', ['-c', command], { cwd })
  // A copy beside it first: the name stands only for a whole program.
  await copyFile(join(cwd, 'rollout'), `${kept}.${process.pid}`)
  await rename(`${kept}.${process.pid}`, kept)
  return kept
}

let gsoapClient: string

/** Runs the C++ example, which takes what the simulated controller wants as arguments, for the setup called `setup`. */
async function runGsoap(soapVersion: string, setup: string) {
  const { driver, address, username, password, options } = sim.method('n1')
  const setupFile = join(folder, 'demo.xml')
  await writeFile(setupFile, setupXml)
  const given = Object.entries(options).map(([name, value]) => `${name}=${value}`)
  const words = ['n1', mac, '127.0.0.1', setup, setupFile, driver, address ?? '', username ?? '', ...given]
  const env = { HADES_TOKEN: token, BMC_PASSWORD: password.reveal(), SOAP_VERSION: soapVersion }
  return execa(gsoapClient, [`${tlsUrl}/control`, caFile, ...words], { env, reject: false, timeout: 120_000 })
}

async function runOpenapi(setup: string) {
  const { driver, address, username, password, options } = sim.method('n1')
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  const powerMethods = [{ driver, address, username, password: password.reveal(), options: given }]
  const input = JSON.stringify({
    host: { name: 'n1', interfaces: [{ mac, ip: '127.0.0.1' }], powerMethods },
    setup,
    setupXml,
  })
  const env = { HADES_TOKEN: token, NODE_EXTRA_CA_CERTS: caFile }
  return execa(process.execPath, [join(examples, 'rollout.mjs'), tlsUrl], {
    env,
    input,
    reject: false,
    timeout: 120_000,
  })
}

const wholeRollout = ['can start: yes', 'rollout: 1', 'rollout: 1', 'n1: done']

const exampleClients = [
  { peer: 'gSOAP (SOAP 1.1)', says: ['SOAP 1.1'], runExample: (setup: string) => runGsoap('1.1', setup) },
  { peer: 'gSOAP (SOAP 1.2)', says: ['SOAP 1.2'], runExample: (setup: string) => runGsoap('1.2', setup) },
  { peer: 'openapi-client-axios', says: [], runExample: runOpenapi },
]

describe('the example for', () => {
  beforeEach(async () => {
    gsoapClient = await gsoapProgram()
  }, 300_000)

  test.each(exampleClients)(
    '$peer drives a whole rollout by TLS, and starts it once with one key',
    async ({ says, runExample }) => {
      const [ended] = await Promise.all([runExample('demo'), playMachine()])
      expect(ended).toMatchObject({ stderr: '', exitCode: 0 })
      expect(ended.stdout.split('\n')).toEqual([...says, ...wholeRollout])
    },
    120_000,
  )

  test.each(exampleClients)(
    '$peer reads the code and the sentences of a failure',
    async ({ runExample }) => {
      const ended = await runExample('other')
      expect(ended.exitCode).toBe(2)
      expect(ended.stderr).toMatch(/^unknown-setup: .*other.*\(.+\)$/)
    },
    120_000,
  )

  test('gSOAP is built by the commands of docs/clients.md', async () => {
    expect(await readFile(join(root, 'docs', 'clients.md'), 'utf8')).toContain(buildCommands.join('\n'))
  })
})
