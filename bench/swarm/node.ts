// A node of a run by our own program: it brings the image into a file by an engine of ours, and stays a source until it is
// ended from outside. It speaks the lines of participant.ts.
import { once } from 'node:events'
import { writeSync } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { TokenBucket } from '../../src/lib/rate-limit.ts'
import { Secret } from '../../src/lib/secret.ts'
import { type PieceGeometry, pieceLength } from '../../src/model/swarm.ts'
import { parseTorrent } from '../../src/protocol/torrent.ts'
import type { PieceReader } from '../../src/swarm/piece-reader.ts'
import { joinSwarm, type Swarm } from '../../src/swarm/swarm.ts'

const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'swarm' },
    /** The host that the tracker takes it for. */
    name: { type: 'string', default: 'node' },
    /** URLs of the image at the origin and of the tracker; the torrent is a file, as for the stock clients. */
    url: { type: 'string', default: '' },
    announce: { type: 'string', default: '' },
    torrent: { type: 'string', default: '' },
    /** Where peers connect. */
    listen: { type: 'string', default: '0.0.0.0' },
    port: { type: 'string', default: '6881' },
    output: { type: 'string', default: 'image.zst' },
    /** Wait for the line `go`. */
    gate: { type: 'boolean', default: false },
    /** From the line `corrupt` on, send pieces with a wrong byte. */
    corruptible: { type: 'boolean', default: false },
    'disk-mbit': { type: 'string' },
  },
})

const budgetBytes = 256 * 1024 * 1024
/** The writer's bucket: what a disk's own cache takes at once. */
const diskBurstBytes = 512 * 1024

const lines = createInterface({ input: process.stdin })
let isCorrupting = false
lines.on('line', (line) => {
  if (line === 'corrupt') isCorrupting = true
})

// Every method has its torrent before the gate opens: what is measured is the image.
const torrent = values.engine === 'swarm' ? parseTorrent(await readFile(values.torrent)) : undefined
console.log('ready')
if (values.gate) await untilLine('go')
const file = await open(values.output, 'w')
const diskMbit = values['disk-mbit']
const disk =
  diskMbit === undefined
    ? undefined
    : new TokenBucket({ bytesPerSecond: (Number(diskMbit) * 1e6) / 8, burstBytes: diskBurstBytes })
if (torrent !== undefined) await fetchBySwarm(torrent, file)
else await fetchByHttp(file)
await file.datasync()
await file.close()
console.log('durable')

async function untilLine(wanted: string): Promise<void> {
  for (;;) {
    const [line] = await once(lines, 'line')
    if (line === wanted) return
  }
}

/** Plain GET of the whole, by a range. */
async function fetchByHttp(file: FileHandle): Promise<void> {
  const asked = get(values.url, { headers: { range: 'bytes=0-' } })
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  if (answer.statusCode !== 206) throw new Error(`${values.url} answered ${answer.statusCode}`)
  let at = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    await write(file, chunk, at)
    at += chunk.length
  }
  console.log('last')
}

async function write(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  await disk?.take(bytes.length)
  // On tmpfs a write is a copy: handing it to another thread would cost more than it does, times 72.
  if (disk === undefined) writeSync(file.fd, bytes, 0, bytes.length, at)
  else await file.write(bytes, 0, bytes.length, at)
}

async function fetchBySwarm(torrent: ReturnType<typeof parseTorrent>, file: FileHandle): Promise<void> {
  const swarm = await joinSwarm({
    torrent,
    webSeeds: [values.url],
    tracker: { url: values.announce, token: new Secret(values.name) },
    listen: { host: values.listen, port: Number(values.port) },
    budgetBytes,
    client: 'HaDeS bench',
    log: (line) => console.error(line),
  })
  if (values.corruptible) Object.assign(swarm.wire, { reader: corrupting(swarm.wire.reader) })
  await writePieces(swarm, torrent.info, file)
}

/** "last" is told when the last piece is verified, which may be long before the disk has it. */
async function writePieces(swarm: Swarm, geometry: PieceGeometry, file: FileHandle): Promise<void> {
  void swarm.completed.then(() => console.log('last'))
  for await (const piece of swarm.pieces()) {
    const at = piece * geometry.pieceBytes
    await write(file, await swarm.read(at, pieceLength(geometry, piece)), at)
    swarm.release(piece)
  }
  const { sources: _, uploads: __, ...counts } = swarm.progress()
  console.log(`stats ${JSON.stringify(counts)}`)
}

/** Gives every piece with one wrong byte once it is told to. */
function corrupting(reader: PieceReader): PieceReader {
  return {
    has: (piece) => reader.has(piece),
    bitfield: () => reader.bitfield(),
    read: async (piece) => {
      const bytes = Buffer.from(await reader.read(piece))
      if (isCorrupting) bytes.writeUInt8(bytes.readUInt8(0) ^ 0xff, 0)
      return bytes
    },
  }
}
