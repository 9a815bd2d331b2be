import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { signatureOf } from '../db/images.ts'
import { importImage } from '../image/import.ts'
import { storedImages } from '../image/library.ts'
import { until } from '../lib/until.ts'
import { checkSignature } from '../model/image-signature.ts'
import { controlHandlers } from './control.ts'
import { openTestWorld, type TestWorld } from './testing.ts'

const caller: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }

let world: TestWorld
let folder: string

beforeEach(async () => {
  world = await openTestWorld()
  folder = await mkdtemp(join(tmpdir(), 'hades-images-'))
})

afterEach(async () => {
  await world.close()
  await rm(folder, { recursive: true, force: true })
})

const control = (of: TestWorld = world) => controlHandlers(of)

function source(bytes = 2 * 1024 * 1024): string {
  const path = join(folder, randomBytes(4).toString('hex'))
  writeFileSync(path, randomBytes(bytes))
  return path
}

/** Publishes and gives how the task ended. */
async function publish(reference: string, path: string, of: TestWorld = world, how = {}) {
  const { task } = await control(of).publishImage({ reference, path, ...how }, caller)
  return await until(
    `${reference} to be published`,
    async () => {
      const { task: now } = await control(of).getTask({ task: task.id }, caller)
      return now.state === 'running' ? undefined : now
    },
    { timeoutMs: 20_000, everyMs: 20 },
  )
}

test('what is said of an image is kept, and its versions are listed by name', async () => {
  await publish('debian:1', source(), world, { owner: 'web team', description: 'the first' })
  await publish('debian:2', source())
  await publish('other:1', source())
  const { images } = await control().listImages({ name: 'debian' }, caller)
  expect(images.map(({ reference, owner, kind }) => [reference, owner, kind])).toEqual([
    ['debian:1', 'web team', 'partition'],
    ['debian:2', undefined, 'partition'],
  ])
  const change = { reference: 'debian:1', description: 'the one to use', owner: '' }
  const { image } = await control().changeImage(change, caller)
  expect([image.description, image.owner, image.isProtected]).toEqual(['the one to use', undefined, false])
})

test('a folder is an image of kind tar, told by what is in it and signed', async () => {
  mkdirSync(join(folder, 'root'))
  writeFileSync(join(folder, 'root', 'file'), 'text')
  await publish('root:1', join(folder, 'root'))
  const { image, users, publicKey } = await control().getImage({ reference: 'root:1' }, caller)
  checkSignature({ ...image, signature: image.signature, publicKey })
  expect(image).toMatchObject({
    kind: 'tar',
    freeBytes: 0,
    volumes: [],
    archive: { files: 1, directories: 1, contentBytes: 4 },
  })
  expect(users).toEqual([])
  expect(await signatureOf(world.db, image.digest)).toBe(image.signature)
})

test('a protected image is removed only when that is taken back', async () => {
  await publish('debian:1', source())
  await control().changeImage({ reference: 'debian:1', isProtected: true }, caller)
  await expect(control().removeImage({ reference: 'debian:1' }, caller)).rejects.toMatchObject({
    code: 'in-use',
    message: 'image debian:1 is protected: take that back first, by: hades image unprotect debian:1',
  })
  await control().changeImage({ reference: 'debian:1', isProtected: false }, caller)
  await control().removeImage({ reference: 'debian:1' }, caller)
  expect(await storedImages(world.library)).toEqual([])
})

test('collecting removes contents without a name and no others, and says before what it would do', async () => {
  await publish('debian:1', source())
  const { digest } = await importImage({ source: source(), folder: world.library.folder })
  mkdirSync(join(world.library.folder, 'incoming', `1-1-${hostname()}-${'a'.repeat(12)}`))
  const said = await control().collectImages({ dryRun: true }, caller)
  expect(said.images.map((image) => image.digest)).toEqual([digest])
  expect((await storedImages(world.library)).length).toBe(2)
  expect(await control().collectImages({}, caller)).toMatchObject({
    images: [{ digest }],
    abandoned: 1,
    freedBytes: said.freedBytes,
  })
  const { image } = await control().getImage({ reference: 'debian:1' }, caller)
  expect((await storedImages(world.library)).map((stored) => stored.digest)).toEqual([image.digest])
})

test('nothing is collected while an image is being published', async () => {
  const { task } = await control().publishImage({ reference: 'debian:1', path: source(20 * 1024 * 1024) }, caller)
  await expect(control().collectImages({}, caller)).rejects.toMatchObject({ code: 'wrong-state' })
  await until('the end', async () => (await control().getTask({ task: task.id }, caller)).task.state === 'done', {
    timeoutMs: 20_000,
  })
})

test('a quota ends the import that would exceed it, and refuses the next at once', async () => {
  const small: TestWorld = { ...world, library: { ...world.library, quotaBytes: 3 * 1024 * 1024 } }
  expect(await publish('debian:1', source(), small)).toMatchObject({ state: 'done' })
  expect(await publish('debian:2', source(), small)).toMatchObject({
    state: 'failed',
    failure: {
      code: 'library-full',
      message: [expect.stringMatching(/^the quota of the image library leaves \d+ bytes/)],
    },
  })
  expect((await storedImages(world.library)).length).toBe(1)
  const tiny: TestWorld = { ...world, library: { ...world.library, quotaBytes: 1024 } }
  await expect(control(tiny).publishImage({ reference: 'debian:3', path: source() }, caller)).rejects.toMatchObject({
    code: 'library-full',
    message: expect.stringContaining('its quota is 1024: remove some, and collect'),
  })
})
