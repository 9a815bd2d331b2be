import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, sep } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readBootFile } from './root.ts'

let world: string
let root: string

beforeAll(async () => {
  world = await realpath(await mkdtemp(join(tmpdir(), 'hades-root-')))
  root = join(world, 'root')
  await mkdir(join(root, 'grub'), { recursive: true })
  await mkdir(join(world, 'root-beside'))
  await writeFile(join(world, 'secret'), 'secret')
  await writeFile(join(world, 'root-beside', 'secret'), 'secret')
  await writeFile(join(root, 'pxelinux.0'), 'loader')
  await writeFile(join(root, 'grub', 'grub.cfg'), 'menu')
  await symlink('../pxelinux.0', join(root, 'grub', 'inside'))
  await symlink('../../secret', join(root, 'grub', 'outside'))
  await symlink(join(world, 'secret'), join(root, 'absolute'))
  await symlink('../root-beside', join(root, 'beside'))
  await symlink('loop', join(root, 'loop'))
  await symlink('gone', join(root, 'dangling'))
  execFileSync('mkfifo', [join(root, 'fifo')])
})

afterAll(() => rm(world, { recursive: true }))

test('a file of the folder is found with its size, also by a redundant slash or dot', async () => {
  const found = { kind: 'file', path: join(root, 'grub', 'grub.cfg'), sizeBytes: 4 }
  for (const path of ['grub/grub.cfg', 'grub//grub.cfg', './grub/./grub.cfg']) {
    expect(await readBootFile(root, path)).toEqual(found)
  }
})

test('a symlink that stays inside is followed', async () => {
  expect(await readBootFile(root, 'grub/inside')).toEqual({
    kind: 'file',
    path: join(root, 'pxelinux.0'),
    sizeBytes: 6,
  })
})

test('the folder itself may be reached by a symlink', async () => {
  await symlink(root, join(world, 'link'))
  expect(await readBootFile(join(world, 'link'), 'pxelinux.0')).toMatchObject({ path: join(root, 'pxelinux.0') })
})

test.each([
  ['', 'nothing'],
  ['nope', 'a name that is not there'],
  ['pxelinux.0/', 'a file asked for as folder'],
  ['pxelinux.0/x', 'a file used as folder'],
  ['grub', 'a folder'],
  ['.', 'the root'],
  ['..', 'the parent'],
  ['../secret', 'a file of the parent'],
  ['grub/../../secret', 'the parent through a folder'],
  ['grub/../pxelinux.0', 'a file inside, by a path with ..'],
  ['../root-beside/secret', 'a folder whose name begins alike'],
  ['/etc/passwd', 'an absolute path'],
  ['/pxelinux.0', 'an absolute path that would be inside'],
  ['grub\\grub.cfg', 'a backslash'],
  ['..\\secret', 'the parent by backslash'],
  ['pxelinux.0\0.txt', 'a NUL'],
  ['grub/outside', 'a symlink to the outside'],
  ['absolute', 'an absolute symlink to the outside'],
  ['beside/secret', 'a symlink to a folder whose name begins alike'],
  ['loop', 'a symlink to itself'],
  ['dangling', 'a symlink to nothing'],
  ['fifo', 'a FIFO'],
  ['a'.repeat(300), 'a name longer than file systems have'],
  [`${'a/'.repeat(5000)}a`, 'a path longer than the kernel takes'],
])('%j is no file: %s', async (path) => {
  expect(await readBootFile(root, path)).toBeUndefined()
})

test('whatever is asked, what is found lies inside and is one of the files', async () => {
  const segment = fc.constantFrom(
    '..',
    '.',
    '',
    'grub',
    'outside',
    'inside',
    'beside',
    'secret',
    'pxelinux.0',
    'grub.cfg',
    '\\',
    '\0',
    '%2e%2e',
  )
  const path = fc.oneof(
    fc.array(segment, { maxLength: 7 }).map((parts) => parts.join('/')),
    fc.string({ maxLength: 40 }),
  )
  await fc.assert(
    fc.asyncProperty(path, async (path) => {
      const found = await readBootFile(root, path)
      if (found === undefined) return
      expect(found).toMatchObject({ kind: 'file', path: expect.stringContaining(root + sep) })
    }),
    { numRuns: 500 },
  )
})

test('a folder that is missing is a failure to look, not a missing file', async () => {
  await expect(readBootFile(join(world, 'no-such-folder'), 'pxelinux.0')).rejects.toThrow()
})
