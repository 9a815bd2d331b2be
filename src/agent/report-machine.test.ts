import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { servicePort } from '../contract/service.ts'
import { Secret } from '../lib/secret.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, servePorts } from '../ports/http.ts'
import { FakeService } from './fake-service.ts'
import { type Look, lookAtMachine } from './inventory.ts'
import { createLog } from './log.ts'
import { reportMachine } from './report-machine.ts'

const mac = '52:54:00:00:00:99'
const noWork = { deployment: 1, host: 'none', interfaces: [], images: [], redeploy: 'full', finish: 'stay' } as const
const layout = { disks: [], arrays: [], groups: [] }

let service: FakeService
let ports: Awaited<ReturnType<typeof servePorts>>
let lines: string[]
beforeEach(async () => {
  service = new FakeService({ ...noWork, interfaces: [], images: [], layout })
  lines = []
  ports = await servePorts({
    ports: [served(servicePort, service.handlers())],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret('the-admin-token')),
    log: pino({ level: 'silent' }),
  })
})
afterEach(() => ports.close(0))

async function report({ token = service.bootToken, look = lookAtMachine } = {}) {
  const [address] = ports.addresses
  if (address === undefined || !('port' in address)) throw new Error('the service listens at no port')
  const baseUrl = `http://127.0.0.1:${address.port}`
  return await reportMachine(
    {
      arguments: { service: baseUrl, mac, token: new Secret(token) },
      version: '1',
      connect: (shown) => createClient(servicePort, { kind: 'http', baseUrl, token: shown }),
      look,
      log: createLog((line) => lines.push(line)),
      reportLimits: { callMs: 5000, pauseMs: 1, pauseMsMax: 5 },
    },
    AbortSignal.timeout(20_000),
  )
}

test('a machine that nobody knows says what it is and is switched off, and its token stands in no log', async () => {
  expect(await report()).toEqual({ kind: 'finished', action: 'poweroff' })
  expect(service.calls.map(({ name }) => name)).toEqual(['reportDiscovered'])
  expect(service.of('reportDiscovered')).toMatchObject([{ mac, inventory: { cpuCount: expect.any(Number) } }])
  expect(lines.join('')).not.toContain(service.bootToken)
})

test('an answer that is lost is asked for again by the same agent', async () => {
  let calls = 0
  service.before = () => {
    calls += 1
    if (calls < 3) throw new Error('the answer is lost')
    return undefined
  }
  expect(await report()).toEqual({ kind: 'finished', action: 'poweroff' })
  expect(new Set(service.of('reportDiscovered').map(({ agent }) => agent)).size).toBe(1)
  expect(calls).toBe(3)
})

test('a machine whose report is refused, or whom nobody answers, is switched off all the same', async () => {
  const refused = await report({ token: 'an-old-one' })
  expect(refused).toMatchObject({
    action: 'poweroff',
    failed: [expect.stringContaining('does not take'), expect.any(String)],
  })
  expect(service.calls).toHaveLength(1)
  service.before = () => {
    throw new Error('the database is away')
  }
  expect(await report()).toMatchObject({
    action: 'poweroff',
    failed: [expect.stringContaining('does not take'), expect.any(String)],
  })
  expect(service.calls).toHaveLength(61)
})

test('a machine whose disks could not be looked at reports nothing, for that is not to have none', async () => {
  const look = async (signal: AbortSignal): Promise<Look> => ({
    ...(await lookAtMachine(signal)),
    problem: new Error('no lsblk'),
  })
  expect(await report({ look })).toMatchObject({
    action: 'poweroff',
    failed: [expect.stringContaining('disks'), 'no lsblk'],
  })
  expect(service.calls).toEqual([])
})
