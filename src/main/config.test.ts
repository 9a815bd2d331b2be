import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lookAtConfig, readConfig, sentenceOf } from './config.ts'
import { exampleFile } from './config-cli.ts'

let folder: string
let file: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-config-'))
  file = join(folder, 'hades.yaml')
})
afterAll(() => rm(folder, { recursive: true }))

async function look(
  text: string,
  env: Readonly<Record<string, string>> = {},
  flags: Readonly<Record<string, string | boolean>> = {},
) {
  await writeFile(file, text)
  const { config, problems } = await lookAtConfig({ file, env, flags })
  return { config, said: problems.map((problem) => sentenceOf(problem).replace(`${file}:`, 'line ')) }
}

test('flags go before the environment, the environment before the file, the file before defaults', async () => {
  const text = 'address: 10.0.0.1\nhttp:\n  port: 8001\ntftp: {port: 8002}\ncontrol: {port: 8003}\n'
  const { config, said } = await look(
    text,
    { HADES_TFTP_PORT: '9002', HADES_CONTROL_PORT: '9003' },
    { 'control.port': '7' },
  )
  expect(said).toEqual([])
  expect([config.http.port, config.tftp.port, config.control.port, config.seeder.port]).toEqual([8001, 9002, 7, 6881])
})

test('people write sizes, rates, times and yes as they are used to', async () => {
  const text = 'library: {quota: 20GiB}\norigin: {rate: 50MB/s}\nretention: {eventAge: 30d}\nopenSwarm: yes\nstop:\n'
  const { config, said } = await look(text)
  expect(said).toEqual([])
  expect([config.library.quota, config.origin.rate, config.retention.eventAge]).toEqual([20 * 2 ** 30, 5e7, 30 * 864e5])
  expect([config.openSwarm, config.stop.grace]).toEqual([true, 10_000])
})

test.each([
  ['adress: 10.0.0.1', 'line 1: there is no setting `adress`; did you mean `address`?'],
  ['\ncontrol:\n  prot: 1', 'line 3: there is no setting `control.prot`; did you mean `control.port`?'],
  ['port: 1', /^line 1: there is no setting `port`; did you mean `(http|tftp|control)\.port`\?$/],
  [
    'metrics:\n  token: hunter2',
    /line 2: .*`metrics.token`: secrets stand in files of their own, named by `tokenFile`/,
  ],
  ['http:\n  port: 70000', 'line 2: `http.port` is 70000; from 0 to 65535 is allowed'],
  ['http: 7', 'line 1: `http` must hold settings, as `name: value`'],
  ['http:\n  port: [1, 2]', /^line 2: `http.port` is a list; it must be a whole number/],
  ['dhcp: proxi', 'line 1: `dhcp` is "proxi"; allowed are full, off'],
  ['address:', 'line 1: `address` has no value: give one, or remove the line'],
  ['address: 10.0.0.256', /^line 1: `address` is "10.0.0.256"; it must be: this machine's IPv4 address/],
  ['stop: {grace: 10}', 'line 1: 10 must be written like 90s, 30min, 12h or 30d'],
  ['http:\n  port: 1\nhttp:\n  port: 2', /^line 3: this is not YAML: Map keys must be unique/],
  ['a: &a 1\ndata: *a', 'line 2: `data` must be one value'],
  ['- address', 'line 1: the file must hold settings, as `name: value`'],
  ['router: 10.0.0.2', /^line 1: `router` is for the machines of a network, and there is none: set `address` too$/],
  [
    '\ndatabase: mariadb://hades@db/hades',
    /^line 2: `database`: the database's address must say tls=verify, or tls=off/,
  ],
  [
    'database: mariadb://hades@db/hades?tls=verify&ca=/nowhere/ca.pem',
    /^line 1: `database`: the database's address names `ca=\/nowhere\/ca.pem`, which cannot be used: ENOENT/,
  ],
  ['retention: {deliveryAge: 30}', 'line 1: 30 must be written like 90s, 30min, 12h or 30d'],
  ['retention: {auditAge: 1h}', /^line 1: `retention.auditAge` is /],
  ['retention: {audit: 10}', /^line 1: `retention.audit` is 10; /],
  ['address: 127.0.0.1\nhttp: {port: 7700}', /^line 2: `http.port` and `control.port` are both 7700 on one address/],
])('what is wrong is told with line, setting and fix: %j', async (text, sentence) => {
  const { said } = await look(text)
  expect(said).toContainEqual(typeof sentence === 'string' ? sentence : expect.stringMatching(sentence))
})

test('every problem is told, those of the environment and of flags by their names', async () => {
  const { said } = await look('dhpc: off', { HADES_HTTP_PRT: '1', HADES_SERVER: 'not ours' }, { 'tftp.port': 'x' })
  expect(said).toEqual([
    'line 1: there is no setting `dhpc`; did you mean `dhcp`?',
    'HADES_HTTP_PRT: there is no setting HADES_HTTP_PRT; did you mean `HADES_HTTP_PORT`?',
    expect.stringMatching(/^--tftp-port: `tftp.port` is the text "x"; it must be a whole number/),
  ])
})

test('a secret is taken only from a file that nobody else can read', async () => {
  const secret = join(folder, 'token')
  await writeFile(secret, 'word\n', { mode: 0o600 })
  expect((await look('metrics: {tokenFile: token}')).said).toEqual([])
  await chmod(secret, 0o644)
  expect((await look('metrics: {tokenFile: token}')).said[0]).toContain(`(mode 644): chmod 0600 ${secret}`)
  await writeFile(secret, '')
  await chmod(secret, 0o600)
  expect((await look('metrics: {tokenFile: token}')).said[0]).toContain('is empty')
  expect((await look('metrics: {tokenFile: nothing}')).said[0]).toContain('does not exist')
})

test('relative paths of the file are meant from its folder', async () => {
  expect((await look('data: here')).config.data).toBe(join(folder, 'here'))
})

test('a file that was asked for must be there, and the first problem ends a start', async () => {
  const sources = { env: {}, flags: {} }
  await expect(readConfig({ ...sources, file: join(folder, 'none') })).rejects.toMatchObject({ code: 'bad-input' })
  await writeFile(file, 'a: 1\nb: 2\nc: 3')
  await expect(readConfig({ ...sources, file })).rejects.toThrow(/hades.yaml:1: there is no setting `a`.*; 2 more: /)
})

test('the example file is good, as it is and with every setting taken out of its comment', async () => {
  const example = exampleFile()
  expect((await look(example)).said).toEqual([])
  const { config, said } = await look(example.replaceAll(/^#(?! \S)/gm, ''))
  // Only files of the example are not there.
  expect(said.filter((one) => !one.includes('does not exist'))).toEqual([])
  expect(config.address).toBe('10.0.0.1')
})
