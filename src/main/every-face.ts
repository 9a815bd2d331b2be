// The three ports with their real handlers behind real HTTP, as `hadesd` serves them, for tests that call each operation on
// each face; clients for any of the faces.
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pino from 'pino'
import { controlPort } from '../contract/control.ts'
import type { Operation, Operations, Port, PortClient, PortName } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { overseer } from '../operations/audit.ts'
import { userAuthenticator } from '../operations/authenticate.ts'
import { controlHandlers } from '../operations/control.ts'
import type { Stage } from '../operations/every-operation.ts'
import { onceOf, onceRunner } from '../operations/once.ts'
import { powerHandlers } from '../operations/power.ts'
import { serviceHandlers } from '../operations/service.ts'
import type { TestWorld } from '../operations/testing.ts'
import { type ServedPort, served } from '../ports/dispatch.ts'
import { servePorts } from '../ports/http.ts'
import { type FaceName, type RawAnswer, type RawCall, rawCall } from '../ports/raw-call.ts'

export const everyOperation: readonly { readonly port: Port; readonly name: string; readonly operation: Operation }[] =
  [controlPort, powerPort, servicePort].flatMap((port: Port) =>
    Object.entries(port.operations).map(([name, operation]) => ({ port, name, operation })),
  )

export type Sent = Omit<RawCall, 'baseUrl' | 'deadlineMs'>

export type EveryFace = {
  readonly world: TestWorld
  readonly webhookUrl: string
  /** Lines of the log at the level of an error, but for what a Failure says: that is of the world. */
  readonly errors: Record<string, unknown>[]
  /** Operations that left a call with a key without its answer in their transaction. */
  readonly unrecorded: string[]
  readonly call: (sent: Sent) => Promise<RawAnswer>
  close(): Promise<void>
}

/** An answer must come within this, however busy the machine is. */
const deadlineMs = 20_000

/** Serves a world until closed, and closes it too. */
export async function openEveryFace(opened: TestWorld): Promise<EveryFace> {
  const errors: Record<string, unknown>[] = []
  const unrecorded: string[] = []
  const write = (text: string) => {
    const line = JSON.parse(text) as { readonly err?: { readonly type?: string } }
    if (line.err?.type !== 'Failure') errors.push(line)
  }
  const log = pino({ level: 'error' }, { write })
  const certificate = {
    isOwnAuthority: true,
    pem: 'PEM',
    fingerprint: 'ab',
    names: ['hades'],
    expiresAt: '2030-01-01T00:00:00Z',
  }
  const world: TestWorld = { ...opened, log, allowsLocalWebhooks: true, certificate: () => certificate }
  const common = { listen: [{ host: '127.0.0.1', port: 0 }], log }
  const people = await servePorts({
    ...common,
    ports: [served(controlPort, controlHandlers(world)), served(powerPort, powerHandlers(world))].map((port) =>
      watchRecords(world, port, unrecorded),
    ),
    authenticate: userAuthenticator(world),
    oversight: overseer(world),
    runOnce: onceRunner(world),
  })
  const agents = await servePorts({
    ...common,
    ports: [served(servicePort, serviceHandlers(world))],
    authenticate: ({ token, address }) => (token === undefined ? undefined : { kind: 'bearer', token, address }),
  })
  const taker = createServer((request, response) => request.resume().on('end', () => response.end()))
  await new Promise<void>((resolve) => {
    taker.listen(0, '127.0.0.1', resolve)
  })
  const urlOf = ({ addresses: [at] }: typeof people) => `http://127.0.0.1:${at && 'port' in at ? at.port : 0}`
  return {
    world,
    errors,
    unrecorded,
    webhookUrl: `http://127.0.0.1:${(taker.address() as AddressInfo).port}/hook`,
    call: async (sent) =>
      await rawCall({ ...sent, baseUrl: urlOf(sent.port.name === 'service' ? agents : people), deadlineMs }),
    async close() {
      await people.close(0)
      await agents.close(0)
      taker.closeAllConnections()
      taker.close()
      await world.close()
    },
  }
}

/** Notes which operations with `once: recorded` return before their answer is in the database. */
function watchRecords({ db }: TestWorld, { port, handlers }: ServedPort, unrecorded: string[]): ServedPort {
  const watched = Object.entries(handlers).map(([name, handler]) => {
    const watch: typeof handler = async (input, caller) => {
      const output = await handler(input, caller)
      const once = port.operations[name]?.once === 'recorded' ? onceOf(caller) : undefined
      if (once) {
        const row = await db.selectFrom('once_calls').select('answer').where('id', '=', once.id).executeTakeFirst()
        if (row?.answer == null) unrecorded.push(name)
      }
      return output
    }
    return [name, watch] as const
  })
  return { port, handlers: Object.fromEntries(watched) }
}

/** What was answered to a call that must succeed; `again`: to the same call with the same idempotency key. */
export type Success = {
  readonly port: PortName
  readonly name: string
  readonly input: object
  readonly output: unknown
  readonly again?: unknown
}

/**
 * Clients of one face for a scenario. What takes an idempotency key is called twice with one. Whatever fails throws; what
 * succeeds goes to `told`.
 */
export function clientsOf({ call, world }: EveryFace, face: FaceName, told: (success: Success) => void): Stage['as'] {
  const clientOf = <Ops extends Operations>(port: Port<Ops>, token: string | undefined): PortClient<Ops> => {
    const made = Object.entries<Operation>(port.operations).map(([name, { once }]) => {
      const method = async (input: object) => {
        const sent: Sent = { face, port, name, input, token, key: once === undefined ? undefined : randomUUID() }
        const output = outputOf(sent, await call(sent))
        const again = once === undefined ? {} : { again: outputOf(sent, await call(sent)) }
        told({ port: port.name, name, input, output, ...again })
        return output
      }
      return [name, method]
    })
    // Each name of the port has its method, which answers by the port's contract.
    return Object.fromEntries(made) as PortClient<Ops>
  }
  return (token) => {
    const user = token ?? world.adminToken.reveal()
    return {
      control: clientOf(controlPort, user),
      power: clientOf(powerPort, user),
      service: clientOf(servicePort, token),
    }
  }
}

function outputOf({ name, face }: Sent, { output, failure, status }: RawAnswer): unknown {
  if (failure === undefined && status === 200) return output
  throw new Error(`${name} by ${face} was answered ${status}: ${JSON.stringify(failure)}`)
}
