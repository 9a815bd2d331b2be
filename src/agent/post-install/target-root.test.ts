import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { TargetRoot } from './target-root.ts'

let outside: string
let tree: TargetRoot
beforeEach(async () => {
  outside = await mkdtemp(join(tmpdir(), 'hades-root-test-'))
  await mkdir(join(outside, 'root/etc'), { recursive: true })
  await writeFile(join(outside, 'victim'), 'untouched')
  tree = new TargetRoot(join(outside, 'root'))
})
afterEach(() => rm(outside, { recursive: true }))

const at = (name: string) => join(outside, 'root', name)
const victim = () => readFile(join(outside, 'victim'), 'utf8')

test.each([
  ['an absolute link', () => join(outside, 'victim')],
  ['a relative link that climbs out', () => '../../../../../../../../../../victim'],
  ['a link to the root above', () => '../../victim'],
])('%s leads to the same path inside, never outside', async (_, target) => {
  await symlink(target(), at('etc/hostname'))
  await tree.write('/etc/hostname', 'n01\n').catch(() => undefined)
  expect(await victim()).toBe('untouched')
  expect(await tree.read('/etc/hostname').catch(() => undefined)).not.toBe('untouched')
})

test('a folder that is a link leads inside too', async () => {
  await rm(at('etc'), { recursive: true })
  await symlink(outside, at('etc'))
  await expect(tree.write('/etc/victim', 'changed')).rejects.toThrow('a folder that is not there')
  await expect(tree.makeFolder('/etc/made/deep')).rejects.toThrow()
  expect(await victim()).toBe('untouched')
  await expect(stat(join(outside, 'made'))).rejects.toThrow('ENOENT')
})

test('links within the root are followed as the system itself follows them', async () => {
  await mkdir(at('usr/lib'), { recursive: true })
  await symlink('usr/lib', at('lib'))
  await symlink('/lib/name', at('etc/hostname'))
  await tree.write('/etc/hostname', 'n01\n')
  expect(await readFile(at('usr/lib/name'), 'utf8')).toBe('n01\n')
  expect(await tree.read('/lib/../../lib/./name')).toBe('n01\n')
})

test('a link is removed and replaced itself, not what it leads to', async () => {
  await symlink(join(outside, 'victim'), at('etc/resolv.conf'))
  await tree.remove('/etc/resolv.conf')
  expect(await victim()).toBe('untouched')
  await tree.link('/run/x', '/etc/resolv.conf')
  await tree.link('/run/y', '/etc/resolv.conf')
  expect(await tree.has('/etc/resolv.conf')).toBe(true)
  expect(await tree.stat('/etc/resolv.conf')).toBeUndefined()
})

test('a loop of links, a pipe and a device in the place of a file are refused', async () => {
  await symlink('/etc/b', at('etc/a'))
  await symlink('/etc/a', at('etc/b'))
  await expect(tree.write('/etc/a', '')).rejects.toThrow('more than 40 links')
  await promisify(execFile)('mkfifo', [at('etc/pipe')])
  await expect(tree.write('/etc/pipe', '')).rejects.toThrow('/etc/pipe is not a file')
  await expect(tree.read('/etc/pipe')).rejects.toThrow('/etc/pipe is not a file')
  await promisify(execFile)('mknod', [at('etc/null'), 'c', '1', '3'])
  await expect(tree.write('/etc/null', '')).rejects.toThrow('/etc/null is not a file')
})

test('a file that is there keeps its owner and mode, a new one gets what was asked for', async () => {
  await writeFile(at('etc/shadow'), 'old', { mode: 0o640 })
  await tree.write('/etc/shadow', 'x')
  await tree.write('/etc/new/key', 'y', { mode: 0o600, uid: 12, gid: 13 })
  expect(await readFile(at('etc/shadow'), 'utf8')).toBe('x')
  expect((await stat(at('etc/shadow'))).mode & 0o777).toBe(0o640)
  expect(await stat(at('etc/new/key'))).toMatchObject({ mode: 0o100600, uid: 12, gid: 13 })
  expect((await stat(at('etc/new'))).mode & 0o777).toBe(0o755)
})
