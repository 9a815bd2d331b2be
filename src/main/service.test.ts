// The service as a process of its own, watched and stopped as an administrator and systemd do it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { freePort } from '../lib/free-port.ts'
import { until } from '../lib/until.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'hades')

let folder: string
let ports: { control: number; http: number; tftp: number }
let child: ChildProcess | undefined
let said: string

const control = () => createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'data', 'control.sock') })
const get = (path: string, headers: Record<string, string> = {}, port = ports.control) =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers })

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-service-'))
  ports = { control: await freePort(), http: await freePort(), tftp: await freePort() }
  await mkdir(join(folder, 'loaders'))
  await mkdir(join(folder, 'scout'))
  await writeFile(join(folder, 'loaders', 'loader.bin'), Buffer.alloc(100_000, 1))
  const scout = { files: { 'stage2.squashfs': { sha256: '0'.repeat(64) } } }
  await writeFile(join(folder, 'scout', 'scout.json'), JSON.stringify(scout))
  await writeFile(join(folder, 'metrics.token'), 'read-only-word\n', { mode: 0o600 })
  const lines = [
    'data: data\nloaders: loaders\nscout: scout\naddress: 127.0.0.1\ndhcp: off',
    `http: {port: ${ports.http}}\ntftp: {port: ${ports.tftp}}\ncontrol: {port: ${ports.control}}`,
    'seeder: {port: 0}\nmetrics: {tokenFile: metrics.token}\nstop: {grace: 5s}',
  ]
  await writeFile(join(folder, 'hades.yaml'), lines.join('\n'))
  said = ''
})
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  child = undefined
  await rm(folder, { recursive: true, force: true })
})

async function start(env: Record<string, string> = {}): Promise<void> {
  child = spawn(program, ['server', '--config', join(folder, 'hades.yaml')], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, ...env },
  })
  child.stderr?.on('data', (text: Buffer) => {
    said += text.toString()
  })
  await until('the service', () => control().getStatus({}), { timeoutMs: 60_000 })
}

async function ended(within = 20_000): Promise<number | null> {
  await until('the end of the service', () => child?.exitCode !== null || child.signalCode !== null, {
    timeoutMs: within,
  })
  return child?.exitCode ?? null
}

test('it is alive and ready, says which part is not, and counts what happens', async () => {
  await start()
  expect(await (await get('/healthz')).json()).toEqual({ alive: true })
  const ready = await get('/readyz')
  const parts = ['service', 'database', 'library', 'engine', 'control', 'service', 'tftp']
  expect(await ready.json()).toEqual({ ready: true, parts: parts.map((part) => ({ part, ok: true })) })
  expect((await get('/readyz', {}, ports.http)).status).toBe(200)

  await get('/boot/loader.bin', {}, ports.http)
  await get('/boot/../../etc/passwd', {}, ports.http)
  await get('/boot/none', {}, ports.http)
  await control()
    .getHost({ name: 'nobody' })
    .catch(() => undefined)
  const text = await (await get('/metrics')).text()
  expect(text).toMatch(/^hades_calls_total\{port="control",operation="getHost",code="unknown-host"\} 1$/m)
  expect(text).toMatch(/^hades_boot_answers_total\{via="http",kind="loader",outcome="sent"\} 1$/m)
  expect(text).toMatch(/^hades_boot_answers_total\{via="http",kind="loader",outcome="not-found"\} 1$/m)
  expect(text).toMatch(/^hades_engine_round_seconds_count\{result="ok"\} [1-9]/m)
  expect(text).toMatch(/^hades_database_seconds_count\{result="ok"\} [1-9]/m)
  expect(text).toMatch(/^hades_hosts 0$/m)
  expect(text).toMatch(/^nodejs_eventloop_lag_p99_seconds /m)

  // A proxy on this machine asks for somebody else, who needs a token.
  expect((await get('/metrics', { 'x-forwarded-for': '192.0.2.1' })).status).toBe(401)
  const proxied = { 'x-forwarded-for': '192.0.2.1', authorization: 'Bearer read-only-word' }
  expect((await get('/metrics', proxied)).status).toBe(200)
  expect((await get('/control/v1/status', { authorization: 'Bearer read-only-word' })).status).toBe(401)

  await rm(join(folder, 'data', 'images'), { recursive: true })
  const broken = await until(
    'the library to be missed',
    async () => {
      const answer = await get('/readyz')
      return answer.status === 503 && ((await answer.json()) as { parts: { part: string; ok: boolean; why: string }[] })
    },
    { timeoutMs: 10_000 },
  )
  expect(broken.parts.filter(({ ok }) => !ok)).toEqual([
    { part: 'library', ok: false, why: 'the image library cannot be written: ENOENT' },
  ])
  for (const line of said.trim().split('\n')) {
    expect(JSON.parse(line)).toMatchObject({ level: expect.stringMatching(/^(info|warn)$/), time: expect.any(String) })
  }
}, 120_000)

test('told to stop, it lets calls under way end and tells new ones to ask again, within its bound', async () => {
  await start()
  const waiting = control().listEvents({ after: 1_000_000, waitMs: 3000 })
  await until('the waiting call', async () => (await get('/healthz')).ok, { timeoutMs: 10_000 })
  const token = { authorization: `Bearer ${(await execa('cat', [join(folder, 'data', 'admin.token')])).stdout}` }
  child?.kill('SIGTERM')
  const refused = await until(
    'a refusal',
    async () => {
      const answer = await get('/control/v1/status', token)
      return answer.status === 503 && answer
    },
    { timeoutMs: 3000, everyMs: 5 },
  )
  expect(refused.headers.get('retry-after')).toBe('2')
  expect(await refused.json()).toMatchObject({ code: 'service-unreachable' })
  const agent = await fetch(`http://127.0.0.1:${ports.http}/service`, {
    method: 'POST',
    headers: { 'content-type': 'text/xml' },
    body: '<x/>',
  })
  expect([agent.status, await agent.text()]).toEqual([503, expect.stringContaining('the service is stopping')])
  expect(await (await get('/readyz')).json()).toMatchObject({ ready: false })
  expect((await waiting).events).toEqual([])
  expect(await ended()).toBe(0)
}, 120_000)

test('a second signal ends it at once', async () => {
  await start()
  void control()
    .listEvents({ after: 1_000_000, waitMs: 20_000 })
    .catch(() => undefined)
  await until('the call', async () => (await get('/metrics')).ok, { timeoutMs: 10_000 })
  child?.kill('SIGTERM')
  await until('the drain', async () => (await get('/readyz')).status === 503, { timeoutMs: 4000, everyMs: 5 })
  child?.kill('SIGTERM')
  expect(await ended(4000)).toBe(130)
}, 120_000)

/** A socket as systemd's: prints each message that comes as a line. */
const systemd = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(s.recv(4096).decode().replace("\\n", " "), flush=True)`

test('systemd is told when it is ready, that it lives, and when it stops', async () => {
  const socket = join(folder, 'notify.sock')
  const listener = execa('python3', ['-c', systemd, socket], { reject: false })
  let heard = ''
  listener.stdout.on('data', (text: Buffer) => {
    heard += text.toString()
  })
  try {
    await until('the socket', () => heard.includes('bound'), { timeoutMs: 20_000 })
    await chmod(socket, 0o666)
    await start({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' })
    await until('READY', () => heard.includes('READY=1'), { timeoutMs: 20_000 })
    await until('WATCHDOG', () => heard.includes('WATCHDOG=1'), { timeoutMs: 20_000 })
    child?.kill('SIGTERM')
    await until('STOPPING', () => heard.includes('STOPPING=1'), { timeoutMs: 20_000 })
    expect(await ended()).toBe(0)
  } finally {
    listener.kill()
    await listener
  }
}, 120_000)

test('a configuration that is wrong ends a start with the line at fault and exit code 2', async () => {
  await writeFile(join(folder, 'hades.yaml'), 'data: data\ntfpt: {port: 1}\n')
  const { exitCode, stderr } = await execa(program, ['up', '--config', join(folder, 'hades.yaml')], { reject: false })
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining('hades.yaml:2: there is no setting `tfpt`; did you mean `tftp`?'),
  ])
})
