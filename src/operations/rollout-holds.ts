// The Control Port's handlers of rollouts that have begun: holding them, cancelling them, doing hosts of them again.
import type { controlOperations } from '../contract/control.ts'
import type { Caller, Handlers } from '../contract/operation.ts'
import { findDeployment, findRollout, type Rollout } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { acceptEnds, membersOf, policyOf } from '../db/rollouts.ts'
import { resumedPolicy, rolloutAllowedIn } from '../model/conduct.ts'
import { Failure } from '../model/failure.ts'
import { cancelRollout } from './cancel.ts'
import { hostsOf, namesMeant } from './nodeset.ts'
import { onceOf } from './once.ts'
import { retryDeployments } from './retry.ts'
import { rolloutView } from './rollout-views.ts'
import { take } from './turn.ts'
import { deploymentView, taskView } from './views.ts'
import type { World } from './world.ts'

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

export function holdHandlers(
  world: World,
): Some<'cancelRollout' | 'pauseRollout' | 'resumeRollout' | 'retryRollout' | 'retryDeployment'> {
  const { db, now } = world
  const viewOf = async (id: number, tx: Db = db) => ({ rollout: await rolloutView(tx, id, now()) })
  return {
    async cancelRollout(input, caller) {
      return await db.transaction().execute(async (tx) => {
        const task = await cancelRollout(world, tx, input, caller)
        const answer = { ...(await viewOf(input.rollout, tx)), ...(task ? { task: taskView(task) } : {}) }
        await recordAnswer(tx, onceOf(caller), answer)
        return answer
      })
    },
    async pauseRollout({ rollout, reason }, caller) {
      await db.transaction().execute(async (tx) => {
        const row = await inState(tx, rollout, 'pause')
        const why = reason ?? `by ${nameOf(caller)}`
        if (row.state === 'paused') return
        await take(tx, row, { state: 'paused', reason: why })
        await say(tx, 'rollout-paused', `rollout ${rollout} is paused by ${nameOf(caller)}: ${why}`, now())
      })
      return await viewOf(rollout)
    },
    async resumeRollout({ rollout }, caller) {
      await db.transaction().execute(async (tx) => {
        const row = await inState(tx, rollout, 'resume')
        if (row.state === 'running') return
        const policy = resumedPolicy(policyOf(row), await membersOf(tx, rollout))
        await take(tx, row, { state: 'running', reason: null, policy })
        await acceptEnds(tx, rollout)
        await say(tx, 'rollout-resumed', `rollout ${rollout} is resumed by ${nameOf(caller)}`, now())
      })
      return await viewOf(rollout)
    },
    async retryRollout({ rollout, which = 'failed', nodeset, includeProtected }, caller) {
      const protectedMeant = namesMeant(includeProtected)
      return await db.transaction().execute(async (tx) => {
        const chosen = nodeset === undefined ? undefined : new Set((await hostsOf(tx, nodeset)).map(({ id }) => id))
        await retryDeployments(world, tx, { rollout, which, chosen, protectedMeant })
        const answer = await viewOf(rollout, tx)
        await recordAnswer(tx, onceOf(caller), answer)
        return answer
      })
    },
    async retryDeployment({ deployment, includeProtected }, caller) {
      const protectedMeant = namesMeant(includeProtected)
      return await db.transaction().execute(async (tx) => {
        const row = await findDeployment(tx, deployment)
        if (row.standing === 'retried') {
          throw new Failure('wrong-state', `deployment ${deployment} was done again already`, { at: 'deployment' })
        }
        const chosen = new Set([row.host_id])
        const [id] = await retryDeployments(world, tx, { rollout: row.rollout_id, chosen, protectedMeant })
        const answer = { deployment: deploymentView(await findDeployment(tx, id ?? deployment), now()) }
        await recordAnswer(tx, onceOf(caller), answer)
        return answer
      })
    },
  }
}

function nameOf(caller: Caller): string {
  return caller.kind === 'user' ? caller.name : caller.kind
}

async function say(tx: Db, kind: string, text: string, now: number): Promise<void> {
  await addEvent(tx, { source: 'control', kind, text }, now)
}

/** The rollout, in a state in which it may be paused or resumed; Failures `unknown-rollout`, `wrong-state`. */
async function inState(tx: Db, id: number, asked: 'pause' | 'resume'): Promise<Rollout> {
  const row = await findRollout(tx, id)
  if (rolloutAllowedIn[asked].some((state) => state === row.state)) return row
  throw new Failure('wrong-state', `rollout ${id} is ${row.state}: there is nothing to ${asked}`, { at: 'rollout' })
}
