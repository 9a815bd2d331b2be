import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { rolldown } from 'rolldown'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FakeService } from '../agent/fake-service.ts'
import { servicePort } from '../contract/service.ts'
import { Secret } from '../lib/secret.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, servePorts } from '../ports/http.ts'
import type { TlsSource } from '../ports/listen.ts'
import { openCertificates } from './certificates.ts'

let folder: string
let program: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-agentd-'))
  program = join(folder, 'agent.mjs')
  const bundle = await rolldown({ input: join(import.meta.dirname, 'agentd.ts'), platform: 'node', logLevel: 'warn' })
  const banner = 'const __dirname = import.meta.dirname, __filename = import.meta.filename'
  await bundle.write({ file: program, format: 'esm', codeSplitting: false, banner })
  await bundle.close()
})
afterAll(() => rm(folder, { recursive: true }))

const work = {
  deployment: 7,
  host: 'n01',
  // No disk of the machine that runs this test may ever fit.
  interfaces: [],
  layout: {
    disks: [
      {
        name: 'system',
        hints: [{ property: 'serial' as const, operator: 'eq' as const, value: 'no-disk-has-this-serial' }],
        erase: 'none' as const,
        partitions: [],
        content: { kind: 'image' as const, image: 'test:1' },
      },
    ],
    arrays: [],
    groups: [],
  },
  images: [
    {
      reference: 'test:1',
      digest: '0'.repeat(64),
      manifestUrl: 'http://127.0.0.1:1/m',
      imageUrl: 'http://127.0.0.1:1/i',
      transfer: {
        engine: 'http' as const,
        torrentUrl: 'http://127.0.0.1:1/t',
        metalinkUrl: 'http://127.0.0.1:1/l',
        announceUrl: 'http://127.0.0.1:1/a',
        lingerSeconds: 0,
      },
    },
  ],
  redeploy: 'full' as const,
  finish: 'poweroff' as const,
}

/** Runs the bundled program against `service` with these words as the kernel's command line. */
async function runAgentd(service: FakeService, words: (url: string) => string, tls?: TlsSource) {
  const ports = await servePorts({
    ports: [served(servicePort, service.handlers())],
    listen: [{ host: '127.0.0.1', port: 0, ...(tls ? { tls } : {}) }],
    authenticate: authenticateByToken(new Secret('the-admin-token')),
    log: pino({ level: 'silent' }),
  })
  const [address] = ports.addresses
  if (address === undefined || !('port' in address)) throw new Error('the service listens at no port')
  const file = join(folder, 'cmdline')
  await writeFile(file, words(`${tls ? 'https' : 'http'}://127.0.0.1:${address.port}`))
  try {
    return await execa(process.execPath, [program, '--arguments', file], { reject: false, timeout: 20_000 })
  } finally {
    await ports.close(0)
  }
}

test('the program is one file that needs no other', async () => {
  expect(await readFile(program, 'utf8')).not.toMatch(/^import .* from ["'](?!node:)/m)
})

test('a machine for which there is nothing to do stays in the scout and says why', async () => {
  const service = new FakeService(work)
  service.instructions = { action: 'stop', reason: 'deployment 7 is cancelled', reportEveryMs: 1000 }
  const result = await runAgentd(
    service,
    (url) => `quiet hades.service=${url} hades.host=n01 hades.token=${service.bootToken}`,
  )
  expect(result.stdout).toContain('this machine stays in the scout')
  expect(result.stdout).toContain('deployment 7 is cancelled')
  expect(result.stdout).not.toContain(service.bootToken)
  expect(result.exitCode).toBe(0)
  expect(service.of('registerHost')).toMatchObject([{ host: 'n01', inventory: { cpuCount: expect.any(Number) } }])
})

test('a refused token ends the program for good', async () => {
  const service = new FakeService(work)
  const result = await runAgentd(service, (url) => `hades.service=${url} hades.host=n01 hades.token=an-old-one`)
  expect(result.stdout).toContain('the service does not take this machine: it is not the token')
  expect(result.exitCode).toBe(0)
  expect(service.calls).toHaveLength(1)
})

test('a command line without its words is an error that names the word', async () => {
  const result = await runAgentd(new FakeService(work), () => 'BOOT_IMAGE=/vmlinuz quiet')
  expect(result.stdout).toContain('hades.service is missing from the kernel arguments')
  expect(result.exitCode).toBe(1)
})

test('over TLS the agent gives its token to the service with the pinned certificate, and to no other', async () => {
  const service = new FakeService(work)
  service.instructions = { action: 'stop', reason: 'deployment 7 is cancelled', reportEveryMs: 1000 }
  const options = { folder: join(folder, 'tls'), names: ['127.0.0.1'], now: Date.now }
  const tls = await openCertificates(options)
  const { fingerprint } = tls.view()
  const words = (pin: string) => (url: string) =>
    `hades.service=${url} hades.host=n01 hades.token=${service.bootToken} hades.pin=${pin}`
  const result = await runAgentd(service, words(fingerprint), tls)
  expect(result.stdout).toContain('deployment 7 is cancelled')
  expect(service.calls).toHaveLength(1)
  const other = await openCertificates({ ...options, folder: join(folder, 'other') })
  const refused = await runAgentd(service, words(fingerprint), other)
  expect(refused.stdout).toContain('no certificate with the fingerprint')
  expect(service.calls).toHaveLength(1)
})
