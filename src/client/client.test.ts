import { createServer, type RequestListener, type Server } from 'node:http'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { controlPort } from '../contract/control.ts'
import type { Caller, Handlers } from '../contract/operation.ts'
import { powerOperations, powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { schemaOf } from '../lib/schema.ts'
import { Secret } from '../lib/secret.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { sampleOf } from '../ports/fake-handlers.ts'
import { openPortWorld, type PortWorld } from '../ports/port-world.ts'
import { createClient, inProcess, type Transport } from './client.ts'

let world: PortWorld
let http: Transport

beforeAll(async () => {
  world = await openPortWorld()
  http = { kind: 'http', baseUrl: world.baseUrl, token: new Secret(world.token) }
})
afterAll(() => world.close())

async function failureOf(call: Promise<unknown>): Promise<Failure> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Failure) return error
  throw new Error('it threw no Failure', { cause: error })
}

/** Runs `work` against a server of our own that answers as told. */
async function against<T>(answer: RequestListener, work: (baseUrl: string, server: Server) => Promise<T>): Promise<T> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const address = server.address()
  try {
    return await work(`http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`, server)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('every operation is called over HTTP and over the unix socket, with input and output as they were', async () => {
  for (const transport of [http, { kind: 'unix', socketPath: world.socketPath } as const]) {
    for (const port of ['control', 'power'] as const) {
      const { served, seen, outputOf } = world[port]
      const client = createClient(served.port, transport)
      seen.length = 0
      for (const [name, { input }] of Object.entries(served.port.operations)) {
        const given = sampleOf(schemaOf(input), 7) as Record<string, unknown>
        expect(await client[name]?.(given), name).toEqual(outputOf(name))
        expect(seen.at(-1), name).toMatchObject({ operation: name, input: given })
      }
    }
  }
  const agent = createClient(servicePort, { ...http, token: new Secret('session-key') })
  expect(await agent.getInstructions({ deployment: 3 })).toEqual(world.service.outputOf('getInstructions'))
  expect(world.service.seen.at(-1)?.caller).toMatchObject({ kind: 'bearer', token: 'session-key' })
})

test('a failure arrives with its code, its chain of sentences and its field', async () => {
  const cause = new Error('middle', { cause: new Error('inner') })
  world.control.answer('getHost', new Failure('unknown-host', 'there is no n9', { at: 'name', cause }))
  const failure = await failureOf(createClient(controlPort, http).getHost({ name: 'n9' }))
  expect(failure).toMatchObject({ code: 'unknown-host', at: 'name' })
  expect(causeChain(failure)).toEqual(['there is no n9', 'middle', 'inner'])
  const refused = await failureOf(createClient(controlPort, { ...http, token: new Secret('wrong') }).listHosts({}))
  expect(refused.code).toBe('unauthorized')
})

test('a service that is not there is unreachable, and the failure says where and why', async () => {
  const gone = await against(
    () => undefined,
    async (baseUrl) => baseUrl,
  )
  const failure = await failureOf(createClient(controlPort, { kind: 'http', baseUrl: gone }).listHosts({}))
  expect(failure.code).toBe('service-unreachable')
  expect(failure.message).toBe(`${gone} cannot be reached for listHosts: ECONNREFUSED`)
  const socketPath = `${world.socketPath}.none`
  const unix = await failureOf(createClient(controlPort, { kind: 'unix', socketPath }).listHosts({}))
  expect([unix.code, unix.message]).toEqual([
    'service-unreachable',
    `${socketPath} cannot be reached for listHosts: ENOENT`,
  ])
  const wrong = await failureOf(createClient(controlPort, { kind: 'http', baseUrl: 'nonsense' }).listHosts({}))
  expect(wrong.code).toBe('service-unreachable')
})

test('a service that does not answer in time is unreachable', async () => {
  await against(
    () => undefined,
    async (baseUrl) => {
      const client = createClient(controlPort, { kind: 'http', baseUrl, deadlineMs: 50 })
      const failure = await failureOf(client.listHosts({}))
      expect([failure.code, failure.message]).toEqual([
        'service-unreachable',
        `${baseUrl} did not answer listHosts within 50 ms`,
      ])
      const own = await failureOf(client.listHosts({}, { deadlineMs: 60_000, signal: AbortSignal.timeout(50) }))
      expect(own.code).toBe('service-unreachable')
    },
  )
})

test('a call that its caller gives up is cancelled, or fails with the reason if that is a failure', async () => {
  await against(
    () => undefined,
    async (baseUrl) => {
      const client = createClient(controlPort, { kind: 'http', baseUrl })
      const controller = new AbortController()
      const call = failureOf(client.listHosts({}, { signal: controller.signal }))
      controller.abort()
      expect((await call).code).toBe('cancelled')
      const reason = new Failure('wrong-state', 'no longer needed')
      expect(await failureOf(client.listHosts({}, { signal: AbortSignal.abort(reason) }))).toBe(reason)
    },
  )
})

test.each([
  ['HTML', 404, 'text/html', '<html>not here</html>'],
  ['broken JSON', 200, 'application/json', '{"hosts":['],
  ['JSON of something else', 200, 'application/json', '{"machines":[]}'],
  ['a failure of something else', 500, 'application/json', '{"error":"x"}'],
])('%s is not an answer of HaDeS', async (_, status, type, body) => {
  await against(
    (_request, response) => response.writeHead(status, { 'content-type': type }).end(body),
    async (baseUrl) => {
      const failure = await failureOf(createClient(controlPort, { kind: 'http', baseUrl }).listHosts({}))
      expect(failure.code).toBe('service-unreachable')
      expect(failure.message).toContain(`${status} ${type}`)
    },
  )
})

test('an answer that breaks off is no answer', async () => {
  await against(
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 })
      response.write('{"hosts":', () => response.destroy())
    },
    async (baseUrl) => {
      const failure = await failureOf(createClient(controlPort, { kind: 'http', baseUrl }).listHosts({}))
      expect(failure.code).toBe('service-unreachable')
    },
  )
})

test('one connection serves one call after the other', async () => {
  const sockets = new Set<unknown>()
  await against(
    (request, response) => {
      sockets.add(request.socket)
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"hosts":[]}')
    },
    async (baseUrl) => {
      const client = createClient(controlPort, { kind: 'http', baseUrl })
      for (let i = 0; i < 5; i++) await client.listHosts({})
    },
  )
  expect(sockets.size).toBe(1)
})

function powerHandlers(getPower: Handlers<typeof powerOperations>['getPower']): Handlers<typeof powerOperations> {
  const rest = Object.keys(powerOperations).map((name) => [name, async () => ({ outcomes: [] })])
  return { ...Object.fromEntries(rest), getPower }
}

test('inside the process the same checks hold, and the handler sees who calls', async () => {
  const callers: Caller[] = []
  const client = inProcess(
    powerPort,
    powerHandlers(async ({ nodeset }, caller) => {
      callers.push(caller)
      return { outcomes: [{ host: nodeset, confirmed: true, secret: 'x' }] }
    }),
  )
  expect(await client.getPower({ nodeset: 'n1' })).toEqual({ outcomes: [{ host: 'n1', confirmed: true }] })
  expect(callers).toEqual([{ kind: 'user', name: 'admin', role: 'admin', address: 'in-process' }])
  const refused = await failureOf(client.getPower({ nodeset: '' }))
  expect(refused).toMatchObject({ code: 'bad-input', at: 'nodeset' })
})

test('inside the process failures pass as they are, bugs become internal, and a signal ends the wait', async () => {
  const failing = (error: unknown) =>
    inProcess(
      powerPort,
      powerHandlers(async () => {
        throw error
      }),
    )
  const failure = new Failure('unknown-host', 'there is no n1')
  expect(await failureOf(failing(failure).getPower({ nodeset: 'n1' }))).toBe(failure)
  const bug = await failureOf(failing(new TypeError('x is undefined')).getPower({ nodeset: 'n1' }))
  expect(causeChain(bug)).toEqual(['getPower met a bug', 'x is undefined'])
  expect(bug.code).toBe('internal')
  const endless = inProcess(
    powerPort,
    powerHandlers(() => new Promise(() => undefined)),
  )
  const signal = AbortSignal.timeout(20)
  expect((await failureOf(endless.getPower({ nodeset: 'n1' }, { signal }))).code).toBe('service-unreachable')
})
