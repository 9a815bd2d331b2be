// What a redeploy by difference moves and writes, beside a full deployment: version 1 of an image is a file system filled from this
// machine, version 2 has 1 % of its blocks changed, either as upgrades change them (whole files of a few folders are replaced) or
// strewn evenly. The agent deploys version 2 over a disk of version 1, from an origin behind a gigabit. Needs root and loop devices.
// `node bench/redeploy.ts --from /usr/lib --folder /dev/shm` prints a table.
import { randomInt } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { execa } from 'execa'
import Fastify from 'fastify'
import { pino } from 'pino'
import { runAgent } from '../src/agent/agent.ts'
import { FakeService } from '../src/agent/fake-service.ts'
import { lookAtMachine } from '../src/agent/inventory.ts'
import { createLog } from '../src/agent/log.ts'
import { reportLimits } from '../src/agent/report.ts'
import { createClient } from '../src/client/client.ts'
import { servicePort } from '../src/contract/service.ts'
import type { Proof } from '../src/contract/types.ts'
import type { Work } from '../src/contract/work-types.ts'
import { writtenRanges } from '../src/image/frames.ts'
import { importImage } from '../src/image/import.ts'
import { imagePaths, openLibrary, readManifest } from '../src/image/library.ts'
import { openLoop, unmount } from '../src/lib/block-devices.ts'
import { Secret } from '../src/lib/secret.ts'
import type { RedeployMode } from '../src/model/layout.ts'
import { served } from '../src/ports/dispatch.ts'
import { authenticateByToken, servePorts } from '../src/ports/http.ts'
import { addOriginRoutes } from '../src/swarm/origin-routes.ts'

const { values } = parseArgs({
  options: {
    from: { type: 'string', default: '/usr/lib' },
    folder: { type: 'string', default: tmpdir() },
    mebibytes: { type: 'string', default: '2048' },
    percent: { type: 'string', default: '1' },
  },
})
const part = Number(values.percent) / 100
const blockBytes = 4096
const gigabit = 117_000_000

type Image = { readonly digest: string; readonly raw: string }

const folder = await mkdtemp(join(values.folder, 'hades-redeploy-'))
const library = await openLibrary(join(folder, 'library'))
try {
  const publish = async (raw: string): Promise<Image> => {
    const { digest } = await importImage({ source: createReadStream(raw), folder: library.folder })
    return { digest, raw }
  }
  const first = join(folder, 'v1.raw')
  await makeFileSystem(first)
  const usedBlocks = await countUsed(first)
  const rows = []
  for (const [name, change] of [
    ['files', changeFiles],
    ['strewn', changeBlocks],
  ] as const) {
    const second = join(folder, `v2-${name}.raw`)
    await copyFile(first, second)
    await change(second, Math.round(usedBlocks * part))
    const image = await publish(second)
    const changed = await countChanged(first, second)
    const manifest = await readManifest(library, image.digest)
    const dataFrames = manifest.frames.filter((frame) => frame.class === 'data')
    const storedBytes = dataFrames.reduce((sum, { length }) => sum + length, 0)
    for (const mode of ['full', 'difference', 'auto'] as const) {
      const { proof, seconds } = await deploy(image, { holds: first, mode })
      const of = (bytes: number, all: number) =>
        `${(bytes / 1e6).toFixed(1)} MB (${((100 * bytes) / all).toFixed(1)} %)`
      const took = (step: string) => proof.steps.find((one) => one.step === step)?.seconds.toFixed(1) ?? '-'
      rows.push({
        change: `${name}: ${((100 * changed) / usedBlocks).toFixed(2)} % of ${usedBlocks} blocks`,
        mode,
        fetched: of(proof.bytesFetched, storedBytes),
        written: of(proof.bytesWritten, dataFrames.length * manifest.frameSizeBytes),
        'read back': `${(proof.bytesReadBack / 1e6).toFixed(0)} MB`,
        compare: took('compare'),
        transfer: took('transfer'),
        verify: took('verify'),
        seconds: seconds.toFixed(1),
      })
    }
    await rm(second)
  }
  console.table(rows)
} finally {
  await rm(folder, { recursive: true })
}

async function makeFileSystem(path: string): Promise<void> {
  await execa('mkfs.ext4', ['-q', '-d', values.from, path, `${values.mebibytes}M`])
}

/** Replaces files of randomly chosen folders as an upgrade does: written beside, then renamed. */
async function changeFiles(raw: string, blocks: number): Promise<void> {
  const mounted = join(folder, 'mounted')
  await mkdir(mounted, { recursive: true })
  await execa('mount', ['-o', 'loop', raw, mounted])
  try {
    const entries = await readdir(mounted, { recursive: true, withFileTypes: true })
    const files = Map.groupBy(
      entries.filter((entry) => entry.isFile()),
      ({ parentPath }) => parentPath,
    )
    const folders = [...files.keys()]
    for (let left = blocks; left > 0 && folders.length > 0; ) {
      const [chosen] = folders.splice(randomInt(folders.length), 1)
      for (const { name, parentPath } of files.get(chosen ?? '') ?? []) {
        const path = join(parentPath, name)
        const { size } = await stat(path)
        if (left <= 0 || size > (left + 64) * blockBytes) continue
        // As compressible as before, and nowhere the same.
        await writeFile(`${path}.new`, (await readFile(path)).reverse())
        await rename(`${path}.new`, path)
        left -= Math.ceil(size / blockBytes)
      }
    }
  } finally {
    await unmount(mounted)
  }
}

/** Changes blocks that are chosen evenly among those that hold something. */
async function changeBlocks(raw: string, blocks: number): Promise<void> {
  const used = await usedOf(raw)
  const file = await open(raw, 'r+')
  try {
    for (let left = Math.min(blocks, used.length); left > 0; left -= 1) {
      const at = randomInt(used.length)
      const [block = 0] = used.splice(at, 1)
      const bytes = Buffer.alloc(blockBytes)
      await file.read(bytes, 0, blockBytes, block * blockBytes)
      await file.write(bytes.reverse(), 0, blockBytes, block * blockBytes)
    }
  } finally {
    await file.close()
  }
}

async function usedOf(raw: string): Promise<number[]> {
  const used: number[] = []
  let block = 0
  for await (const chunk of createReadStream(raw, { highWaterMark: 1024 * blockBytes }) as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += blockBytes, block += 1) {
      if (chunk.subarray(at, at + blockBytes).some((byte) => byte !== 0)) used.push(block)
    }
  }
  return used
}

async function countUsed(raw: string): Promise<number> {
  return (await usedOf(raw)).length
}

async function countChanged(one: string, other: string): Promise<number> {
  const [a, b] = await Promise.all([open(one), open(other)])
  try {
    const { size } = await a.stat()
    const [left, right] = [Buffer.alloc(1024 * blockBytes), Buffer.alloc(1024 * blockBytes)]
    let changed = 0
    for (let at = 0; at < size; at += left.length) {
      await Promise.all([a.read(left, 0, left.length, at), b.read(right, 0, right.length, at)])
      for (let block = 0; block < left.length; block += blockBytes) {
        if (left.compare(right, block, block + blockBytes, block, block + blockBytes) !== 0) changed += 1
      }
    }
    return changed
  } finally {
    await Promise.all([a.close(), b.close()])
  }
}

/** One deployment of the image to a disk that is a copy of `holds`, by the agent itself. */
async function deploy(
  image: Image,
  { holds, mode }: { readonly holds: string; readonly mode: RedeployMode },
): Promise<{ proof: Proof; seconds: number }> {
  const backing = join(folder, 'disk.raw')
  await copyFile(holds, backing)
  const { device, detach } = await openLoop(backing, ['--direct-io=on'])
  const origin = Fastify({ forceCloseConnections: true })
  await addOriginRoutes(origin, { library, baseUrl: 'http://127.0.0.1' })
  const images = `${await origin.listen({ host: '127.0.0.1', port: 0 })}/images`
  const service = new FakeService(workOf(image.digest, images, mode))
  const ports = await servePorts({
    ports: [served(servicePort, service.handlers())],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret('none')),
    log: pino({ level: 'silent' }),
  })
  try {
    const [address] = ports.addresses
    const url = `http://127.0.0.1:${address !== undefined && 'port' in address ? address.port : 0}`
    const { size } = await stat(backing)
    const look = await lookAtMachine(new AbortController().signal)
    const beganMs = performance.now()
    const outcome = await runAgent(
      {
        arguments: { service: url, host: 'n1', token: new Secret(service.bootToken) },
        version: 'bench',
        connect: (token) => createClient(servicePort, { kind: 'http', baseUrl: url, token }),
        look: async () => ({
          ...look,
          disks: [{ path: device, sizeBytes: size, sectorBytes: 512, rotational: false }],
        }),
        log: createLog(() => undefined),
        peerAddress: { host: '127.0.0.1', port: 0 },
        originLimits: { stallMs: 30_000, noProgressMs: 60_000, wrongAnswersMax: 3, pauseMs: 10, pauseMsMax: 50 },
        reportLimits,
      },
      new AbortController().signal,
    )
    const seconds = (performance.now() - beganMs) / 1000
    const [completed] = service.of('completeDeployment')
    if (completed === undefined) throw new Error(`the deployment failed: ${JSON.stringify(outcome)}`)
    for (const { kind, text } of service.of('reportEvent')) console.error(`${mode}: ${kind}: ${text}`)
    await requireEqual(backing, image.digest)
    return { proof: completed.proof, seconds }
  } finally {
    await ports.close(0)
    await origin.close()
    await detach()
    await rm(backing)
  }
}

/** What the service would tell the agent. */
function workOf(digest: string, images: string, redeploy: RedeployMode): Work {
  return {
    deployment: 1,
    host: 'n1',
    interfaces: [],
    layout: {
      disks: [{ name: 'system', hints: [], erase: 'none', partitions: [], content: { kind: 'image', image: 'v2:1' } }],
      arrays: [],
      groups: [],
    },
    images: [
      {
        reference: 'v2:1',
        digest,
        manifestUrl: `${images}/${digest}/manifest.json`,
        imageUrl: `${images}/${digest}/image.zst`,
        transfer: {
          engine: 'http',
          torrentUrl: '',
          metalinkUrl: '',
          announceUrl: '',
          framesUrl: `${images}/${digest}/frames`,
          lingerSeconds: 0,
          ingressBytesPerSecond: gigabit,
        },
      },
    ],
    redeploy,
    finish: 'reboot',
  }
}

/** What counts is what lies on the disk: what the image says of it, as zstd's own program unpacks that. Free space is anything. */
async function requireEqual(backing: string, digest: string): Promise<void> {
  const manifest = await readManifest(library, digest)
  const unpacked = join(folder, 'unpacked.raw')
  await execa('zstd', ['-dqf', '--sparse', imagePaths(library, digest).image, '-o', unpacked])
  const [disk, image] = await Promise.all([open(backing), open(unpacked)])
  try {
    const [there, wanted] = [Buffer.alloc(manifest.frameSizeBytes), Buffer.alloc(manifest.frameSizeBytes)]
    for (const number of manifest.frames.keys()) {
      for (const { offset, length } of writtenRanges(manifest, number)) {
        const at = number * manifest.frameSizeBytes + offset
        await Promise.all([disk.read(there, 0, length, at), image.read(wanted, 0, length, at)])
        if (there.compare(wanted, 0, length, 0, length) !== 0) throw new Error(`the disk differs in frame ${number}`)
      }
    }
  } finally {
    await Promise.all([disk.close(), image.close()])
    await rm(unpacked)
  }
}
