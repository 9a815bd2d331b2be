// The one loop that lets rollouts go on by their policies: which of their hosts begin, whether they stop, whether they
// have ended (model/conduct.ts decides). It keeps nothing between two looks; several processes may run it on one database.
import { setTimeout as delay } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { Rollout } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import {
  beginDeployment,
  cancelWaiting,
  conductedRollouts,
  countMembers,
  membersOf,
  policyOf,
  takeTurn,
} from '../db/rollouts.ts'
import type { Schema } from '../db/schema.ts'
import { type Conduct, conduct } from '../model/conduct.ts'
import { isActive } from '../model/deployment.ts'

export type ConductorOptions = { readonly db: Kysely<Schema>; readonly log: Logger; readonly now: () => number }

export type Conductor = {
  /** Ends the loop when the look that is under way is over. */
  readonly close: () => Promise<void>
}

/** How often rollouts are looked at: a host that ends makes place for the next one within this time. */
const lookEveryMs = 500

/** A look at ten thousand hosts takes a fifth of a second of the process: no more than a tenth of its time goes there. */
const restShare = 9
const restMaxMs = 10_000

/** Deployments that begin in one transaction: other writers wait for it. */
const begunAtOnceMax = 200

/** Starts the loop. */
export function startConductor(options: ConductorOptions): Conductor {
  const { db, log } = options
  const stopping = new AbortController()
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const began = performance.now()
      try {
        for (const rollout of await conductedRollouts(db)) {
          await lookAt(options, rollout).catch((error: unknown) =>
            log.error({ err: error, rollout: rollout.id }, 'a rollout could not be conducted'),
          )
        }
      } catch (error) {
        log.error({ err: error }, 'the conductor could not look for rollouts')
      }
      const restMs = Math.min(restMaxMs, Math.max(lookEveryMs, restShare * (performance.now() - began)))
      await delay(restMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const running = loop()
  return {
    async close() {
      stopping.abort()
      await running
    },
  }
}

/** Does what is due in one rollout, as it was read. */
async function lookAt(options: ConductorOptions, rollout: Rollout): Promise<void> {
  const { db, now } = options
  const counts = await countMembers(db, rollout.id)
  const isUnderWay = [...counts.keys()].some(isActive)
  const policy = policyOf(rollout)
  // What has begun whole only needs somebody to see its end.
  if (isUnderWay && !counts.has('waiting') && policy.quorum === undefined) return
  const due = conduct({ state: rollout.state, policy, members: await membersOf(db, rollout.id) }, now())
  if (due.kind === 'wait') return
  await db.transaction().execute(async (tx) => await perform(tx, rollout, due, now()))
}

/** Performs what was decided of the rollout as it was read, or nothing when somebody has acted on it since. */
async function perform(
  tx: Kysely<Schema>,
  rollout: Rollout,
  due: Exclude<Conduct, { kind: 'wait' }>,
  now: number,
): Promise<void> {
  const say = (kind: string, text: string) => addEvent(tx, { source: 'conductor', kind, text }, now)
  switch (due.kind) {
    case 'begin':
      if (!(await takeTurn(tx, rollout))) return
      // One whose host is not free after all is looked at again in the next round.
      for (const id of due.ids.slice(0, begunAtOnceMax)) await beginDeployment(tx, id, now)
      return
    case 'halt': {
      if (!(await takeTurn(tx, rollout, { state: due.to, reason: due.why }))) return
      if (due.to === 'stopped') await cancelWaiting(tx, rollout.id, `the rollout stopped, because ${due.why}`, now)
      return await say(`rollout-${due.to}`, `rollout ${rollout.id} is ${due.to}: ${due.why}`)
    }
    case 'enough':
      if (!(await takeTurn(tx, rollout, { state: 'succeeded', reason: due.why }))) return
      await cancelWaiting(tx, rollout.id, `it is not needed, ${due.why}`, now)
      return await say('rollout-succeeded', `rollout ${rollout.id} succeeded: ${due.why}`)
    case 'end':
      if (!(await takeTurn(tx, rollout, { state: due.to, reason: due.why }))) return
      return await say(`rollout-${due.to}`, `rollout ${rollout.id} ended, ${due.to}: ${due.why}`)
  }
}
