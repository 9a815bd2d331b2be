import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Failure } from '../model/failure.ts'
import { importImage } from './import.ts'
import { imagePaths, openLibrary } from './library.ts'
import { leftIn, MiB, makeDisk, pack, run, stream, testFolder, writeTo } from './testing.ts'
import { makers, makeVolume } from './volume-testing.ts'

type Options = Partial<Parameters<typeof importImage>[0]>

async function imported(source: string | AsyncIterable<Buffer>, options: Options = {}) {
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const image = await importImage({ source, folder, ...options })
  return { ...image, path: imagePaths({ folder }, image.digest).image }
}

async function refusal(source: string | AsyncIterable<Buffer>, options: Options = {}): Promise<Failure> {
  const { folder } = await openLibrary(join(testFolder(), 'images'))
  const error = await importImage({ source, folder, ...options }).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(Failure)
  expect(leftIn(folder)).toEqual([])
  return error as Failure
}

const formats: readonly (readonly [string, readonly string[]])[] = [
  ['vmdk', []],
  ['vmdk', ['-o', 'subformat=streamOptimized']],
  ['vdi', []],
  ['vdi', ['-o', 'static=on']],
  ['vhdx', []],
  ['vhdx', ['-o', 'subformat=fixed']],
  ['vpc', ['-o', 'force_size=on']],
  ['vpc', ['-o', 'subformat=fixed,force_size=on']],
]

test.each(formats)(
  '%s %j gives the image that its raw disk gives, packed too, and no part of it does',
  async (format, options) => {
    const folder = testFolder()
    const disk = makeDisk(12 * MiB)
    const raw = writeTo(folder, 'raw', disk)
    const { digest } = await imported(raw)
    const path = join(folder, 'image')
    run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, raw, path])
    expect((await imported(path)).digest).toBe(digest)
    expect((await imported(stream(run('xz', [...pack.xz, path])))).digest).toBe(digest)
    const whole = readFileSync(path)
    for (const length of [
      whole.length - 1,
      whole.length - 4096,
      whole.length - 100_000,
      whole.length >> 1,
      3000,
      600,
    ]) {
      truncateSync(path, length)
      const cut = await imported(path).then(
        (image) => image.digest,
        (error: unknown) => {
          expect((error as Failure).code).toBe('image-broken')
          return undefined
        },
      )
      // A cut may take nothing but padding.
      if (cut !== undefined) expect(cut, `cut to ${length} of ${whole.length}`).toBe(digest)
      writeFileSync(path, whole)
    }
  },
  120_000,
)

test('images that name other files are refused unopened, whatever their format', async () => {
  const folder = testFolder()
  const at = (name: string) => join(folder, name)
  // Whoever opened the pipe would hang.
  run('mkfifo', [at('pipe')])
  run('qemu-img', ['create', '-fvmdk', at('base.vmdk'), '1M'])
  run('qemu-img', ['create', '-fvmdk', '-b', at('base.vmdk'), '-F', 'vmdk', at('child.vmdk')])
  expect((await refusal(at('child.vmdk'))).message).toContain('has a backing file')
  run('qemu-img', ['create', '-fvmdk', '-osubformat=twoGbMaxExtentSparse', at('split.vmdk'), '3G'])
  expect((await refusal(at('split.vmdk'))).message).toContain('the description of a VMDK')
  const one = readFileSync(at('base.vmdk'))
  const text = one.indexOf('RW 2048 SPARSE')
  const two = Buffer.from(one)
  two.write(`RW 2048 SPARSE "${at('pipe')}"\nRW 1 FLAT "/etc/passwd" 0\n`, text)
  expect((await refusal(stream(two))).message).toContain('lies in several files')
  // Of capacity 0 it is nothing but a description to qemu.
  const empty = Buffer.from(one)
  empty.writeBigUInt64LE(0n, 12)
  expect((await refusal(stream(empty))).message).toContain('only a description of other files')
  run('qemu-img', ['create', '-fvdi', at('vdi'), '1M'])
  const linked = readFileSync(at('vdi'))
  linked.fill(1, 0x1a8, 0x1b8)
  expect((await refusal(stream(linked))).message).toContain('has a backing file')
  run('qemu-img', ['create', '-fvpc', at('vhd'), '1M'])
  const differencing = readFileSync(at('vhd'))
  differencing.writeUInt32BE(4, 60)
  differencing.writeUInt32BE(differencing.readUInt32BE(64) - 1, 64)
  expect((await refusal(stream(differencing))).message).toContain('has a backing file')
})

test('partitions by GPT and MBR, logical ones too, each say what is free, and what overlaps or is a left-over is kept', async () => {
  const folder = testFolder()
  const fat = makers.find(({ name }) => name === 'fat16')
  const ext = makers.find(({ name }) => name === 'ext4 with blocks of 1 KiB')
  if (!fat || !ext) throw new Error('no such makers')
  makeVolume(fat, join(folder, 'fat'))
  makeVolume(ext, join(folder, 'ext'))
  const layouts = {
    gpt: 'label: gpt\nstart=2048, size=245760\nstart=247808, size=245760\n',
    dos: 'label: dos\nstart=2048, size=245760\nstart=247808, type=5, size=249856\nstart=249856, size=245760\n',
  }
  for (const [label, script] of Object.entries(layouts)) {
    const disk = writeTo(folder, label, Buffer.alloc(0))
    truncateSync(disk, 256 * MiB)
    execFileSync('sfdisk', ['--quiet', disk], { input: script })
    const second = label === 'gpt' ? 247808 : 249856
    for (const [name, sector] of [
      ['fat', 2048],
      ['ext', second],
    ] as const) {
      run('dd', [`if=${join(folder, name)}`, `of=${disk}`, 'bs=512', `seek=${sector}`, 'conv=notrunc', 'status=none'])
    }
    const { manifest, volumes, freeBytes } = await imported(disk)
    expect(manifest.kind).toBe('disk')
    const found = volumes.map(({ partition, offset, fileSystem, kept }) => [partition, offset / 512, fileSystem, kept])
    const number = label === 'gpt' ? 2 : 5
    expect(found).toEqual([
      [1, 2048, 'fat', undefined],
      [number, second, 'ext4', undefined],
    ])
    expect(freeBytes).toBeGreaterThan(60 * MiB)
    // A superblock of the whole disk beside the table: one of them is a left-over.
    const bytes = readFileSync(disk)
    bytes.copy(bytes, 65_536 + 1024, second * 512 + 1024, second * 512 + 2048)
    Buffer.from('_BHRfS_M').copy(bytes, 65_536 + 64)
    const doubted = await imported(stream(bytes))
    expect(doubted.freeBytes).toBe(0)
    expect(doubted.volumes[0]?.kept).toBe('the disk as a whole looks like btrfs')
  }
}, 120_000)

test('file systems that are dirty, damaged or inside of something are kept whole, and why is told', async () => {
  const folder = testFolder()
  const ext = makers.find(({ name }) => name === 'ext4 with blocks of 1 KiB')
  const ntfs = makers.find(({ name }) => name === 'ntfs')
  if (!ext || !ntfs) throw new Error('no such makers')
  makeVolume(ext, join(folder, 'ext'))
  const whole = readFileSync(join(folder, 'ext'))
  const changed = async (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(whole)
    change(bytes)
    const { volumes, freeBytes } = await imported(stream(bytes))
    return [freeBytes, volumes[0]?.fileSystem, volumes[0]?.kept]
  }
  const needsRecovery = (bytes: Buffer) => bytes.writeUInt32LE(bytes.readUInt32LE(1024 + 96) | 4, 1024 + 96)
  expect(await changed(needsRecovery)).toEqual([0, 'ext4', 'its journal must be replayed'])
  const hasErrors = (bytes: Buffer) => bytes.writeUInt16LE(2, 1024 + 58)
  expect(await changed(hasErrors)).toEqual([0, 'ext4', 'it was not unmounted cleanly or has errors'])
  const counted = (bytes: Buffer) => bytes.writeUInt16LE(bytes.readUInt16LE(2048 + 12) + 1, 2048 + 12)
  expect(await changed(counted)).toEqual([
    0,
    'ext4',
    expect.stringMatching(/^group 0 has \d+ free blocks and says \d+$/),
  ])
  const inLvm = (bytes: Buffer) => bytes.write('LABELONE', 512)
  expect(await changed(inLvm)).toEqual([0, 'ext4', 'it looks like ext4 and LVM'])
  // As long as it is mounted its log is open.
  const xfs = writeTo(folder, 'xfs', Buffer.alloc(0))
  truncateSync(xfs, 320 * MiB)
  run('mkfs.xfs', ['-q', xfs])
  mkdirSync(join(folder, 'mounted'))
  run('mount', ['-o', 'loop', xfs, join(folder, 'mounted')])
  try {
    writeFileSync(join(folder, 'mounted', 'file'), 'text')
    run('sync', ['-f', join(folder, 'mounted')])
    run('cp', ['--sparse=always', xfs, join(folder, 'live')])
  } finally {
    run('umount', [join(folder, 'mounted')])
  }
  expect((await imported(join(folder, 'live'))).volumes[0]).toMatchObject({
    fileSystem: 'xfs',
    freeBytes: 0,
    kept: 'its log must be replayed',
  })
  makeVolume(ntfs, join(folder, 'ntfs'))
  // NTFS is marked dirty by its own tool.
  run('ntfsfix', [join(folder, 'ntfs')])
  expect((await imported(join(folder, 'ntfs'))).volumes[0]).toMatchObject({
    fileSystem: 'ntfs',
    freeBytes: 0,
    kept: expect.stringContaining('dirty'),
  })
}, 120_000)

test('a folder and its tar archive are images of kind tar, and what GNU tar unpacks of them is the folder', async () => {
  const folder = testFolder()
  const root = join(folder, 'root')
  mkdirSync(join(root, 'etc'), { recursive: true })
  writeFileSync(join(root, 'etc', 'hostname'), 'n01\n')
  writeFileSync(join(root, 'n'.repeat(200)), 'a long name')
  symlinkSync('/etc/hostname', join(root, 'link'))
  run('ln', [join(root, 'etc', 'hostname'), join(root, 'hard')])
  run('truncate', ['-s', '5M', join(root, 'sparse')])
  run('setfattr', ['-n', 'user.note', '-v', 'kept', join(root, 'etc', 'hostname')])
  const { manifest, tar, path } = await imported(root)
  expect(manifest.kind).toBe('tar')
  expect(tar).toEqual({ files: 3, directories: 2, symlinks: 1, hardLinks: 1, specials: 0, contentBytes: 5 * MiB + 15 })
  mkdirSync(join(folder, 'back'))
  execFileSync('sh', ['-c', `zstd -dc "${path}" | tar -x --xattrs -C "${join(folder, 'back')}"`])
  run('diff', ['-r', '--no-dereference', root, join(folder, 'back')])
  expect(run('getfattr', ['--only-values', '-n', 'user.note', join(folder, 'back/etc/hostname')]).toString()).toBe(
    'kept',
  )
  for (const format of ['gnu', 'ustar', 'posix']) {
    const name = format === 'ustar' ? ['etc', 'link', 'hard'] : ['.']
    const archive = run('tar', ['-c', `--format=${format}`, '-C', root, ...name])
    expect((await imported(stream(run('gzip', ['-c'], archive)))).manifest.kind).toBe('tar')
    for (const cut of [512, 10_240, 1]) {
      const error = await refusal(stream(archive.subarray(0, archive.length - cut)), { kind: 'tar' }).catch(
        () => undefined,
      )
      if (cut === 1) expect(error?.code).toBe('image-broken')
    }
    expect((await refusal(stream(archive.subarray(0, 5 * 512)))).code).toBe('image-broken')
  }
  expect((await imported(stream(run('tar', ['-c', '-C', root, 'link'])), { kind: 'partition' })).manifest.kind).toBe(
    'partition',
  )
})

test('what the operator says that an image is counts, and a folder of files is no disk', async () => {
  const folder = testFolder()
  const root = join(folder, 'root')
  mkdirSync(root)
  const archive = run('tar', ['-c', '-C', root, '.'])
  for (const kind of ['disk', 'partition'] as const) {
    expect((await imported(stream(archive), { kind })).manifest.kind).toBe(kind)
    const { code, at, message } = await refusal(root, { kind })
    expect([code, at]).toEqual(['bad-input', 'kind'])
    expect(message).toBe(
      `${root} is a folder of files, which gives an image of kind \`tar\` and none of kind \`${kind}\``,
    )
  }
  expect((await imported(root, { kind: 'tar' })).manifest.kind).toBe('tar')
})
