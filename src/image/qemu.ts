// Disk images in the formats of virtual machines, as bytes at any place. qemu is told the format and never guesses it; it is
// shown an image only after its header was judged here, has no other file to open, and runs under limits (child.ts).
import { type FileHandle, open } from 'node:fs/promises'
import { connect } from 'node:net'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import { Child, type Limits, outputOf } from './child.ts'
import { checkVdi, checkVhd, checkVhdx, checkVmdk } from './foreign-headers.ts'
import { diskBytesMax } from './manifest.ts'
import { openNbdContent } from './nbd-content.ts'
import { checkQcow2, qcow2Magic } from './qcow2.ts'
import type { Content } from './volume.ts'

export type QemuFormat = {
  readonly name: string
  readonly at: number
  readonly magic: Buffer
  readonly driver: Readonly<Record<string, unknown>>
  readonly checkHeader: (file: FileHandle, fileBytes: number, signal: AbortSignal) => Promise<void>
  /** What `qemu-img` looks at: the image's own tables, or where in the file each part of the disk is. */
  readonly examine: readonly ('check' | 'map')[]
}

export const qemuFormats: readonly QemuFormat[] = [
  {
    name: 'qcow2',
    at: 0,
    magic: qcow2Magic,
    driver: { driver: 'qcow2', backing: null },
    checkHeader: checkQcow2,
    examine: ['check'],
  },
  {
    name: 'VMDK',
    at: 0,
    magic: Buffer.from('KDMV'),
    driver: { driver: 'vmdk', backing: null },
    checkHeader: checkVmdk,
    examine: ['check', 'map'],
  },
  {
    name: 'VHDX',
    at: 0,
    magic: Buffer.from('vhdxfile'),
    driver: { driver: 'vhdx' },
    checkHeader: checkVhdx,
    examine: ['check'],
  },
  {
    name: 'VHD',
    at: 0,
    magic: Buffer.from('conectix'),
    // Else the geometry counts, which rounds the size down.
    driver: { driver: 'vpc', force_size_calc: 'current_size' },
    checkHeader: checkVhd,
    examine: [],
  },
  {
    name: 'VDI',
    at: 64,
    magic: Buffer.from('7f10dabe', 'hex'),
    driver: { driver: 'vdi' },
    checkHeader: checkVdi,
    examine: ['check'],
  },
]

/** qemu maps caches of up to 32 MiB, stacks and arenas for each thread; measured below 1 GiB. */
const limits: Limits = { memoryBytes: 2 * 1024 ** 3, cpuSeconds: 6 * 3600 }
const startMs = 30_000
/** The check reads every table once and answers at its end. */
const checkMs = 600_000

/** Opens the image in the file `path`. `folder` takes the socket. Throws Failure `image-broken` or `image-too-large`. */
export async function openByQemu(
  path: string,
  format: QemuFormat,
  options: { readonly folder: string; readonly signal: AbortSignal },
): Promise<Content> {
  const file = await open(path)
  let fileBytes: number
  try {
    fileBytes = (await file.stat()).size
    await format.checkHeader(file, fileBytes, options.signal)
  } finally {
    await file.close()
  }
  // By json: and not by name, because a name may look like one of qemu's protocols.
  const target = `json:${JSON.stringify({ ...format.driver, file: { driver: 'file', filename: path } })}`
  for (const what of format.examine) await examine(format, what, target, fileBytes, options.signal)
  const content = await serve(format, target, options)
  if (content.sizeBytes <= diskBytesMax) return content
  await content.close()
  const message = `the ${format.name} image holds a disk of ${content.sizeBytes} bytes; ${diskBytesMax} can be published`
  throw new Failure('image-too-large', message)
}

async function examine(
  { name }: QemuFormat,
  what: 'check' | 'map',
  target: string,
  fileBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const command = ['qemu-img', what, '--output=json', target] as const
  try {
    // Status 3 means clusters that nothing refers to: room is wasted, no byte is wrong. The report itself says no more.
    const output = outputOf(command, { limits, stallMs: checkMs, fine: what === 'check' ? [0, 3] : [0], signal })
    let rest = ''
    for await (const chunk of output) {
      if (what === 'check') continue
      const lines = `${rest}${chunk.toString('latin1')}`.split('\n')
      rest = (lines.pop() ?? '').slice(-4096)
      for (const line of lines) checkExtent(name, line, fileBytes)
    }
    checkExtent(name, rest, fileBytes)
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    throw broken(name, `does not pass the check of qemu; see what it finds, by: qemu-img ${what} IMAGE`, cause)
  }
}

/** A line of the map: what of the disk lies where in the file. qemu itself reads zeros behind the file's end. */
function checkExtent(name: string, line: string, fileBytes: number): void {
  const [, length, offset] = /"length": (\d+).*"data": true.*"offset": (\d+)/.exec(line) ?? []
  if (length === undefined || offset === undefined) return
  // Of a compressed part the length is that of the disk: only its start can be told.
  const needed = line.includes('"compressed": true') ? 1 : Number(length)
  const end = Number(offset) + needed
  if (end > fileBytes) throw broken(name, `is truncated: a part of it ends at byte ${end}, the file after ${fileBytes}`)
}

async function serve(
  { name }: QemuFormat,
  target: string,
  options: { readonly folder: string; readonly signal: AbortSignal },
): Promise<Content> {
  const folder = await open(options.folder)
  // A socket's path has at most 107 bytes and the library may lie deeper: through our descriptor it is always short.
  const socket = `/proc/${process.pid}/fd/${folder.fd}/nbd`
  const server = new Child(
    ['qemu-nbd', '--read-only', '--persistent', '--shared=2', `--socket=${socket}`, target],
    limits,
  )
  const kill = () => server.kill()
  options.signal.addEventListener('abort', kill)
  const end = async () => {
    options.signal.removeEventListener('abort', kill)
    await server.close()
    await folder.close()
  }
  try {
    await listening(server, socket, options.signal)
    // Whatever ended the connection, one that has no server left can tell nothing but its last words.
    const why = () => {
      server.kill()
      return server.success([]).then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    const content = await openNbdContent(socket, why)
    let ended: Promise<void> | undefined
    return {
      sizeBytes: content.sizeBytes,
      read: (offset, length) => content.read(offset, length),
      close: () => {
        ended ??= content.close().then(end)
        return ended
      },
    }
  } catch (cause) {
    await end()
    if (cause instanceof Failure || options.signal.aborted) throw cause
    throw broken(name, 'cannot be opened by qemu', cause)
  }
}

async function listening(server: Child, socket: string, signal: AbortSignal): Promise<void> {
  let ended = false
  void server.ended.then(() => (ended = true))
  await until('qemu-nbd to listen', async () => ended || (await canConnect(socket)), {
    timeoutMs: startMs,
    everyMs: 20,
    signal,
  })
  if (ended) await server.success([])
}

function canConnect(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    connection.once('connect', () => {
      connection.destroy()
      resolve(true)
    })
    connection.once('error', () => resolve(false))
  })
}

function broken(name: string, what: string, cause?: unknown): Failure {
  return new Failure('image-broken', `the ${name} image ${what}`, { cause })
}
