// The options that say which hosts a rollout takes and by which policy it goes, and how their words are read.
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type ExclusionChoice, exclusionChoices } from '../model/exclusion.ts'
import {
  type BusyCourse,
  busyCourses,
  type FailureCourse,
  failureCourses,
  type HostOrder,
  hostOrders,
  hostSharePattern,
  type SpareUse,
  spareUses,
} from '../model/rollout-policy.ts'
import type { Session } from './session.ts'

export type RolloutOptions = {
  readonly setup?: string
  readonly max?: number
  readonly confirm?: string
  readonly acceptNewDisk?: boolean
  readonly ignoreInventory?: boolean
  readonly ifBusy?: BusyCourse
  readonly exclude?: ExclusionChoice[]
  readonly includeProtected?: string
  readonly canary?: string
  readonly wave?: string
  readonly concurrency?: string
  readonly stopAtFailed?: string
  readonly atFailures?: FailureCourse
  readonly quorum?: string
  readonly spares?: SpareUse
  readonly startAt?: string
  readonly order?: HostOrder
}

export type RolloutOrder = Parameters<Session['control']['planRollout']>[0]

/** Options of `plan` and `deploy`. */
export function withRolloutOptions(command: Command): Command {
  return command
    .option('--setup <name[:version]>', "the setup; each host's own when not given")
    .option('--max <count>', 'refuse when the nodeset has more hosts than this', count)
    .option('--confirm <count>', 'how many hosts are meant, or their nodeset: asked on a terminal when it is needed')
    .addOption(new Option('--if-busy <what>', 'what becomes of hosts in another rollout').choices(busyCourses))
    .option(
      '--exclude <reasons>',
      `hosts to leave out, with commas between: ${exclusionChoices.join(', ')}`,
      exclusionReasons,
    )
    .option('--include-protected <nodeset>', 'protected hosts that are meant, by their names')
    .option('--accept-new-disk', 'overwrite disks too that no deployment of their machine has proven before')
    .option('--ignore-inventory', 'what is known of disks and firmware is out of date: only the agents look')
    .option('--canary <hosts>', 'so many hosts, or as 10%, must be done before any other begins', share)
    .option('--wave <hosts>', 'the others begin in waves of so many, each when the one before has ended', share)
    .option('--concurrency <hosts>', 'so many are under way at a time', share)
    .option('--stop-at-failed <hosts>', 'so many failed hosts, or as 10%, are too many: no more begin', share)
    .addOption(new Option('--at-failures <what>', 'then cancel the others, or pause').choices(failureCourses))
    .option('--quorum <hosts>', 'so many hosts done are enough; the others stand in for those that fail', share)
    .addOption(
      new Option('--spares <what>', 'hosts beyond the quorum: hold them, or begin them too').choices(spareUses),
    )
    .option('--start-at <time>', 'nothing begins before: 2026-12-01T22:00, or with its zone', time)
    .addOption(new Option('--order <order>', 'as in the nodeset, or of each site and rack in turn').choices(hostOrders))
}

/** The options as planRollout and startRollout take them. */
export function rolloutOrder(nodeset: string, options: RolloutOptions): RolloutOrder {
  const { setup, max, confirm, ifBusy, exclude, includeProtected, acceptNewDisk, ignoreInventory } = options
  const { canary, wave, concurrency, stopAtFailed, atFailures, quorum, spares, startAt, order } = options
  const policy = given({ canary, wave, concurrency, stopAtFailed, atFailures, quorum, spares, startAt, order })
  return {
    nodeset,
    ...given({ setup, max, confirm, ifBusy, exclude, includeProtected, acceptNewDisk, ignoreInventory }),
    ...(Object.keys(policy).length === 0 ? {} : { policy }),
  }
}

/** The fields that were given. */
export function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never
}

function count(text: string): number {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number > 0) return number
  throw new InvalidArgumentError('write a number of hosts.')
}

function share(text: string): string {
  if (new RegExp(hostSharePattern).test(text)) return text
  throw new InvalidArgumentError('write a number of hosts, or a part of them as 10%.')
}

function time(text: string): string {
  const at = new Date(text)
  if (!Number.isNaN(at.getTime())) return at.toISOString()
  throw new InvalidArgumentError('write a time as 2026-12-01T22:00 (of this machine), or 2026-12-01T22:00:00+01:00.')
}

function exclusionReasons(text: string): ExclusionChoice[] {
  return text.split(',').map((word) => {
    const reason = exclusionChoices.find((one) => one === word.trim())
    if (reason) return reason
    throw new InvalidArgumentError(`write some of ${exclusionChoices.join(', ')}, with commas between.`)
  })
}
