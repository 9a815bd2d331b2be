import { access, chmod, mkdir, mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mount, openLoop, unmount } from './block-devices.ts'
import { until } from './until.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-block-devices-'))
})
const path = process.env.PATH ?? ''
afterEach(async () => {
  process.env.PATH = path
  await rm(folder, { recursive: true })
})

/** The program as it is, but that it stays when it has done its work, which `done` waits for, until it `mayEnd`. */
async function putSlow(name: string): Promise<{ done: Promise<unknown>; mayEnd: () => Promise<void> }> {
  const { stdout: real } = await execa('which', [name])
  await mkdir(join(folder, 'bin'))
  const program = join(folder, 'bin', name)
  await writeFile(
    program,
    `#!/bin/sh\ncd ${folder}\n${real} "$@" || exit\ntouch done\nuntil [ -e end ]; do sleep 0.05; done\n`,
  )
  await chmod(program, 0o755)
  process.env.PATH = `${join(folder, 'bin')}:${path}`
  const isDone = async () => (await access(join(folder, 'done')).catch(() => 'no')) === undefined
  const mayEnd = () => writeFile(join(folder, 'end'), '')
  return { mayEnd, done: until('it to be done', isDone, { timeoutMs: 10_000 }) }
}

test('a mount that is called off at its end is not there', async () => {
  const { done, mayEnd } = await putSlow('mount')
  const at = join(folder, 'small')
  await mkdir(at)
  const called = new AbortController()
  const mounting = mount(['-t', 'tmpfs', '-o', 'size=2m', 'hades-test'], at, called.signal)
  mounting.catch(() => undefined)
  await done
  called.abort(new Error('called off'))
  await mayEnd()
  await expect(mounting).rejects.toThrow('called off')
  expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(at)
})

test('a loop device that is called off when it is attached is let go', async () => {
  const { done, mayEnd } = await putSlow('losetup')
  const file = join(folder, 'disk')
  await writeFile(file, Buffer.alloc(1024 * 1024))
  const called = new AbortController()
  const opening = openLoop(file, [], called.signal)
  opening.catch(() => undefined)
  await done
  called.abort(new Error('called off'))
  await mayEnd()
  await expect(opening).rejects.toThrow('called off')
  process.env.PATH = path
  expect((await execa('losetup', ['--associated', file])).stdout).toBe('')
})

test('what cannot be mounted is told in the words of mount', async () => {
  await expect(mount(['-t', 'ext4', '/dev/null'], folder)).rejects.toThrow(/\/dev\/null/)
})

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
