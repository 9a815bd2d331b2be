// What all ways to erase a disk have in common, and the sentence for a disk that does not offer the one that is asked for.

import { describe } from '../model/choose-disk.ts'
import { Failure } from '../model/failure.ts'
import type { EraseMethod } from '../model/layout.ts'
import type { SeenDisk } from './inventory.ts'

/** One way to erase that this disk offers. */
export type Means = {
  /** As in `NVMe sanitize, block erase`. */
  readonly words: string
  /** All of it takes no longer. */
  readonly deadlineMs: number
  /** Resolves when the device says that it is erased. `onProgress` learns the part that is done, from 0 to 1. */
  readonly run: (onProgress: (part: number) => void, signal: AbortSignal) => Promise<void>
}

/** The disk cannot do what the setup says: why, and what else there is. */
export function notOffered(disk: SeenDisk, method: EraseMethod, why: string): Failure {
  const instead =
    method === 'discard' ? 'erase="zero"' : 'erase="zero", which overwrites every block that can be addressed'
  return new Failure('bad-input', `${describe(disk)} cannot be erased by ${method}: ${why}; choose ${instead}`, {
    at: 'erase',
  })
}
