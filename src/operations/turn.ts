// Acting on a rollout as a whole, one at a time.
import type { Rollout } from '../db/deployments.ts'
import type { Db } from '../db/open.ts'
import { takeTurn } from '../db/rollouts.ts'
import { Failure } from '../model/failure.ts'

/**
 * Takes the turn of a rollout as it was read, and changes it. Failure `wrong-state` when the conductor or somebody else has
 * acted on it since. Call it first in a transaction.
 */
export async function take(tx: Db, rollout: Rollout, change: Parameters<typeof takeTurn>[2]): Promise<void> {
  if (await takeTurn(tx, rollout, change)) return
  throw new Failure('wrong-state', `rollout ${rollout.id} has changed at this moment: ask again`, { at: 'rollout' })
}
