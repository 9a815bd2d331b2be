import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isTar, TarReader } from './tar.ts'

type Entry = {
  readonly name: string
  readonly type?: string
  readonly link?: string
  readonly content?: Buffer | string
  /** The field as it stands in the header. */
  readonly size?: string
  readonly magic?: string
}

function header({ name, type = '0', link = '', content = '', size, magic = 'ustar\x0000' }: Entry): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0, 100, 'latin1')
  block.write('0000644\0', 100)
  block.write(size ?? `${Buffer.from(content).length.toString(8).padStart(11, '0')}\0`, 124, 'latin1')
  block.write(type, 156)
  block.write(link, 157, 100, 'latin1')
  block.write(magic, 257, 'latin1')
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function archive(...entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '')
    return [header(entry), content, Buffer.alloc((512 - (content.length % 512)) % 512)]
  })
  return Buffer.concat([...parts, Buffer.alloc(1024)])
}

function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  const length = rest.length + String(rest.length + 2).length
  return `${length}${rest}`
}

function read(bytes: Buffer, chunkBytes = bytes.length, allowsDevices = false) {
  const reader = new TarReader({ allowsDevices })
  for (let at = 0; at < bytes.length; at += chunkBytes) reader.push(bytes.subarray(at, at + chunkBytes))
  return reader.end()
}

test('what is in an archive is counted, however its bytes come', () => {
  const bytes = archive(
    { name: './', type: '5' },
    { name: './a', content: 'some text' },
    { name: './b', type: '2', link: '/etc/passwd' },
    { name: './c', type: '1', link: './a' },
    { name: './d', type: '6' },
  )
  const expected = { files: 1, directories: 1, symlinks: 1, hardLinks: 1, specials: 1, contentBytes: 9 }
  for (const chunk of [1, 7, 511, 512, 513, 5000]) expect(read(bytes, chunk)).toEqual(expected)
  expect(isTar(bytes)).toBe(true)
})

test.each<[string, readonly Entry[], string]>([
  ['an absolute name', [{ name: '/etc/passwd' }], 'is absolute'],
  ['a name that climbs', [{ name: 'a/../../b' }], 'leads out of the archive'],
  ['a hard link that climbs', [{ name: 'a', type: '1', link: '../../etc/shadow' }], 'target of the hard link "a"'],
  ['an absolute hard link', [{ name: 'a', type: '1', link: '/etc/shadow' }], 'is absolute'],
  [
    'a file behind a symbolic link',
    [{ name: 'a', type: '2', link: '/etc' }, { name: 'a/passwd' }],
    'lies behind the symbolic link "a"',
  ],
  [
    'a file behind one, differently written',
    [{ name: './a//b', type: '2', link: '/etc' }, { name: 'a/./b/x' }],
    'lies behind',
  ],
  [
    'a hard link through one',
    [
      { name: 'a', type: '2', link: '/' },
      { name: 'b', type: '1', link: 'a/etc/shadow' },
    ],
    'lies behind',
  ],
  ['a device node', [{ name: 'sda', type: '4' }], 'is a device node'],
  ['a type of another kind', [{ name: 'a', type: 'M' }], 'of the type "M"'],
  ['a folder that has a size', [{ name: 'a', type: '5', content: 'x' }], 'is no file and has a size'],
  ['a size that is no number', [{ name: 'a', size: '99999999999\0' }], 'has a size that cannot be'],
  ['a size below zero', [{ name: 'a', size: '\xff'.repeat(12) }], 'has a size that cannot be'],
  ['a size beyond all disks', [{ name: 'a', size: `\x80${'\xff'.repeat(11)}` }], 'has a size that cannot be'],
  ['a long name that climbs', [{ name: 'L', type: 'L', content: '../x\0' }, { name: 'a' }], 'leads out'],
  [
    'a long link that climbs',
    [
      { name: 'K', type: 'K', content: '../x\0' },
      { name: 'a', type: '1' },
    ],
    'leads out',
  ],
  ['a pax path that climbs', [{ name: 'p', type: 'x', content: record('path', '../x') }, { name: 'a' }], 'leads out'],
  [
    'a sparse name that climbs',
    [{ name: 'p', type: 'x', content: record('GNU.sparse.name', '../x') }, { name: 'a' }],
    'leads out',
  ],
  ['a path for all entries', [{ name: 'p', type: 'g', content: record('path', 'x') }], 'gives every entry one path'],
  ['a pax header that is damaged', [{ name: 'p', type: 'x', content: '99 path=x\n' }, { name: 'a' }], 'is damaged'],
  [
    'a pax size that cannot be',
    [{ name: 'p', type: 'x', content: record('size', '-1') }, { name: 'a' }],
    'a size that cannot be',
  ],
  ['names without end', [{ name: 'p', type: 'x', size: '77777777777\0' }], 'bytes'],
  ['no magic', [{ name: 'a', magic: '' }], 'there is no header of an entry at 0'],
])('an archive with %s is refused', (_name, entries, words) => {
  expect(() => read(archive(...entries))).toThrow(words)
})

test('device nodes are taken when they are asked for', () => {
  const bytes = archive({ name: 'dev', type: '5' }, { name: 'dev/null', type: '3' })
  expect(read(bytes, 100, true)).toMatchObject({ directories: 1, specials: 1 })
})

test('no beginning of an archive passes for the archive, and nothing may follow it', () => {
  const bytes = archive({ name: 'a', content: Buffer.alloc(2000, 'x') }, { name: 'b', content: 'y' })
  for (let length = 0; length < bytes.length; length += 64) {
    expect(() => read(bytes.subarray(0, length)), `cut to ${length}`).toThrow('truncated')
  }
  expect(read(Buffer.concat([bytes, Buffer.alloc(512 * 17)]))).toMatchObject({ files: 2 })
  expect(() => read(Buffer.concat([bytes, archive({ name: '../x' })]))).toThrow('bytes follow the end of the archive')
})

test('GNU tar lists what is counted here, and arbitrary bytes are refused', () => {
  const bytes = archive({ name: 'a', content: 'x' }, { name: 'b', type: '2', link: 'a' }, { name: 'c', type: '5' })
  const listed = execFileSync('tar', ['-t'], { input: bytes }).toString().trim().split('\n')
  const { files, symlinks, directories } = read(bytes)
  expect(listed.length).toBe(files + symlinks + directories)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), (bytes) => {
      expect(() => read(Buffer.from(bytes))).toThrow(Error)
    }),
  )
})
