// A capture on the host: finds the disk, looks through the system on it, brings it to the service and waits until the image
// is published. The disk is only ever read; repairs are made in a view of it that lives in memory.
import { setTimeout as delay } from 'node:timers/promises'
import type { Trust } from '../client/trust.ts'
import type { CaptureReport, CaptureWork } from '../contract/capture-types.ts'
import type { Finding, Hygiene } from '../contract/types.ts'
import { freeMapBytes } from '../image/free-map.ts'
import type { Secret } from '../lib/secret.ts'
import { describe } from '../model/choose-disk.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { freeOf } from './capture-free.ts'
import { type CaptureSource, chooseSource } from './capture-source.ts'
import { uploadDisk } from './capture-upload.ts'
import { type CopyOnWrite, openCopyOnWrite } from './copy-on-write.ts'
import { lookThrough } from './hygiene.ts'
import type { Look } from './inventory.ts'
import type { Log } from './log.ts'
import { capturePlanFor } from './memory-plan.ts'
import { type Reporter, type ReportLimits, type ServiceClient, untilAnswered } from './report.ts'
import { Tree } from './tree.ts'
import { canHoldLinux, type Volume, volumesOf, whileMounted } from './volumes.ts'

export type Capturing = {
  readonly work: CaptureWork
  readonly look: Look
  readonly service: ServiceClient
  /** Base URL of the service, for the frames. */
  readonly url: string
  readonly trust: Trust
  readonly sessionKey: Secret
  readonly reporter: Reporter
  readonly log: Log
  readonly limits: ReportLimits
}

/** How often the service is asked whether the image is published. */
const askEveryMs = 1000

/** Resolves when the image is published and the boot record is back. Throws the first step's Failure. */
export async function captureDisk(capturing: Capturing, signal: AbortSignal): Promise<void> {
  const { work, look, service, reporter, log, limits } = capturing
  if (look.problem !== undefined) {
    throw new Failure('internal', "the machine's disks could not be listed", { cause: look.problem })
  }
  reporter.begin('disk')
  const chosen = await chooseSource(look.disks, work, signal)
  const { disk } = chosen
  const which = work.partition === undefined ? '' : `partition ${work.partition} of `
  await reporter.event('disk-chosen', `${which}${describe(disk)} for ${work.image}: reading it`)
  const memoryBytes = look.inventory.memoryBytes
  let view: CopyOnWrite | undefined
  try {
    reporter.begin(work.repair ? 'repair' : 'hygiene')
    if (work.repair) view = await openCopyOnWrite(disk, memoryBytes)
    const source = { ...chosen, path: view?.path ?? chosen.path }
    const hygiene = await lookAtSystems(source, work, signal)
    await view?.check()
    await tellHygiene(reporter, hygiene)
    reporter.begin('capture', source.sizeBytes)
    const plan = capturePlanFor(memoryBytes, freeMapBytes(source.sizeBytes))
    const free = await freeOf(source, plan, signal)
    await reporter.event('free-space', free.words)
    const upload = {
      ...capturing,
      source,
      free: free.map,
      deployment: work.deployment,
      lanes: plan.lanes,
      tell: (kind: string, text: string) => reporter.event(kind, text),
      onProgress: (doneBytes: number) => reporter.progress(doneBytes),
    }
    const counts = await uploadDisk(upload, signal).catch(async (error: unknown) => {
      // A view without room gives errors of reading, which say nothing of the disk.
      await view?.check()
      throw error
    })
    await view?.check()
    reporter.begin('publish', source.sizeBytes)
    const report = {
      diskPath: disk.path,
      ...(disk.serial === undefined ? {} : { diskSerial: disk.serial }),
      ...(disk.wwn === undefined ? {} : { diskWwn: disk.wwn }),
      diskSizeBytes: disk.sizeBytes,
      ...counts,
      bytesFree: free.freeBytes,
      hygiene,
      steps: reporter.stepTimes(),
    }
    // No progress may be told beside this: once the image is published, the answer to it would be to stop.
    await reporter.close()
    signal.throwIfAborted()
    await untilPublished(service, work.deployment, report, { log, limits, signal })
  } finally {
    await view?.close().catch((error: unknown) => log.failure('the copy-on-write view stays', error))
  }
}

async function untilPublished(
  service: ServiceClient,
  deployment: number,
  report: CaptureReport,
  options: { readonly log: Log; readonly limits: ReportLimits; readonly signal: AbortSignal },
): Promise<void> {
  for (;;) {
    const call = (signal: AbortSignal) => service.completeCapture({ deployment, report }, { signal })
    const answer = await untilAnswered('completeCapture', call, options)
    if (answer.state === 'published') return
    if (answer.state === 'stopped') {
      throw new Failure('cancelled', `the image was not published: ${answer.reason ?? 'no reason given'}`)
    }
    await delay(askEveryMs, undefined, { signal: options.signal })
  }
}

/** Looks through every Linux root of what is captured. What cannot be looked into is said, and is no failure. */
async function lookAtSystems(
  source: CaptureSource,
  { partition, repair = false }: CaptureWork,
  signal: AbortSignal,
): Promise<Hygiene> {
  const systems: Hygiene['systems'] = []
  const findings: Finding[] = []
  const notSeen: string[] = []
  const disk = { path: source.path, sizeBytes: source.disk.sizeBytes }
  const volumes = await volumesOf(disk, partition, signal).catch((error: unknown): readonly Volume[] => {
    signal.throwIfAborted()
    notSeen.push(`the disk: ${causeChain(error).join(': ')}`)
    return []
  })
  for (const volume of volumes) {
    if (!canHoldLinux(volume)) {
      if (volume.type !== undefined && !['vfat', 'swap'].includes(volume.type)) {
        notSeen.push(`${volume.place}: it holds ${volume.type}, which is not looked into`)
      }
      continue
    }
    const look = async (folder: string): Promise<void> => {
      for (const root of await rootsOf(folder)) {
        const name = /^PRETTY_NAME="?([^"\n]*)/m.exec((await root.read('/etc/os-release')) ?? '')?.[1]?.slice(0, 190)
        const system = { place: volume.place, filesystem: volume.type ?? '' }
        systems.push(name ? { ...system, name } : system)
        findings.push(...(await lookThrough(root, { repair })))
      }
    }
    await whileMounted(source.path, volume, { writable: repair }, look, signal).catch((error: unknown) => {
      signal.throwIfAborted()
      // A repair that did not take place must not pass for one.
      if (repair) throw new Failure('disk-error', `${volume.place} cannot be repaired`, { cause: error })
      notSeen.push(`${volume.place}: ${causeChain(error).join(': ')}`.slice(0, 4000))
    })
  }
  if (systems.length === 0) notSeen.push('no Linux root was found')
  return { systems, findings: findings.slice(0, 1000), notSeen: notSeen.slice(0, 128) }
}

/** Where a root may lie: at the top, or in one of the subvolumes that installers of btrfs make. */
async function rootsOf(folder: string): Promise<readonly Tree[]> {
  const trees = ['', '@', '@rootfs', 'root'].map((name) => new Tree(`${folder}/${name}`.replace(/\/$/, '')))
  return trees.filter((tree) => tree.isFolder('/etc') && (tree.isFolder('/usr') || tree.isFolder('/bin')))
}

async function tellHygiene(reporter: Reporter, { findings, systems, notSeen }: Hygiene): Promise<void> {
  const repaired = findings.filter((finding) => finding.repaired).length
  const names = systems.map(({ place, name }) => `${name ?? 'Linux'} on ${place}`).join(', ') || 'no system'
  const words = `${names}: ${findings.length} things that belong to one machine, ${repaired} of them repaired in the image`
  await reporter.event('hygiene', [words, ...notSeen].join('; '))
}
