// Publishing an image: a task in the background, because it takes minutes; and withdrawing one.
import { stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { addEvent } from '../db/events.ts'
import { addImage, findImage, lookUpImage, removeImage, usersOfImage } from '../db/images.ts'
import { addTask, endTask, failRunningTasks, findTask, runningTask, setTaskProgress, type Task } from '../db/tasks.ts'
import { importImage } from '../image/import.ts'
import { removeImage as removeFiles } from '../image/library.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference, type ImageReference } from '../model/image.ts'
import { failureReport } from './views.ts'
import type { World } from './world.ts'

/**
 * Starts to import the file at `path` and returns the task to watch. Failures `already-exists` (the name is taken, or
 * being published), `bad-input` (no such file).
 */
export async function publishImage(world: World, reference: ImageReference, path: string): Promise<Task> {
  const { db, owner, now } = world
  const name = formatImageReference(reference)
  if (!isAbsolute(path)) throw new Failure('bad-input', `\`${path}\` is not an absolute path`, { at: 'path' })
  await stat(path).catch((cause: unknown) => {
    throw new Failure('bad-input', `the service cannot read ${path}`, { cause, at: 'path' })
  })
  const task = await db.transaction().execute(async (tx) => {
    if (await lookUpImage(tx, reference)) {
      throw new Failure('already-exists', `there is an image ${name} already: give it another version`, {
        at: 'reference',
      })
    }
    const running = await runningTask(tx, 'publish-image', name)
    if (running)
      throw new Failure('already-exists', `task ${running.id} is publishing ${name} now`, { at: 'reference' })
    return await addTask(tx, { kind: 'publish-image', subject: name, owner }, now())
  })
  // The task's row owns the outcome; nobody waits for the promise.
  void work(world, task, reference, path)
  return await findTask(db, task.id)
}

async function work(world: World, task: Task, reference: ImageReference, path: string): Promise<void> {
  const { db, library, log, now } = world
  const name = formatImageReference(reference)
  let recording: Promise<void> = Promise.resolve()
  try {
    const { digest, manifest, sizeBytes, storedBytes } = await importImage({
      source: path,
      folder: library.folder,
      onProgress: ({ diskBytes, diskBytesTotal }) => {
        recording = recording.then(() => setTaskProgress(db, task.id, diskBytes, diskBytesTotal)).catch(() => {})
      },
    })
    await recording
    const dataFrames = manifest.frames.filter((frame) => frame.class === 'data').length
    await db.transaction().execute(async (tx) => {
      await addImage(tx, {
        ...reference,
        digest,
        size_bytes: sizeBytes,
        data_bytes: Math.min(sizeBytes, dataFrames * manifest.frameSizeBytes),
        stored_bytes: storedBytes,
        published_at: now(),
      })
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
    const users = await usersOfImage(tx, image)
    if (users.length > 0)
      throw new Failure('in-use', `image ${name} is needed by ${users.join(', ')}`, { at: 'reference' })
    await addEvent(tx, { source: 'control', kind: 'image-removed', text: `image ${name} was removed` }, now())
    return (await removeImage(tx, image)) ? image.digest : undefined
  })
  if (unnamedDigest !== undefined) await removeFiles(library, unnamedDigest)
}
