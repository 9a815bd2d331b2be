// Publishing an image: a task in the background, because it takes minutes; and withdrawing one.
import { stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { OnceClaim } from '../contract/operation.ts'
import { captureUnderWay } from '../db/captures.ts'
import { addEvent } from '../db/events.ts'
import { addImage, findImage, lookUpImage, neededDigests, removeImage, usersOfImage } from '../db/images.ts'
import { recordAnswer } from '../db/once.ts'
import {
  addTask,
  endTask,
  failRunningTasks,
  findTask,
  isAnyRunning,
  runningTask,
  setTaskProgress,
  type Task,
} from '../db/tasks.ts'
import { type ImportedImage, importImage } from '../image/import.ts'
import {
  type Library,
  readManifest,
  removeImage as removeFiles,
  storedImages,
  sweepIncoming,
} from '../image/library.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference, type ImageKind, type ImageReference, kindOf } from '../model/image.ts'
import { signDigest } from '../model/image-signature.ts'
import { failureReport, taskView } from './views.ts'
import type { World } from './world.ts'

/** How an image is taken in, and what is said of it. */
export type PublishOptions = {
  readonly kind?: ImageKind
  readonly devices?: boolean
  readonly owner?: string
  readonly description?: string
  /** The claim of a call with an idempotency key. */
  readonly once?: OnceClaim | undefined
}

/**
 * Starts to import what is at `path` and returns the task to watch. Failures `already-exists` (the name is taken, or
 * being published), `bad-input` (nothing is there), `library-full` (the quota is used up).
 */
export async function publishImage(
  world: World,
  reference: ImageReference,
  path: string,
  how: PublishOptions,
): Promise<Task> {
  const { db, owner, now } = world
  const name = formatImageReference(reference)
  if (!isAbsolute(path)) throw new Failure('bad-input', `\`${path}\` is not an absolute path`, { at: 'path' })
  await stat(path).catch((cause: unknown) => {
    throw new Failure('bad-input', `the service cannot read ${path}`, { cause, at: 'path' })
  })
  await roomIn(world.library)
  const task = await db.transaction().execute(async (tx) => {
    if (await lookUpImage(tx, reference)) {
      throw new Failure('already-exists', `there is an image ${name} already: give it another version`, {
        at: 'reference',
      })
    }
    const running = await runningTask(tx, 'publish-image', name)
    if (running)
      throw new Failure('already-exists', `task ${running.id} is publishing ${name} now`, { at: 'reference' })
    const capturing = await captureUnderWay(tx, reference)
    if (capturing !== undefined)
      throw new Failure('already-exists', `deployment ${capturing} is capturing ${name} now`, { at: 'reference' })
    const added = await addTask(tx, { kind: 'publish-image', subject: name, owner }, now())
    await recordAnswer(tx, how.once, { task: taskView(added) })
    return added
  })
  // The task's row owns the outcome; nobody waits for the promise.
  void work(world, task, reference, path, how)
  return await findTask(db, task.id)
}

/** What the quota leaves for another image; undefined without one. Throws Failure `library-full` when that is nothing. */
export async function roomIn(library: Library): Promise<number | undefined> {
  const { quotaBytes } = library
  if (quotaBytes === undefined) return undefined
  const used = (await storedImages(library)).reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  if (used < quotaBytes) return quotaBytes - used
  const message = `the images in the library have ${used} bytes, its quota is ${quotaBytes}: remove some, and collect`
  throw new Failure('library-full', message)
}

async function work(
  world: World,
  task: Task,
  reference: ImageReference,
  path: string,
  { kind, devices, owner, description }: PublishOptions,
): Promise<void> {
  const { db, library, log, now } = world
  const name = formatImageReference(reference)
  let recording: Promise<void> = Promise.resolve()
  try {
    const imported = await importImage({
      source: path,
      folder: library.folder,
      kind,
      allowsDevices: devices,
      bytesMax: await roomIn(library),
      onProgress: ({ readBytes, diskBytes, diskBytesTotal }) => {
        // What is packed is read to its end before its size is known.
        const done = diskBytesTotal === undefined ? readBytes : diskBytes
        recording = recording.then(() => setTaskProgress(db, task.id, done, diskBytesTotal)).catch(() => {})
      },
    })
    await recording
    const { digest, sizeBytes } = imported
    await db.transaction().execute(async (tx) => {
      const said = { owner: owner || null, description: description || null }
      await addImage(tx, { ...reference, ...imageRow(world, imported), ...said })
      // Whoever collected what has no name did so before it had one.
      await readManifest(library, digest)
      await setTaskProgress(tx, task.id, sizeBytes, sizeBytes)
      await endTask(tx, task.id, undefined, now())
      await addEvent(tx, { source: 'control', kind: 'image-published', text: `image ${name} is ${digest}` }, now())
    })
  } catch (error) {
    log.error({ err: error, task: task.id, image: name }, 'publishing an image failed')
    await recording
    await endTask(db, task.id, JSON.stringify(failureReport(error)), now()).catch((cause: unknown) => {
      log.error({ err: cause, task: task.id }, 'the end of a task could not be recorded')
    })
  }
}

/** What a row says of an image that was imported. */
export function imageRow({ now, signingKey }: World, imported: ImportedImage) {
  const { digest, manifest, sizeBytes, storedBytes, freeBytes, volumes, tar } = imported
  const dataFrames = manifest.frames.filter((frame) => frame.class === 'data').length
  return {
    digest,
    size_bytes: sizeBytes,
    data_bytes: Math.min(sizeBytes, dataFrames * manifest.frameSizeBytes),
    stored_bytes: storedBytes,
    published_at: now(),
    kind: kindOf(manifest),
    free_bytes: freeBytes,
    signature: signDigest(signingKey, digest),
    contents: JSON.stringify({ volumes, ...(tar && { archive: tar }) }),
  }
}

/** Ends the imports that this process left when it died: called once at start, before any new task. */
export async function failInterruptedTasks({ db, owner, now }: World): Promise<void> {
  const message = ['the service was stopped before this had ended: start it again']
  const failure = JSON.stringify({ code: 'cancelled', message })
  await failRunningTasks(db, { kind: 'publish-image', owner }, failure, now())
}

/** Removes an image; its files go with the last name of their digest. Failures `unknown-image`, `in-use`. */
export async function withdrawImage({ db, library, now }: World, reference: ImageReference): Promise<void> {
  const name = formatImageReference(reference)
  const unnamedDigest = await db.transaction().execute(async (tx) => {
    const image = await findImage(tx, reference)
    if (image.is_protected === 1) {
      const how = `take that back first, by: hades image unprotect ${name}`
      throw new Failure('in-use', `image ${name} is protected: ${how}`, { at: 'reference' })
    }
    const users = await usersOfImage(tx, image)
    if (users.length > 0)
      throw new Failure('in-use', `image ${name} is needed by ${users.join(', ')}`, { at: 'reference' })
    await addEvent(tx, { source: 'control', kind: 'image-removed', text: `image ${name} was removed` }, now())
    return (await removeImage(tx, image)) ? image.digest : undefined
  })
  if (unnamedDigest !== undefined) await removeFiles(library, unnamedDigest)
}

/**
 * Removes contents that no image names and no deployment under way writes, and what dead imports left. Failure `wrong-state`
 * while an image is being published: what it writes has no name yet.
 */
export async function collectImages({ db, library, now }: World, { dryRun }: { readonly dryRun: boolean }) {
  if (await isAnyRunning(db, 'publish-image')) {
    throw new Failure('wrong-state', 'an image is being published, and has no name yet: collect when it has ended')
  }
  const needed = await neededDigests(db)
  const images = (await storedImages(library)).filter(({ digest }) => !needed.has(digest))
  const freedBytes = images.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  if (dryRun) return { images, abandoned: 0, freedBytes }
  for (const { digest } of images) await removeFiles(library, digest)
  const abandoned = await sweepIncoming(library)
  const text = `${images.length} contents without a name (${freedBytes} bytes) and ${abandoned} abandoned imports were removed`
  await addEvent(db, { source: 'control', kind: 'images-collected', text }, now())
  return { images, abandoned, freedBytes }
}
