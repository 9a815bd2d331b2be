import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import Fastify from 'fastify'
import { expect, onTestFinished, test } from 'vitest'
import { importImage } from '../image/import.ts'
import { imagePaths, openLibrary } from '../image/library.ts'
import { makeDisk, stream, testFolder } from '../image/testing.ts'
import { TokenBucket } from '../lib/rate-limit.ts'
import { choosePieceBytes, pieceCount } from '../model/swarm.ts'
import { addOriginRoutes } from './origin-routes.ts'
import { content, geometry, makeSeed, pieces, type Rule, range, startServer } from './web-seed-testing.ts'

test('pieces that follow each other come by one range, in order, the last as long as the rest', async () => {
  const { url, asked } = await startServer()
  const { seed, got, order, wait, expectRight, bytes, refused } = makeSeed(url)
  for (const piece of range(0, pieces)) seed.request([piece])
  await wait('all pieces', () => got.size === pieces)
  expectRight()
  expect(order).toEqual(range(0, pieces))
  expect(asked).toEqual([{ first: 0, last: pieces - 1 }])
  expect(bytes()).toBe(content.length)
  expect(refused).toEqual([])
  expect(seed.status()).toMatchObject({ isWell: true, bytesReceived: content.length, faultsInARow: 0 })
})

test('each run of pieces is a range of its own, in the order asked, over two connections that stay', async () => {
  const { url, asked, sockets } = await startServer()
  const { seed, got, wait, expectRight } = makeSeed(url)
  seed.request([20, 21, 22, 3, 4])
  seed.request([39])
  await wait('six pieces', () => got.size === 6)
  seed.request([0])
  seed.request([0, 1])
  await wait('two more', () => got.size === 8)
  expectRight()
  expect(asked).toEqual([
    { first: 20, last: 22 },
    { first: 3, last: 4 },
    { first: 39, last: 39 },
    { first: 0, last: 1 },
  ])
  expect(sockets.size).toBeLessThanOrEqual(2)
})

test('pieces that follow each other are one range, however small they are', async () => {
  const { url, asked } = await startServer()
  const small = { totalBytes: content.length, pieceBytes: 16 * 1024 }
  const { seed, got, wait } = makeSeed(url, {}, small)
  seed.request(range(0, 100))
  await wait('all pieces', () => got.size === 100)
  expect(asked.length).toBe(1)
  expect(Buffer.concat(range(0, 100).map((piece) => got.get(piece) ?? Buffer.alloc(0)))).toEqual(
    content.subarray(0, 100 * small.pieceBytes),
  )
})

/** The first answer stops before byte `at` of its body, counted from its end if negative; what is given sends the rest. */
function holdFirst(world: { rule: Rule }, at: number): () => void {
  let finish = () => {}
  world.rule = ({ count, body, headers }, response) => {
    if (count > 1) return false
    response.writeHead(206, headers).write(body.subarray(0, at))
    finish = () => response.end(body.subarray(at))
    return true
  }
  return () => finish()
}

test('the next range is asked for before the last one is over', async () => {
  const { url, asked, world } = await startServer()
  const finish = holdFirst(world, -1)
  const { seed, got, wait } = makeSeed(url)
  seed.request([0, 1, 2, 10, 11])
  await wait('the second range', () => got.has(11))
  expect(asked.length).toBe(2)
  expect(got.has(2)).toBe(false)
  finish()
  await wait('the first range', () => got.size === 5)
})

test('also when that is found out only as the bytes come', async () => {
  const { url, asked, world } = await startServer()
  const goOn: (() => void)[] = []
  world.rule = ({ count, body, headers }, response) => {
    if (count > 1) return false
    response.writeHead(206, headers).write(body.subarray(0, 100_000))
    goOn.push(
      () => response.write(body.subarray(100_000, -50_000)),
      () => response.end(body.subarray(-50_000)),
    )
    return true
  }
  const { seed, got, wait } = makeSeed(url)
  seed.request([...range(0, 20), 30])
  await wait('the first piece', () => got.has(0))
  expect(asked.length).toBe(1)
  goOn[0]?.()
  await wait('the other range', () => got.has(30))
  expect(got.has(19)).toBe(false)
  goOn[1]?.()
  await wait('all', () => got.size === 21)
})

test('but not while much of the last one is to come', async () => {
  const { url, asked, world } = await startServer()
  const finish = holdFirst(world, 100_000)
  const { seed, got, wait } = makeSeed(url)
  seed.request([...range(0, 20), 30])
  await wait('the first piece', () => got.has(0))
  expect(asked.length).toBe(1)
  finish()
  await wait('all', () => got.size === 21)
})

test('and no third one before it is over: the slower of two connections would fall behind for good', async () => {
  const { url, asked, world } = await startServer()
  const finish = holdFirst(world, -1)
  const { seed, got, wait } = makeSeed(url)
  seed.request([0, 10, 20, 30])
  await wait('the second range', () => got.has(10))
  // Whatever would begin at its end has begun when a request that is made later is answered.
  await fetch(url, { headers: { range: 'bytes=0-65535' } }).then((answer) => answer.arrayBuffer())
  expect(asked.map(({ first }) => first)).toEqual([0, 10, 0])
  finish()
  await wait('all', () => got.size === 4)
})

test('a connection that the server closed while it was idle is no fault', async () => {
  const { url, sockets } = await startServer()
  const { seed, got, refused, wells, wait } = makeSeed(url)
  for (const [round, end] of [
    (socket: Socket) => socket.end(),
    (socket: Socket) => socket.resetAndDestroy(),
  ].entries()) {
    seed.request([2 * round])
    await wait('a piece', () => got.has(2 * round))
    for (const socket of sockets) end(socket)
    // At once: the end of the connection and the request cross each other.
    seed.request([2 * round + 1])
    await wait('the next', () => got.has(2 * round + 1))
  }
  expect(refused).toEqual([])
  expect(wells).toEqual([])
})

test('a server that keeps no connections is asked over new ones', async () => {
  const { url, world, sockets } = await startServer()
  world.rule = ({ headers, body }, response) =>
    response.writeHead(206, { ...headers, connection: 'close' }).end(body) && true
  const { seed, got, refused, wait, expectRight } = makeSeed(url)
  seed.request([0, 2, 4, 6, 8])
  await wait('all', () => got.size === 5)
  expectRight()
  expect(refused).toEqual([])
  await wait('the end of the connections', () => sockets.size === 0)
})

test('interim answers are passed over', async () => {
  const { url, world } = await startServer()
  world.rule = (_, response) => {
    response.writeProcessing()
    response.writeContinue()
    return false
  }
  const { seed, got, wait, expectRight } = makeSeed(url)
  seed.request([0, 1])
  await wait('both', () => got.size === 2)
  expectRight()
})

test('what is cancelled before it is begun is not asked for', async () => {
  const { url, asked } = await startServer()
  const { seed, got, wait } = makeSeed(url)
  seed.request([0, 1, 2, 3])
  seed.cancel(1)
  await wait('the others', () => got.size === 3)
  expect(new Set(got.keys())).toEqual(new Set([0, 2, 3]))
  expect(asked.map(({ first, last }) => [first, last])).toEqual([
    [0, 0],
    [2, 3],
  ])
})

/** The first answer stops after two pieces, until `finish` is called. */
async function heldServer() {
  const { url, asked, world, sockets } = await startServer()
  let finish = () => {}
  let isCut = false
  world.rule = ({ count, body, headers }, response) => {
    if (count > 1) return false
    response.writeHead(206, headers).write(body.subarray(0, 2 * geometry.pieceBytes + 5))
    response.on('close', () => {
      isCut = !response.writableFinished
    })
    finish = () => response.end(body.subarray(2 * geometry.pieceBytes + 5))
    return true
  }
  return { url, asked, sockets, finish: () => finish(), isCut: () => isCut }
}

test('a range is given up when nothing behind is wanted, and that is no fault', async () => {
  const { url, isCut } = await heldServer()
  const { seed, got, refused, wait } = makeSeed(url)
  seed.request(range(0, 20))
  await wait('two pieces', () => got.size === 2)
  for (const piece of range(2, 19)) seed.cancel(piece)
  expect(isCut()).toBe(false)
  seed.cancel(19)
  await wait('the end of the request', isCut)
  seed.request([30])
  await wait('another', () => got.has(30))
  expect(refused).toEqual([])
  expect(seed.status().lastError).toBeUndefined()
})

test('a cancelled piece in the middle is passed over, and one wanted again is not lost', async () => {
  const { url, asked, finish, isCut } = await heldServer()
  const { seed, got, wait, expectRight } = makeSeed(url)
  seed.request(range(0, 20))
  await wait('two pieces', () => got.size === 2)
  for (const piece of [2, 3, 7, 8]) seed.cancel(piece)
  seed.request([2, 8])
  finish()
  await wait('the others', () => got.size === 18)
  expect(got.has(3) || got.has(7)).toBe(false)
  expectRight()
  expect(asked.length).toBe(1)
  expect(isCut()).toBe(false)
})

test('a short rest that nobody wants is read to its end, for the sake of the connection', async () => {
  const { url, sockets, finish, isCut } = await heldServer()
  const { seed, got, wait } = makeSeed(url)
  seed.request(range(0, 5))
  await wait('two pieces', () => got.size === 2)
  for (const piece of range(2, 5)) seed.cancel(piece)
  finish()
  seed.request([30])
  await wait('another', () => got.has(30))
  expect(isCut()).toBe(false)
  expect(got.size).toBe(3)
  expect(sockets.size).toBeGreaterThan(0)
})

test('the ingress cap holds, and waiting for it is no stall', async () => {
  const { url } = await startServer()
  const ingress = new TokenBucket({ bytesPerSecond: 100_000, burstBytes: 64 * 1024 })
  const { seed, got, refused, wait, expectRight } = makeSeed(url, { ingress, limits: { stallMs: 300 } })
  const start = performance.now()
  seed.request(range(0, 3))
  await wait('the pieces', () => got.size === 3)
  // Three pieces, of which one is the burst and one is paid for after it has come.
  expect(performance.now() - start).toBeGreaterThan(650)
  expectRight()
  expect(refused).toEqual([])
})

test('closing ends everything and is told once', async () => {
  const { url, sockets } = await heldServer()
  const { seed, got, closed, refused, wait } = makeSeed(url)
  seed.request(range(0, 20))
  await wait('two pieces', () => got.size === 2)
  const reason = new Error('done')
  seed.close(reason)
  seed.close()
  seed.request([1])
  seed.cancel(1)
  expect(closed).toEqual([reason])
  await wait('the end of the connections', () => sockets.size === 0)
  expect(refused).toEqual([])
})

test.each(['http://user:pass@127.0.0.1/x', 'https://127.0.0.1/x', 'ftp://127.0.0.1/x', 'nonsense'])(
  '%s is no web seed, and no password is repeated',
  (url) => {
    expect(() => makeSeed(url)).toThrow(/^(?!.*pass@).*$/)
  },
)

test('the real origin is a web seed', async () => {
  const library = await openLibrary(join(testFolder(), 'images'))
  const { digest } = await importImage({ source: stream(makeDisk()), folder: library.folder })
  const image = readFileSync(imagePaths(library, digest).image)
  const app = Fastify({ forceCloseConnections: true })
  await addOriginRoutes(app, { library, baseUrl: 'http://127.0.0.1' })
  const base = await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => app.close())
  const real = { totalBytes: image.length, pieceBytes: choosePieceBytes(image.length) }
  const { seed, got, refused, wait } = makeSeed(`${base}/images/${digest}/image.zst`, {}, real)
  const all = range(0, pieceCount(real))
  // With gaps first, so that both connections are used again and again.
  seed.request(all.filter((piece) => piece % 3 !== 0))
  seed.request(all.filter((piece) => piece % 3 === 0))
  await wait('all pieces', () => got.size === all.length)
  expect(Buffer.concat(all.map((piece) => got.get(piece) ?? Buffer.alloc(0))).equals(image)).toBe(true)
  expect(refused).toEqual([])
})
