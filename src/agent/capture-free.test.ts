import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, onTestFinished, test } from 'vitest'
import { freeOf } from './capture-free.ts'
import { ownFolder } from './test-image.ts'

test('a disk that is larger than can be published is not looked through for what is free', async () => {
  const { folder, remove } = await ownFolder()
  onTestFinished(remove)
  const path = join(folder, 'large')
  const sizeBytes = 9 * 1024 ** 4
  await writeFile(path, '')
  await truncate(path, sizeBytes)
  await execa('mkfs.ext4', ['-q', '-F', '-O', '^has_journal', path])
  const disk = { path, sizeBytes, sectorBytes: 512, rotational: true }
  const { map, words } = await freeOf(
    { disk, path, offset: 0, sizeBytes },
    { hasMap: true },
    new AbortController().signal,
  )
  expect(map).toBeUndefined()
  expect(words).toBe(
    `all is read, for what is free cannot be seen: it has ${sizeBytes} bytes, and 4398046511104 can be published`,
  )
})
