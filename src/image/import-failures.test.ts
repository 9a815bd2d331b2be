import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { attachFailing } from '../lib/failing-disk.ts'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import { importImage } from './import.ts'
import { openLibrary } from './library.ts'
import { diskBytesMax } from './manifest.ts'
import {
  leftIn,
  MiB,
  makeDisk,
  makeGappedVolume,
  makeQcow2,
  pack,
  putGpt,
  run,
  stream,
  testFolder,
  writeTo,
} from './testing.ts'

/** Imports into a library of its own, expects a Failure and an empty library, and gives the Failure. */
async function refusal(source: Parameters<typeof importImage>[0]['source'], signal?: AbortSignal): Promise<Failure> {
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const error = await importImage({ source, folder, ...(signal && { signal }) }).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(Failure)
  expect(leftIn(folder)).toEqual([])
  return error as Failure
}

test.each([
  ['empty', Buffer.alloc(0), 'is empty'],
  ['of no whole number of sectors', Buffer.alloc(1_000_000 + 1), 'has 1000001 bytes, which is no whole number'],
  ['a QED image', Buffer.from('QED\0'.padEnd(512)), 'is a QED image, which cannot be read: convert it'],
  ['a zip archive', Buffer.from('PK\x03\x04'.padEnd(512)), 'is a zip archive, which cannot be read: unpack it'],
  ['packed twice', run('gzip', ['-c'], run('zstd', ['-c'], makeDisk())), 'is packed twice, by zstd inside'],
  ['packed and empty', run('gzip', ['-c'], Buffer.alloc(0)), 'is empty, once unpacked by gzip'],
])('a source that is %s is refused', async (_name, bytes, words) => {
  for (const source of [stream(bytes), writeTo(testFolder(), 'image', bytes)]) {
    expect(await refusal(source)).toMatchObject({ code: 'image-broken', message: expect.stringContaining(words) })
  }
})

test.each(['/does/not/exist', '/dev/null', '/dev/zero'])(
  'the path %s, which is no image file, is refused',
  async (path) => {
    expect(await refusal(path)).toMatchObject({ code: 'bad-input', at: 'source' })
  },
)

test('a pipe that nobody writes to is refused and not waited for', async () => {
  const pipe = join(testFolder(), 'pipe')
  run('mkfifo', [pipe])
  expect(await refusal(pipe)).toMatchObject({
    code: 'bad-input',
    at: 'source',
    cause: { message: 'it is neither a file, a folder nor a block device' },
  })
})

test('a disk that cannot be read at one place is refused with the place', async () => {
  const path = writeTo(testFolder(), 'disk', Buffer.concat([makeDisk(), randomBytes(8 * MiB - 512)]))
  const { device, detach } = await attachFailing(path, [{ on: 'read', offset: 5 * MiB }])
  onTestFinished(detach)
  const { code, message, cause } = await refusal(device)
  expect(code).toBe('image-broken')
  expect(message).toMatch(/^the image cannot be read at byte \d+$/)
  expect(cause).toMatchObject({ code: 'EIO' })
})

// bzip2 warns of them and goes on.
test('a block device that cannot be read is refused where it is used, and not where it is free', async () => {
  const file = join(testFolder(), 'volume')
  const { used, gap } = makeGappedVolume(file)
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const { digest } = await importImage({ source: file, folder })
  // The gap is too short to be skipped; the other is the middle of all that is free.
  const inFree = await attachFailing(
    file,
    [gap, 16 * MiB].map((offset) => ({ on: 'read', offset })),
  )
  onTestFinished(inFree.detach)
  expect((await importImage({ source: inFree.device, folder })).digest).toBe(digest)
  const inUse = await attachFailing(file, [{ on: 'read', offset: used }])
  onTestFinished(inUse.detach)
  expect(await refusal(inUse.device)).toMatchObject({
    code: 'image-broken',
    message: `the image cannot be read at byte ${used}`,
  })
}, 60_000)

test.each(['gzip', 'xz', 'zstd'] as const)('bytes behind the end of a %s file are refused', async (name) => {
  const packed = Buffer.concat([run(name, pack[name], makeDisk()), Buffer.from('and something else')])
  expect(await refusal(stream(packed))).toMatchObject({
    code: 'image-broken',
    message: expect.stringContaining(`cannot be unpacked by ${name}: it is damaged`),
  })
})

test('qcow2 images that name other files are refused unopened', async () => {
  const folder = testFolder()
  const at = (name: string) => join(folder, name)
  // Whoever opened the pipe would hang.
  run('mkfifo', [at('pipe')])
  run('qemu-img', ['create', '-fqcow2', '-u', '-b', at('pipe'), '-F', 'raw', at('backed'), '1M'])
  expect(await refusal(at('backed'))).toMatchObject({
    code: 'image-broken',
    message: expect.stringContaining('a backing file'),
  })
  run('qemu-img', ['create', '-fqcow2', '-o', `data_file=${at('data')}`, at('split'), '1M'])
  expect(await refusal(at('split'))).toMatchObject({
    code: 'image-broken',
    message: expect.stringContaining('in an external file'),
  })
  const packed = run('gzip', ['-c', at('split')])
  expect((await refusal(stream(packed))).message).toContain('in an external file')
})

test('encrypted, marked corrupt, damaged and oversized qcow2 images are refused with the reason', async () => {
  const folder = testFolder()
  const at = (name: string) => join(folder, name)
  const aes = ['-o', 'encrypt.format=aes,encrypt.key-secret=s']
  run('qemu-img', ['create', '-fqcow2', '--object', 'secret,id=s,data=x', ...aes, at('encrypted'), '1M'])
  expect((await refusal(at('encrypted'))).message).toContain('is encrypted')

  const raw = writeTo(folder, 'disk', makeDisk())
  const bytes = readFileSync(makeQcow2(raw, at('good')))
  const marked = Buffer.from(bytes)
  marked.writeBigUInt64BE(2n, 72)
  expect((await refusal(stream(marked))).message).toContain('marked corrupt')

  // The first L2 entry with its cluster: pointed into the header, it would read bytes that are not the disk's.
  const damaged = Buffer.from(bytes)
  const l2 = Number(damaged.readBigUInt64BE(Number(damaged.readBigUInt64BE(40))) & 0x00fffffffffffe00n)
  damaged.writeBigUInt64BE(0x8000000000000000n, l2 + 8)
  damaged.writeBigUInt64BE(0x8000000000000000n | 0x10000n, l2)
  expect((await refusal(stream(damaged))).message).toContain('does not pass the check of qemu')

  run('qemu-img', ['create', '-fqcow2', at('huge'), String(diskBytesMax + MiB)])
  expect(await refusal(at('huge'))).toMatchObject({
    code: 'image-too-large',
    message: expect.stringContaining(String(diskBytesMax)),
  })
})

test('a raw file larger than can be published is refused before it is read', async () => {
  const path = writeTo(testFolder(), 'disk', Buffer.alloc(512))
  truncateSync(path, diskBytesMax + 512)
  expect(await refusal(path)).toMatchObject({ code: 'image-too-large' })
})

test('a source that breaks off gives its own error as cause', async () => {
  async function* breaking(bytes: Buffer) {
    yield bytes
    throw new Error('the connection was reset')
  }
  for (const bytes of [makeDisk(), run('gzip', ['-c'], makeDisk()).subarray(0, MiB)]) {
    expect(await refusal(breaking(bytes))).toMatchObject({
      code: 'image-broken',
      message: `the image source broke off after ${bytes.length} bytes`,
      cause: { message: 'the connection was reset' },
    })
  }
})

async function* hanging(bytes: Buffer, onHang: () => void): AsyncGenerator<Buffer> {
  yield bytes
  onHang()
  await new Promise(() => {})
}

test('an import is cancelled while its source hangs, packed or not', async () => {
  for (const bytes of [makeDisk(), run('zstd', ['-c'], makeDisk())]) {
    const abort = new AbortController()
    expect(
      await refusal(
        hanging(bytes, () => abort.abort()),
        abort.signal,
      ),
    ).toMatchObject({ code: 'cancelled' })
  }
})

test('an import of qcow2 is cancelled half-way, and its children are gone', async () => {
  const folder = testFolder()
  const raw = writeTo(folder, 'disk', Buffer.concat([randomBytes(24 * MiB), makeDisk()]))
  const path = makeQcow2(raw, join(folder, 'image'))
  const { folder: library } = await openLibrary(join(folder, 'images'))
  const abort = new AbortController()
  const onProgress = ({ diskBytes }: { diskBytes: number }) => diskBytes > 0 && abort.abort()
  await expect(importImage({ source: path, folder: library, signal: abort.signal, onProgress })).rejects.toMatchObject({
    code: 'cancelled',
  })
  expect(leftIn(library)).toEqual([])
  expect(processesWith(path)).toEqual([])
})

/** Process ids with `text` in their command line, this process excepted. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || pid === String(process.pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text)
    } catch {
      return false
    }
  })
}

const module = pathToFileURL(join(import.meta.dirname, 'import.ts')).href

/** Runs `importImage` in a process of its own, under `command`, and writes the Failure's code and message to its output. */
function importElsewhere(source: string, folder: string, command: readonly string[] = []): ChildProcess {
  const script = `
    import { importImage } from ${JSON.stringify(module)}
    const source = ${source}
    await importImage({ source, folder: ${JSON.stringify(folder)} }).catch((e) => console.log(e.code + ': ' + e.message))`
  const [program, ...args] = [...command, process.execPath, '--input-type=module', '-e', script]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

test('a killed import leaves only what the next opening of the library removes, and no child', async () => {
  const folder = testFolder()
  const { folder: library } = await openLibrary(join(folder, 'images'))
  const raw = writeTo(folder, 'disk', Buffer.concat([makeDisk(), randomBytes(64 * MiB - 512)]))
  const path = makeQcow2(raw, join(folder, 'image'))
  const child = importElsewhere(JSON.stringify(path), library)
  await until('qemu-nbd to run', () => processesWith('qemu-nbd').some((pid) => isChildOf(pid, child.pid)), {
    timeoutMs: 20_000,
    everyMs: 5,
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
  await until('the children to end', () => processesWith(path).length === 0, { timeoutMs: 5000, everyMs: 20 })
  expect(leftIn(library).every((name) => name.startsWith('incoming/'))).toBe(true)
  expect(leftIn(library).length).toBeGreaterThan(0)
  await openLibrary(library)
  expect(leftIn(library)).toEqual([])
})

function isChildOf(pid: string, parent: number | undefined): boolean {
  try {
    return readFileSync(`/proc/${pid}/status`, 'latin1').includes(`PPid:\t${parent}\n`)
  } catch {
    return false
  }
}

/** Imports on a volume of 8 MiB, in a mount namespace of its own; `prepare` is a shell line run in the volume. */
async function importOnSmallVolume(prepare: string, source: string): Promise<{ said: string; left: string }> {
  const volume = testFolder()
  const inside = `
    mount -t tmpfs -o size=8m none ${volume} && cd ${volume} && mkdir images && ${prepare} && "$@"; find images -type f -o -path '*/incoming/*'`
  const command = ['unshare', '--mount', '--map-root-user', '--user', 'sh', '-c', inside, 'sh']
  const child = importElsewhere(source, join(volume, 'images'), command)
  let said = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
  await new Promise((resolve) => child.once('close', resolve))
  const [first = '', ...left] = said.split('\n')
  return { said: first, left: left.join('\n') }
}

test('a volume that fills up ends the import and gets its room back', async () => {
  const path = writeTo(testFolder(), 'disk', Buffer.concat([makeDisk(), randomBytes(20 * MiB - 512)]))
  const full = await importOnSmallVolume('true', JSON.stringify(path))
  expect(full).toEqual({ said: 'library-full: the volume of the image library is full', left: '' })
  const spooled = await importOnSmallVolume(
    'true',
    `(await import('node:fs')).createReadStream(${JSON.stringify(makeQcow2(path, `${path}.q`))})`,
  )
  expect(spooled).toEqual({ said: 'library-full: the volume of the image library is full', left: '' })
  // A few KB that unpack to more than there is room for.
  const bomb = writeTo(testFolder(), 'bomb', run('zstd', ['-c'], Buffer.alloc(64 * MiB, 'bomb')))
  const unpacked = await importOnSmallVolume('true', JSON.stringify(bomb))
  expect(unpacked).toEqual({ said: 'library-full: the volume of the image library is full', left: '' })
  const reserve = await importOnSmallVolume('head -c 8200000 /dev/zero > other', JSON.stringify(path))
  expect(reserve.said).toMatch(
    /^library-full: the volume of the image library is full: 0 MB are free, 1 MB must stay so/,
  )
  expect(reserve.left).toBe('')
})

test('damaged headers and tables neither crash nor hang an import, and leave nothing', async () => {
  const folder = testFolder()
  const { folder: library } = await openLibrary(join(folder, 'images'))
  // Small, so that most of it is header and tables.
  const disk = Buffer.alloc(640 * 1024).fill('text ', 200_000, 300_000)
  putGpt(disk, 512)
  const raw = writeTo(folder, 'disk', disk)
  const seeds = [
    makeQcow2(raw, join(folder, 'q'), '-o', 'cluster_size=512'),
    makeQcow2(raw, join(folder, 'z'), '-c', '-o', 'cluster_size=4096,compression_type=zstd'),
    makeQcow2(raw, join(folder, 'x'), '-o', 'extended_l2=on,cluster_size=16k'),
    ...Object.entries(pack).map(([name, args]) => writeTo(folder, name, run(name, [...args, raw]))),
  ].map((path) => readFileSync(path))
  const change = fc.record({
    at: fc.oneof({ weight: 3, arbitrary: fc.nat(127) }, { weight: 2, arbitrary: fc.nat(100_000) }),
    value: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)),
  })
  const property = fc.asyncProperty(
    fc.constantFrom(...seeds),
    fc.array(change, { minLength: 1, maxLength: 6 }),
    async (seed, changes) => {
      const bytes = Buffer.from(seed)
      for (const { at, value } of changes) bytes.writeUInt8(value, at % bytes.length)
      const error = await importImage({
        source: stream(bytes),
        folder: library,
        signal: AbortSignal.timeout(60_000),
      }).then(
        () => undefined,
        (error: unknown) => error,
      )
      if (error !== undefined) {
        expect(error).toBeInstanceOf(Failure)
        expect((error as Failure).code).toMatch(/^image-(broken|too-large)$/)
      }
      expect(readdirSync(join(library, 'incoming'))).toEqual([])
    },
  )
  await fc.assert(property, { numRuns: 200 })
}, 120_000)
