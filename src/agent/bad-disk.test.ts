// Disks that do not take what is written, on real block devices: the whole agent over a loop device that is read-only, whose
// backing file has no room for more, or that is gone in the middle.
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { servicePort } from '../contract/service.ts'
import type { Work } from '../contract/work-types.ts'
import { openLoop, unmount } from '../lib/block-devices.ts'
import { attachFailing } from '../lib/failing-disk.ts'
import { Secret } from '../lib/secret.ts'
import { frameSizeBytes } from '../model/image.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, servePorts } from '../ports/http.ts'
import { runAgent } from './agent.ts'
import { FakeOrigin, type Rule } from './fake-origin.ts'
import { FakeService } from './fake-service.ts'
import { lookAtMachine } from './inventory.ts'
import { createLog } from './log.ts'
import { ownFolder, publish, rawDisk, type TestImage } from './test-image.ts'

const frames = 8
const diskBytes = (frames + 2) * frameSizeBytes

let folder: string
let image: TestImage
let device: string
let closers: (() => Promise<unknown>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
  image = await publish(
    await rawDisk(
      folder,
      Array.from({ length: frames }, () => 'data' as const),
    ),
  )
  // Room for half of the image: what is written behind that fails with EIO, as on a disk that dies.
  const small = join(folder, 'small')
  await execa('mkdir', [small])
  await execa('mount', ['-t', 'tmpfs', '-o', `size=${(frames / 2) * frameSizeBytes}`, 'hades-agent-test', small])
  closers.push(() => unmount(small))
  await execa('truncate', ['--size', String(diskBytes), join(small, 'disk.raw')])
  const loop = await openLoop(join(small, 'disk.raw'))
  device = loop.device
  closers.push(loop.detach)
  await execa('blockdev', ['--setrw', device])
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** The agent deploys the image to the disk, from an origin with this rule; gives how it ended and what the service heard. */
async function deploy(path = device, rule: Rule = () => undefined) {
  const origin = new FakeOrigin({ '/manifest.json': image.manifestBytes, '/image.zst': image.imageZst })
  origin.rule = rule
  await origin.start()
  closers.push(() => origin.kill())
  const service = new FakeService(workOf(image.digest, origin))
  const ports = await servePorts({
    ports: [served(servicePort, service.handlers())],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret('none')),
    log: pino({ level: 'silent' }),
  })
  closers.push(() => ports.close(0))
  const [address] = ports.addresses
  const url = `http://127.0.0.1:${address !== undefined && 'port' in address ? address.port : 0}`
  const look = await lookAtMachine(new AbortController().signal)
  const disks = [{ path, sizeBytes: diskBytes, sectorBytes: 512, rotational: false }]
  const outcome = await runAgent(
    {
      arguments: { service: url, host: 'n01', token: new Secret(service.bootToken) },
      version: 'test',
      connect: (token) => createClient(servicePort, { kind: 'http', baseUrl: url, token }),
      look: async () => ({ ...look, disks }),
      log: createLog(() => undefined),
      peerAddress: { host: '127.0.0.1', port: 0 },
      originLimits: { stallMs: 1000, noProgressMs: 3000, wrongAnswersMax: 3, pauseMs: 10, pauseMsMax: 50 },
      reportLimits: { callMs: 5000, pauseMs: 10, pauseMsMax: 50 },
    },
    new AbortController().signal,
  )
  return { outcome, service }
}

function workOf(digest: string, origin: FakeOrigin): Work {
  const content = { kind: 'image' as const, image: 'test:1' }
  const disk = { name: 'system', hints: [], erase: 'none' as const, partitions: [], content }
  const transfer = { engine: 'http' as const, torrentUrl: '', metalinkUrl: '', announceUrl: '', lingerSeconds: 0 }
  const [manifestUrl, imageUrl] = [origin.url('/manifest.json'), origin.url('/image.zst')]
  return {
    deployment: 1,
    host: 'n01',
    interfaces: [],
    layout: { disks: [disk], arrays: [], groups: [] },
    images: [{ reference: 'test:1', digest, manifestUrl, imageUrl, transfer }],
    redeploy: 'full',
    finish: 'reboot',
  }
}

test('a disk that takes no more in the middle ends the deployment, named with offset, and nothing is called done', async () => {
  const { outcome, service } = await deploy()
  expect(outcome).toMatchObject({ kind: 'stays' })
  expect(JSON.stringify(outcome)).toContain('the disk does not boot')
  const [failure] = service.of('reportFailure')
  expect(failure).toMatchObject({ code: 'disk-error', step: 'transfer' })
  expect(failure?.message.join(': ')).toMatch(
    new RegExp(`(write \\d+ bytes at offset \\d+ of|flush) ${device}.*(EIO|ENOSPC)`),
  )
  expect(service.of('completeDeployment')).toEqual([])
})

test('a disk that vanishes in the middle ends the deployment with its name, and nothing is called done', async () => {
  const file = join(folder, 'vanishing.raw')
  await execa('truncate', ['--size', String(diskBytes), file])
  const disk = await attachFailing(file, [])
  closers.push(disk.detach)
  const { outcome, service } = await deploy(disk.device, ({ path, start }) => {
    if (path === '/image.zst' && start > image.imageZst.length / 4) void disk.vanish()
    return undefined
  })
  expect(outcome).toMatchObject({ kind: 'stays' })
  const [failure] = service.of('reportFailure')
  expect(failure).toMatchObject({ code: 'disk-error', step: 'transfer' })
  expect(failure?.message.join(': ')).toMatch(new RegExp(`${disk.device}.*EIO`))
  expect(service.of('completeDeployment')).toEqual([])
})

test('a disk that may only be read ends the deployment before anything is written', async () => {
  await execa('blockdev', ['--setro', device])
  // It would stay so, whatever file is attached next.
  closers.push(() => execa('blockdev', ['--setrw', device]))
  const before = (await execa('sha256sum', [device])).stdout
  const { outcome, service } = await deploy()
  expect(outcome).toMatchObject({ kind: 'stays' })
  const [failure] = service.of('reportFailure')
  expect(failure?.code).toBe('disk-none')
  expect(failure?.message.join(': ')).toContain(device)
  expect(service.of('completeDeployment')).toEqual([])
  expect((await execa('sha256sum', [device])).stdout).toBe(before)
})
