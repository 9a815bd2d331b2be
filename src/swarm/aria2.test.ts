import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { type Aria2, type Aria2EngineOptions, startAria2 } from './aria2.ts'
import type { PieceSupply } from './piece-supply.ts'
import { torrentOf } from './testing.ts'

const bytes = randomBytes(8_000_001)
const { info } = torrentOf(bytes, 256 * 1024)
const quick = { pollMs: 50, quietMs: 300, stallMs: 20_000, idleMs: 1000 }

let folder: string
let world: { url: string; sentBytes: number; spoil: boolean; tokens: Set<string>; close: () => void }
let engines: Aria2[]
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-aria2-'))
  world = await openWorld()
  engines = []
})
afterEach(async () => {
  await Promise.all(engines.map((engine) => engine.close()))
  world.close()
  await rm(folder, { recursive: true })
})

/** An origin with ranges and a tracker that names everybody who has asked, on one port. */
async function openWorld() {
  const ports = new Set<number>()
  const state = { url: '', sentBytes: 0, spoil: false, tokens: new Set<string>(), close: () => {} }
  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://x')
    if (url.pathname === '/announce') {
      state.tokens.add(request.headers.authorization ?? '')
      // BEP 3 names an event when a client leaves.
      if (url.searchParams.get('event') === 'stopped') ports.delete(Number(url.searchParams.get('port')))
      else ports.add(Number(url.searchParams.get('port')))
      const peers = Buffer.concat([...ports].map((port) => Buffer.of(127, 0, 0, 1, port >> 8, port & 0xff)))
      response.end(
        Buffer.concat([
          Buffer.from(`d8:intervali1e12:min intervali1e5:peers${peers.length}:`),
          peers,
          Buffer.from('e'),
        ]),
      )
      return
    }
    const [, from = '0', to = ''] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? []
    const end = to === '' ? bytes.length - 1 : Number(to)
    const body = Buffer.from(bytes.subarray(Number(from), end + 1))
    if (state.spoil) body.fill(0)
    state.sentBytes += body.length
    response.writeHead(206, {
      'content-length': body.length,
      'content-range': `bytes ${from}-${end}/${bytes.length}`,
    })
    response.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  state.url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  state.close = () => {
    server.closeAllConnections()
    server.close()
  }
  return state
}

async function start(name: string, options: Partial<Aria2EngineOptions> = {}): Promise<Aria2 & { folder: string }> {
  const own = join(folder, name)
  await mkdir(own)
  const engine = await startAria2({
    info,
    folder: own,
    tracker: { url: `${world.url}/announce`, token: new Secret(`token-of-${name}`) },
    webSeeds: [`${world.url}/image.zst`],
    port: 0,
    log: () => undefined,
    limits: quick,
    ...options,
  })
  engines.push(engine)
  return Object.assign(engine, { folder: own })
}

/** Takes every piece and reads the image; throws when one came twice. */
async function takeAll(engine: PieceSupply): Promise<Buffer> {
  const pieces = new Set<number>()
  const whole = Buffer.alloc(bytes.length)
  for await (const piece of engine.pieces()) {
    if (pieces.has(piece)) throw new Error(`piece ${piece} came twice`)
    pieces.add(piece)
    const at = piece * info.pieceBytes
    const part = await engine.read(at, Math.min(info.pieceBytes, bytes.length - at))
    part.copy(whole, at)
    engine.release(piece)
  }
  return whole
}

test('alone it is given the web seed and brings every piece once', async () => {
  const engine = await start('a')
  expect((await takeAll(engine)).equals(bytes)).toBe(true)
  expect(engine.progress()).toMatchObject({
    receivedBytes: bytes.length,
    verifiedBytes: bytes.length,
    fromOriginBytes: bytes.length,
    fromPeersBytes: 0,
    sources: [{ name: 'origin', bytes: bytes.length }],
  })
  expect(world.tokens).toEqual(new Set(['Bearer token-of-a']))
})

test('a second host takes everything from the first, which stays while it does, and goes', async () => {
  const first = await start('a')
  await takeAll(first)
  const { sentBytes } = world
  const second = await start('b', { ingressBytesPerSecond: 4_000_000, limits: { ...quick, quietMs: 60_000 } })
  const taken = takeAll(second)
  await until('the second to take from the first', () => first.progress().toPeersBytes > 0, { timeoutMs: 20_000 })
  const lingered = first.linger({ maxMs: 60_000, signal: new AbortController().signal })
  expect((await taken).equals(bytes)).toBe(true)
  expect(world.sentBytes).toBe(sentBytes)
  await lingered
  expect(first.progress().toPeersBytes).toBeGreaterThan(0.9 * bytes.length)
  expect(second.progress().receivedBytes).toBe(bytes.length)
})

test('a process that dies is told with how it ended', async () => {
  const engine = await start('a', { webSeeds: [] })
  const taken = takeAll(engine)
  if (engine.pid !== undefined) process.kill(engine.pid, 'SIGKILL')
  await expect(taken).rejects.toThrow('aria2c ended with SIGKILL')
})

test('when nothing comes it gives up', async () => {
  const engine = await start('a', { webSeeds: [], limits: { ...quick, stallMs: 1000 } })
  const failure = await takeAll(engine).catch((error: unknown) => error)
  expect(failure).toMatchObject({ cause: { message: expect.stringMatching(/^nothing came by aria2 for 1 s/) } })
})

test('an origin with other bytes brings no piece', async () => {
  world.spoil = true
  const engine = await start('a', { limits: { ...quick, stallMs: 3000 } })
  await expect(takeAll(engine)).rejects.toThrow('aria2')
  expect(engine.progress().verifiedBytes).toBe(0)
})

test('nothing secret is in its argument list, and its configuration is for its owner alone', async () => {
  const engine = await start('a')
  const words = await readFile(`/proc/${engine.pid}/cmdline`, 'utf8')
  expect(words.split('\0')).toEqual(['aria2c', `--conf-path=${join(engine.folder, 'aria2.conf')}`, ''])
  expect((await stat(join(engine.folder, 'aria2.conf'))).mode & 0o777).toBe(0o600)
  const { pid } = engine
  await engine.close()
  expect(await readdir(engine.folder)).not.toContain('aria2.conf')
  await expect(stat(`/proc/${pid}`)).rejects.toThrow('ENOENT')
})
