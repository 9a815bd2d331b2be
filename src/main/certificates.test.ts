import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import type { Trust } from '../client/trust.ts'
import { controlPort } from '../contract/control.ts'
import { Secret } from '../lib/secret.ts'
import { causeChain, type Failure } from '../model/failure.ts'
import { fakePort } from '../ports/fake-handlers.ts'
import { authenticateByToken, type PortServer, servePorts } from '../ports/http.ts'
import { type Certificates, openCertificates, serviceCertificates, speaksTls } from './certificates.ts'

const run = promisify(execFile)
const dayMs = 24 * 3600_000
let folder: string
let server: PortServer | undefined

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-tls-'))
})
afterEach(async () => {
  await server?.close(0)
  server = undefined
  await rm(folder, { recursive: true, force: true })
})

const open = (at = Date.now(), names = ['localhost', '127.0.0.1']) =>
  openCertificates({ folder: join(folder, 'tls'), names, now: () => at })

async function serve(tls: Certificates): Promise<string> {
  const control = fakePort(controlPort)
  server = await servePorts({
    ports: [control.served],
    listen: [{ host: '127.0.0.1', port: 0, tls }],
    authenticate: authenticateByToken(new Secret('the-admin-token')),
    log: pino({ level: 'silent' }),
  })
  const [tcp] = server.addresses
  return `https://127.0.0.1:${tcp && 'port' in tcp ? tcp.port : 0}`
}

async function outcome(baseUrl: string, trust: Trust): Promise<string> {
  const client = createClient(controlPort, { kind: 'http', baseUrl, token: new Secret('the-admin-token'), trust })
  return await client.listHosts({}).then(
    () => 'ok',
    (error: Failure) => causeChain(error).join(': '),
  )
}

test('openssl and curl find the certificate good for its names, by the authority', async () => {
  const tls = await open()
  const { pem, fingerprint, names } = tls.view()
  expect(names).toEqual(['localhost', '127.0.0.1'])
  await run('openssl', [
    'verify',
    '-x509_strict',
    '-CAfile',
    join(folder, 'tls/ca.pem'),
    join(folder, 'tls/server.pem'),
  ])
  const { stdout } = await run('openssl', [
    'x509',
    '-in',
    join(folder, 'tls/ca.pem'),
    '-noout',
    '-fingerprint',
    '-sha256',
  ])
  expect(stdout.replaceAll(':', '').toLowerCase()).toContain(fingerprint)
  expect(await readFile(join(folder, 'tls/ca.pem'), 'utf8')).toContain(pem.trim())
  const baseUrl = await serve(tls)
  await run('curl', ['-fsS', '--cacert', join(folder, 'tls/ca.pem'), `${baseUrl}/control?wsdl`])
  await expect(run('curl', ['-fsS', `${baseUrl}/control?wsdl`])).rejects.toThrow(/certificate/)
})

test('nobody else may read the keys', async () => {
  await open()
  for (const file of await readdir(join(folder, 'tls'))) {
    expect((await stat(join(folder, 'tls', file))).mode & 0o077, file).toBe(0)
  }
  expect((await stat(join(folder, 'tls'))).mode & 0o077).toBe(0)
})

test('a client knows the service by its authority or by a fingerprint, and by nothing else', async () => {
  const tls = await open()
  const { pem, fingerprint } = tls.view()
  const baseUrl = await serve(tls)
  expect(await outcome(baseUrl, { ca: pem })).toBe('ok')
  expect(await outcome(baseUrl, { fingerprint })).toBe('ok')
  expect(await outcome(baseUrl, { fingerprint: fingerprint.toUpperCase().replace(/..\B/g, '$&:') })).toBe('ok')
  expect(await outcome(baseUrl, {})).toMatch(/certificate/)
  const strange = await outcome(baseUrl, { fingerprint: '0'.repeat(64) })
  expect(strange).toContain('no certificate with the fingerprint')
  expect(strange).toContain(fingerprint)
})

test("who pins an authority is not taken in by another name's certificate of it", async () => {
  const tls = await open(Date.now(), ['elsewhere.example'])
  const baseUrl = await serve(tls)
  expect(await outcome(baseUrl, { fingerprint: tls.view().fingerprint })).toMatch(/altname|does not match/i)
})

test('the word of a caller goes to no service with another certificate', async () => {
  const pinned = (await open()).view().fingerprint
  await rm(join(folder, 'tls'), { recursive: true })
  const control = fakePort(controlPort)
  const heard: string[] = []
  server = await servePorts({
    ports: [control.served],
    listen: [{ host: '127.0.0.1', port: 0, tls: await open() }],
    authenticate: ({ token }) => {
      heard.push(String(token))
      return undefined
    },
    log: pino({ level: 'silent' }),
  })
  const [tcp] = server.addresses
  const baseUrl = `https://127.0.0.1:${tcp && 'port' in tcp ? tcp.port : 0}`
  expect(await outcome(baseUrl, { fingerprint: pinned })).toContain('no certificate with the fingerprint')
  expect(heard).toEqual([])
})

test('the same certificate serves after a restart, and is signed anew a month before it ends', async () => {
  const first = await open()
  const again = await open()
  expect(again.view()).toEqual(first.view())
  const later = await open(Date.now() + 61 * dayMs)
  expect(later.keys().cert).not.toBe(first.keys().cert)
  expect(later.view().fingerprint).toBe(first.view().fingerprint)
})

test('a new name of the machine gets a new certificate of the same authority', async () => {
  const first = await open()
  const second = await open(Date.now(), ['localhost', '127.0.0.1', 'hades.example', '2001:db8::1'])
  expect(second.view().names).toEqual(['localhost', '127.0.0.1', 'hades.example', '2001:DB8:0:0:0:0:0:1'])
  expect(second.view().fingerprint).toBe(first.view().fingerprint)
  const third = await open(Date.now(), ['localhost', '127.0.0.1', 'hades.example', '2001:db8::1'])
  expect(third.keys()).toEqual(second.keys())
})

test('a renewed certificate is shown to the next caller, without a restart', async () => {
  let at = Date.now()
  const tls = await openCertificates({ folder: join(folder, 'tls'), names: ['127.0.0.1'], now: () => at })
  const baseUrl = await serve(tls)
  const shown = async () => {
    const { host } = new URL(baseUrl)
    const { stdout } = await run('sh', [
      '-c',
      `openssl s_client -connect ${host} </dev/null 2>/dev/null | openssl x509 -noout -serial`,
    ])
    return stdout
  }
  const before = await shown()
  await tls.renew()
  expect(await shown()).toBe(before)
  at += 61 * dayMs
  await tls.renew()
  expect(await shown()).not.toBe(before)
})

test('a given certificate is used, pinned by its own fingerprint, and refused when its key is of another', async () => {
  const [cert, key] = [join(folder, 'a.pem'), join(folder, 'a.key')]
  const make = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=given']
  await run('openssl', [...make, '-days', '2', '-keyout', key, '-out', cert])
  const names = { controlHost: '127.0.0.1', address: undefined, tlsCert: cert, tlsKey: key }
  const tls = await serviceCertificates(names, { tls: join(folder, 'tls') })
  if (!tls) throw new Error('a given certificate means TLS')
  expect(tls.view()).toMatchObject({ isOwnAuthority: false })
  expect(await outcome(await serve(tls), { fingerprint: tls.view().fingerprint })).toBe('ok')
  await run('openssl', [...make, '-days', '2', '-keyout', key, '-out', join(folder, 'b.pem')])
  await expect(serviceCertificates(names, { tls: folder })).rejects.toMatchObject({
    code: 'bad-input',
    at: '--tls-key',
  })
})

test('HTTP is for loopback only', () => {
  expect(
    ['127.0.0.1', '::1', 'localhost', '0.0.0.0', '192.0.2.1'].map((controlHost) =>
      speaksTls({ controlHost, address: undefined }),
    ),
  ).toEqual([false, false, false, true, true])
})
