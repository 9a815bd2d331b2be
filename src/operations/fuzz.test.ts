// Each operation with input made from its schema, right and wrong, by REST and by SOAP 1.1 and 1.2, against the real
// handlers and rows: no bug, no hang, and a failure that the contract names, with the field at fault. `FUZZ_RUNS=1000`
// tries more of each; `FUZZ_SEED` others. What a hostile envelope does is in ports/http.test.ts, roles in main/access.test.ts.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { failureMeanings } from '../contract/failures.ts'
import { commonFailures, type Operation } from '../contract/operation.ts'
import { pathFields, takesQuery } from '../contract/rest-form.ts'
import { findDeployment } from '../db/deployments.ts'
import { type Schema, schemaOf } from '../lib/schema.ts'
import { type Mutation, mutationsOf, type Way } from '../lib/schema-mutations.ts'
import { clientsOf, type EveryFace, everyOperation, openEveryFace, type Sent } from '../main/every-face.ts'
import type { DeploymentKind } from '../model/capture.ts'
import { arbitraryOf, sampleOf } from '../ports/fake-handlers.ts'
import { type FaceName, faces, type RawAnswer } from '../ports/raw-call.ts'
import { callEveryOperation, prepareAnew } from './every-operation.ts'
import { armDeployment, armReport, exampleInventory, openTestWorld, putState } from './testing.ts'

const usual = inject('mariadbSocket') === undefined ? 8 : 4
const numRuns = Number(process.env.FUZZ_RUNS ?? usual)
const seed = Number(process.env.FUZZ_SEED ?? 5)

let open: EveryFace
/** Inputs with which each operation has succeeded. */
const good = new Map<string, object>()

beforeAll(async () => {
  open = await openEveryFace(await openTestWorld())
  const as = clientsOf(open, 'rest', ({ port, name, input }) => good.set(`${port}.${name}`, input))
  await callEveryOperation({ world: open.world, webhookUrl: open.webhookUrl, as })
}, 300_000)
afterAll(() => open.close())

const admin = () => open.world.adminToken.reveal()

beforeEach(async () => {
  open.errors.length = 0
  await prepareAnew({ world: open.world, webhookUrl: open.webhookUrl, as: clientsOf(open, 'rest', () => {}) })
})

/** Fields whose generated values would be words for nothing, or would be waited for. */
const likely: Readonly<Record<string, readonly unknown[]>> = {
  HostName: ['n1', 'n2', 'n3', 'n99'],
  Nodeset: ['n1', 'n[1-3]', '*', 'n1,n99', 'n[1-1000000]', 'n[3-1]', '!*', 'n[1-3],!n2'],
  ImageReference: ['debian:12', 'golden:1', 'none:1'],
  SetupReference: ['demo', 'demo:1', 'demo:99', 'none'],
  BootTarget: ['local', 'local:2', 'scout', 'hold', 'netboot:rescue', 'netboot:none'],
  Mac: ['52:54:00:00:00:01', '52:54:00:00:00:06'],
  WebhookName: ['hook'],
  ProfileName: ['rescue'],
  UserName: ['alice', 'admin', 'bob'],
  ScriptReference: ['greet', 'greet:1'],
  path: ['/nonexistent', '/etc/hostname', 'relative', '/nonexistent/\u0000'],
  xml: ['<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>', '<setup/>', '<'],
  confirm: [0, 1, 3, '1', '3', 'n[1-3]'],
  driver: ['manual', 'none'],
  cursor: ['AAAA', '[]'],
  waitMs: [0, 20],
  offSeconds: [1],
}
const numbers = [
  'rollout',
  'deployment',
  'task',
  'token',
  'delivery',
  'before',
  'after',
  'limit',
  'partition',
  'method',
]

function likelyOf(name: string, schema: Schema): fc.Arbitrary<unknown> {
  const words = likely[schema.title ?? name] ?? likely[name]
  const isNumber = numbers.includes(name) && schema.type === 'integer'
  const any = arbitraryOf(schema)
  if (words === undefined) return isNumber ? fc.oneof(fc.integer({ min: 1, max: 9 }), any) : any
  const fits = words.filter((word) => typeof word === (schema.type === 'integer' ? 'number' : 'string'))
  const isWaited = name === 'waitMs' || name === 'offSeconds' || name === 'path'
  return isWaited ? fc.constantFrom(...fits) : fc.oneof({ arbitrary: fc.constantFrom(...fits), weight: 3 }, any)
}

/** Inputs that fit, of what there is and of what there is not. */
function fittingInput({ properties = {}, required = [] }: Schema): fc.Arbitrary<object> {
  const parts = Object.entries(properties).map(([name, part]) => [name, likelyOf(name, part)] as const)
  return fc.record(Object.fromEntries(parts), { requiredKeys: [...required] })
}

const examples = new Map<Schema, unknown>()
function exampleOf(schema: Schema): unknown {
  const example = examples.has(schema) ? examples.get(schema) : sampleOf(schema, 1)
  examples.set(schema, example)
  return example
}

function inputsOf(port: string, name: string, { input }: Operation): fc.Arbitrary<Mutation> {
  const schema = schemaOf(input)
  const base = good.get(`${port}.${name}`) ?? {}
  const mutations = mutationsOf(schema, base, exampleOf)
  const fitting = fittingInput(schema).map((value): Mutation => ({ title: 'what fits', value }))
  return fc.oneof({ arbitrary: fc.constantFrom(...mutations), weight: 3 }, { arbitrary: fitting, weight: 1 })
}

/** How a field of an input travels by a face. */
function wayOf(face: FaceName, operation: Operation, field: string): Way {
  if (face !== 'rest') return 'soap'
  if (pathFields(operation).includes(field.split(/[.[]/)[0] ?? '')) return 'path'
  return takesQuery(operation) ? 'query' : 'json'
}

/** What is wrong with an answer, in words; nothing when all is well. */
function wrongWith(
  { face, name, port, body }: Sent,
  { status, failure, output }: RawAnswer,
  at: string | undefined,
): string[] {
  const operation = port.operations[name]
  if (failure === undefined) {
    if (at !== undefined) return [`it was taken, though \`${at}\` does not fit`]
    return status === 200 && output !== undefined ? [] : [`status ${status} with ${JSON.stringify(output)}`]
  }
  const { code } = failure
  const known = [...commonFailures, ...(operation?.failures ?? [])]
  const wrong: string[] = []
  if (code === 'internal') wrong.push('it met a bug')
  if (!known.includes(code)) wrong.push(`the contract does not name ${code}`)
  if (face === 'rest' && status !== failureMeanings[code]?.status) wrong.push(`status ${status} for ${code}`)
  // What XML itself refuses has no field.
  if (code === 'bad-input' && failure.at === undefined && face === 'rest' && body === undefined) {
    wrong.push('no field is named')
  }
  if (at === undefined) return wrong
  if (code !== 'bad-input') wrong.push(`${code} where \`${at}\` does not fit`)
  else if (failure.at !== at && !['.', '['].some((sign) => failure.at?.startsWith(at + sign)))
    wrong.push(`\`${failure.at}\` is named where \`${at}\` does not fit`)
  return wrong
}

/** A URL is at most so long here: what is longer is no request any more, and node refuses it by itself. */
const urlLengthMax = 8000

async function expectSound(sent: Sent, at?: string): Promise<void> {
  const began = performance.now()
  const answer = await open.call(sent)
  const wrong = wrongWith(sent, answer, at)
  const shown = `${sent.port.name}.${sent.name} by ${sent.face} with ${JSON.stringify(sent.input)?.slice(0, 600)}`
  const ms = Math.round(performance.now() - began)
  expect(wrong, `${shown}\nwas answered after ${ms} ms: ${answer.text.slice(0, 600)}`).toEqual([])
}

const kinds: Readonly<Record<string, DeploymentKind>> = {
  completeErase: 'erase',
  beginCapture: 'capture',
  completeCapture: 'capture',
}
const hosts = { deploy: 'n1', erase: 'n2', capture: 'n3' } as const
const agents = new Map<DeploymentKind, { readonly deployment: number; readonly key: string }>()

/** A deployment that is armed or, with `registers`, whose agent is at work; another one when the one before has ended. */
async function agentOf(kind: DeploymentKind, registers: boolean) {
  const { world } = open
  const agent = agents.get(kind)
  if (registers && agent && (await findDeployment(world.db, agent.deployment)).state === 'deploying') return agent
  const host = hosts[kind]
  const { control } = clientsOf(open, 'rest', () => {})()
  const { deployments } = await control.listDeployments({ nodeset: host })
  for (const { id } of deployments) await putState(world, id, 'cancelled')
  const started = {
    deploy: async () =>
      (await control.startRollout({ nodeset: host, setup: 'demo', acceptNewDisk: true })).rollout.deployments[0]?.id,
    erase: async () =>
      (await control.startErase({ nodeset: host, method: 'zero', confirm: 1 })).rollout.deployments[0]?.id,
    capture: async () => (await control.startCapture({ host, image: `x:${randomUUID()}` })).capture.deployment.id,
  }
  const deployment = (await started[kind]()) ?? 0
  const token = await armDeployment(world, deployment)
  if (!registers) return { deployment, key: token }
  const registration = { host, agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await clientsOf(open, 'rest', () => {})(token).service.registerHost(registration)
  const begun = { deployment, key: sessionKey }
  agents.set(kind, begun)
  return begun
}

/** The input with the deployment of the agent that is at work, unless the field itself is what is tried. */
async function sentOf(sent: Omit<Sent, 'token'>, mutation: Mutation): Promise<Sent> {
  if (sent.port.name !== 'service') return { ...sent, token: admin() }
  if (sent.name === 'reportDiscovered') {
    return { ...sent, token: await armReport(open.world, '52:54:00:00:00:06', randomUUID()) }
  }
  const { deployment, key } = await agentOf(kinds[sent.name] ?? 'deploy', sent.name !== 'registerHost')
  const isTried = mutation.title.startsWith('deployment:') || sent.name === 'registerHost'
  const input = isTried ? sent.input : { ...(sent.input as object), deployment }
  return { ...sent, input, token: key }
}

test.each(
  everyOperation.map(({ port, name, operation }) => ({ title: `${port.name}.${name}`, port, name, operation })),
)(
  '$title answers whatever it is given',
  async ({ port, name, operation }) => {
    const sends = fc.asyncProperty(
      fc.constantFrom(...faces),
      inputsOf(port.name, name, operation),
      async (face, mutation) => {
        const { value: input, at } = mutation
        if (
          face === 'rest' &&
          takesQuery(operation) &&
          encodeURIComponent(JSON.stringify(input).toWellFormed()).length > urlLengthMax
        )
          return
        const sent = await sentOf({ face, port, name, input }, mutation)
        const isCertain = at?.by.includes(wayOf(face, operation, at.field))
        await expectSound(sent, isCertain ? at?.field : undefined)
      },
    )
    await fc.assert(sends, { numRuns, seed, endOnFailure: true })
    const input = good.get(`${port.name}.${name}`)
    const whole: Mutation = { title: '', value: input }
    if (!takesQuery(operation)) {
      for (const body of ['', 'null', '[]', '"x"', '7', '{', '{"a":1,"a":2}', '['.repeat(50_000)]) {
        await expectSound({ ...(await sentOf({ face: 'rest', port, name, input }, whole)), body })
      }
    }
    const one = await sentOf({ face: 'rest', port, name, input }, whole)
    await Promise.all(faces.map((face) => expectSound({ ...one, face })))
    await expectSound({ ...one, face: '1.2', token: 'hades_wrong' })
    expect(open.errors).toEqual([])
    const status = await open.call({ face: 'rest', ...everyOperation[0], input: {}, token: admin() } as Sent)
    expect(status.status).toBe(200)
  },
  Math.max(120_000, numRuns * 2000),
)

test.each(
  everyOperation.flatMap(({ port, name, operation }) =>
    Object.entries(schemaOf(operation.input).properties ?? {})
      .filter(([, { title }]) => title === 'Nodeset' || title === 'ProtectedNodeset')
      .map(([field]) => ({ title: `${port.name}.${name}`, port, name, field })),
  ),
)('$title refuses a $field of a million hosts', async ({ port, name, field }) => {
  for (const nodeset of ['x[1-1000000]', 'x[0-9][0-9][0-9][0-9][0-9][0-9]', 'x[1-1000000],!x[1-1000000]']) {
    const input = { ...good.get(`${port.name}.${name}`), [field]: nodeset }
    const { failure } = await open.call({ face: 'rest', port, name, input, token: admin() })
    expect([failure?.code, failure?.at], nodeset).toEqual(['bad-input', field])
  }
})
