// The Service Port's side of a capture: takes the frames of a disk in order, each checked and durable before it is counted,
// and makes an image of them. A frame is one guarded statement after its bytes are on the volume, so whoever dies in between
// leaves nothing that counts, and the agent goes on at the frame that the row names.
import pLimit from 'p-limit'
import type { CaptureReport, FrameUpload, TakeFrame } from '../contract/capture-types.ts'
import type { Caller, Handlers } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { beginFrames, type Capture, findCapture, recordDigest, recordFrames, recordReport } from '../db/captures.ts'
import { changeDeployment, findDeployment, moveDeployment, type NamedDeployment, timeOf } from '../db/deployments.ts'
import { about, addEvent } from '../db/events.ts'
import { addImage, imagesOfDigest } from '../db/images.ts'
import {
  capturedBytes,
  capturedDiskPath,
  capturedFrameBytesMax,
  checkCapturedFrame,
  removeCaptured,
  writeCaptured,
  zeroFrames,
} from '../image/captured-disk.ts'
import { importImage } from '../image/import.ts'
import { readManifest, removeImage as removeFiles } from '../image/library.ts'
import { checkSpace } from '../image/library-file.ts'
import { diskBytesMax } from '../image/manifest.ts'
import { lengthenChain, zeroFramesMax } from '../model/capture.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference, frameSizeBytes } from '../model/image.ts'
import { admit, stop } from './agent-session.ts'
import { imageRow, roomIn } from './images.ts'
import { failureReport } from './views.ts'
import type { World } from './world.ts'

/** Bodies in memory or on their way, of all hosts, one of each at most: a slow line holds its own. Others wait unread. */
const bodies = pLimit(32)
/** Frames inflated and written at once. */
const framesInWork = pLimit(4)

/** One at a time for each captured disk, by its path. */
const turns = new Map<string, Promise<unknown>>()

/** Images being made of captured disks, by path; how far each is. */
const publishing = new Map<string, { doneBytes: number }>()

export function captureIntake(world: World): {
  readonly handlers: Pick<Handlers<typeof serviceOperations>, 'beginCapture' | 'completeCapture'>
  readonly takeFrame: TakeFrame
} {
  const { library } = world
  const inTurn = async <T>(deployment: number, work: () => Promise<T>): Promise<T> => {
    const path = capturedDiskPath(library, deployment)
    const turn = (turns.get(path) ?? Promise.resolve()).then(work, work)
    turns.set(path, turn)
    return await turn.finally(() => {
      if (turns.get(path) === turn) turns.delete(path)
    })
  }
  return {
    handlers: {
      async beginCapture({ deployment, sizeBytes, sectorBytes, fromStart }, caller) {
        return await inTurn(deployment, () => begin(world, deployment, { sizeBytes, sectorBytes, fromStart }, caller))
      },
      async completeCapture({ deployment, report }, caller) {
        const row = await admit(world, deployment, caller)
        // The agent asks again when our answer was lost: what it asks for has happened then.
        if (row.state === 'rebooting' || row.state === 'done') return { state: 'published' }
        if (row.state !== 'deploying') return { state: 'stopped', reason: stop(row).reason }
        return await inTurn(deployment, () => complete(world, row, report))
      },
    },
    takeFrame: (upload, caller) => inTurn(upload.deployment, () => bodies(() => takeFrame(world, upload, caller))),
  }
}

/** The capture of an agent that may go on with it. Throws Failures `token-refused`, `wrong-state`, `unknown-deployment`. */
async function running(
  world: World,
  deployment: number,
  caller: Caller,
): Promise<{ row: NamedDeployment; capture: Capture }> {
  const row = await admit(world, deployment, caller)
  const capture = await findCapture(world.db, deployment)
  if (row.state !== 'deploying') throw new Failure('wrong-state', stop(row).reason)
  return { row, capture }
}

async function begin(
  world: World,
  deployment: number,
  disk: { readonly sizeBytes: number; readonly sectorBytes: number; readonly fromStart: boolean | undefined },
  caller: Caller,
): Promise<{ nextFrame: number; chain: string }> {
  const { db, library } = world
  const { row, capture } = await running(world, deployment, caller)
  if (disk.sizeBytes > diskBytesMax) {
    const words = `the disk has ${disk.sizeBytes} bytes, and ${diskBytesMax} can be published: capture a partition of it`
    throw new Failure('image-too-large', words)
  }
  if (disk.sizeBytes === 0 || disk.sizeBytes % 512 !== 0) {
    throw new Failure('bad-input', `${disk.sizeBytes} bytes are no whole number of sectors`, { at: 'sizeBytes' })
  }
  await checkSpace(library.folder)
  const isWhole = (await capturedBytes(library, deployment)) >= capture.stored_bytes
  const isSame = capture.size_bytes === disk.sizeBytes && capture.sector_bytes === disk.sectorBytes
  if (isWhole && isSame && !disk.fromStart) return { nextFrame: capture.frames, chain: capture.chain }
  if (capture.frames > 0) {
    const why = !isWhole
      ? 'what had come is not there any more'
      : isSame
        ? 'the disk does not hold what it held'
        : 'the disk is another one'
    const text = `the upload begins again after ${capture.frames} frames: ${why}`
    await addEvent(db, { source: 'agent', kind: 'capture-again', text, ...about(row) }, world.now())
  }
  await beginFrames(db, deployment, disk)
  const { frames, chain } = await findCapture(db, deployment)
  return { nextFrame: frames, chain }
}

async function takeFrame(world: World, upload: FrameUpload, caller: Caller): Promise<{ nextFrame: number }> {
  const { db, library } = world
  const { capture } = await running(world, upload.deployment, caller)
  const { size_bytes: sizeBytes, frames: next, stored_bytes: offset, chain } = capture
  if (sizeBytes === null) throw new Failure('wrong-state', 'frames are taken after beginCapture')
  const total = Math.ceil(sizeBytes / frameSizeBytes)
  const count = upload.kind === 'zeros' ? upload.count : 1
  if (upload.frame !== next) {
    const what = upload.frame < next ? 'is here already' : 'comes too early'
    throw new Failure('wrong-state', `frame ${upload.frame} ${what}: the next is ${next}`, { at: 'frame' })
  }
  if (next + count > total || count > zeroFramesMax) {
    const words = `${count} frames from ${next} on: the disk has ${total}, and ${zeroFramesMax} come at once at most`
    throw new Failure('bad-input', words, { at: 'frame' })
  }
  const parts =
    upload.kind === 'zeros' ? await zerosOf(sizeBytes, next, count, chain) : await dataOf(sizeBytes, upload, chain)
  const stored = offset + parts.bytes.length
  if (capture.stored_bytes_max !== null && stored > capture.stored_bytes_max) {
    const words = `the image takes more than the ${capture.stored_bytes_max} bytes that it may have in the library`
    throw new Failure('image-too-large', words)
  }
  await framesInWork(() => writeCaptured(library, upload.deployment, { offset, bytes: parts.bytes }))
  const to = { frames: next + count, stored_bytes: stored, chain: parts.chain }
  if (!(await recordFrames(db, capture, to))) {
    throw new Failure('wrong-state', `frame ${next} came from somebody else meanwhile`, { at: 'frame' })
  }
  return { nextFrame: to.frames }
}

async function dataOf(sizeBytes: number, upload: FrameUpload & { kind: 'data' }, chain: string) {
  const bytes = await upload.read(capturedFrameBytesMax)
  await framesInWork(() => checkCapturedFrame(sizeBytes, upload.frame, { ...upload, bytes }))
  return { bytes, chain: lengthenChain(chain, upload.rawSha256) }
}

/** The last frame of a disk may be shorter than the others. */
async function zerosOf(sizeBytes: number, from: number, count: number, chain: string) {
  const lastBytes = sizeBytes - (from + count - 1) * frameSizeBytes
  const isShort = lastBytes < frameSizeBytes
  const whole = await zeroFrames(frameSizeBytes, isShort ? count - 1 : count)
  const longer = lengthenChain(chain, whole.rawSha256, isShort ? count - 1 : count)
  if (!isShort) return { bytes: whole.bytes, chain: longer }
  const last = await zeroFrames(lastBytes, 1)
  return { bytes: Buffer.concat([whole.bytes, last.bytes]), chain: lengthenChain(longer, last.rawSha256) }
}

async function complete(world: World, row: NamedDeployment, report: CaptureReport) {
  const { db, library } = world
  const capture = await findCapture(db, row.id)
  const total = Math.ceil((capture.size_bytes ?? 0) / frameSizeBytes)
  if (total === 0 || capture.frames !== total) {
    throw new Failure('wrong-state', `${capture.frames} of ${total} frames have come`)
  }
  const path = capturedDiskPath(library, row.id)
  const state = publishing.get(path)
  // The agent's only word while the image is made: it lives.
  const at = timeOf(row, world.now())
  const alive = {
    heard_at: at,
    step: 'publish',
    total_bytes: capture.size_bytes ?? 0,
    bytes_per_second: 0,
  } as const
  const began = row.step === 'publish' ? {} : { step_since: at }
  await changeDeployment(db, row, { ...alive, ...began, done_bytes: state?.doneBytes ?? 0 })
  if (state) return { state: 'publishing' as const }
  await recordReport(db, row.id, JSON.stringify(report))
  const progress = { doneBytes: 0 }
  publishing.set(path, progress)
  // The rows own the outcome: the agent asks until it is there, and who asks after our death begins it again.
  void publish(world, row.id, report, progress).finally(() => publishing.delete(path))
  return { state: 'publishing' as const }
}

/** Makes the image as any import does, names it, and lets the machine go; or ends the capture with the reason. */
async function publish(
  world: World,
  deployment: number,
  report: CaptureReport,
  progress: { doneBytes: number },
): Promise<void> {
  const { db, library, log, now } = world
  try {
    const capture = await findCapture(db, deployment)
    const imported = await importImage({
      source: capturedDiskPath(library, deployment),
      folder: library.folder,
      // What came is what was read of a disk, though it may hold the like of an archive or of an image.
      kind: capture.partition_number === null ? 'disk' : 'partition',
      isRaw: true,
      bytesMax: await roomIn(library),
      onProgress: ({ diskBytes }) => {
        progress.doneBytes = diskBytes
      },
    })
    const { digest, sizeBytes } = imported
    if (sizeBytes !== capture.size_bytes) throw new Error(`${sizeBytes} bytes came of a disk of ${capture.size_bytes}`)
    const { name, version } = capture
    const image = { name, version, ...imageRow(world, imported), hygiene: JSON.stringify(report.hygiene) }
    const isNamed = await db.transaction().execute(async (tx) => {
      const row = await findDeployment(tx, deployment)
      if (row.state !== 'deploying') return false
      const change = {
        step: null,
        done_bytes: sizeBytes,
        bytes_per_second: 0,
        waiting_for: 'the machine to be let go',
      }
      if (!(await moveDeployment(tx, row, 'rebooting', change, { by: 'agent', at: now() }))) return false
      await addImage(tx, image)
      // Whoever collected what has no name did so before it had one.
      await readManifest(library, digest)
      await recordDigest(tx, deployment, digest)
      await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
      const text = `image ${formatImageReference(image)} is ${digest}`
      await addEvent(tx, { source: 'control', kind: 'image-published', text, ...about(row) }, now())
      return true
    })
    if (!isNamed && (await imagesOfDigest(db, digest)) === 0) await removeFiles(library, digest)
    await removeCaptured(library, deployment)
  } catch (error) {
    log.error({ err: error, deployment }, 'a captured disk could not be published')
    await endFailed(world, deployment, error).catch((cause: unknown) => {
      log.error({ err: cause, deployment }, 'the end of a capture could not be recorded')
    })
  }
}

async function endFailed({ db, now }: World, deployment: number, error: unknown): Promise<void> {
  const report = failureReport(error)
  await db.transaction().execute(async (tx) => {
    const row = await findDeployment(tx, deployment)
    if (row.state !== 'deploying') return
    const change = { failure: JSON.stringify(report), failed_step: 'publish' }
    if (!(await moveDeployment(tx, row, 'failed', change, { by: 'agent', at: now() }))) return
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
    const text = `publish failed: ${report.message.join(': ')}`
    await addEvent(tx, { source: 'control', kind: 'failed', text, ...about(row) }, now())
  })
}
