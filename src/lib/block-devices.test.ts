import { mkdir, mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLoop, unmount } from './block-devices.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-block-devices-'))
})
afterEach(() => rm(folder, { recursive: true }))

test('a loop device that somebody looks at is given back when he is done, and its file system with it', async () => {
  const at = join(folder, 'small')
  await mkdir(at)
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'hades-test', at])
  const file = join(at, 'disk')
  await writeFile(file, '')
  await truncate(file, 1024 * 1024)
  const loop = await openLoop(file)
  const looking = await open(loop.device)
  let isDone = false
  const gone = (async () => {
    await loop.detach()
    await unmount(at)
    expect(isDone).toBe(true)
  })()
  // losetup has returned long before.
  const { stdout } = await execa('losetup', ['--associated', file])
  expect(stdout).toContain(loop.device)
  isDone = true
  await looking.close()
  await gone
})

test('what is in use for a moment is unmounted after it', async () => {
  await execa('mount', ['-t', 'tmpfs', 'hades-test', folder])
  const used = await open(join(folder, 'file'), 'w')
  const gone = unmount(folder)
  await execa('sh', ['-c', 'until umount "$0" 2>&1 | grep -q busy; do :; done', folder])
  await used.close()
  await gone
  await expect(unmount(folder)).rejects.toThrow(/not mounted/)
})
