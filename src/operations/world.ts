// What every handler works with; main/ makes one a process.
import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { CertificateView } from '../contract/user-types.ts'
import type { Schema } from '../db/schema.ts'
import type { Library } from '../image/library.ts'
import type { Keyring } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import type { SigningKey } from '../lib/signing.ts'
import type { PreflightCheck } from '../model/preflight.ts'
import type { Attempts } from './attempts.ts'

export type World = {
  readonly db: Kysely<Schema>
  readonly keyring: Keyring
  /** Signs the digests of images. */
  readonly signingKey: SigningKey
  readonly library: Library
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Names this process in leases and tasks; the same after a restart on the same data folder. */
  readonly owner: string
  readonly startedAt: number
  /** Rollouts of more hosts than this must be confirmed. */
  readonly confirmAbove: number
  /** Where agents fetch images, as `http://10.77.0.1:7780`. */
  readonly bootBase: string
  readonly bootFiles: BootFiles
  /** Looks at the machines' network and at what they boot, for the preflight. */
  readonly machineChecks: () => Promise<PreflightCheck[]>
  /** Webhooks may be on this machine itself. */
  readonly allowsLocalWebhooks?: boolean | undefined
  /** The administrator's word over TCP, of the data folder. */
  readonly adminToken: Secret
  readonly attempts: Attempts
  /** Keeps the keys of `keyring` outside the database. Throws when it cannot: then nothing was changed. */
  readonly keepKeys: (keys: readonly Uint8Array[]) => Promise<void>
  /** What to trust when talking to this service by TLS; undefined when it does not listen by TLS. */
  readonly certificate: () => CertificateView | undefined
  readonly services: readonly { readonly name: string; readonly listens: string }[]
}

/** The files of netboot profiles. */
export type BootFiles = {
  /** Its folders are the profiles'. */
  readonly netboot: string
  /** Whether a machine with this profile would get this file. Throws when it could not look. */
  has(profile: string, file: string): Promise<boolean>
}
