// The three ports served for a test, on a free TCP port and a unix socket, with handlers that note their calls.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { controlPort } from '../contract/control.ts'
import { powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { Secret } from '../lib/secret.ts'
import type { Limits } from './face.ts'
import { type FakePort, fakePort } from './fake-handlers.ts'
import { type AddRoutes, authenticateByToken, type PortServer, servePorts } from './http.ts'

export type PortWorld = {
  readonly control: FakePort
  readonly service: FakePort
  readonly power: FakePort
  readonly baseUrl: string
  readonly port: number
  readonly socketPath: string
  readonly token: string
  /** Lines of the server's log so far. */
  readonly log: Record<string, unknown>[]
  readonly server: PortServer
  readonly close: () => Promise<void>
}

export async function openPortWorld(
  options: { limits?: Partial<Limits>; routes?: readonly AddRoutes[] } = {},
): Promise<PortWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-ports-'))
  const [control, service, power] = [fakePort(controlPort), fakePort(servicePort), fakePort(powerPort)]
  const token = 'the-admin-token'
  const log: Record<string, unknown>[] = []
  const socketPath = join(folder, 'control.sock')
  const server = await servePorts({
    ports: [control.served, service.served, power.served],
    listen: [{ host: '127.0.0.1', port: 0 }, { socketPath }],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'debug' }, { write: (line: string) => log.push(JSON.parse(line)) }),
    ...options,
  })
  const [tcp] = server.addresses
  const port = tcp && 'port' in tcp ? tcp.port : 0
  return {
    control,
    service,
    power,
    baseUrl: `http://127.0.0.1:${port}`,
    port,
    socketPath,
    token,
    log,
    server,
    close: async () => {
      await server.close(0)
      await rm(folder, { recursive: true, force: true })
    },
  }
}
