import { request } from 'node:http'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FrameUpload, frameHeaders, framePath } from '../contract/capture-types.ts'
import type { Caller } from '../contract/operation.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { addCaptureFrames } from './capture-frames.ts'
import { authenticateByToken, type PortServer, servePorts } from './http.ts'

let server: PortServer
let base: string
let calls: { upload: FrameUpload; caller: Caller; body: string | undefined }[]
/** Whether the service reads a body, and how much it takes. */
let bytesMax: number | undefined

beforeEach(async () => {
  calls = []
  bytesMax = 10
  server = await servePorts({
    ports: [],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret('admin')),
    log: pino({ level: 'silent' }),
    routes: [
      (app) =>
        addCaptureFrames(app, async (upload, caller) => {
          if (bytesMax === undefined) throw new Failure('token-refused', 'not you')
          const body = upload.kind === 'data' ? (await upload.read(bytesMax)).toString('latin1') : undefined
          calls.push({ upload, caller, body })
          return { nextFrame: upload.frame + 1 }
        }),
    ],
  })
  const [address] = server.addresses
  base = `http://127.0.0.1:${address && 'port' in address ? address.port : 0}`
})
afterEach(async () => {
  await server.close(0)
})

const hashes = { [frameHeaders.sha256]: 'a'.repeat(64), [frameHeaders.rawSha256]: 'b'.repeat(64) }
const key = { authorization: 'Bearer the-key' }

async function put(path: string, headers: Record<string, string>, body?: string) {
  const answer = await fetch(base + path, { method: 'PUT', headers, ...(body === undefined ? {} : { body }) })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

test('a frame and a run of zeros arrive as they were sent, with who sent them', async () => {
  expect(await put(framePath(7, 3), { ...key, ...hashes }, 'abc')).toEqual({ status: 200, body: { nextFrame: 4 } })
  expect((await put(framePath(7, 4), { ...key, [frameHeaders.zeroFrames]: '9' })).status).toBe(200)
  const caller = { kind: 'bearer', token: 'the-key', address: '127.0.0.1' }
  expect(calls).toMatchObject([
    { upload: { deployment: 7, frame: 3, kind: 'data', sha256: 'a'.repeat(64) }, caller, body: 'abc' },
    { upload: { deployment: 7, frame: 4, kind: 'zeros', count: 9 }, caller, body: undefined },
  ])
})

const refused: readonly [string, string, Record<string, string>, string, number, string][] = [
  ['no key', framePath(7, 3), hashes, 'abc', 401, 'unauthorized'],
  ['no hash', framePath(7, 3), key, 'abc', 400, 'bad-input'],
  [
    'a hash of capitals',
    framePath(7, 3),
    { ...key, ...hashes, [frameHeaders.sha256]: 'A'.repeat(64) },
    'a',
    400,
    'bad-input',
  ],
  ['no deployment', framePath('x', 3), { ...key, ...hashes }, 'abc', 400, 'bad-input'],
  ['a frame below zero', framePath(7, -1), { ...key, ...hashes }, 'abc', 400, 'bad-input'],
  ['no zeros', framePath(7, 3), { ...key, [frameHeaders.zeroFrames]: '0' }, '', 400, 'bad-input'],
  ['too long a body', framePath(7, 3), { ...key, ...hashes }, 'x'.repeat(11), 413, 'too-large'],
]
test.each(refused)('a request with %s is refused with words', async (_, path, headers, body, status, code) => {
  expect(await put(path, headers, body)).toMatchObject({ status, body: { code } })
  expect(calls).toEqual([])
})

test('who is turned away is answered before the body has come', async () => {
  bytesMax = undefined
  const headers = { ...key, ...hashes, 'content-length': '4000000' }
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
  const sent = request(base + framePath(7, 3), { method: 'PUT', headers }, (answer) => resolve(answer.statusCode))
  sent.once('error', reject)
  sent.write('only this')
  expect(await promise).toBe(403)
  sent.destroy()
})

test('a body that ends too early takes nothing', async () => {
  const headers = { ...key, ...hashes, 'content-length': '8' }
  const sent = request(base + framePath(7, 3), { method: 'PUT', headers })
  const { promise, resolve } = Promise.withResolvers<unknown>()
  sent.once('error', resolve)
  sent.write('abc')
  setTimeout(() => sent.destroy(), 50)
  await promise
  expect((await put(framePath(7, 3), { ...key, [frameHeaders.zeroFrames]: '1' })).status).toBe(200)
  expect(calls).toHaveLength(1)
})
