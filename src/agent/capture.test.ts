// The agent against the real Service Port and its database, on loop devices: nothing in between is simulated but the wire.
import { randomBytes } from 'node:crypto'
import { open, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import type { FrameUpload, TakeFrame } from '../contract/capture-types.ts'
import type { Caller } from '../contract/operation.ts'
import { servicePort } from '../contract/service.ts'
import { importImage } from '../image/import.ts'
import { makeGappedVolume } from '../image/testing.ts'
import { openLoop } from '../lib/block-devices.ts'
import { attachFailing } from '../lib/failing-disk.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { frameSizeBytes, type ImageKind } from '../model/image.ts'
import { captureIntake } from '../operations/capture-intake.ts'
import { controlHandlers } from '../operations/control.ts'
import { serviceHandlers } from '../operations/service.ts'
import { armDeployment, openTestWorld, type TestWorld } from '../operations/testing.ts'
import { addCaptureFrames } from '../ports/capture-frames.ts'
import { served } from '../ports/dispatch.ts'
import { type PortServer, servePorts } from '../ports/http.ts'
import { type Outcome, runAgent } from './agent.ts'
import { lookAtMachine, type SeenDisk } from './inventory.ts'
import { createLog } from './log.ts'
import { ownFolder } from './test-image.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const MiB = 1024 * 1024

let folder: string
let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let closers: (() => Promise<unknown>)[]
/** What comes before the service takes a frame: throw to refuse it. */
let before: (upload: FrameUpload) => Promise<void> | void
/** The frames that were taken, a run of zeros by its first. */
let taken: number[]
/** Frames that the service is taking at this moment. */
let underWay: number
/** What the machine shows; what this one has unless given. */
let memoryBytes: number | undefined
let server: PortServer
let port: number

beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
  world = await openTestWorld()
  closers.push(() => world.close())
  control = controlHandlers(world)
  before = () => {}
  taken = []
  underWay = 0
  memoryBytes = undefined
  port = 0
  await serve()
  closers.push(() => server.close(0))
  const interfaces = [{ mac: '52:54:00:00:00:01', ip: '10.77.0.11' }]
  await control.addHost({ name: 'n01', interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

async function serve(): Promise<void> {
  const { takeFrame } = captureIntake(world)
  const take: TakeFrame = async (upload, caller) => {
    underWay += 1
    try {
      await before(upload)
      const answer = await takeFrame(upload, caller)
      taken.push(upload.frame)
      return answer
    } finally {
      underWay -= 1
    }
  }
  server = await servePorts({
    ports: [served(servicePort, serviceHandlers(world))],
    listen: [{ host: '127.0.0.1', port }],
    authenticate: ({ token, address }) => (token === undefined ? undefined : { kind: 'bearer', token, address }),
    log: pino({ level: 'silent' }),
    routes: [(app) => addCaptureFrames(app, take)],
  })
  const [address] = server.addresses
  if (address && 'port' in address) port = address.port
}

/** A disk of `frames`: 'data' random, 'zero' zeros; with a short frame at its end. */
async function disk(frames: readonly ('data' | 'zero')[]): Promise<{ raw: Buffer; file: string; seen: SeenDisk }> {
  const parts = frames.map((kind) => (kind === 'data' ? randomBytes(frameSizeBytes) : Buffer.alloc(frameSizeBytes)))
  const raw = Buffer.concat([...parts, randomBytes(8 * 512)])
  return await attach(raw)
}

async function attach(raw: Buffer) {
  const file = join(folder, `disk-${closers.length}`)
  await writeFile(file, raw)
  const { device: path, detach } = await openLoop(file)
  closers.push(detach)
  const seen: SeenDisk = { path, sizeBytes: raw.length, sectorBytes: 512, rotational: false, serial: 'S1' }
  return { raw, file, seen }
}

type Order = Omit<Parameters<typeof control.startCapture>[0], 'host' | 'image'>

async function start(order: Order = {}): Promise<number> {
  return (await control.startCapture({ host: 'n01', image: 'golden:1', ...order }, admin)).capture.deployment.id
}

/** One attempt of the machine with these disks. */
async function attempt(deployment: number, disks: readonly SeenDisk[], nonce = 'one', signal?: AbortSignal) {
  const token = await armDeployment(world, deployment, nonce)
  const baseUrl = `http://127.0.0.1:${port}`
  const never = new AbortController().signal
  return await runAgent(
    {
      arguments: { service: baseUrl, host: 'n01', token: new Secret(token) },
      version: '0.1.0',
      connect: (token) => createClient(servicePort, { kind: 'http', baseUrl, token }),
      look: async () => {
        const look = await lookAtMachine(never)
        const seen = disks.map(({ notUsable: _notUsable, ...disk }) => disk)
        return { disks, inventory: { ...look.inventory, ...(memoryBytes && { memoryBytes }), disks: seen } }
      },
      log: createLog(() => {}),
      peerAddress: { host: '127.0.0.1', port: 0 },
      originLimits: { stallMs: 500, noProgressMs: 2000, wrongAnswersMax: 3, pauseMs: 10, pauseMsMax: 50 },
      reportLimits: { callMs: 2000, pauseMs: 10, pauseMsMax: 50 },
    },
    signal ?? never,
  )
}

/** An attempt that is killed while its frame 2 is under way; ends when the service has taken all that it was sent. */
async function killedAttempt(deployment: number, seen: SeenDisk): Promise<void> {
  const killed = new AbortController()
  before = ({ frame }) => {
    if (frame === 2) killed.abort(new Error('killed'))
  }
  await expect(attempt(deployment, [seen], 'one', killed.signal)).rejects.toThrow('killed')
  await until('the last frame to be taken', async () => underWay === 0, { timeoutMs: 5000 })
  expect((await view(deployment)).frames).toBeGreaterThanOrEqual(2)
  before = () => {}
  taken = []
}

const view = async (deployment: number) => (await control.getCapture({ deployment }, admin)).capture

/** The digest that importing these bytes as a disk or a partition gives. */
async function digestOf(raw: Buffer, kind: ImageKind = 'disk'): Promise<string> {
  const source = join(folder, 'expected.raw')
  await writeFile(source, raw)
  return (await importImage({ source, kind, folder: world.library.folder })).digest
}

const finished: Outcome = { kind: 'finished', action: 'reboot' }

test('a disk becomes the image that its bytes give, and its machine is let go', async () => {
  const { raw, seen } = await disk(['data', 'zero', 'zero', 'data', 'zero'])
  const deployment = await start()
  expect(await attempt(deployment, [seen])).toEqual(finished)
  expect(taken).toEqual([0, 1, 3, 4, 5])
  const { image } = await control.getImage({ reference: 'golden:1' }, admin)
  expect(image.digest).toBe(await digestOf(raw))
  expect(await view(deployment)).toMatchObject({
    digest: image.digest,
    report: { diskPath: seen.path, diskSerial: 'S1', bytesRead: raw.length },
    deployment: { state: 'rebooting' },
  })
  expect((await control.listBoot({ nodeset: 'n01' }, admin)).records[0]).toMatchObject({ target: 'local' })
})

test('a connection that is cut and a service that is restarted cost no frame twice and none is lost', async () => {
  const { raw, seen } = await disk(['data', 'data', 'zero', 'data', 'data', 'data'])
  const deployment = await start()
  let cuts = 0
  before = async ({ frame }) => {
    if (frame !== 3 || cuts > 0) return
    cuts += 1
    // The request that is being answered here loses its connection, and with it its answer; its frame is taken.
    await server.close(0)
    await serve()
  }
  expect(await attempt(deployment, [seen])).toEqual(finished)
  expect(cuts).toBe(1)
  expect(taken.toSorted((a, b) => a - b)).toEqual([...new Set(taken)].toSorted((a, b) => a - b))
  expect((await control.getImage({ reference: 'golden:1' }, admin)).image.digest).toBe(await digestOf(raw))
})

test('an agent that was killed is followed by one that goes on after what the service has', async () => {
  const { raw, seen } = await disk(['data', 'data', 'zero', 'data'])
  const deployment = await start()
  await killedAttempt(deployment, seen)
  const had = (await view(deployment)).frames
  expect(await attempt(deployment, [seen], 'two')).toEqual(finished)
  expect(Math.min(...taken)).toBe(had)
  expect((await control.getImage({ reference: 'golden:1' }, admin)).image.digest).toBe(await digestOf(raw))
})

test('a disk that changed between two attempts is read from its start', async () => {
  const { raw, seen, file } = await disk(['data', 'data', 'data'])
  const deployment = await start()
  await killedAttempt(deployment, seen)
  raw.fill(7, MiB, 2 * MiB)
  const device = await open(seen.path, 'r+')
  await device.write(raw, MiB, MiB, MiB)
  await device.sync()
  await device.close()
  expect((await readFile(file)).equals(raw)).toBe(true)
  expect(await attempt(deployment, [seen], 'two')).toEqual(finished)
  expect(taken[0]).toBe(0)
  expect((await control.getImage({ reference: 'golden:1' }, admin)).image.digest).toBe(await digestOf(raw))
  const kinds = (await control.listEvents({ deployment }, admin)).events.map(({ kind }) => kind)
  expect(kinds).toContain('capture-resumed')
  expect(kinds).toContain('capture-again')
})

async function saidOfFreeSpace(deployment: number): Promise<string | undefined> {
  const { events } = await control.listEvents({ deployment }, admin)
  return events.find(({ kind }) => kind === 'free-space')?.text
}

/** A disk of 64 MiB with an empty file system on rubbish. */
async function emptyVolume() {
  const file = join(folder, 'used.raw')
  await writeFile(file, randomBytes(64 * MiB))
  await execa('mkfs.ext4', ['-q', '-F', file])
  return await attach(await readFile(file))
}

test('what the file system of the disk calls free is not read, and leaves the image as it would be', async () => {
  const { raw, seen } = await emptyVolume()
  const deployment = await start()
  expect(await attempt(deployment, [seen])).toEqual(finished)
  const { digest, report } = await view(deployment)
  expect(digest).toBe(await digestOf(raw))
  expect(report?.bytesFree).toBeGreaterThan(40 * MiB)
  expect((report?.bytesRead ?? 0) + (report?.bytesFree ?? 0)).toBeLessThan(raw.length + 4 * MiB)
  expect(await saidOfFreeSpace(deployment)).toMatch(/^\d+ MB of 67 MB are free .*; ext4: \d+ MB$/)
})

test('a disk whose map of what is free has no room in memory is read whole, and that is told', async () => {
  const { raw, seen } = await emptyVolume()
  memoryBytes = 64 * MiB
  const deployment = await start()
  expect(await attempt(deployment, [seen])).toEqual(finished)
  const { digest, report } = await view(deployment)
  expect(digest).toBe(await digestOf(raw))
  expect(report).toMatchObject({ bytesRead: raw.length, bytesFree: 0 })
  expect(await saidOfFreeSpace(deployment)).toMatch(
    /^all is read, for what is free cannot be seen: this machine has no memory for its map of \d+ MB$/,
  )
})

test('a place that the disk cannot read fails the capture with that place', async () => {
  const { raw, seen, file } = await disk(['data', 'data', 'data'])
  const deployment = await start()
  await truncate(file, raw.length - 2 * frameSizeBytes)
  expect(await attempt(deployment, [seen])).toMatchObject({
    ...finished,
    failed: [expect.any(String), expect.any(String), expect.any(String)],
  })
  const { failure, failedStep } = (await view(deployment)).deployment
  expect(failedStep).toBe('capture')
  expect(failure).toMatchObject({ code: 'disk-error' })
  expect(failure?.message[0]).toMatch(new RegExp(`at offset ${frameSizeBytes} of ${seen.path}`))
})

/** A disk of these bytes, of which the places `bad` cannot be read. */
async function badDisk(raw: Buffer, bad: readonly number[]): Promise<SeenDisk> {
  const file = join(folder, `bad-${closers.length}`)
  await writeFile(file, raw)
  const { device, detach } = await attachFailing(
    file,
    bad.map((offset) => ({ on: 'read', offset })),
  )
  closers.push(detach)
  return { path: device, sizeBytes: raw.length, sectorBytes: 512, rotational: false, serial: 'S1' }
}

test('what cannot be read fails the capture where it is used, and not where it is free', async () => {
  const file = join(folder, 'bad.raw')
  const { used, gap } = makeGappedVolume(file)
  const raw = await readFile(file)
  const failing = await start()
  expect(await attempt(failing, [await badDisk(raw, [used])])).toMatchObject({ failed: expect.any(Array) })
  const { failure } = (await view(failing)).deployment
  expect(failure?.code).toBe('disk-error')
  const [, bytes, offset] = (/^read (\d+) bytes at offset (\d+) of/.exec(failure?.message[0] ?? '') ?? []).map(Number)
  expect(used - (offset ?? 0)).toBeGreaterThanOrEqual(0)
  expect(used - (offset ?? 0)).toBeLessThan(bytes ?? 0)
  const deployment = await start()
  // A gap that is too short to be skipped, and the middle of all that is free.
  expect(await attempt(deployment, [await badDisk(raw, [gap, 16 * MiB])])).toEqual(finished)
  expect((await view(deployment)).digest).toBe(await digestOf(raw))
}, 120_000)

/** A disk of these bytes, and what takes it away. */
async function vanishingDisk(raw: Buffer): Promise<{ seen: SeenDisk; vanish: () => Promise<void> }> {
  const file = join(folder, `vanishing-${closers.length}`)
  await writeFile(file, raw)
  const { device, detach, vanish } = await attachFailing(file, [])
  closers.push(detach)
  const seen = { path: device, sizeBytes: raw.length, sectorBytes: 512, rotational: false, serial: 'S1' }
  return { seen, vanish }
}

test('a disk that vanishes in the middle ends its capture by name and offset, no image of it is there, and the next one is', async () => {
  const { seen: vanishing, vanish } = await vanishingDisk(randomBytes(10 * frameSizeBytes))
  before = async ({ frame }) => {
    if (frame === 1) await vanish()
  }
  const deployment = await start()
  expect(await attempt(deployment, [vanishing])).toMatchObject({ ...finished, failed: expect.any(Array) })
  const { deployment: ended, digest, report, frames } = await view(deployment)
  expect(ended).toMatchObject({ state: 'failed', failedStep: 'capture', failure: { code: 'disk-error' } })
  const words = ended.failure?.message.join(': ') ?? ''
  expect(words).toMatch(new RegExp(`^read \\d+ bytes at offset \\d+ of ${vanishing.path}: EIO`))
  expect([digest, report]).toEqual([undefined, undefined])
  expect(frames).toBeLessThan(10)
  await expect(control.getImage({ reference: 'golden:1' }, admin)).rejects.toMatchObject({ code: 'unknown-image' })
  expect((await control.listBoot({ nodeset: 'n01' }, admin)).records[0]).toMatchObject({ target: 'local' })
  // Another disk is in its place.
  before = () => {}
  const { raw, seen } = await disk(['data'])
  const again = await start()
  expect(await attempt(again, [seen])).toEqual(finished)
  expect((await view(again)).digest).toBe(await digestOf(raw))
}, 60_000)

test('a disk that vanishes while it is compared with what the service has is told as that', async () => {
  const raw = randomBytes(8 * frameSizeBytes)
  const { seen } = await attach(raw)
  const deployment = await start()
  await killedAttempt(deployment, seen)
  const { seen: vanished, vanish } = await vanishingDisk(raw)
  await vanish()
  const had = (await view(deployment)).frames
  expect(await attempt(deployment, [vanished], 'two')).toMatchObject({ ...finished, failed: expect.any(Array) })
  const { deployment: ended, frames } = await view(deployment)
  expect(ended).toMatchObject({ state: 'failed', failedStep: 'capture', failure: { code: 'disk-error' } })
  expect(ended.failure?.message.join(': ')).toMatch(new RegExp(`at offset 0 of ${vanished.path}: EIO`))
  expect(frames).toBe(had)
  const events = (await control.listEvents({ deployment }, admin)).events.map(({ kind }) => kind)
  expect(events).not.toContain('capture-again')
}, 60_000)

test('of a file system that was not unmounted nothing is left out, and that is told', async () => {
  const file = join(folder, 'linux.raw')
  await linuxDisk()
  await execa('debugfs', ['-w', '-R', 'feature needs_recovery', `${file}?offset=${2 * MiB}`])
  const raw = await readFile(file)
  const { seen } = await attach(raw)
  const deployment = await start()
  expect(await attempt(deployment, [seen])).toEqual(finished)
  const { digest, report } = await view(deployment)
  expect(digest).toBe(await digestOf(raw))
  expect(report).toMatchObject({ bytesRead: raw.length, bytesFree: 0 })
  expect(await saidOfFreeSpace(deployment)).toContain(
    'partition 2, ext4: none is left out, its journal must be replayed',
  )
}, 120_000)

test('one partition of a disk with sectors of 4096 bytes is gone on with after a kill, and its free blocks stay out', async () => {
  const [file, root] = [join(folder, 'sectors.raw'), join(folder, 'root')]
  await execa('mkdir', [root])
  await writeFile(join(root, 'file'), randomBytes(12 * MiB))
  await writeFile(file, randomBytes(32 * MiB))
  const { device: path, detach } = await openLoop(file, ['--sector-size', '4096'])
  closers.push(detach)
  const input = 'label: gpt\nstart=256, size=256\nstart=512, size=7168\n'
  await execa('sfdisk', ['--quiet', '--no-reread', path], { input })
  await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', root, '-E', `offset=${2 * MiB}`, path, '28M'])
  const seen: SeenDisk = { path, sizeBytes: 32 * MiB, sectorBytes: 4096, rotational: false, serial: 'S1' }
  const deployment = await start({ partition: 2 })
  await killedAttempt(deployment, seen)
  const had = (await view(deployment)).frames
  expect(await attempt(deployment, [seen], 'two')).toEqual(finished)
  expect(Math.min(...taken)).toBe(had)
  const { digest, report } = await view(deployment)
  expect(digest).toBe(await digestOf((await readFile(file)).subarray(2 * MiB, 30 * MiB), 'partition'))
  expect(report?.bytesFree).toBeGreaterThan(8 * MiB)
}, 120_000)

test('a disk that cannot be told from another, or is not there, is no disk to read', async () => {
  const { seen } = await disk(['data'])
  const two = [seen, { ...seen, path: '/dev/other', serial: 'S2' }]
  const cases = [
    [{}, two, 'disk-ambiguous', 'S2'],
    [{ disk: 'S3' }, two, 'disk-none', 'S2'],
    [{ hints: [{ property: 'size', operator: 'lt', value: '5' }] }, two, 'disk-none', 'S2'],
    [{ partition: 2 }, [seen], 'disk-none', 'it has none'],
  ] as const
  for (const [order, disks, code, words] of cases) {
    const deployment = await start(structuredClone(order) as Order)
    expect(await attempt(deployment, disks)).toMatchObject({ ...finished, failed: expect.any(Array) })
    const { failure } = (await view(deployment)).deployment
    expect(failure).toMatchObject({ code, message: [expect.stringContaining(words)] })
  }
  const deployment = await start({ disk: 'S1' })
  expect(await attempt(deployment, two)).toEqual(finished)
})

/** A GPT disk: an empty partition, and a Linux root in ext4 as partition 2. */
async function linuxDisk(): Promise<Buffer> {
  const [root, file] = [join(folder, 'root'), join(folder, 'linux.raw')]
  await execa('mkdir', ['-p', `${root}/etc/ssh`, `${root}/usr`, `${root}/root/.ssh`, `${root}/var/log`])
  await writeFile(join(root, 'etc/os-release'), 'NAME=x\nPRETTY_NAME="Test Linux 1"\n')
  await writeFile(join(root, 'etc/machine-id'), '0123456789abcdef0123456789abcdef\n')
  await writeFile(join(root, 'etc/ssh/ssh_host_ed25519_key'), 'secret')
  await writeFile(join(root, 'root/.ssh/id_rsa'), '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n')
  await writeFile(file, '')
  await truncate(file, 24 * MiB)
  await execa('sgdisk', ['--new=1:2048:4095', '--new=2:4096:40959', file])
  await execa('mke2fs', ['-q', '-t', 'ext4', '-d', root, '-E', `offset=${2 * MiB}`, file, '18M'])
  return await readFile(file)
}

test('the system on the disk is looked through, named and not written to', async () => {
  const raw = await linuxDisk()
  const { seen, file } = await attach(raw)
  const deployment = await start()
  expect(await attempt(deployment, [seen])).toEqual(finished)
  const { image } = await control.getImage({ reference: 'golden:1' }, admin)
  expect(image.hygiene).toMatchObject({
    systems: [{ place: 'partition 2', filesystem: 'ext4', name: 'Test Linux 1' }],
    notSeen: [],
  })
  expect(image.hygiene?.findings.map(({ kind, path, repaired }) => [kind, path, repaired])).toEqual([
    ['machine-id', '/etc/machine-id', false],
    ['ssh-host-key', '/etc/ssh/ssh_host_ed25519_key', false],
    ['secret', '/root/.ssh/id_rsa', false],
  ])
  expect((await readFile(file)).equals(raw)).toBe(true)
})

test('one partition is captured alone', async () => {
  const raw = await linuxDisk()
  const { seen } = await attach(raw)
  const deployment = await start({ partition: 2 })
  expect(await attempt(deployment, [seen])).toEqual(finished)
  const { image } = await control.getImage({ reference: 'golden:1' }, admin)
  expect(image).toMatchObject({
    sizeBytes: 18 * MiB,
    digest: await digestOf(raw.subarray(2 * MiB, 20 * MiB), 'partition'),
  })
  expect(image.hygiene?.systems).toEqual([{ place: 'partition 2', filesystem: 'ext4', name: 'Test Linux 1' }])
})
