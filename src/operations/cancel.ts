// Cancelling: the deployments of a rollout that have not ended end, and give their boot records back.
import type { controlOperations } from '../contract/control.ts'
import type { Caller, Input } from '../contract/operation.ts'
import { bootRecordsOf, releaseBootRecord } from '../db/boot.ts'
import { findRollout, moveDeployment, type NamedDeployment } from '../db/deployments.ts'
import { about, addEvent } from '../db/events.ts'
import type { Db } from '../db/open.ts'
import { addReboot } from '../db/reboots.ts'
import { currentDeployments, setStanding } from '../db/rollouts.ts'
import { addTask, type Task } from '../db/tasks.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { isConducted } from '../model/conduct.ts'
import { allowedIn, type DeploymentState } from '../model/deployment.ts'
import { hostsOf } from './nodeset.ts'
import { take } from './turn.ts'
import type { World } from './world.ts'

/**
 * Cancels what has not ended of a rollout, all or those of the hosts `only`, and returns the deployments as they were.
 * Call it in a transaction.
 */
export async function cancelDeployments(
  tx: Db,
  rollout: number,
  only: ReadonlySet<number> | undefined,
  caller: Caller,
  now: number,
): Promise<NamedDeployment[]> {
  const cancelled: NamedDeployment[] = []
  for (const row of await currentDeployments(tx, rollout)) {
    if (only && !only.has(row.host_id)) continue
    if (!allowedIn.cancel.some((state) => state === row.state)) continue
    const failure = JSON.stringify({ code: 'cancelled', message: [`cancelled while ${row.state}`] })
    if (!(await moveDeployment(tx, row, 'cancelled', { failure }, { by: 'operator', at: now }))) continue
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now)
    const text = `cancelled while ${row.state}, by ${caller.kind} from ${caller.address}`
    await addEvent(tx, { source: 'control', kind: 'cancelled', text, ...about(row) }, now)
    cancelled.push(row)
  }
  return cancelled
}

/** Machines of deployments in these states have been switched, and have not been let go. */
const switchedIn: readonly DeploymentState[] = ['powering', 'booting', 'deploying']

/**
 * Cancels a rollout, or takes hosts out of it; with `reboot` the machines that were at work are switched by the task that
 * is returned. Call it in a transaction.
 */
export async function cancelRollout(
  { now: clock, owner }: Pick<World, 'now' | 'owner'>,
  tx: Db,
  { rollout: id, nodeset, reboot }: Input<typeof controlOperations.cancelRollout>,
  caller: Caller,
): Promise<Task | undefined> {
  const now = clock()
  const rollout = await findRollout(tx, id)
  const only = nodeset === undefined ? undefined : new Set((await hostsOf(tx, nodeset)).map((host) => host.id))
  const reason = `by ${caller.kind === 'user' ? caller.name : caller.kind}`
  const isWhole = only === undefined && isConducted(rollout.state)
  await take(tx, rollout, isWhole ? { state: 'cancelled', reason } : {})
  const rows = await cancelDeployments(tx, id, only, caller, now)
  if (only) for (const row of rows) await setStanding(tx, row.id, 'taken-out')
  if (isWhole) {
    await addEvent(
      tx,
      { source: 'control', kind: 'rollout-cancelled', text: `rollout ${id} is cancelled ${reason}` },
      now,
    )
  }
  const switched = rows.filter(({ state }) => switchedIn.includes(state))
  return reboot && switched.length > 0 ? await rebootThem(tx, switched, owner, now) : undefined
}

/** Has machines switched to what their boot records, which they have just got back, say. */
async function rebootThem(tx: Db, rows: readonly NamedDeployment[], owner: string, now: number): Promise<Task> {
  // The name of a task is an index's, of 190 characters.
  const subject = foldNodeset(rows.map(({ host }) => host)).slice(0, 190)
  const task = await addTask(tx, { kind: 'reboot', subject, owner }, now)
  const records = await bootRecordsOf(
    tx,
    rows.map(({ host_id }) => host_id),
  )
  for (const { host_id } of rows) {
    const record = records.get(host_id)
    if (record) await addReboot(tx, { taskId: task.id, hostId: host_id, target: record.target }, record.changedAt)
  }
  return task
}
