// Roles, scopes and the audit as a caller over TCP meets them: the real handlers behind the real ports.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient, type Transport } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { isChange, type Operation } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { toRestForm } from '../contract/rest-form.ts'
import { schemaOf } from '../lib/schema.ts'
import { Secret } from '../lib/secret.ts'
import { causeChain, type Failure } from '../model/failure.ts'
import { mayAct, type Role } from '../model/role.ts'
import { overseer } from '../operations/audit.ts'
import { userAuthenticator } from '../operations/authenticate.ts'
import { controlHandlers } from '../operations/control.ts'
import { powerHandlers } from '../operations/power.ts'
import { openTestWorld, type TestWorld } from '../operations/testing.ts'
import { served } from '../ports/dispatch.ts'
import { sampleOf } from '../ports/fake-handlers.ts'
import { type PortServer, servePorts } from '../ports/http.ts'

let world: TestWorld
let server: PortServer
let folder: string
let baseUrl: string
let tokens: number
let root: ReturnType<typeof controlAs>
const password = 'correct horse battery'

beforeEach(async () => {
  tokens = 0
  world = await openTestWorld()
  folder = await mkdtemp(join(tmpdir(), 'hades-access-'))
  const socketPath = join(folder, 'control.sock')
  server = await servePorts({
    ports: [served(controlPort, controlHandlers(world)), served(powerPort, powerHandlers(world))],
    listen: [{ host: '127.0.0.1', port: 0 }, { socketPath }],
    authenticate: userAuthenticator(world),
    oversight: overseer(world),
    log: world.log,
  })
  const [tcp] = server.addresses
  baseUrl = `http://127.0.0.1:${tcp && 'port' in tcp ? tcp.port : 0}`
  root = controlAs({ kind: 'unix', socketPath })
})
afterEach(async () => {
  await server.close(0)
  await rm(folder, { recursive: true, force: true })
  await world.close()
})

function controlAs(transport: Transport) {
  return createClient(controlPort, transport)
}
const over = (secret: string): Transport => ({ kind: 'http', baseUrl, token: new Secret(secret) })

async function tokenOf(role: Role, scope: { nodeset?: string; site?: string } = {}): Promise<string> {
  tokens += 1
  return (await root.createToken({ name: `${role} ${tokens}`, role, ...scope })).secret
}

async function failureOf(call: Promise<unknown>): Promise<Failure | undefined> {
  return await call.then(
    () => undefined,
    (error: Failure) => error,
  )
}

async function addHosts(...names: string[]): Promise<void> {
  for (const [at, name] of names.entries()) {
    const interfaces = [{ mac: `52:54:00:00:00:0${at}` }]
    const powerMethods = [{ driver: 'manual', options: [] }]
    await root.addHost({ name, interfaces, powerMethods, site: 'turin' })
  }
}

const everyOperation = [controlPort, powerPort].flatMap((port) =>
  Object.entries(port.operations).map(([name, operation]) => ({ port, name, operation })),
)

async function codeByRest({ port, operation }: (typeof everyOperation)[number], secret: string | undefined) {
  const input = sampleOf(schemaOf(operation.input), 3) as Record<string, unknown>
  const { method, path, body } = toRestForm(port, operation, input)
  const answer = await fetch(baseUrl + path, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }),
    },
    ...(body === undefined ? {} : { body }),
  })
  const { code } = (await answer.json()) as { code?: string }
  return { code, status: answer.status }
}

async function faultBySoap({ port, name }: (typeof everyOperation)[number], secret: string) {
  const answer = await fetch(`${baseUrl}/${port.name}`, {
    method: 'POST',
    headers: { 'content-type': 'text/xml', authorization: `Bearer ${secret}` },
    body: `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><${name} xmlns="${port.namespace}"/></e:Body></e:Envelope>`,
  })
  return await answer.text()
}

test('each operation is refused to each role that is too low, by REST and by SOAP, and nobody else is told of a role', async () => {
  for (const role of ['viewer', 'operator'] as const) {
    const secret = await tokenOf(role)
    for (const one of everyOperation) {
      const { access }: Operation = one.operation
      if (access === 'anyone' || access === 'boot' || access === 'agent' || mayAct(role, access)) continue
      expect(await codeByRest(one, secret), `${one.name} as ${role}`).toEqual({ code: 'forbidden', status: 403 })
      const fault = await faultBySoap(one, secret)
      expect(fault, `${one.name} as ${role}`).toContain('forbidden')
      expect(fault).toContain(`${one.name} takes the role ${access}`)
    }
  }
})

test('without a user no operation is open but login and the certificate', async () => {
  const open: string[] = []
  for (const one of everyOperation) {
    const { code } = await codeByRest(one, undefined)
    if (code !== 'unauthorized' || one.name === 'login') open.push(one.name)
  }
  expect(open).toEqual(['login', 'getCertificate'])
})

test('a viewer reads', async () => {
  const viewer = controlAs(over(await tokenOf('viewer')))
  expect((await viewer.listHosts({})).hosts).toEqual([])
  expect((await viewer.whoAmI({})).identity).toMatchObject({ name: 'admin', role: 'viewer', via: 'token viewer 1' })
})

test('each change is told by the audit: who, as what, from where, what, which, and how it ended', async () => {
  await addHosts('n1')
  await root.addUser({ name: 'alice', role: 'operator', password })
  const { secret } = await controlAs({ kind: 'http', baseUrl }).login({ name: 'alice', password })
  const alice = controlAs(over(secret))
  await alice.setBoot({ nodeset: 'n1', target: 'hold' })
  await failureOf(alice.setBoot({ nodeset: 'n9', target: 'hold' }))
  await failureOf(alice.removeHost({ name: 'n1' }))
  await alice.listHosts({})
  await alice.logout({})
  const { entries } = await root.listAudit({})
  const told = entries.map(({ user, role, via, address, operation, target, outcome }) =>
    [user, role ?? '', via, address, operation, target, outcome].join('|'),
  )
  expect(told).toEqual([
    'alice|operator|login|127.0.0.1|logout||ok',
    'alice|operator|login|127.0.0.1|removeHost||forbidden',
    'alice|operator|login|127.0.0.1|setBoot|nodeset=n9 target=hold|unknown-host',
    'alice|operator|login|127.0.0.1|setBoot|nodeset=n1 target=hold|ok',
    '||||login|name=alice|ok'.replace('||||', '|||127.0.0.1|'),
    'admin|admin|unix socket|unix|addUser|name=alice role=operator|ok',
    'admin|admin|unix socket|unix|addHost|name=n1|ok',
  ])
  expect(entries.every(({ endedAt, request }) => endedAt !== undefined && request.length > 0)).toBe(true)
})

test('every operation that changes something is in the audit after its call, and no other', async () => {
  for (const one of everyOperation) {
    const before = (await root.listAudit({ limit: 1 })).entries[0]?.id ?? 0
    const { code } = await codeByRest(one, world.adminToken.reveal())
    if (code === 'bad-input') continue
    const [entry] = (await root.listAudit({ limit: 1 })).entries
    const added = (entry?.id ?? 0) - before
    expect([one.name, added], String(code)).toEqual([one.name, isChange(one.operation) ? 1 : 0])
  }
})

test('no secret of an input is in the audit', async () => {
  const methods = [{ driver: 'ipmi', address: '192.0.2.1', username: 'root', password: 'hunter2-bmc', options: [] }]
  await root.addHost({ name: 'n1', interfaces: [{ mac: '52:54:00:00:00:01' }], powerMethods: methods })
  await root.addUser({ name: 'alice', role: 'viewer', password })
  await root.changeUser({ name: 'alice', password: 'another long password' })
  await failureOf(controlAs({ kind: 'http', baseUrl }).login({ name: 'alice', password }))
  await root.putScript({ name: 'a', text: 'PASSWORD=hunter2-script' })
  const all = JSON.stringify(await world.db.selectFrom('audit').selectAll().execute())
  for (const secret of ['hunter2', password, 'another long']) expect(all).not.toContain(secret)
  expect(all).toContain('putScript')
})

test('a change whose service ends before it is in the audit as begun', async () => {
  const { record } = overseer(world)
  const act = {
    user: 'a',
    role: 'admin',
    via: '',
    address: '',
    operation: 'setBoot',
    target: '',
    request: 'r',
  } as const
  await record(act)
  expect((await root.listAudit({})).entries).toMatchObject([{ operation: 'setBoot', outcome: 'begun' }])
})

test('nothing is changed that cannot be recorded', async () => {
  await addHosts('n1')
  await world.db.schema.dropTable('audit').execute()
  expect((await failureOf(root.removeHost({ name: 'n1' })))?.code).toBe('internal')
  expect((await root.listHosts({})).hosts).toHaveLength(1)
})

test('the audit is read in pages, by user and by operation', async () => {
  const { record } = overseer(world)
  for (let i = 1; i <= 25; i += 1) {
    const act = { role: 'admin', via: '', address: '', target: String(i), request: 'r' } as const
    const end = await record({ ...act, user: i % 2 ? 'odd' : 'even', operation: i % 5 ? 'setBoot' : 'setSite' })
    await end('ok')
  }
  const targets = async (input: Parameters<typeof root.listAudit>[0]) =>
    (await root.listAudit(input)).entries.map(({ target }) => Number(target))
  expect(await targets({ limit: 3 })).toEqual([25, 24, 23])
  expect(await targets({ limit: 3, before: 23 })).toEqual([22, 21, 20])
  expect(await targets({ user: 'odd', operation: 'setSite' })).toEqual([25, 15, 5])
  expect((await failureOf(root.listAudit({ limit: 1001 })))?.code).toBe('bad-input')
})

test('a token of some hosts changes nothing of others, and nothing that names no host', async () => {
  await addHosts('n1', 'n2', 'n3')
  const operator = controlAs(over(await tokenOf('operator', { nodeset: 'n[1-2]' })))
  const power = createClient(powerPort, over(await tokenOf('operator', { nodeset: 'n1' })))
  await operator.setBoot({ nodeset: 'n[1-2]', target: 'hold' })
  expect((await failureOf(operator.setBoot({ nodeset: 'n[2-3]', target: 'hold' })))?.message).toContain('not for n3')
  expect((await failureOf(operator.setBoot({ nodeset: '*', target: 'hold' })))?.code).toBe('forbidden')
  expect((await failureOf(operator.putSetup({ xml: '<a/>' })))?.code).toBe('forbidden')
  expect((await failureOf(operator.createToken({ name: 'wider' })))?.code).toBe('forbidden')
  expect((await failureOf(operator.cancelRollout({ rollout: 1 })))?.message).toContain('unless `nodeset` is given')
  expect((await failureOf(power.setPower({ nodeset: 'n2', action: 'off' })))?.code).toBe('forbidden')
  expect((await operator.listBoot({})).records.map(({ target }) => target)).toEqual(['hold', 'hold', 'local'])
})

test('who was wrong too often is told to wait, by HTTP and by SOAP', async () => {
  const [one] = everyOperation
  if (!one) throw new Error('there are operations')
  let last = await codeByRest(one, 'wrong')
  for (let i = 0; i < 40; i += 1) last = await codeByRest(one, 'wrong')
  expect(last).toEqual({ code: 'too-many-attempts', status: 429 })
  expect(await faultBySoap(one, 'wrong')).toContain('too-many-attempts')
  const failure = await failureOf(controlAs(over('wrong')).listHosts({}))
  expect(causeChain(failure)[0]).toMatch(/wait \d+ s/)
})
