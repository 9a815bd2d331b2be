// What a machine boots: the boot targets as text and in parts, a boot record and what it says now, and the answer to one
// request for a boot file.
import { Failure } from './failure.ts'

/**
 * What a host boots next, as it is written everywhere: in the database, in setups, in the API. `hold` keeps the machine
 * waiting in its loader; `local` is its disk as the firmware would start it, `local:2` the system on partition 2.
 */
export type BootTarget = 'scout' | 'local' | 'hold' | `local:${number}` | `netboot:${string}`

/** The same in its parts. */
export type BootTargetParts =
  | { readonly kind: 'scout' | 'local' | 'hold' }
  | { readonly kind: 'partition'; readonly partition: number }
  | { readonly kind: 'netboot'; readonly profile: string }

/** A GPT has 128 partitions; no table that firmware boots from has more. */
const partitionMax = 128
/** A profile's name: a word that may be a folder and stand in every script. As a pattern of XML Schema, too. */
const profileName = '[a-z0-9][a-z0-9._-]{0,62}'
export const profileNamePattern = `^${profileName}$`
/** As a pattern of XML Schema, too. */
export const bootTargetPattern = `^(scout|local|hold|local:([1-9]|[1-9][0-9]|1[01][0-9]|12[0-8])|netboot:${profileName})$`
const wellFormed = new RegExp(bootTargetPattern)

/** What may be written, in words. */
export const bootTargetForms = 'scout, local, local:<partition>, hold, netboot:<profile>'

/** The target that `text` writes. Failure `bad-input` that names what is wrong. */
export function parseBootTarget(text: string, at = 'target'): BootTarget {
  // The pattern is all that a target's text can be.
  if (wellFormed.test(text)) return text as BootTarget
  const shown = JSON.stringify(text.slice(0, 100))
  const partition = /^local:(.*)$/s.exec(text)
  const why = partition
    ? `the partition of ${shown} is no number from 1 to ${partitionMax}`
    : text.startsWith('netboot:')
      ? `the profile of ${shown} is no name of lower-case letters, digits, ".", "_" and "-"`
      : `${shown} is no boot target: there are ${bootTargetForms}`
  throw new Failure('bad-input', why, { at })
}

/** Takes a target apart. */
export function partsOf(target: BootTarget): BootTargetParts {
  if (target === 'scout' || target === 'local' || target === 'hold') return { kind: target }
  const [kind, rest = ''] = target.split(/:(.*)/s)
  return kind === 'local' ? { kind: 'partition', partition: Number(rest) } : { kind: 'netboot', profile: rest }
}

/** True when the machine must hear our answer to boot this: its own boot order does not lead there. */
export function needsNetwork(target: BootTarget): boolean {
  return target !== 'local'
}

/** What a host boots, as its row says it. Times are milliseconds since 1970. */
export type BootRecord = {
  readonly target: BootTarget
  readonly defaultTarget: BootTarget
  /** The target is for one boot; after it the host boots its default again. */
  readonly isOnce: boolean
  /** When a loader first asked for the script of this record; null: not yet. */
  readonly askedAt: number | null
}

/**
 * How long a target that is for one boot is answered after it was first asked for. One boot asks several times: iPXE and
 * pxelinux hand over to GRUB, which asks again, and a loader that cannot get a file asks again after 10 s. A machine that
 * boots it and starts again is slower: servers test themselves for longer than this.
 */
export const onceMs = 120_000

/** What a record says at this moment. */
export function targetNow(record: BootRecord, now: number): BootTarget {
  return isSpent(record, now) ? record.defaultTarget : record.target
}

/** True when the one boot of the record's target is over. */
export function isSpent({ isOnce, askedAt }: BootRecord, now: number): boolean {
  return isOnce && askedAt !== null && now - askedAt >= onceMs
}

/** How a boot file is asked for. */
export type BootRequest = {
  readonly via: 'tftp' | 'http'
  /** As asked, without leading slashes; not yet trusted. */
  readonly path: string
  /** Address of the machine that asks, IPv4 dotted. */
  readonly peerAddress: string
}

/** The bytes of one boot file: rendered at this moment, or a file of the boot folder (absolute path, already checked). */
export type BootContent =
  | { readonly kind: 'rendered'; readonly body: string; readonly mediaType?: string }
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number }

/** Answers one request. `undefined`: there is no such file. It throws when it could not look. */
export type ResolveBoot = (request: BootRequest) => Promise<BootContent | undefined>
