// Unpacks an image of a root file system (tar) into the file systems that were made for it, as its frames come, and proves
// every file in it: by the SHA-256 that it had in the archive against what the disk gives back after an unmount.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { constants, createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, open, realpath, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { rawBytesOf } from '../image/frames.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { ArrivedFrame, FrameSource } from './frame-source.ts'
import { lanesOver, together } from './lanes.ts'
import { whileMounted } from './mounts.ts'
import type { Place } from './place.ts'
import { type FileNote, TarReader } from './tar-reader.ts'
import { runTool } from './tool.ts'

const syncTimeoutMs = 1_800_000
/** What tar complained of, its end. */
const complaintsMax = 2000
/** Files are compared in groups, that the list of them is never in memory whole. */
const notesAtOnce = 512
/** A later entry of the same path replaces an earlier one; more such files than this are in no sane archive. */
const replacedMax = 10_000
/** On the new file system, because the scout's own lies in memory; removed when the files are proven. */
const listName = '.hades-files'

export type Unpacking = {
  readonly place: Place
  /** All of the setup: what is mounted below the place gets its part of the files. */
  readonly places: readonly Place[]
  readonly manifest: Manifest
  readonly source: FrameSource
  /** The bytes of the archive in a frame. */
  readonly inflate: (frame: ArrivedFrame, signal: AbortSignal) => Promise<Buffer>
  readonly onUnpacked: (doneBytes: number) => void
  readonly onVerifying: () => void
  readonly onVerified: (doneBytes: number) => void
}

/** Unpacks and compares. Gives the bytes read back. Throws Failure `disk-error`, `image-corrupt` or what the source throws. */
export async function unpack(work: Unpacking, signal: AbortSignal): Promise<number> {
  const { place, places } = work
  const folder = await mkdtemp(join(tmpdir(), 'hades-root-'))
  const mounting = { places, top: place, folder }
  try {
    const fill = async () => {
      await extract(work, folder, signal)
      await runTool(`sync \`${place.name}\``, ['sync', '--file-system', folder], { signal, timeoutMs: syncTimeoutMs })
    }
    await whileMounted(mounting, fill, signal)
    // What a new mount reads comes from the disk.
    work.onVerifying()
    const compare = async () => {
      const bytes = await compareAll(work, folder, signal)
      await rm(join(folder, listName))
      return bytes
    }
    return await whileMounted(mounting, compare, signal)
  } finally {
    await rmdir(folder).catch(() => undefined)
  }
}

async function extract(work: Unpacking, folder: string, signal: AbortSignal): Promise<void> {
  const list = createWriteStream(join(folder, listName))
  const reader = new TarReader((note) => void list.write(`${JSON.stringify(note)}\n`))
  const archive = async function* () {
    for await (const bytes of inOrder(work, signal)) {
      push(reader, bytes)
      yield bytes
      if (list.writableNeedDrain) await once(list, 'drain', { signal })
    }
    push(reader)
  }
  try {
    await runTar(folder, archive(), signal)
  } catch (error) {
    // An open file would keep the file system from being unmounted.
    const closed = once(list, 'close')
    list.destroy()
    await closed
    throw error
  }
  list.end()
  await finished(list).catch((cause: unknown) => {
    throw new Failure('disk-error', `note the files of \`${work.place.name}\``, { cause })
  })
}

function push(reader: TarReader, bytes?: Buffer): void {
  try {
    if (bytes === undefined) reader.end()
    else reader.push(bytes)
  } catch (cause) {
    throw new Failure('image-corrupt', 'the image is no archive that can be unpacked', { cause })
  }
}

/**
 * The bytes of every frame in the order of the archive. Frames that come early wait in the source, which holds what it was
 * not told to be written.
 */
async function* inOrder(work: Unpacking, signal: AbortSignal): AsyncGenerator<Buffer, void> {
  const { manifest, source, inflate, onUnpacked } = work
  const early = new Map<number, ArrivedFrame>()
  let next = 0
  let doneBytes = 0
  const take = async function* () {
    for (; next < manifest.frames.length; next++) {
      const isData = manifest.frames[next]?.class === 'data'
      const frame = early.get(next)
      if (isData && frame === undefined) return
      const bytes = frame === undefined ? Buffer.alloc(rawBytesOf(manifest, next)) : await inflate(frame, signal)
      yield bytes
      if (frame !== undefined) source.written(next)
      early.delete(next)
      doneBytes += bytes.length
      onUnpacked(doneBytes)
    }
  }
  yield* take()
  for await (const frame of source.frames(signal)) {
    early.set(frame.number, frame)
    yield* take()
  }
  if (next < manifest.frames.length) throw new Failure('internal', `the source ended before frame ${next}`)
}

/** Numeric owners, because the names of the scout are not those of the archive; xattrs hold capabilities and labels. */
const tarOptions = [
  '--extract',
  '--file=-',
  '--same-owner',
  '--same-permissions',
  '--numeric-owner',
  '--delay-directory-restore',
]
const tarAttributes = ['--xattrs', '--xattrs-include=*', '--acls', '--selinux']

async function runTar(folder: string, archive: AsyncIterable<Buffer>, signal: AbortSignal): Promise<void> {
  const tar: ChildProcessByStdio<Writable, null, Readable> = spawn(
    'tar',
    [...tarOptions, ...tarAttributes, '--directory', folder],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  )
  let complaints = ''
  tar.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-complaintsMax)
  })
  const ended = once(tar, 'close') as Promise<[number | null]>
  const fed = pipeline(archive, tar.stdin, { signal }).then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  try {
    const broken = await Promise.race([fed, ended.then(() => undefined)])
    // A pipe that broke is tar's doing, which says why itself; anything else is the cause of what tar then meets.
    if (broken !== undefined && !isBrokenPipe(broken.error)) throw broken.error
    const [code] = await ended
    const late = await fed
    if (late !== undefined && !isBrokenPipe(late.error)) throw late.error
    if (code === 0 && late === undefined) return
    const cause = new Error(`tar ended with ${code}: ${complaints.trim()}`)
    throw new Failure('disk-error', 'unpack the files of the image', { cause })
  } finally {
    tar.kill('SIGKILL')
    await ended
  }
}

function isBrokenPipe(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE'
}

/** Compares every noted file with what the file system has; gives the bytes read. */
async function compareAll({ place, onVerified }: Unpacking, folder: string, signal: AbortSignal): Promise<number> {
  let readBytes = 0
  const wrong = new Map<string, string>()
  const root = await realpath(folder)
  const compare = async (note: FileNote) => {
    const problem = await problemOf(note, root).catch((error: unknown) => String(error))
    readBytes += note.sizeBytes
    onVerified(readBytes)
    if (problem === undefined) wrong.delete(note.path)
    else wrong.set(note.path, problem)
    if (wrong.size > replacedMax) throw new Failure('disk-error', `more than ${replacedMax} files read back otherwise`)
  }
  const compareSome = async (notes: readonly FileNote[]) => {
    // Of a path that is there several times, the last entry is what must be found.
    const last = new Map(notes.map((note) => [note.path, note]))
    await together(signal, lanesOver(4, last.values(), compare))
  }
  let notes: FileNote[] = []
  for await (const line of createInterface({ input: createReadStream(join(folder, listName)) })) {
    // Our own lines, written by `extract` from FileNotes.
    notes.push(JSON.parse(line) as FileNote)
    if (notes.length < notesAtOnce) continue
    await compareSome(notes)
    notes = []
  }
  await compareSome(notes)
  const [first] = wrong
  if (first === undefined) return readBytes
  const words = `${wrong.size} files in \`${place.name}\` read back otherwise than they were in the image`
  throw new Failure('disk-error', `${words}; /${first[0]}: ${first[1]}`)
}

/** A whole file is read in these steps. */
const readBytesAtOnce = 1024 * 1024

async function problemOf({ path, sizeBytes, sha256, runs }: FileNote, root: string): Promise<string | undefined> {
  // A folder of the path may be a link, which must not lead out of the new system.
  const parent = await realpath(join(root, dirname(path)))
  if (parent !== root && !parent.startsWith(`${root}/`)) return 'its folder is a link out of the new system'
  const file = await open(join(parent, basename(path)), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const found = await file.stat()
    if (!found.isFile() || found.size !== sizeBytes) return `it has ${found.size} bytes, not ${sizeBytes}`
    const hash = createHash('sha256')
    const buffer = Buffer.alloc(Math.min(readBytesAtOnce, Math.max(1, sizeBytes)))
    for (const [offset, length] of runs ?? [[0, sizeBytes]]) {
      for (let at = 0; at < length; ) {
        const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - at), offset + at)
        if (bytesRead === 0) return `it ends at ${offset + at}`
        hash.update(buffer.subarray(0, bytesRead))
        at += bytesRead
      }
    }
    const digest = hash.digest('hex')
    return digest === sha256 ? undefined : `its SHA-256 is ${digest}, not ${sha256}`
  } finally {
    await file.close()
  }
}
