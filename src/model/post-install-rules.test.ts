import { expect, test } from 'vitest'
import type { Content, Layout } from './layout.ts'
import type { PostInstall } from './post-install.ts'
import { type ImageFacts, problemOfPostInstall } from './post-install-rules.ts'

const order = (more: Partial<PostInstall> = {}): PostInstall => ({
  network: { mode: 'keep', dns: [] },
  newHostKeys: false,
  newMachineId: false,
  authorizedKeys: [],
  writeFstab: false,
  growLast: false,
  installBootLoader: false,
  scripts: [],
  hostname: 'n01',
  ...more,
})

const layout = (...contents: Content[]): Layout => ({
  disks: [
    {
      name: 'system',
      hints: [],
      erase: 'none',
      table: 'gpt',
      partitions: contents.map((content, index) => ({ number: index + 1, type: 'linux', content })),
    },
  ],
  arrays: [],
  groups: [],
})
const wholeDisk: Layout = {
  disks: [{ name: 'system', hints: [], erase: 'none', partitions: [], content: { kind: 'image', image: 'i:1' } }],
  arrays: [],
  groups: [],
}
const problem = (of: PostInstall, on: Layout, facts?: ImageFacts) => problemOfPostInstall(of, on, () => facts)

test('an image of which nothing is known may hold a root', () => {
  expect(problem(order(), wholeDisk)).toBeUndefined()
  expect(problem(order(), wholeDisk, { fileSystems: ['vfat', 'ext4'] })).toBeUndefined()
})

test('an image without a Linux file system cannot be given a host name, and is fine without one', () => {
  const windows = { fileSystems: ['vfat', 'ntfs'] }
  expect(problem(order(), wholeDisk, windows)).toBe(
    'post-install asks for hostname, and no place of the setup can hold the root of a Linux system: `system` holds i:1, in which there is vfat, ntfs',
  )
  const script = { name: 's', where: 'scout', timeoutMs: 1000, text: 'x' } as const
  expect(problem(order({ hostname: undefined, growLast: true, scripts: [script] }), wholeDisk, windows)).toBeUndefined()
  expect(
    problem(order({ hostname: undefined, scripts: [{ ...script, where: 'chroot' }] }), wholeDisk, windows),
  ).toContain('asks for script')
})

test('a layout whose file systems are all new and empty has no root', () => {
  const empty = layout({ kind: 'filesystem', filesystem: 'ext4', mount: '/' }, { kind: 'swap' }, { kind: 'keep' })
  expect(problem(order(), empty)).toContain(
    '`system:1` is an empty file system; `system:2` is swap; `system:3` is kept',
  )
  expect(problem(order(), layout({ kind: 'filesystem', filesystem: 'ext4', image: 'tar:1' }))).toBeUndefined()
})

test('a root that is named must be there and hold one', () => {
  expect(problem(order({ root: 'data:1' }), wholeDisk)).toContain('`data:1`, which is no place')
  expect(problem(order({ root: 'system:3' }), wholeDisk)).toBeUndefined()
  expect(problem(order({ root: 'system:1' }), layout({ kind: 'swap' }))).toContain('`system:1`, which is swap')
  expect(problem(order({ root: 'system:1' }), layout({ kind: 'keep' }))).toBeUndefined()
})
