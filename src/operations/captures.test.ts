import { createHash, randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CaptureReport } from '../contract/capture-types.ts'
import type { Caller } from '../contract/operation.ts'
import { capturedDisks, removeCaptured } from '../image/captured-disk.ts'
import { compressFrame } from '../image/frames.ts'
import { importImage } from '../image/import.ts'
import { imagePaths } from '../image/library.ts'
import { MiB, putGpt, run } from '../image/testing.ts'
import { until } from '../lib/until.ts'
import { emptyChain, lengthenChain } from '../model/capture.ts'
import { frameSizeBytes } from '../model/image.ts'
import { captureIntake } from './capture-intake.ts'
import { sweepCaptures } from './captures.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const agent = '11111111-1111-4111-8111-111111111111'
const hygiene = {
  systems: [{ place: 'partition 3', filesystem: 'ext4', name: 'Debian' }],
  findings: [{ kind: 'machine-id' as const, path: '/etc/machine-id', text: 'set', repaired: true }],
  notSeen: [],
}
const report: CaptureReport = {
  diskPath: '/dev/vda',
  diskSizeBytes: 1,
  bytesRead: 1,
  bytesSent: 1,
  hygiene,
  steps: [{ step: 'capture', seconds: 1 }],
}

const soon = { timeoutMs: 10_000 }

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>
let takeFrame: ReturnType<typeof captureIntake>['takeFrame']

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  takeFrame = captureIntake(world).takeFrame
  for (const n of [1, 2]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
    await control.addHost({ name: `n${n}`, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
})
afterEach(async () => {
  await world.close()
})

/** A capture whose agent has registered. */
async function begun(order: { host?: string; image?: string; partition?: number; storedBytesMax?: number } = {}) {
  const { host = 'n1', image = 'golden:1', ...more } = order
  const { capture } = await control.startCapture({ host, image, ...more }, admin)
  const deployment = capture.deployment.id
  const token = await armDeployment(world, deployment)
  const registration = { host, agent, agentVersion: '1', inventory: exampleInventory }
  const caller = { kind: 'bearer', token, address: '10.77.0.11' } as const
  const { sessionKey, instructions } = await service.registerHost(registration, caller)
  const key: Caller = { ...caller, token: sessionKey }
  const put = async (
    frame: number,
    raw: Buffer,
    change: { sha256?: string; rawSha256?: string; body?: Buffer } = {},
  ) => {
    const compressed = await compressFrame(raw)
    if (compressed.class !== 'data') throw new Error('a frame of zeros')
    const { sha256, rawSha256, bytes } = compressed
    const read = async () => change.body ?? bytes
    return await takeFrame({ kind: 'data', deployment, frame, sha256, rawSha256, read, ...change }, key)
  }
  const zeros = (frame: number, count: number) => takeFrame({ kind: 'zeros', deployment, frame, count }, key)
  const begin = (sizeBytes: number, fromStart = false) =>
    service.beginCapture({ deployment, sizeBytes, sectorBytes: 512, fromStart }, key)
  const complete = () => service.completeCapture({ deployment, report }, key)
  const view = async () => (await control.getCapture({ deployment }, admin)).capture
  return { deployment, key, instructions, put, zeros, begin, complete, view }
}

/** Three frames and a short one: data, zeros, zeros, 512 bytes of data. */
const raw = Buffer.concat([
  randomBytes(frameSizeBytes),
  Buffer.alloc(2 * frameSizeBytes),
  Buffer.from(createHash('sha512').update('x').digest('hex').repeat(4)),
])

test('frames in order become an image with the digest that importing the bytes as a disk gives', async () => {
  const { deployment, instructions, begin, put, zeros, complete, view } = await begun()
  expect(instructions).toMatchObject({
    action: 'capture',
    capture: { deployment, image: 'golden:1', finish: 'reboot' },
  })
  expect(await begin(raw.length)).toEqual({ nextFrame: 0, chain: emptyChain })
  await expect(complete()).rejects.toMatchObject({ code: 'wrong-state', message: '0 of 4 frames have come' })
  expect(await put(0, raw.subarray(0, frameSizeBytes))).toEqual({ nextFrame: 1 })
  expect(await zeros(1, 2)).toEqual({ nextFrame: 3 })
  expect(await put(3, raw.subarray(3 * frameSizeBytes))).toEqual({ nextFrame: 4 })
  const publishing = await complete()
  expect(publishing).toEqual({ state: 'publishing' })
  expect(await until('the image', async () => (await complete()).state === 'published', soon)).toBe(true)
  const { image } = await control.getImage({ reference: 'golden:1' }, admin)
  const path = join(world.library.folder, 'raw')
  await writeFile(path, raw)
  const imported = await importImage({ source: path, kind: 'disk', folder: world.library.folder })
  expect(image).toMatchObject({ digest: imported.digest, sizeBytes: raw.length, hygiene })
  expect(await view()).toMatchObject({ digest: imported.digest, frames: 4, report, deployment: { state: 'rebooting' } })
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records[0]?.target).toBe('local')
  expect(await until('the sweep', async () => (await capturedDisks(world.library)).length === 0, soon)).toBe(true)
  const kinds = (await control.listEvents({ deployment }, admin)).events.map(({ kind }) => kind)
  expect(kinds).toEqual(['capture-started', 'registered', 'image-published'])
})

test.each([
  ['an archive', { args: ['-c', '--format=ustar', 'package.json'], program: 'tar' }, 0],
  ['a qcow2 image', Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), 0],
  ['a packed file', Buffer.from('1f8b0800', 'hex'), 0],
  ['a fixed VHD', Buffer.from('conectix\0\0\0\x02', 'latin1'), 2 * MiB - 512],
] as const)(
  'a disk that looks like %s is an image of a disk, and a partition one of a partition',
  async (_, magic, at) => {
    const bytes = 'program' in magic ? run(magic.program, magic.args).subarray(0, 512) : magic
    const disk = randomBytes(2 * MiB)
    bytes.copy(disk, at)
    for (const [kind, order] of [
      ['disk', { host: 'n1', image: 'whole:1' }],
      ['partition', { host: 'n2', image: 'part:1', partition: 3 }],
    ] as const) {
      const { begin, put, complete, view } = await begun(order)
      await begin(disk.length)
      await put(0, disk)
      await complete()
      await until('the end', async () => (await view()).deployment.state !== 'deploying', soon)
      const { image } = await control.getImage({ reference: order.image }, admin)
      expect(image.kind).toBe(kind)
      const { image: path } = imagePaths(world.library, image.digest)
      expect(run('zstd', ['-dc', path]).equals(disk)).toBe(true)
    }
  },
)

test('a frame that comes twice, too early, damaged, or with another hash is refused and changes nothing', async () => {
  const { begin, put, zeros, view } = await begun()
  await expect(put(0, raw.subarray(0, frameSizeBytes))).rejects.toMatchObject({ code: 'wrong-state' })
  await begin(raw.length)
  const first = raw.subarray(0, frameSizeBytes)
  const refused: readonly [() => Promise<unknown>, string, string][] = [
    [() => put(1, first), 'wrong-state', 'frame 1 comes too early: the next is 0'],
    [() => put(0, first, { sha256: 'a'.repeat(64) }), 'bad-input', 'frame 0 was damaged on its way'],
    [() => put(0, first, { body: Buffer.from('x') }), 'bad-input', 'frame 0 was damaged on its way'],
    [() => put(0, first, { rawSha256: 'a'.repeat(64) }), 'bad-input', 'was said'],
    [() => put(0, first.subarray(512)), 'bad-input', 'frame 0 was damaged on its way'],
    [() => zeros(0, 5), 'bad-input', 'the disk has 4'],
  ]
  for (const [call, code, words] of refused) {
    await expect(call()).rejects.toMatchObject({ code, message: expect.stringContaining(words) })
  }
  expect(await view()).toMatchObject({ frames: 0, storedBytes: 0 })
  await put(0, first)
  await expect(put(0, first)).rejects.toMatchObject({ message: 'frame 0 is here already: the next is 1' })
  expect((await view()).frames).toBe(1)
})

test('a foreign session key takes nothing', async () => {
  const one = await begun()
  const other = await begun({ host: 'n2', image: 'golden:2' })
  await one.begin(raw.length)
  const { deployment } = one
  const call = takeFrame({ kind: 'zeros', deployment, frame: 0, count: 1 }, other.key)
  await expect(call).rejects.toMatchObject({ code: 'token-refused' })
  await expect(service.beginCapture({ deployment, sizeBytes: 512, sectorBytes: 512 }, other.key)).rejects.toMatchObject(
    {
      code: 'token-refused',
    },
  )
})

test('the upload goes on where it was, and begins again when the disk is another or its file is gone', async () => {
  const { begin, zeros } = await begun()
  await begin(raw.length)
  await zeros(0, 2)
  const zero = createHash('sha256').update(Buffer.alloc(frameSizeBytes)).digest('hex')
  expect(await begin(raw.length)).toEqual({ nextFrame: 2, chain: lengthenChain(emptyChain, zero, 2) })
  expect(await begin(raw.length + 512)).toEqual({ nextFrame: 0, chain: emptyChain })
  await zeros(0, 2)
  expect(await begin(raw.length + 512, true)).toMatchObject({ nextFrame: 0 })
  await zeros(0, 2)
  await removeCaptured(world.library, 1)
  expect(await begin(raw.length + 512)).toMatchObject({ nextFrame: 0 })
})

test('a name that is taken, being published or captured, and a host that is busy, are refused at the start', async () => {
  await nameImage(world, 'debian', '12')
  const start = (host: string, image: string) => control.startCapture({ host, image }, admin)
  await expect(start('n1', 'debian:12')).rejects.toMatchObject({ code: 'already-exists', at: 'image' })
  await start('n1', 'golden:1')
  await expect(start('n2', 'golden:1')).rejects.toMatchObject({ message: expect.stringContaining('is capturing') })
  await expect(control.publishImage({ reference: 'golden:1', path: '/dev/null' }, admin)).rejects.toMatchObject({
    code: 'already-exists',
  })
  await expect(start('n1', 'golden:2')).rejects.toMatchObject({ code: 'wrong-state', at: 'host' })
  await control.putSetup(
    { xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>' },
    admin,
  )
  await control.startRollout({ nodeset: 'n2', setup: 'demo' }, admin)
  await expect(start('n2', 'golden:2')).rejects.toMatchObject({
    code: 'wrong-state',
    message: expect.stringContaining('rollout 2 is at work on n2'),
  })
  await expect(control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
  })
})

test('a host whose boot record another deployment holds is not captured', async () => {
  await begun({ host: 'n2' })
  const held = await world.db.selectFrom('hosts').select('id').where('name', '=', 'n1').executeTakeFirstOrThrow()
  // What is left of the moment between two orders: the record is another's, and nothing else says so yet.
  await world.db.updateTable('boot_records').set({ deployment_id: 1 }).where('host_id', '=', held.id).execute()
  await expect(control.startCapture({ host: 'n1', image: 'golden:2' }, admin)).rejects.toMatchObject({
    code: 'wrong-state',
    at: 'host',
    message: 'n1 was taken by another rollout at this moment: ask again',
  })
  expect((await control.listCaptures({}, admin)).captures).toHaveLength(1)
})

test('an image that grows beyond what it may have ends with the reason', async () => {
  const { begin, put } = await begun({ storedBytesMax: 1000 })
  await begin(raw.length)
  await expect(put(0, raw.subarray(0, frameSizeBytes))).rejects.toMatchObject({
    code: 'image-too-large',
    message: expect.stringContaining('1000 bytes'),
  })
})

test('a cancelled capture takes no more, and what had come is removed', async () => {
  const { deployment, begin, zeros, complete } = await begun()
  await begin(raw.length)
  await zeros(0, 2)
  await control.cancelCapture({ deployment }, admin)
  expect(await capturedDisks(world.library)).toEqual([])
  await expect(zeros(2, 1)).rejects.toMatchObject({ code: 'wrong-state' })
  expect(await complete()).toMatchObject({ state: 'stopped', reason: expect.stringContaining('cancelled') })
  const [listed] = (await control.listCaptures({}, admin)).captures
  expect(listed).toMatchObject({ image: 'golden:1', deployment: { state: 'cancelled' } })
  expect((await control.listRollouts({}, admin)).rollouts[0]).toMatchObject({ captures: 'golden:1' })
})

test('a disk that cannot be an image fails the capture with the reason', async () => {
  const { begin, put, complete, view } = await begun()
  // A GPT that describes a larger disk.
  const disk = randomBytes(64 * 1024)
  disk.fill(0, 0, 512)
  putGpt(disk, 512)
  const short = disk.subarray(0, 32 * 1024)
  await begin(short.length)
  await put(0, short)
  await complete()
  await until('the failure', async () => (await complete()).state === 'stopped', soon)
  expect(await view()).toMatchObject({
    deployment: { state: 'failed', failedStep: 'publish', failure: { code: 'image-broken' } },
  })
  await sweepCaptures(world)
  expect(await capturedDisks(world.library)).toEqual([])
})

test('the setup that captures point at is no setup of anyone', async () => {
  expect((await control.listSetups({}, admin)).setups).toEqual([])
  for (const reference of ['capture', 'capture:0']) {
    await expect(control.getSetup({ reference }, admin)).rejects.toMatchObject({ code: 'unknown-setup' })
  }
})
