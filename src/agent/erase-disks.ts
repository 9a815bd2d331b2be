// Erasing as a work of its own: finds the disks of the order, checks all of them, erases one after the other, and tells the
// service what was read. No image comes and nothing is written afterwards.
import type { EraseReport, EraseWork } from '../contract/erase-types.ts'
import { describe } from '../model/choose-disk.ts'
import { Failure } from '../model/failure.ts'
import { eraseDisk } from './erase.ts'
import type { Look, SeenDisk } from './inventory.ts'
import type { Log } from './log.ts'
import { type Reporter, type ReportLimits, type ServiceClient, untilAnswered } from './report.ts'
import { createBuffers } from './write.ts'

export type ErasingDisks = {
  readonly work: EraseWork
  readonly look: Look
  readonly service: ServiceClient
  readonly reporter: Reporter
  readonly log: Log
  readonly limits: ReportLimits
}

/** Resolves when the service has taken the report and the boot record is back. Throws the first Failure. */
export async function eraseDisks({ work, look, service, reporter, log, limits }: ErasingDisks, signal: AbortSignal) {
  if (look.problem !== undefined) {
    throw new Failure('internal', "the machine's disks could not be listed", { cause: look.problem })
  }
  reporter.begin('disk')
  const disks = chooseErased(look.disks, work.disk)
  await reporter.event('disk-chosen', `${disks.map(describe).join('; ')}: erasing by ${work.method}`)
  const { zeros } = createBuffers(1)
  const erased: EraseReport['disks'] = []
  const totalBytes = disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  let doneBytes = 0
  for (const disk of disks) {
    signal.throwIfAborted()
    reporter.begin('erase', totalBytes, doneBytes)
    const { path, sizeBytes, serial, wwn } = disk
    const before = doneBytes
    const onProgress = (bytes: number) => reporter.progress(before + bytes)
    const tell = (kind: string, text: string) => reporter.event(kind, text)
    const done = await eraseDisk({ disk, method: work.method, zeros, tell, onProgress }, signal)
    erased.push({ path, sizeBytes, ...(serial && { serial }), ...(wwn && { wwn }), ...done })
    doneBytes += sizeBytes
  }
  reporter.begin('finish')
  const report = { disks: erased, steps: reporter.stepTimes() }
  // No progress may be told beside this: once the report is taken, the answer to it would be to stop.
  await reporter.close()
  signal.throwIfAborted()
  const call = (signal: AbortSignal) => service.completeErase({ deployment: work.deployment, report }, { signal })
  const answer = await untilAnswered('completeErase', call, { log, limits, signal })
  if (answer.action === 'stop') {
    throw new Failure('cancelled', `the report was taken, the machine stays: ${answer.reason ?? 'no reason given'}`)
  }
}

/** All that will be erased, before any is. Throws Failures `disk-none` and `disk-ambiguous`, which say what was seen. */
export function chooseErased(disks: readonly SeenDisk[], wanted: string | undefined): readonly SeenDisk[] {
  const isNamed = ({ path, byPath, serial, wwn }: SeenDisk) =>
    wanted === undefined || wanted === 'all' || [path, byPath, serial, wwn].includes(wanted)
  const found = disks.filter(isNamed)
  if (found.length === 0) {
    const seen = disks.map(describe).join('; ') || 'no disk at all'
    throw new Failure('disk-none', `no disk is \`${wanted ?? 'the only one'}\`; seen: ${seen}`, { at: 'disk' })
  }
  if (found.length > 1 && wanted !== 'all') {
    const words = `${found.length} disks fit: name one by its path, serial or WWN, or say \`all\`: `
    throw new Failure('disk-ambiguous', words + found.map(describe).join('; '), { at: 'disk' })
  }
  const refused = found.find(({ notUsable }) => notUsable !== undefined)
  if (refused !== undefined) {
    throw new Failure('disk-none', `${describe(refused)} cannot be erased: ${refused.notUsable}; nothing was erased`, {
      at: 'disk',
    })
  }
  return found
}
