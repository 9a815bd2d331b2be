import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { unmount } from '../lib/block-devices.ts'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes, type Manifest } from '../model/image.ts'
import type { ArrivedFrame, FrameSource } from './frame-source.ts'
import { makeFileSystem } from './make-file-systems.ts'
import type { Place } from './place.ts'
import { type FileNote, TarReader } from './tar-reader.ts'
import { attachLoop, ownFolder, quarterRandom } from './test-image.ts'
import { unpack } from './unpack.ts'

const MiB = 1024 ** 2
const signal = new AbortController().signal

let folder: string
let closers: (() => Promise<unknown>)[]
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** A small tree with everything that an archive finds hard. */
async function createTree(): Promise<string> {
  const tree = join(folder, 'tree')
  const long = join(tree, 'usr', 'a-long-name-'.repeat(12), 'deeper-'.repeat(16))
  await mkdir(long, { recursive: true })
  await mkdir(join(tree, 'home'))
  await writeFile(join(long, 'file'), 'in a long path')
  await writeFile(join(tree, 'usr/big'), quarterRandom(9 * MiB + 77))
  await writeFile(join(tree, 'usr/empty'), '')
  await writeFile(join(tree, 'home/mine'), quarterRandom(70_000))
  await execa('ln', [join(tree, 'usr/big'), join(tree, 'usr/again')])
  await execa('ln', ['-s', 'usr/big', join(tree, 'link')])
  await execa('mkfifo', [join(tree, 'pipe')])
  const sparse = await open(join(tree, 'usr/sparse'), 'w')
  for (const at of [0, 5, 9, 13, 17, 21]) await sparse.write(quarterRandom(8192), 0, 8192, at * MiB)
  await sparse.truncate(30 * MiB)
  await sparse.close()
  await execa('chown', ['-R', '1234:4321', join(tree, 'home')])
  await execa('setfattr', ['-n', 'user.note', '-v', 'kept', join(tree, 'usr/empty')])
  await execa('chmod', ['4755', join(tree, 'usr/again')])
  return tree
}

const forms = {
  'pax, sparse': ['--format=posix', '--sparse'],
  'pax, sparse of form 0.1': ['--format=posix', '--sparse', '--sparse-version=0.1'],
  gnu: ['--format=gnu', '--sparse'],
  plain: ['--format=pax'],
} as const

async function tarOf(tree: string, options: readonly string[]): Promise<Buffer> {
  const file = join(folder, 'tree.tar')
  const attributes = options.includes('--format=gnu') ? [] : ['--xattrs']
  await execa('tar', [...options, ...attributes, '--create', '--file', file, '--directory', tree, '.'])
  return readFile(file)
}

test.each(Object.entries(forms))(
  'every file in an archive is told with its digest, cut anywhere: %s',
  async (_, options) => {
    const tree = await createTree()
    const tar = await tarOf(tree, options)
    const notes = new Map<string, FileNote>()
    const reader = new TarReader((note) => notes.set(note.path, note))
    for (let at = 0, step = 1; at < tar.length; at += step, step = (step * 7 + 3) % 70_001) {
      reader.push(tar.subarray(at, at + step))
    }
    reader.end()
    expect([...notes.keys()].filter((path) => !path.startsWith('usr/a-long')).sort()).toHaveLength(4)
    expect([...notes.keys()].find((path) => path.endsWith('deeper-/file'))).toBeDefined()
    for (const { path, sizeBytes, sha256, runs } of notes.values()) {
      const bytes = await readFile(join(tree, path))
      const parts = (runs ?? [[0, bytes.length]]).map(([offset, length]) => bytes.subarray(offset, offset + length))
      expect(sizeBytes).toBe(bytes.length)
      const { stdout } = await execa('sha256sum', { input: Buffer.concat(parts) })
      expect(`${path} ${stdout}`).toBe(`${path} ${sha256}  -`)
    }
  },
)

test('what is no archive is refused with the place', () => {
  const reader = new TarReader(() => {})
  expect(() => reader.push(Buffer.alloc(4096, 0x41))).toThrow('header that does not match its checksum')
})

test('an archive that ends in the middle is refused', async () => {
  const tar = await tarOf(await createTree(), ['--format=posix'])
  const reader = new TarReader(() => {})
  reader.push(tar.subarray(0, 3 * MiB + 5))
  expect(() => reader.end()).toThrow('ends in the middle')
})

/** A source that brings the frames in the order of `order`, and takes note of what was written. */
function sourceOf(tar: Buffer, order: (numbers: number[]) => number[]) {
  const count = Math.ceil(tar.length / frameSizeBytes)
  const manifest: Manifest = {
    format: 1,
    sizeBytes: tar.length,
    frameSizeBytes,
    storedBytes: 1,
    sectorBytes: 512,
    frames: Array.from({ length: count }, () => ({ class: 'data', offset: 0, length: 1, sha256: '', rawSha256: '' })),
  }
  const written: number[] = []
  const source: Pick<FrameSource, 'frames' | 'written'> = {
    async *frames(): AsyncGenerator<ArrivedFrame, void> {
      for (const number of order([...manifest.frames.keys()])) {
        yield { number, read: async () => tar.subarray(number * frameSizeBytes, (number + 1) * frameSizeBytes) }
      }
    },
    written: (number) => void written.push(number),
  }
  return { manifest, source: source as FrameSource, written }
}

async function createPlace(name: string, mount: string, sizeMiB = 100): Promise<Place> {
  const { device: path, detach } = await attachLoop(join(folder, `${name}.raw`), sizeMiB * MiB, 512)
  closers.push(detach)
  const content = { kind: 'filesystem', filesystem: 'ext4', mount } as const
  const place = { name, content, device: { path, sizeBytes: sizeMiB * MiB, sectorBytes: 512 } }
  await makeFileSystem(place, content, signal)
  return place
}

async function mountAt(place: Place, at: string): Promise<string> {
  await mkdir(at, { recursive: true })
  await execa('mount', ['-t', 'ext4', place.device.path, at])
  closers.push(() => unmount(at))
  return at
}

function unpackTo(place: Place, places: readonly Place[], { manifest, source }: ReturnType<typeof sourceOf>) {
  const told: string[] = []
  const work = { place, places, manifest, source, inflate: (frame: ArrivedFrame) => frame.read() }
  const tell = { onUnpacked: () => {}, onVerifying: () => void told.push('verify'), onVerified: () => {} }
  return unpack({ ...work, ...tell }, signal)
}

test('frames that come in the wrong order are unpacked in the right one, and what is mounted below has its part', async () => {
  const tree = await createTree()
  const feed = sourceOf(await tarOf(tree, forms['pax, sparse']), (numbers) => numbers.reverse())
  const [root, home] = [await createPlace('root', '/'), await createPlace('home', '/home', 16)]
  expect(await unpackTo(root, [home, root], feed)).toBeGreaterThan(9 * MiB)
  expect(feed.written).toEqual([...feed.manifest.frames.keys()])
  const [at, atHome] = [await mountAt(root, join(folder, 'at')), await mountAt(home, join(folder, 'at-home'))]
  expect((await readFile(join(at, 'usr/big'))).equals(await readFile(join(tree, 'usr/big')))).toBe(true)
  const mine = await stat(join(atHome, 'mine'))
  expect([mine.uid, mine.gid, mine.size]).toEqual([1234, 4321, 70_000])
  expect((await stat(join(at, 'usr/again'))).mode & 0o7777).toBe(0o4755)
  expect((await stat(join(at, 'usr/sparse'))).blocks * 512).toBeLessThan(MiB)
  expect((await execa('getfattr', ['-n', 'user.note', join(at, 'usr/empty')])).stdout).toContain('"kept"')
  const { stdout } = await execa('ls', ['-A', at])
  expect(stdout.split('\n')).toEqual(['home', 'link', 'lost+found', 'pipe', 'usr'])
})

test('a file system that is full is said by tar', async () => {
  const feed = sourceOf(await tarOf(await createTree(), forms['pax, sparse']), (numbers) => numbers)
  const root = await createPlace('root', '/', 8)
  const failure = await unpackTo(root, [root], feed).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(Failure)
  expect(failure).toMatchObject({ code: 'disk-error', message: expect.stringMatching(/unpack|note the files/) })
})

test('a source that fails is what the failure says, and nothing stays mounted', async () => {
  const feed = sourceOf(await tarOf(await createTree(), forms.plain), (numbers) => numbers)
  feed.source.frames = async function* () {
    yield { number: 0, read: async () => Buffer.alloc(frameSizeBytes, 0x41) }
  }
  const root = await createPlace('root', '/')
  const failure = await unpackTo(root, [root], feed).catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'image-corrupt', message: expect.stringContaining('no archive') })
  expect((await execa('findmnt', [root.device.path], { reject: false })).stdout).toBe('')
})
