import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import fastify from 'fastify'
import { describe, expect, onTestFinished, test } from 'vitest'
import { until } from '../lib/until.ts'
import { decodeBencode } from '../protocol/bencode.ts'
import { encodeTorrent } from '../protocol/torrent.ts'
import { decodeAnswer } from '../protocol/tracker-answer.ts'
import { torrentOf } from './testing.ts'
import { Tracker } from './tracker.ts'
import { type Admission, type Asking, type AskingLimits, addTrackerRoutes } from './tracker-routes.ts'

const infoHash = 'a5'.repeat(20)
const pieces = 64
const escaped = (hex: string): string => hex.replace(/../g, '%$&')
const query = `info_hash=${escaped(infoHash)}&peer_id=-XX0001-123456789012&port=6881&left=10&compact=1`
const stranger: Admission = { kind: 'stranger', host: undefined, site: undefined, rack: undefined, pieces }

type World = {
  readonly tracker: Tracker
  readonly url: string
  readonly port: number
  readonly asked: Asking[]
  readonly errors: unknown[]
  /** What was asked for, in order. */
  readonly paths: string[]
}

async function openTracker(
  options: { admit?: (asking: Asking) => Promise<Admission>; limits?: Partial<AskingLimits>; port?: number } = {},
): Promise<World & { close: () => Promise<void> }> {
  const tracker = new Tracker({ firstVersion: 0 })
  const asked: Asking[] = []
  const errors: unknown[] = []
  const paths: string[] = []
  const app = fastify({ logger: false })
  app.addHook('onRequest', async ({ url }) => {
    paths.push(url.replace(/\?.*/s, ''))
  })
  const { admit = async () => stranger, limits = { burst: 10_000 } } = options
  app.register(async (scope) =>
    addTrackerRoutes(scope, {
      tracker,
      limits,
      onError: (error) => errors.push(error),
      admit: (asking) => {
        asked.push(asking)
        return admit(asking)
      },
    }),
  )
  const url = await app.listen({ host: '127.0.0.1', port: options.port ?? 0 })
  onTestFinished(() => app.close())
  return { tracker, url, port: Number(new URL(url).port), asked, errors, paths, close: () => app.close() }
}

/** Sends the path as it is: fetch would put it in order first. */
async function get(
  world: World,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: Buffer }> {
  const sent = request({ host: '127.0.0.1', port: world.port, path, headers, agent: false }).end()
  const [response] = await once(sent, 'response')
  return { status: response.statusCode, body: Buffer.concat(await Array.fromAsync(response as AsyncIterable<Buffer>)) }
}

async function announce(world: World, more = '', headers: Record<string, string> = {}) {
  return decodeAnswer((await get(world, `/announce?${query}${more}`, headers)).body)
}

describe('an announce over HTTP', () => {
  test('is answered, with its token shown to admission and to nobody else', async () => {
    const world = await openTracker()
    expect(await announce(world, '', { authorization: 'Bearer s3cret' })).toMatchObject({ incomplete: 1, peers: [] })
    expect(world.asked).toEqual([{ infoHash, address: '127.0.0.1', token: 's3cret' }])
    expect(await announce(world, '&event=stopped')).toMatchObject({ incomplete: 0 })
  })

  test('of one who is not admitted is refused in the words of admission, with status 200', async () => {
    const world = await openTracker({ admit: async () => ({ kind: 'refused', reason: 'not you' }) })
    const { status, body } = await get(world, `/announce?${query}`)
    expect([status, body.toString()]).toEqual([200, 'd14:failure reason7:not youe'])
    expect((await get(world, `/scrape?info_hash=${escaped(infoHash)}`)).body.toString()).toContain('not you')
  })

  test('that is malformed is refused with the parameter at fault, and not to be tried again', async () => {
    const world = await openTracker()
    const { status, body } = await get(world, '/announce?info_hash=abc&port=1')
    expect(status).toBe(200)
    expect(decodeAnswer(body)).toEqual({ reason: '`info_hash` has 3 bytes, not 20', retryInMinutes: 'never' })
    expect(world.asked).toEqual([])
  })

  test('of whatever bytes is answered with bencode', async () => {
    const world = await openTracker()
    const part = fc.constantFrom(
      '%',
      '%00',
      '%zz',
      '&',
      '=',
      '?',
      '+',
      'a',
      '9',
      'port=',
      'info_hash=',
      'left',
      escaped(infoHash),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 30 }), async (parts) => {
        const { status, body } = await get(world, `/announce?${parts.join('')}`)
        expect(status).toBe(200)
        decodeBencode(body)
      }),
      { numRuns: 200 },
    )
    expect(world.errors).toEqual([])
  })

  test('that cannot be looked up is refused, and the reason told to us alone', async () => {
    const world = await openTracker({ admit: async () => Promise.reject(new Error('disk gone')) })
    expect(await announce(world)).toMatchObject({ reason: expect.stringContaining('ask again later') })
    expect(world.errors).toEqual([new Error('disk gone')])
  })

  test('in a flood from one address is answered 429 with words, and later again', async () => {
    const world = await openTracker({ limits: { perSecond: 20, burst: 5 } })
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(world, `/announce?${query}`)))
    const held = answers.filter(({ status }) => status === 429)
    expect(held.length).toBeGreaterThanOrEqual(10)
    expect(decodeAnswer(held[0]?.body ?? Buffer.alloc(0))).toEqual({
      reason: 'this address asks too often',
      retryInMinutes: 1,
    })
    await until('it is heard again', async () => (await get(world, `/announce?${query}`)).status === 200, {
      timeoutMs: 2000,
    })
  })
})

test('a scrape counts the torrents that the asker may see', async () => {
  const other = 'bb'.repeat(20)
  const world = await openTracker({
    admit: async ({ infoHash: asked }) => (asked === other ? { kind: 'refused', reason: 'no' } : stranger),
  })
  await announce(world, '&event=completed')
  const { body } = await get(world, `/scrape?info_hash=${escaped(infoHash)}&info_hash=${escaped(other)}`)
  expect(decodeBencode(body)).toEqual({
    files: { [Buffer.from(infoHash, 'hex').toString('latin1')]: { complete: 0, downloaded: 1, incomplete: 1 } },
  })
})

describe('stock clients', () => {
  async function publish(world: World): Promise<{ folder: string; torrent: string; hash: string; bytes: Buffer }> {
    const folder = await mkdtemp(join(tmpdir(), 'hades-tracker-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const bytes = randomBytes(2 ** 20)
    const { info, infoHash: hash } = torrentOf(bytes, 16_384)
    const torrent = join(folder, 'image.torrent')
    await writeFile(torrent, encodeTorrent({ info, announce: [`${world.url}/announce`], webSeeds: [] }))
    await mkdir(join(folder, 'seed'))
    await writeFile(join(folder, 'seed', 'image.zst'), bytes)
    return { folder, torrent, hash, bytes }
  }

  function start(command: string, args: readonly string[]): ChildProcess {
    const child = spawn(command, args, { stdio: 'ignore' })
    const ended = once(child, 'exit')
    onTestFinished(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await ended
    })
    return child
  }

  function startAria2(torrent: string, folder: string, ...more: readonly string[]): ChildProcess {
    const quiet = ['--enable-dht=false', '--enable-dht6=false', '--bt-enable-lpd=false', '--enable-peer-exchange=false']
    return start('aria2c', [
      '--no-conf',
      `--dir=${folder}`,
      '--seed-ratio=0.0',
      '--file-allocation=none',
      ...quiet,
      ...more,
      torrent,
    ])
  }

  const libtorrent = `
import libtorrent, sys, time
session = libtorrent.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
  'enable_upnp': False, 'enable_natpmp': False, 'allow_multiple_connections_per_ip': True})
torrent = session.add_torrent({'ti': libtorrent.torrent_info(sys.argv[1]), 'save_path': sys.argv[2]})
while True:
  torrent.scrape_tracker()
  time.sleep(1)
`

  test('aria2 and libtorrent find each other through it, also when it was restarted in between', async () => {
    let world = await openTracker()
    const { folder, torrent, hash, bytes } = await publish(world)
    const members = () => world.tracker.snapshot(hash, performance.now())?.members ?? []
    const agents = () => members().map(({ id }) => Buffer.from(id, 'hex').toString('latin1', 0, 3))
    startAria2(torrent, join(folder, 'seed'), '--check-integrity=true', '--bt-tracker-interval=1')
    await until('the seeder is known', () => members().find(({ state }) => state === 'seeding'), { timeoutMs: 15_000 })
    await world.close()
    world = await openTracker({ port: world.port })
    await until('the seeder is known again', () => members().some(({ state }) => state === 'seeding'), {
      timeoutMs: 15_000,
    })
    startAria2(torrent, join(folder, 'a'))
    start('/usr/bin/python3', ['-c', libtorrent, torrent, join(folder, 'l')])
    for (const name of ['a', 'l']) {
      await until(`${name} has the file`, async () => bytes.equals(await readFile(join(folder, name, 'image.zst'))), {
        timeoutMs: 30_000,
      })
    }
    await until('all three have told it', () => members().filter(({ state }) => state === 'seeding').length === 3, {
      timeoutMs: 30_000,
    })
    expect(agents().sort()).toEqual(['-LT', 'A2-', 'A2-'])
    expect(world.tracker.scrape([hash], performance.now()).get(hash)).toEqual({
      complete: 3,
      downloaded: 2,
      incomplete: 0,
    })
  }, 120_000)

  test('transmission announces and scrapes', async () => {
    const world = await openTracker()
    const { folder, torrent, hash } = await publish(world)
    const members = () => world.tracker.snapshot(hash, performance.now())?.members ?? []
    await mkdir(join(folder, 't'))
    // It says at once that it has stopped, then that it has started. Port 0 it would announce as such; nobody connects here.
    const places = ['-w', join(folder, 't'), '-g', join(folder, 'config')]
    start('transmission-cli', [...places, '-p', '51413', '-M', torrent])
    await until('it is known', () => members().length === 1, { timeoutMs: 30_000 })
    expect(members()).toMatchObject([{ kind: 'stranger', left: 2 ** 20, state: 'fetching' }])
    await until('it has scraped', () => world.paths.includes('/scrape'), { timeoutMs: 30_000 })
  }, 60_000)
})
