import { expect, test } from 'vitest'
import { content, makeSeed, type Rule, range, startServer } from './web-seed-testing.ts'

/** The rule answers the first request so, and leaves the others to the server. */
const faults: Record<string, { rule: Rule; says: RegExp; got?: number; limits?: object }> = {
  'ignores the range': {
    rule: (_, response) => response.writeHead(200, { 'content-length': content.length }).end(content) && true,
    says: /: the origin ignored the Range header/,
  },
  'sends another range': {
    rule: ({ headers, body }, response) =>
      response.writeHead(206, { ...headers, 'content-range': `bytes 0-9/${content.length}` }).end(body) && true,
    says: /: the origin answered Content-Range bytes 0-9\/2621433, asked was bytes 327680-720895\/2621433$/,
  },
  'has an image of another length': {
    rule: ({ headers, body }, response) =>
      response.writeHead(206, { ...headers, 'content-range': 'bytes 327680-720895/9999999' }).end(body) && true,
    says: /: the origin answered Content-Range bytes 327680-720895\/9999999/,
  },
  'announces less': {
    rule: ({ headers, body }, response) =>
      response.writeHead(206, { ...headers, 'content-length': 9 }).end(body.subarray(0, 9)) && true,
    says: /: the origin announced 9 bytes, asked were 393216$/,
  },
  'announces no length': {
    rule: ({ headers, body }, response) =>
      response.writeHead(206, { 'content-range': headers['content-range'] }).end(body) && true,
    says: /: the origin did not announce how long its answer is$/,
  },
  'compresses what it sends': {
    rule: ({ headers, body }, response) =>
      response.writeHead(206, { ...headers, 'content-encoding': 'gzip' }).end(body) && true,
    says: /: the origin answered in Content-Encoding gzip$/,
  },
  'ends in the middle': {
    rule: ({ headers, body }, response) => {
      response.writeHead(206, headers).write(body.subarray(0, 200_000), () => response.destroy())
      return true
    },
    says: /: the answer was cut off after 200000 of 393216 bytes$/,
    got: 3,
  },
  'resets in the middle': {
    rule: ({ headers, body }, response, request) => {
      response.writeHead(206, headers).write(body.subarray(0, 200_000), () => request.socket.resetAndDestroy())
      return true
    },
    says: /: the answer was cut off after \d+ of 393216 bytes$/,
  },
  'resets at once': {
    rule: (_, __, request) => request.socket.resetAndDestroy() && true,
    says: /: the origin closed the connection and did not answer$/,
  },
  'stalls in the middle': {
    rule: ({ headers, body }, response) => {
      response.writeHead(206, headers).write(body.subarray(0, 100_000))
      return true
    },
    says: /: the origin was silent for 300 ms$/,
    got: 1,
    limits: { stallMs: 300 },
  },
  'does not answer': {
    rule: () => true,
    says: /: the origin was silent for 300 ms$/,
    limits: { stallMs: 300 },
  },
  'does not have the file': {
    rule: (_, response) => response.writeHead(404).end('no\nsuch\u0007 image') && true,
    says: /^pieces 5 to 10 of http:\/\/.*\/image.zst: the origin answered 404 Not Found: no such image$/,
  },
  'has a shorter file': {
    rule: (_, response) => response.writeHead(416, { 'content-range': 'bytes */5' }).end() && true,
    says: /: the origin answered 416 Range Not Satisfiable$/,
  },
  'is busy': {
    rule: (_, response) => response.writeHead(503, { 'retry-after': '3600' }).end('later') && true,
    says: /: the origin answered 503 Service Unavailable: later$/,
    limits: { retryAfterMsMax: 50 },
  },
  'sends us elsewhere': {
    rule: (_, response) => response.writeHead(302, { location: 'http://192.0.2.1/' }).end() && true,
    says: /: the origin answered 302 Found \(to http:\/\/192.0.2.1\/\)$/,
  },
  'speaks something else': {
    rule: (_, __, request) => request.socket.end('220 ready\r\n') && true,
    says: /: the origin cannot be understood$/,
  },
  'sends a head without an end': {
    rule: (_, __, request) => request.socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(20_000)}`) || true,
    says: /: the head is longer than 16384 bytes$/,
  },
  'sends interim answers without an end': {
    rule: (_, __, request) => request.socket.write('HTTP/1.1 100 Continue\r\n\r\n'.repeat(9)) || true,
    says: /: the origin sent 5 interim answers$/,
  },
  'sends more than was asked': {
    rule: ({ headers, body }, response) => {
      const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
      response.socket?.write(`HTTP/1.1 206 OK\r\n${head.join('')}\r\n`)
      response.socket?.write(Buffer.concat([body, Buffer.from('more')]))
      return true
    },
    says: /: the origin sent bytes that nobody asked for$/,
    got: 6,
  },
}

test.each(Object.entries(faults))('a server that %s costs the pieces at stake and a pause', async (_, fault) => {
  const { url, world } = await startServer()
  world.rule = (asked, response, request) => asked.count === 1 && fault.rule(asked, response, request)
  const { seed, got, refused, wells, wait, expectRight } = makeSeed(url, {
    limits: { pauseMs: 20, pauseMsMax: 100, ...fault.limits },
  })
  seed.request(range(5, 11))
  if (fault.got === 6) {
    // Nothing was lost, so nobody need know; the connection is not used again.
    await wait('six pieces', () => got.size === 6)
    seed.request([0])
    await wait('another', () => got.size === 7)
    expectRight()
    return
  }
  await wait('the end of the pause', () => wells.length === 2)
  expect(wells).toEqual([false, true])
  expect(seed.status().lastError?.message).toMatch(fault.says)
  if (fault.got !== undefined) expect(got.size).toBe(fault.got)
  expect(refused).toEqual(range(5, 11).filter((piece) => !got.has(piece)))
  seed.request(refused)
  await wait('all pieces', () => got.size === 6)
  expectRight()
  expect(seed.status()).toMatchObject({ isWell: true, faultsInARow: 0 })
})

test('a fault gives back what waits too, and what is asked in the pause comes after it', async () => {
  const { url, world, asked } = await startServer()
  world.rule = ({ count }, response) => count === 1 && response.writeHead(500).end() && true
  const { seed, got, refused, wait } = makeSeed(url)
  const many = [...range(0, 9), 20, 30]
  seed.request(many)
  await wait('the refusals', () => refused.length === many.length)
  expect(refused).toEqual(many)
  expect(seed.status().isWell).toBe(false)
  seed.request([7])
  await wait('the piece', () => got.has(7))
  expect(asked).toEqual([
    { first: 0, last: 8 },
    { first: 7, last: 7 },
  ])
})

test('a server that dies under both connections is one fault', async () => {
  const { url, world, sockets } = await startServer()
  let held = 0
  world.rule = () => ++held <= 2
  const { seed, refused, wait } = makeSeed(url, { limits: { pauseMs: 1000 } })
  seed.request([0, 10])
  await wait('both requests', () => held === 2)
  for (const socket of sockets) socket.resetAndDestroy()
  await wait('both refusals', () => refused.length === 2)
  expect(seed.status()).toMatchObject({ faultsInARow: 1, isWell: false })
})

test('pauses grow with the faults in a row, up to a bound', async () => {
  const { url, world } = await startServer()
  world.rule = (_, response) => response.writeHead(500).end() && true
  const at: number[] = []
  const since = performance.now()
  const { seed, refused, wait } = makeSeed(url, { limits: { pauseMs: 20, pauseMsMax: 80 }, random: () => 1 })
  for (let round = 1; round <= 5; round++) {
    seed.request([0])
    await wait(`refusal ${round}`, () => refused.length === round)
    at.push(performance.now() - since)
  }
  expect(seed.status().faultsInARow).toBe(5)
  // Timers are never early; how late they are is the machine's affair.
  for (const [index, least] of [0, 20, 60, 140, 220].entries()) expect(at[index]).toBeGreaterThan(least - 5)
})

test('a server that nobody listens at is a fault, and no more', async () => {
  const { url, server } = await startServer()
  await new Promise((resolve) => server.close(resolve))
  const { seed, refused, wait } = makeSeed(url)
  seed.request([0])
  await wait('the refusal', () => refused.length === 1)
  expect(seed.status().lastError).toMatchObject({
    message: expect.stringMatching(/: the origin cannot be connected to$/),
    cause: { code: 'ECONNREFUSED' },
  })
})
