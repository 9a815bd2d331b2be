// Cancelling: the deployments of a rollout that have not ended end, and give their boot records back.
import type { Caller } from '../contract/operation.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { deploymentsOf, moveDeployment } from '../db/deployments.ts'
import { about, addEvent } from '../db/events.ts'
import type { Db } from '../db/open.ts'
import { allowedIn } from '../model/deployment.ts'

/** Cancels what has not ended of a rollout, all or those of the hosts `only`. Call it in a transaction. */
export async function cancelDeployments(
  tx: Db,
  rollout: number,
  only: ReadonlySet<number> | undefined,
  caller: Caller,
  now: number,
): Promise<void> {
  for (const row of await deploymentsOf(tx, [rollout])) {
    if (only && !only.has(row.host_id)) continue
    if (!allowedIn.cancel.some((state) => state === row.state)) continue
    const failure = JSON.stringify({ code: 'cancelled', message: [`cancelled while ${row.state}`] })
    if (!(await moveDeployment(tx, row, 'cancelled', { failure }, now))) continue
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now)
    const text = `cancelled while ${row.state}, by ${caller.kind} from ${caller.address}`
    await addEvent(tx, { source: 'control', kind: 'cancelled', text, ...about(row) }, now)
  }
}
