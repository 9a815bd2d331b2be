// The server against clients that others wrote, over a good network and a bad one.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { toNetascii } from '../protocol/tftp.ts'
import { readBootFile } from './root.ts'
import { startTftpServer, type TftpEvent, type TftpServer } from './tftp-server.ts'
import { type Faults, openTestClient, startBadNetwork } from './tftp-testing.ts'

let folder: string
let server: TftpServer
let events: TftpEvent[]
const noise = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 2_654_435_761) >>> 24))
/** More than 65,535 blocks of 8 bytes. */
const long = Buffer.from(Array.from({ length: 8 * 65_600 + 5 }, (_, i) => (i * 2_654_435_761) >>> 24))

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-tftp-clients-'))
  await writeFile(join(folder, 'noise'), noise)
  await writeFile(join(folder, 'long'), long)
  await writeFile(join(folder, 'even'), noise.subarray(0, 512 * 40))
  await writeFile(join(folder, 'text'), 'one\ntwo\n')
})
afterAll(() => rm(folder, { recursive: true }))

const opened: { close(): unknown }[] = []
beforeEach(async () => {
  const told: TftpEvent[] = []
  events = told
  server = await startTftpServer({
    address: '127.0.0.1',
    port: 0,
    resolve: (request) => readBootFile(folder, request.path),
    onEvent: (event) => told.push(event),
    limits: { retryMs: 40, retryMsMax: 80, retriesMax: 12 },
  })
  opened.push(server)
})
afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.close()
})

async function badNetwork(seed: number, faults: Faults, sparesHandshake: boolean): Promise<number> {
  const network = await startBadNetwork({ serverPort: server.port, seed, faults, sparesHandshake })
  opened.push(network)
  return network.port
}

type Fetch = (port: number, file: string, to: string) => Promise<{ readonly all?: string | undefined }>
const run = (command: string, args: readonly string[]) =>
  execa(command, args, { timeout: 25_000, all: true, stdin: 'ignore' })

const tftpHpa: Fetch = (port, file, to) =>
  run('tftp', ['-m', 'octet', '127.0.0.1', String(port), '-c', 'get', file, to])
const atftp =
  (...options: string[]): Fetch =>
  (port, file, to) =>
    run('atftp', [...options.flatMap((o) => ['--option', o]), '-g', '-r', file, '-l', to, '127.0.0.1', String(port)])
const curl =
  (...options: string[]): Fetch =>
  (port, file, to) =>
    run('curl', ['-sS', ...options, '-o', to, `tftp://127.0.0.1:${port}/${file}`])

async function fetched(fetch: Fetch, port: number, file: string): Promise<Buffer> {
  const to = join(folder, `got-${file}-${port}`)
  await fetch(port, file, to)
  return readFile(to)
}

const clients: readonly (readonly [string, Fetch])[] = [
  ['tftp-hpa', tftpHpa],
  ['atftp', atftp()],
  ['atftp blksize 8', atftp('blksize 8')],
  ['atftp blksize 1428 tsize', atftp('blksize 1428', 'tsize 0')],
  ['atftp blksize 65464', atftp('blksize 65464')],
  ['atftp windowsize 2', atftp('windowsize 2')],
  ['atftp blksize 1428 windowsize 16', atftp('blksize 1428', 'windowsize 16')],
  ['curl', curl()],
  ['curl without options', curl('--tftp-no-options')],
  ['curl blksize 8', curl('--tftp-blksize', '8')],
  ['curl blksize 4096', curl('--tftp-blksize', '4096')],
]

describe('over a good network', () => {
  test.each(clients)('%s fetches a file whole', async (_name, fetch) => {
    expect((await fetched(fetch, server.port, 'noise')).equals(noise)).toBe(true)
  })

  test.each(clients.slice(0, 2))('%s fetches a file that fills its last block', async (_name, fetch) => {
    expect((await fetched(fetch, server.port, 'even')).equals(noise.subarray(0, 512 * 40))).toBe(true)
  })

  test.each([
    ['atftp, windowsize 32', atftp('blksize 8', 'windowsize 32')],
    ['curl', curl('--tftp-blksize', '8')],
  ])('%s fetches more than 65,535 blocks', async (_name, fetch) => {
    expect((await fetched(fetch, server.port, 'long')).equals(long)).toBe(true)
  })

  test('our test client fetches more than 65,535 blocks in windows that straddle the wrap', async () => {
    const client = await openTestClient(server.port)
    opened.push(client)
    expect((await client.fetch('long', { blksize: 8, windowsize: 61 })).bytes.equals(long)).toBe(true)
  })

  test('tftp-hpa fetches text as netascii', async () => {
    const to = join(folder, 'got-text')
    await run('tftp', ['-m', 'ascii', '127.0.0.1', String(server.port), '-c', 'get', 'text', to])
    expect(await readFile(to, 'utf8')).toBe('one\ntwo\n')
  })

  test('the netascii on the wire has CR LF', async () => {
    const client = await openTestClient(server.port)
    opened.push(client)
    const { bytes } = await client.fetch('text', {}, { mode: 'netascii' })
    expect(bytes.equals(toNetascii(Buffer.from('one\ntwo\n')))).toBe(true)
  })

  test.each([
    ['tftp-hpa', tftpHpa],
    ['atftp', atftp()],
    ['curl', curl()],
  ])('%s hears of a missing file', async (_name, fetch) => {
    const said = await fetch(server.port, 'missing', join(folder, 'got-missing')).then(
      // tftp-hpa says it, and succeeds. curl 7.88 stumbles over its own words, but leaves with the right code.
      (result) => result.all,
      (error: Error) => error.message,
    )
    expect(said).toMatch(/file not found|exit code 68/i)
    expect(events).toMatchObject([{ kind: 'failed', why: 'not-found', path: 'missing' }])
  })
})

describe('over a network that loses, doubles and reorders', () => {
  const faults: Faults = { drop: 4, double: 8, swap: 8 }

  // The handshake is spared: these clients ask again only after 5 s, and atftp gives up when it hears an OACK twice.
  // curl asks for a resend timeout of 6 s when it may use options, and gets it, so that a lossy run would last minutes.
  test.each([
    ['tftp-hpa', tftpHpa, 1],
    ['atftp', atftp('blksize 1428'), 2],
    ['atftp in windows', atftp('blksize 512', 'windowsize 8'), 3],
    ['curl', curl('--tftp-no-options'), 4],
  ] as const)('%s fetches a file whole', async (_name, fetch, seed) => {
    const port = await badNetwork(seed, faults, true)
    expect((await fetched(fetch, port, 'noise')).equals(noise)).toBe(true)
  })

  const shapes = [
    { blksize: 64, windowsize: 64 },
    { blksize: 512, windowsize: 1 },
    { blksize: 512, windowsize: 4 },
    { blksize: 1428, windowsize: 16 },
    { blksize: 1428, windowsize: 64 },
    { blksize: 16_384, windowsize: 3 },
    { blksize: 65_464, windowsize: 1 },
  ]
  test.each(shapes.flatMap((shape) => [11, 12].map((seed) => ({ ...shape, seed }))))(
    'our test client fetches a file whole, by blksize $blksize and windowsize $windowsize, seed $seed',
    async ({ seed, ...options }) => {
      const port = await badNetwork(seed, { drop: 5, double: 10, swap: 10 }, false)
      const client = await openTestClient(port)
      opened.push(client)
      const isDone = () => events.some((event) => event.kind === 'finished')
      const { bytes } = await client.fetch('noise', options, { patienceMs: 30, isDone })
      expect(bytes.equals(noise)).toBe(true)
      expect(events.map((event) => event.kind)).toEqual(['started', 'finished'])
    },
  )
})
