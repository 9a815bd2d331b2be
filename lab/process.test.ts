import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { endProcess, readRecorded, startRecorded, startTimeOf } from './process.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-lab-'))
})
afterEach(() => rm(folder, { recursive: true }))

test('a recorded process is found again and ended', async () => {
  const started = await startRecorded(['sleep', '60'], join(folder, 'process'), join(folder, 'log'))
  expect(await readRecorded(join(folder, 'process'))).toEqual(started)
  await endProcess(started)
  expect(await startTimeOf(started.pid)).toBeUndefined()
  expect(await readRecorded(join(folder, 'process'))).toBeUndefined()
  await endProcess(started)
})

test('a stranger who was given the recorded id is neither found nor ended', async () => {
  const started = await startRecorded(['sleep', '60'], join(folder, 'process'), join(folder, 'log'))
  await writeFile(join(folder, 'other'), `${started.pid} 1\n`)
  expect(await readRecorded(join(folder, 'other'))).toBeUndefined()
  await endProcess({ pid: started.pid, startTime: '1' })
  expect(await startTimeOf(started.pid)).toBe(started.startTime)
  await endProcess(started)
})

test('a record that is missing or torn records nothing', async () => {
  await writeFile(join(folder, 'torn'), '12')
  expect(await readRecorded(join(folder, 'torn'))).toBeUndefined()
  expect(await readRecorded(join(folder, 'none'))).toBeUndefined()
})

test('a program that does not exist is an error', async () => {
  await expect(startRecorded(['no-such-program'], join(folder, 'p'), join(folder, 'log'))).rejects.toThrow('ENOENT')
})
