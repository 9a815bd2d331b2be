import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { servicePort } from '../contract/service.ts'
import type { Work } from '../contract/work-types.ts'
import { Secret } from '../lib/secret.ts'
import { SigningKey } from '../lib/signing.ts'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import type { DiskHint } from '../model/host.ts'
import { frameSizeBytes } from '../model/image.ts'
import { signDigest } from '../model/image-signature.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, servePorts } from '../ports/http.ts'
import { encodeTorrent } from '../protocol/torrent.ts'
import { openSwarm, type TestSwarm, takeAll, torrentOf } from '../swarm/testing.ts'
import { type Outcome, runAgent } from './agent.ts'
import { FakeOrigin } from './fake-origin.ts'
import { FakeService } from './fake-service.ts'
import { lookAtMachine, type SeenDisk } from './inventory.ts'
import { createLog } from './log.ts'
import { headBytesMax } from './plan.ts'
import { createDisk, putSystem } from './post-install/test-system.ts'
import { attachLoop, ownFolder, publish, rawDisk, type TestImage } from './test-image.ts'

let image: TestImage
beforeAll(async () => {
  const own = await ownFolder()
  image = await publish(await rawDisk(own.folder, ['data', 'zero', 'data', 'data', 'zero', 'data']))
  await own.remove()
})

let folder: string
let closers: (() => Promise<void> | void)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** The layout of a setup with one image on one whole disk. */
function oneDisk(hints: DiskHint[]): Work['layout'] {
  const content = { kind: 'image' as const, image: 'test:1' }
  return { disks: [{ name: 'system', hints, erase: 'none', partitions: [], content }], arrays: [], groups: [] }
}

const standardImage = () => image

/** One machine with one disk larger than the image, its service and its origin. */
async function createWorld(
  options: {
    diskBytes?: number
    swarm?: TestSwarm
    redeploy?: Work['redeploy']
    engine?: 'aria2'
    holds?: Buffer
    image?: TestImage
  } = {},
) {
  const image = options.image ?? standardImage()
  const diskBytes = options.diskBytes ?? image.raw.length + 8 * 1024 * 1024
  const backing = join(folder, 'disk.raw')
  const loop = await attachLoop(backing, diskBytes, 512)
  closers.push(loop.detach)
  if (options.holds !== undefined) await writeFile(loop.device, options.holds)
  const torrent = torrentOf(image.imageZst)
  const origin = new FakeOrigin({
    '/manifest.json': image.manifestBytes,
    '/image.zst': image.imageZst,
    '/image.torrent': encodeTorrent(torrent),
  })
  await origin.start()
  closers.push(() => origin.kill())
  const service = new FakeService({
    deployment: 7,
    host: 'n01',
    interfaces: [],
    layout: oneDisk([]),
    images: [
      {
        reference: 'test:1',
        digest: image.digest,
        manifestUrl: origin.url('/manifest.json'),
        imageUrl: origin.url('/image.zst'),
        transfer: {
          engine: options.engine ?? (options.swarm === undefined ? 'http' : 'swarm'),
          infoHash: torrent.infoHash,
          torrentUrl: origin.url('/image.torrent'),
          metalinkUrl: origin.url('/image.meta4'),
          announceUrl: options.swarm?.tracker.url ?? origin.url('/announce'),
          lingerSeconds: options.swarm === undefined ? 0 : 20,
        },
      },
    ],
    redeploy: options.redeploy ?? 'full',
    finish: 'reboot',
  })
  const { url, stop, start } = await serveService(service)
  closers.push(stop)
  const disk: SeenDisk = { path: loop.device, sizeBytes: diskBytes, sectorBytes: 512, rotational: false, serial: 'S1' }
  return {
    backing,
    origin,
    service,
    serviceUrl: url,
    stopService: stop,
    startService: start,
    disks: [disk],
    console: [] as string[],
  }
}
/** The fake service on the real Service Port; `start` after `stop` is on the same port. */
async function serveService(service: FakeService) {
  const listenAt = async (port: number) => {
    const ports = await servePorts({
      ports: [served(servicePort, service.handlers())],
      listen: [{ host: '127.0.0.1', port }],
      authenticate: authenticateByToken(new Secret('the-admin-token')),
      log: pino({ level: 'silent' }),
    })
    const [address] = ports.addresses
    if (address === undefined || !('port' in address)) throw new Error('the service listens at no port')
    return { port: address.port, close: () => ports.close(0) }
  }
  let listening = await listenAt(0)
  const { port } = listening
  return {
    url: `http://127.0.0.1:${port}`,
    stop: () => listening.close(),
    start: async () => {
      listening = await listenAt(port)
    },
  }
}

type World = Awaited<ReturnType<typeof createWorld>>

async function run(world: World, options: { token?: string; problem?: unknown; key?: string } = {}): Promise<Outcome> {
  const signal = new AbortController().signal
  return runAgent(
    {
      arguments: {
        service: world.serviceUrl,
        host: 'n01',
        token: new Secret(options.token ?? world.service.bootToken),
        ...(options.key === undefined ? {} : { key: options.key }),
      },
      version: '0.1.0',
      connect: (token) => createClient(servicePort, { kind: 'http', baseUrl: world.serviceUrl, token }),
      look: async () => {
        const look = await lookAtMachine(signal)
        const seen = {
          disks: world.disks,
          inventory: { ...look.inventory, disks: world.disks.map(({ notUsable: _notUsable, ...disk }) => disk) },
        }
        return options.problem === undefined ? seen : { ...seen, problem: options.problem }
      },
      log: createLog((line) => void world.console.push(line)),
      peerAddress: { host: '127.0.0.1', port: 0 },
      originLimits: { stallMs: 500, noProgressMs: 2000, wrongAnswersMax: 3, pauseMs: 10, pauseMsMax: 50 },
      reportLimits: { callMs: 500, pauseMs: 10, pauseMsMax: 50 },
    },
    signal,
  )
}

const isZeroHead = async (world: World) =>
  (await readFile(world.backing)).subarray(0, headBytesMax).every((byte) => byte === 0)
const isUntouched = async (world: World) => (await readFile(world.backing)).every((byte) => byte === 0xa5)

test('a machine is deployed, proven and handed over', async () => {
  const world = await createWorld()
  expect(await run(world)).toEqual({ kind: 'finished', action: 'reboot' })
  const { service } = world
  const [registered] = service.of('registerHost')
  expect(registered).toMatchObject({
    host: 'n01',
    agentVersion: '0.1.0',
    inventory: { disks: [{ serial: 'S1' }] },
  })
  const [completed] = service.of('completeDeployment')
  expect(completed).toMatchObject({
    deployment: 7,
    proof: {
      imageDigest: image.digest,
      diskSerial: 'S1',
      diskSizeBytes: image.raw.length + 8 * 1024 * 1024,
      bytesWritten: 4 * frameSizeBytes,
      bytesZeroed: 2 * frameSizeBytes,
      // Everything but the head, then the whole first frame.
      bytesReadBack: image.raw.length - headBytesMax + frameSizeBytes,
    },
  })
  const steps = ['inventory', 'disk', 'transfer', 'verify', 'boot-block', 'finish']
  expect(completed?.proof.steps.map(({ step }) => step)).toEqual(steps)
  expect(service.calls.at(-1)?.name).toBe('completeDeployment')
  expect(service.of('reportFailure')).toEqual([])
  const disk = await readFile(world.backing)
  // sgdisk has moved the backup table: the primary header, its checksum and the protective MBR tell of the new end.
  expect(disk.subarray(1024, image.raw.length - 33 * 512).equals(image.raw.subarray(1024, -33 * 512))).toBe(true)
  expect((await execa('sgdisk', ['--verify', world.backing])).stdout).toContain('No problems found')
  expect(disk.toString('latin1', disk.length - 512, disk.length - 504)).toBe('EFI PART')
  expect(service.of('reportEvent').map(({ kind }) => kind)).toEqual(['disk-chosen', 'gpt-moved'])
})

const storedDataBytes = () =>
  image.manifest.frames.reduce((sum, frame) => sum + (frame.class === 'data' ? frame.length : 0), 0)

test('a host of a swarm passes the image on until the others have it, and tells what came from whom', async () => {
  const swarm = await openSwarm(image.imageZst)
  closers.push(swarm.close)
  const world = await createWorld({ swarm })
  // Its neighbour is slower, and has no other source once the origin is away.
  let neighbour: Promise<Buffer> | undefined
  world.service.before = async (call) => {
    if (call.name !== 'reportProgress' || call.input.step === 'inventory' || neighbour !== undefined) return undefined
    if ((call.input.transfer?.verifiedBytes ?? 0) < image.imageZst.length) return undefined
    swarm.origin.isAway = true
    neighbour = swarm.join('n02', { ingressBytesPerSecond: 2_000_000 }).then((n02) => takeAll(n02, image.imageZst))
    return undefined
  }
  expect(await run(world)).toEqual({ kind: 'finished', action: 'reboot' })
  expect((await neighbour)?.equals(image.imageZst)).toBe(true)
  const { service } = world
  const [completed] = service.of('completeDeployment')
  const steps = ['inventory', 'disk', 'transfer', 'verify', 'boot-block', 'share', 'finish']
  expect(completed?.proof.steps.map(({ step }) => step)).toEqual(steps)
  expect(completed?.proof.transfer).toMatchObject({
    engine: 'swarm',
    verifiedBytes: image.imageZst.length,
    writtenBytes: storedDataBytes(),
    durableBytes: storedDataBytes(),
    fromOriginBytes: image.imageZst.length,
    sources: [{ name: 'origin', bytes: image.imageZst.length }],
  })
  expect(completed?.proof.transfer?.toPeersBytes).toBeGreaterThanOrEqual(image.imageZst.length)
  const shared = service.of('reportProgress').filter(({ step }) => step === 'share')
  expect(shared.some(({ transfer }) => (transfer?.toPeersBytes ?? 0) > 0)).toBe(true)
  expect(service.of('reportEvent').map(({ kind }) => kind)).toEqual(['disk-chosen', 'gpt-moved'])
})

/** The image as a host has it that runs it: one block of frame 2 is another, and frame 4 is not zero any more. */
function imageInUse(): Buffer {
  const used = Buffer.from(image.raw)
  used.fill(0x5a, 2 * frameSizeBytes + 8192, 2 * frameSizeBytes + 12288)
  used.fill(0x5a, 4 * frameSizeBytes, 4 * frameSizeBytes + 512)
  return used
}

const isImage = async (world: World) => (await readFile(world.backing)).subarray(0, image.raw.length).equals(image.raw)

test('by difference only what differs is fetched and written, and all of it is read back', async () => {
  const world = await createWorld({
    diskBytes: image.raw.length + 2 * frameSizeBytes,
    redeploy: 'difference',
    holds: imageInUse(),
  })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  const [completed] = world.service.of('completeDeployment')
  const steps = ['inventory', 'disk', 'compare', 'transfer', 'verify', 'boot-block', 'finish']
  expect(completed?.proof.steps.map(({ step }) => step)).toEqual(steps)
  expect(completed?.proof).toMatchObject({
    // The first MiB, which is withheld, and the block that differs.
    bytesWritten: headBytesMax + 4096,
    bytesZeroed: frameSizeBytes,
    bytesKept: image.raw.length - headBytesMax - 4096 - frameSizeBytes,
    bytesReadBack: image.raw.length - headBytesMax + frameSizeBytes,
    transfer: { fromOriginBytes: image.manifest.frames[2]?.length, writtenBytes: storedDataBytes() },
  })
  expect(world.service.of('reportEvent').map(({ kind, text }) => `${kind}: ${text}`)[1]).toBe(
    'compared: 4 of 6 frames are here already',
  )
  const disk = await readFile(world.backing)
  expect(disk.subarray(1024, image.raw.length - 33 * 512).equals(image.raw.subarray(1024, -33 * 512))).toBe(true)
  expect((await execa('sgdisk', ['--verify', world.backing])).stdout).toContain('No problems found')
})

test('by difference a disk as large as the image ends up as the image, its wiped end too', async () => {
  const world = await createWorld({ diskBytes: image.raw.length, redeploy: 'difference', holds: imageInUse() })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  expect(await isImage(world)).toBe(true)
  // What lies in the last MiB is wiped with it, and so is fetched.
  const last = image.manifest.frames[5]?.length ?? 0
  const [completed] = world.service.of('completeDeployment')
  expect(completed?.proof.transfer?.fromOriginBytes).toBe((image.manifest.frames[2]?.length ?? 0) + last)
})

test('a host of a swarm that has most of the image gets only the pieces of the rest', async () => {
  const swarm = await openSwarm(image.imageZst)
  closers.push(swarm.close)
  const world = await createWorld({ swarm, redeploy: 'difference', holds: imageInUse() })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  const { pieceBytes } = torrentOf(image.imageZst).info
  const [completed] = world.service.of('completeDeployment')
  const differs = image.manifest.frames[2]?.length ?? 0
  expect(completed?.proof.transfer).toMatchObject({ engine: 'swarm', writtenBytes: storedDataBytes() })
  expect(completed?.proof.transfer?.receivedBytes).toBeGreaterThanOrEqual(differs)
  expect(completed?.proof.transfer?.receivedBytes).toBeLessThan(differs + 2 * pieceBytes)
})

test('aria2 cannot leave pieces out: what differs comes by HTTP then, and that is told', async () => {
  const world = await createWorld({ engine: 'aria2', redeploy: 'difference', holds: imageInUse() })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  const fellBack = world.service.of('reportEvent').find(({ kind }) => kind === 'engine-fell-back')
  expect(fellBack?.text).toBe(
    'aria2 -> http: aria2 fetches an image whole: the frames that differ come by ranges from the origin',
  )
  const [completed] = world.service.of('completeDeployment')
  expect(completed?.proof.transfer).toMatchObject({ fromOriginBytes: image.manifest.frames[2]?.length })
})

test('a disk that the setup erases is erased first, read, and not compared', async () => {
  const world = await createWorld({ redeploy: 'difference', holds: imageInUse() })
  const { work } = world.service.instructions
  const layout = oneDisk([])
  const disks = layout.disks.map((disk) => ({ ...disk, erase: 'discard' as const }))
  if (work !== undefined) work.layout = { ...layout, disks }
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  const [completed] = world.service.of('completeDeployment')
  const steps = ['inventory', 'disk', 'erase', 'transfer', 'verify', 'boot-block', 'finish']
  expect(completed?.proof.steps.map(({ step }) => step)).toEqual(steps)
  expect(completed?.proof.bytesKept).toBe(0)
  expect(completed?.proof.actions).toMatchObject([
    {
      name: 'erase system',
      outcome: 'done',
      text: expect.stringMatching(/by discard: of (\d+) places.*\d+ read as zeros now/),
    },
  ])
  const kinds = world.service.of('reportEvent').map(({ kind }) => kind)
  expect(kinds).toEqual(['disk-chosen', 'erasing', 'erased', 'gpt-moved'])
})

test('a host that is told to erase erases its disk, tells what it read, and writes nothing', async () => {
  const world = await createWorld()
  const erase = { deployment: 7, method: 'zero', finish: 'poweroff' } as const
  world.service.instructions = { action: 'erase', reportEveryMs: 100, erase }
  expect(await run(world)).toEqual({ kind: 'finished', action: 'poweroff' })
  const [completed] = world.service.of('completeErase')
  const [disk] = world.disks
  expect(completed?.report.disks).toMatchObject([
    { path: disk?.path, sizeBytes: disk?.sizeBytes, serial: 'S1', text: expect.stringMatching(/read as zeros now$/) },
  ])
  expect(completed?.report.steps.map(({ step }) => step)).toEqual(['inventory', 'disk', 'erase', 'finish'])
  expect((await readFile(world.backing)).every((byte) => byte === 0)).toBe(true)
})

test.each([
  { disk: 'other', code: 'disk-none', words: /no disk is `other`; seen: .*S1/ },
  { disk: undefined, code: 'disk-ambiguous', words: /2 disks fit: name one .*or say `all`/ },
  { disk: 'all', code: 'disk-none', words: /cannot be erased: it is mounted; nothing was erased/ },
])('an erase of $disk that is not clear touches no disk', async ({ disk, code, words }) => {
  const world = await createWorld()
  const [first] = world.disks
  if (first !== undefined) world.disks.push({ ...first, path: '/dev/other', serial: 'S2', notUsable: 'it is mounted' })
  const erase = { deployment: 7, method: 'zero', finish: 'stay', ...(disk && { disk }) } as const
  world.service.instructions = { action: 'erase', reportEveryMs: 100, erase }
  expect(await run(world)).toMatchObject({ kind: 'stays' })
  expect(world.service.of('reportFailure')).toMatchObject([{ code, message: [expect.stringMatching(words)] }])
  expect(await isUntouched(world)).toBe(true)
})

test('auto samples the disk: rubbish is written over, and the reason is told', async () => {
  const world = await createWorld({ diskBytes: image.raw.length, redeploy: 'auto' })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  expect(await isImage(world)).toBe(true)
  const decided = world.service.of('reportEvent').find(({ kind }) => kind === 'redeploy-decided')
  expect(decided?.text).toMatch(/^full: 0 of 3 sampled frames are here already/)
  const [completed] = world.service.of('completeDeployment')
  expect(completed?.proof).toMatchObject({ bytesWritten: 4 * frameSizeBytes, bytesKept: 0 })
})

test('a host whose swarm cannot begin tells so and is deployed by HTTP', async () => {
  const swarm = await openSwarm(image.imageZst)
  closers.push(swarm.close)
  const world = await createWorld({ swarm })
  world.origin.rule = ({ path }) => (path === '/image.torrent' ? { kind: 'status', status: 404, body: '' } : undefined)
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  const [, fellBack] = world.service.of('reportEvent')
  expect(fellBack).toMatchObject({
    kind: 'engine-fell-back',
    text: expect.stringMatching(/^swarm -> http: fetch the to/),
  })
  const [completed] = world.service.of('completeDeployment')
  expect(completed?.proof.transfer).toMatchObject({ engine: 'http', fromOriginBytes: storedDataBytes() })
  expect(completed?.proof.steps.map(({ step }) => step)).not.toContain('share')
})

test('an image as large as the disk ends up on it byte for byte', async () => {
  const world = await createWorld({ diskBytes: image.raw.length })
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  expect((await readFile(world.backing)).equals(image.raw)).toBe(true)
})

test('what is done after the image stands in the proof, and without a kernel to start the machine reboots', async () => {
  const { place, close } = await createDisk(folder, [{ sizeMiB: 24, filesystem: 'ext4', fill: putSystem }])
  await close()
  const world = await createWorld({ image: await publish(await readFile(join(folder, `${place.name}.raw`))) })
  const { work } = world.service.instructions
  if (work === undefined) throw new Error('the world has no work')
  const nothing = { network: { mode: 'keep' as const, dns: [] }, authorizedKeys: [], writeFstab: false, scripts: [] }
  const identity = { hostname: 'n01.example', newMachineId: true, newHostKeys: false }
  work.postInstall = { ...nothing, ...identity, growLast: true, installBootLoader: false }
  work.finish = 'kexec'
  expect(await run(world)).toEqual({ kind: 'finished', action: 'reboot' })
  const [completed] = world.service.of('completeDeployment')
  const actions = completed?.proof.actions.map(({ name, outcome }) => `${name} ${outcome}`)
  expect(actions).toEqual(['grow done', 'root done', 'hostname done', 'machine-id done', 'network skipped'])
  expect(completed?.proof.steps.map(({ step }) => step)).toContain('post-install')
  const [failed] = world.service.of('reportEvent').filter(({ kind }) => kind === 'kexec-failed')
  expect(failed?.text).toMatch(/^the machine reboots instead: there is no boot menu/)
})

test('an action that fails ends the deployment before its reboot, and names the action', async () => {
  const world = await createWorld()
  const { work } = world.service.instructions
  if (work === undefined) throw new Error('the world has no work')
  const nothing = { network: { mode: 'keep' as const, dns: [] }, authorizedKeys: [], writeFstab: false, scripts: [] }
  const more = { hostname: 'n01', newMachineId: false, newHostKeys: false, growLast: false, installBootLoader: false }
  work.postInstall = { ...nothing, ...more }
  expect(await run(world)).toMatchObject({
    kind: 'stays',
    why: [expect.stringContaining('step post-install'), expect.anything(), expect.anything()],
  })
  const [reported] = world.service.of('reportFailure')
  expect(reported).toMatchObject({ step: 'post-install', code: 'post-install-failed' })
  expect(reported?.message.join(': ')).toMatch(/^post-install: root failed: no root of a Linux system was found: /)
  expect(world.service.of('completeDeployment')).toEqual([])
})

test('a refused token is final: nothing is touched and the console says so', async () => {
  const world = await createWorld()
  const outcome = await run(world, { token: 'another-token' })
  expect(outcome).toEqual({ kind: 'stays', why: ['the service does not take this machine', 'it is not the token'] })
  expect(world.service.calls).toHaveLength(1)
  expect(await isUntouched(world)).toBe(true)
})

test('a service that has nothing to do leaves the machine alone', async () => {
  const world = await createWorld()
  world.service.instructions = { action: 'stop', reason: 'deployment 7 is cancelled', reportEveryMs: 100 }
  expect(await run(world)).toMatchObject({ kind: 'stays', why: [expect.stringContaining('deployment 7 is cancelled')] })
  expect(await isUntouched(world)).toBe(true)
})

const refusals: readonly [string, (disk: SeenDisk) => readonly SeenDisk[], readonly DiskHint[], string, string][] = [
  ['no disk fits', (d) => [d], [{ property: 'serial', operator: 'eq', value: 'S2' }], 'disk-none', 'not serial eq S2'],
  ['two disks fit', (d) => [d, { ...d, path: '/dev/other' }], [], 'disk-ambiguous', '2 disks meet'],
  ['the disk is in use', (d) => [{ ...d, notUsable: 'it is mounted at /' }], [], 'disk-none', 'it is mounted at /'],
  ['the disk has other sectors', (d) => [{ ...d, sectorBytes: 4096 }], [], 'disk-none', 'sectors of 4096 bytes'],
  ['the disk is too small', (d) => [{ ...d, sizeBytes: 1000 }], [], 'image-too-large', 'has 1000 bytes'],
]
test.each(refusals)('when %s the failure is reported and the disk untouched', async (_, disks, hints, code, words) => {
  const world = await createWorld()
  world.disks = world.disks.flatMap(disks)
  world.service.instructions.work?.layout.disks[0]?.hints.push(...hints)
  expect(await run(world)).toMatchObject({ kind: 'stays' })
  const [reported] = world.service.of('reportFailure')
  expect(reported).toMatchObject({ deployment: 7, step: 'disk', code })
  expect(reported?.message.join(': ')).toContain(words)
  expect(await isUntouched(world)).toBe(true)
})

test('another disk than the one that was proven before is refused, and untouched', async () => {
  const world = await createWorld()
  const { work } = world.service.instructions
  if (work) work.approvedDisks = [{ name: 'system', sizeBytes: 32 * 2 ** 20, serial: 'OLD' }]
  expect(await run(world)).toMatchObject({ kind: 'stays' })
  const [reported] = world.service.of('reportFailure')
  expect(reported).toMatchObject({ step: 'disk', code: 'disk-changed' })
  expect(reported?.message[0]).toMatch(/serial S1.*proven one is 33554432 bytes, serial OLD/)
  expect(await isUntouched(world)).toBe(true)
})

test('a corrupt image is reported with its frame, the log and no secret, and the disk does not boot', async () => {
  const world = await createWorld()
  const offset = image.manifest.frames[5]?.offset ?? 0
  world.origin.rule = ({ path }) => (path === '/image.zst' ? { kind: 'flip', offset } : undefined)
  // A secret in an error's words must not get out either.
  world.service.before = ({ name }) => {
    if (name === 'reportEvent') {
      throw new Failure('service-unreachable', `refused ${world.service.sessionKey} of ${world.service.bootToken}`)
    }
    return undefined
  }
  expect(await run(world)).toMatchObject({
    kind: 'stays',
    why: [expect.stringContaining('the disk does not boot'), expect.stringContaining('frame 5'), expect.any(String)],
  })
  const [reported] = world.service.of('reportFailure')
  expect(reported).toMatchObject({ step: 'transfer', code: 'image-corrupt' })
  expect(reported?.message[0]).toContain(`frame 5 (offset ${offset} of image.zst`)
  expect(reported?.log).toContain('frame 5')
  for (const text of [reported?.log ?? '', world.console.join('')]) {
    expect(text).toContain('refused *** of ***')
    expect(text).not.toContain(world.service.bootToken)
    expect(text).not.toContain(world.service.sessionKey)
  }
  expect(await isZeroHead(world)).toBe(true)
  expect(world.service.of('completeDeployment')).toEqual([])
})

test('an answer to stop ends the work at once and leaves a disk that does not boot', async () => {
  const world = await createWorld()
  world.origin.rule = ({ start }) => (start > 0 ? { kind: 'stall', afterBytes: 10 } : undefined)
  world.service.before = (call) =>
    call.name === 'reportProgress' && call.input.step === 'transfer'
      ? { action: 'stop', reason: 'somebody cancelled it' }
      : undefined
  expect(await run(world)).toEqual({
    kind: 'stays',
    why: [
      'the work has ended; the disk does not boot, its first MiB is zero',
      'the service said to stop: somebody cancelled it',
    ],
  })
  expect(world.service.of('reportFailure')).toEqual([])
  expect(await isZeroHead(world)).toBe(true)
})

test('a service that comes and goes is asked until it answers', async () => {
  const world = await createWorld()
  const lost = new Map<string, number>()
  world.service.before = ({ name }) => {
    const times = (lost.get(name) ?? 0) + 1
    lost.set(name, times)
    if (times <= 3) throw new Failure(times === 2 ? 'internal' : 'service-unreachable', `${name} is lost`)
    return undefined
  }
  expect(await run(world)).toMatchObject({ kind: 'finished' })
  expect(world.service.of('registerHost')).toHaveLength(4)
  expect(new Set(world.service.of('registerHost').map(({ agent }) => agent)).size).toBe(1)
  expect(world.service.of('completeDeployment')).toHaveLength(4)
})

test('a service killed in the middle of the transfer and started again finds the agent where it was', async () => {
  const world = await createWorld()
  let stuck = 0
  world.origin.rule = ({ path, start }) => {
    if (path !== '/image.zst' || start === 0) return undefined
    stuck++
    return { kind: 'stall', afterBytes: 1000 }
  }
  const finished = run(world)
  await until('a request in flight', () => stuck > 0, { timeoutMs: 20_000, everyMs: 10 })
  await world.stopService()
  await world.origin.kill()
  world.origin.rule = () => undefined
  const lost = world.console.length
  await until('lost reports', () => world.console.slice(lost).join('').includes('reportProgress was not heard'), {
    timeoutMs: 20_000,
    everyMs: 10,
  })
  await world.origin.start()
  await world.startService()
  expect(await finished).toMatchObject({ kind: 'finished' })
  expect(world.service.of('registerHost')).toHaveLength(1)
  expect(world.service.of('completeDeployment')).toHaveLength(1)
})

test('a session that the service no longer takes ends the work', async () => {
  const world = await createWorld()
  world.origin.rule = ({ start }) => (start > 0 ? { kind: 'stall', afterBytes: 10 } : undefined)
  world.service.before = (call) => {
    if (call.name !== 'reportProgress' || call.input.step !== 'transfer') return undefined
    throw new Failure('token-refused', 'another agent has registered')
  }
  expect(await run(world)).toMatchObject({
    kind: 'stays',
    why: [expect.stringContaining('its first MiB is zero'), 'another agent has registered'],
  })
  expect(await isZeroHead(world)).toBe(true)
})

test('a service that never answers progress does not hold the transfer up', async () => {
  const world = await createWorld()
  world.service.before = ({ name }) => (name === 'reportProgress' ? new Promise(() => undefined) : undefined)
  expect(await run(world)).toMatchObject({ kind: 'finished' })
})

test('progress is told in every long step with its bytes', async () => {
  const world = await createWorld()
  world.service.instructions = { ...world.service.instructions, reportEveryMs: 100 }
  // Slow enough for several reports: every request is cut off once.
  const seen = new Set<number>()
  world.origin.rule = ({ start }) => {
    if (start === 0 || seen.has(start)) return undefined
    seen.add(start)
    return { kind: 'stall', afterBytes: 1000 }
  }
  await run(world)
  const reports = world.service.of('reportProgress')
  const transfers = reports.filter(({ step }) => step === 'transfer')
  expect(transfers.length).toBeGreaterThan(2)
  expect(transfers.every(({ totalBytes }) => totalBytes === image.raw.length)).toBe(true)
  const done = transfers.map(({ doneBytes }) => doneBytes)
  expect(done).toEqual(done.toSorted((a, b) => a - b))
  expect(transfers.some(({ bytesPerSecond }) => bytesPerSecond > 0)).toBe(true)
})

test('a proof that the service no longer wants keeps the machine in the scout', async () => {
  const world = await createWorld()
  world.service.before = ({ name }) =>
    name === 'completeDeployment' ? { action: 'stop', reason: 'it is cancelled' } : undefined
  expect(await run(world)).toEqual({
    kind: 'stays',
    why: [
      'the work has ended; the disk holds the whole image, read back',
      'the proof was taken, the machine stays: it is cancelled',
    ],
  })
})

test('disks that could not be looked at are no missing disks', async () => {
  const world = await createWorld()
  world.disks = []
  expect(await run(world, { problem: new Error('lsblk: not found') })).toMatchObject({ kind: 'stays' })
  expect(world.service.of('reportFailure')).toMatchObject([
    { step: 'inventory', code: 'internal', message: [expect.any(String), 'lsblk: not found'] },
  ])
})

test('an image that the key of the boot script has not signed is refused, and the disk untouched', async () => {
  const [ours, another] = [new SigningKey(SigningKey.randomSeed()), new SigningKey(SigningKey.randomSeed())]
  for (const signature of [undefined, signDigest(another, image.digest)]) {
    const world = await createWorld()
    const [order] = world.service.instructions.work?.images ?? []
    if (order !== undefined && signature !== undefined) order.signature = signature
    expect(await run(world, { key: ours.publicKey })).toMatchObject({ kind: 'stays' })
    expect(world.service.of('reportFailure')).toMatchObject([{ step: 'disk', code: 'image-corrupt' }])
    expect(await isUntouched(world)).toBe(true)
  }
  const world = await createWorld()
  const [order] = world.service.instructions.work?.images ?? []
  if (order !== undefined) order.signature = signDigest(ours, image.digest)
  expect(await run(world, { key: ours.publicKey })).toMatchObject({ kind: 'finished' })
})
