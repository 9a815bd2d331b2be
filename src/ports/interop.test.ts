import { execFile, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Validator } from '@seriousme/openapi-schema-validator'
import { BearerSecurity, createClientAsync } from 'soap'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { toFailureBody } from '../contract/failure-body.ts'
import type { Port } from '../contract/operation.ts'
import { toRestForm } from '../contract/rest-form.ts'
import { schemaOf } from '../lib/schema.ts'
import { Failure } from '../model/failure.ts'
import { sampleOf } from './fake-handlers.ts'
import { openPortWorld, type PortWorld } from './port-world.ts'
import { encodeRoot } from './schema-xml.ts'

const run = promisify(execFile)
const testdata = (name: string) => fileURLToPath(new URL(`testdata/${name}`, import.meta.url))
let world: PortWorld
let folder: string

beforeAll(async () => {
  world = await openPortWorld()
  folder = await mkdtemp(join(tmpdir(), 'hades-interop-'))
})
afterAll(async () => {
  await world.close()
  await rm(folder, { recursive: true, force: true })
})

type PortKey = 'control' | 'service' | 'power'
type Case = { readonly port: PortKey; readonly operation: string; readonly input: Readonly<Record<string, unknown>> }
type Result = { output?: unknown; fault?: { code: string; message: string; detail: Record<string, unknown> | null } }

const portKeys: readonly PortKey[] = ['control', 'service', 'power']

/** Every operation of the ports, with an input of each of the seeds. */
function casesOf(ports: readonly PortKey[], seeds: readonly number[]): Case[] {
  return ports.flatMap((port) =>
    Object.entries(world[port].served.port.operations).flatMap(([operation, { input }]) =>
      seeds.map((seed) => ({ port, operation, input: sampleOf(schemaOf(input), seed) as Case['input'] })),
    ),
  )
}

/** The admin token opens every operation of two ports; the Service Port's handlers judge any other themselves. */
function tokenFor(port: PortKey): string {
  return port === 'service' ? 'a-session-key' : world.token
}

/** What SOAP stacks make of absent fields, empty lists and empty text differs from one to the next; all else must not. */
function comparable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => (item === '' ? null : comparable(item)))
  if (value instanceof Date) return value.toISOString()
  if (typeof value !== 'object' || value === null) return value
  const fields = Object.entries(value)
    .filter(([, field]) => field !== null && field !== undefined && field !== '')
    .filter(([, field]) => !(Array.isArray(field) && field.length === 0))
    .map(([name, field]) => [name, comparable(field)])
  return Object.fromEntries(fields)
}

/** zeep gives the only field of an answer itself, and nothing for an answer without fields. */
function unwrapped(output: unknown, port: Port, operation: string): unknown {
  const names = Object.keys(schemaOf(port.operations[operation]?.output ?? {}).properties ?? {})
  const [only] = names
  if (only === undefined) return null
  return names.length === 1 ? (output as Record<string, unknown>)[only] : output
}

type Peer = { readonly program: string; readonly script: string }

async function callThrough({ program, script }: Peer, version: string, cases: readonly Case[]): Promise<Result[]> {
  const results: Result[] = []
  for (const token of new Set(cases.map((one) => tokenFor(one.port)))) {
    const child = spawn(program, [testdata(script), world.baseUrl, token, version])
    child.stdin.end(JSON.stringify(cases.filter((one) => tokenFor(one.port) === token)))
    const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)])
    expect(errors).toBe('')
    results.push(...JSON.parse(out))
  }
  return results
}

function forget(): void {
  for (const port of portKeys) world[port].seen.length = 0
}

function expectSeen(cases: readonly Case[]): void {
  for (const port of portKeys) {
    const wanted = cases.filter((one) => one.port === port)
    expect(world[port].seen.map(({ operation, input }) => ({ operation, input: comparable(input) }))).toEqual(
      wanted.map(({ operation, input }) => ({ operation, input: comparable(input) })),
    )
  }
}

describe.each([
  { peer: 'python3-zeep', program: '/usr/bin/python3', script: 'zeep_client.py', unwraps: true },
  { peer: 'php-soap', program: 'php', script: 'php_client.php', unwraps: false },
])('$peer', ({ program, script, unwraps }) => {
  const peer = { program, script }

  test.each(['1.1', '1.2'])(
    'calls every operation from its WSDL by SOAP %s and reads every answer',
    async (version) => {
      const cases = casesOf(['control', 'power', 'service'], [1, 2, 3])
      forget()
      const results = await callThrough(peer, version, cases)
      expectSeen(cases)
      for (const [i, { port, operation }] of cases.entries()) {
        const sent = world[port].outputOf(operation)
        const wanted = unwraps ? unwrapped(sent, world[port].served.port, operation) : sent
        expect(comparable(results[i]?.output) ?? null, operation).toEqual(comparable(wanted) ?? null)
      }
    },
  )

  test('gives an empty list as one nil element where a list may be left out', async () => {
    forget()
    await callThrough(peer, '1.1', [
      { port: 'control', operation: 'changeHost', input: { name: 'n1', powerMethods: [null] } },
      { port: 'control', operation: 'changeHost', input: { name: 'n1' } },
    ])
    expect(world.control.seen.map((call) => call.input)).toEqual([{ name: 'n1', powerMethods: [] }, { name: 'n1' }])
  })

  test.each(['1.1', '1.2'])('reads the typed detail of a fault of SOAP %s', async (version) => {
    const failure = new Failure('unknown-host', 'there is no <n9>', { at: 'name', cause: new Error('lower & last') })
    const before = world.control.outputOf('getHost')
    world.control.answer('getHost', failure)
    const cases: Case[] = [{ port: 'control', operation: 'getHost', input: { name: 'n9' } }]
    const [result] = await callThrough(peer, version, cases).finally(() => world.control.answer('getHost', before))
    expect(result?.fault?.message).toBe('there is no <n9>')
    expect(result?.fault?.code).toMatch(version === '1.1' ? /Client$/ : /Sender$/)
    // PHP gives the detail of a fault without the types of the WSDL.
    const { retry, ...rest } = toFailureBody(failure)
    expect(result?.fault?.detail).toEqual({ ...rest, retry: unwraps ? retry : String(retry) })
  })
})

test.each([false, true])('node-soap calls every operation from its WSDL (SOAP 1.2: %s)', async (forceSoap12Headers) => {
  const cases = casesOf(portKeys, [1])
  forget()
  for (const port of portKeys) {
    const client = await createClientAsync(`${world.baseUrl}/${port}?wsdl`, { forceSoap12Headers })
    client.setSecurity(new BearerSecurity(tokenFor(port)))
    for (const { operation, input } of cases.filter((one) => one.port === port)) {
      const [output] = await client[`${operation}Async`](input)
      // node-soap gives an answer without fields, and empty text, as null.
      expect(Object.keys(output ?? {}).sort(), operation).toEqual(
        Object.keys(comparable(world[port].outputOf(operation)) ?? {}).sort(),
      )
    }
  }
  expectSeen(cases)
})

test('curl calls every operation by REST and reads every answer', async () => {
  const cases = casesOf(portKeys, [1])
  forget()
  for (const { port, operation, input } of cases) {
    const contract = world[port].served.port
    const entry = contract.operations[operation]
    if (entry === undefined) throw new Error(`no ${operation}`)
    const { method, path, body } = toRestForm(contract, entry, input)
    const options = ['-sS', '--fail-with-body', '-g', '-X', method, '-H', `Authorization: Bearer ${tokenFor(port)}`]
    const data = body === undefined ? [] : ['-H', 'Content-Type: application/json', '--data-raw', body]
    const { stdout } = await run('curl', [...options, ...data, world.baseUrl + path])
    expect(JSON.parse(stdout), operation).toEqual(world[port].outputOf(operation))
  }
  expectSeen(cases)
})

test('xmllint finds the messages on the wire valid by the schema from the WSDL', async () => {
  for (const port of portKeys) {
    const wsdl = await (await fetch(`${world.baseUrl}/${port}?wsdl`)).text()
    const schema = /<xs:schema .*<\/xs:schema>/s.exec(wsdl)?.[0] ?? ''
    await writeFile(join(folder, `${port}.xsd`), schema)
    const { port: contract } = world[port].served
    const files: string[] = []
    for (const { operation, input } of casesOf([port], [4])) {
      const body = encodeRoot(
        schemaOf(contract.operations[operation]?.input ?? {}),
        operation,
        contract.namespace,
        input,
      )
      const answer = await fetch(`${world.baseUrl}/${port}`, {
        method: 'POST',
        headers: { 'content-type': 'text/xml', authorization: `Bearer ${tokenFor(port)}` },
        body: `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>${body.toString()}</e:Body></e:Envelope>`,
      })
      const inside = /<soap:Body>(.*)<\/soap:Body>/s.exec(await answer.text())?.[1] ?? ''
      for (const [kind, message] of [
        ['in', body.toString()],
        ['out', inside],
      ] as const) {
        const file = join(folder, `${port}-${operation}-${kind}.xml`)
        await writeFile(file, message)
        files.push(file)
      }
    }
    const { stderr } = await run('xmllint', ['--noout', '--nonet', '--schema', join(folder, `${port}.xsd`), ...files])
    expect(stderr.match(/ validates$/gm)).toHaveLength(files.length)
  }
})

test('xmllint finds the fault detail valid by the schema from the WSDL', async () => {
  await writeFile(join(folder, 'f.xsd'), await (await fetch(`${world.baseUrl}/service?xsd`)).text())
  const answer = await fetch(`${world.baseUrl}/service`, {
    method: 'POST',
    headers: { 'content-type': 'text/xml' },
    body: '<a/>',
  })
  const detail = /<detail>(.*)<\/detail>/s.exec(await answer.text())?.[1] ?? ''
  await writeFile(join(folder, 'f.xml'), detail)
  await run('xmllint', ['--noout', '--nonet', '--schema', join(folder, 'f.xsd'), join(folder, 'f.xml')])
})

test('zeep loads the WSDL over all ports', async () => {
  const { stdout } = await run('/usr/bin/python3', ['-m', 'zeep', `${world.baseUrl}/wsdl`])
  for (const name of ['startRollout', 'registerHost', 'setPower']) expect(stdout).toContain(name)
})

test.each(['control', 'service', 'power'])('the OpenAPI document of the %s port is valid', async (port) => {
  const answer = await fetch(`${world.baseUrl}/${port}/openapi.json`)
  const document = (await answer.json()) as { servers: unknown }
  const validator = new Validator()
  const { valid, errors } = await validator.validate(document)
  expect(errors).toBeUndefined()
  expect([valid, validator.version]).toEqual([true, '3.1'])
  expect(document.servers).toEqual([{ url: `${world.baseUrl}/${port}/v1` }])
})
