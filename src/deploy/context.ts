// What the parts of the engine work with.
import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { PortClient } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { Schema } from '../db/schema.ts'
import type { Keyring } from '../lib/seal.ts'
import type { Course } from '../model/setup.ts'

export type EngineOptions = {
  readonly db: Kysely<Schema>
  readonly power: PortClient<typeof powerOperations>
  readonly log: Logger
  /** Its newest key makes the words of new attempts. */
  readonly keyring: Pick<Keyring, 'ids'>
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Told of every deployment that has ended, to keep its proof; it does not throw. */
  readonly keepProof?: (deployment: number) => Promise<void>
  /** Told of each look at the rows, also of those that could not look; it must not throw. */
  readonly onRound?: (round: { readonly claimed: number; readonly ms: number; readonly failed: boolean }) => void
  /** Milliseconds of a clock that nobody sets; the process's own unless given. */
  readonly monotonic?: () => number
  /** How long a cold power cycle leaves a machine off, unless it is as long as usual. */
  readonly coldSeconds?: number
}

/** The options, with what was looked up and does not change, or not soon. */
export type Context = EngineOptions & {
  readonly monotonic: () => number
  /** The name of this engine in claims, of this start alone. */
  readonly owner: string
  /** A version of a setup never changes. */
  readonly setups: Map<number, Course>
  /** Hosts under way, by rollout. */
  readonly counts: Map<number, { readonly hosts: number; readonly atMs: number }>
  /** Deployments whose controllers are being asked. */
  readonly ordering: Set<number>
}
