// Doing hosts of a rollout again: each gets a new deployment in the same rollout, by the same setup, images and policy; the
// old one stays as it ended.
import { addDeployment, findRollout, imagesOfRollout, type Rollout } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { findHosts, type Host } from '../db/hosts.ts'
import type { Db } from '../db/open.ts'
import { acceptEnds, currentDeployments, policyOf, setStanding } from '../db/rollouts.ts'
import { setupById } from '../db/setups.ts'
import { resumedPolicy, tallyOf } from '../model/conduct.ts'
import { allowedIn, type DeploymentState } from '../model/deployment.ts'
import { Failure } from '../model/failure.ts'
import type { Policy } from '../model/rollout-policy.ts'
import { type Plan, planRollout, refuseImpossible, someOf } from './plan.ts'
import { take } from './turn.ts'
import type { World } from './world.ts'

type Which = {
  readonly rollout: number
  readonly which?: 'failed' | 'not-done'
  /** Only these hosts, by id, failed or cancelled. */
  readonly chosen?: ReadonlySet<number> | undefined
  readonly protectedMeant: ReadonlySet<string>
}

/** Writes the new deployments and returns their ids; the conductor lets them begin. Call it in a transaction. */
export async function retryDeployments(world: World, tx: Db, of: Which): Promise<number[]> {
  const now = world.now()
  const rollout = await findRollout(tx, of.rollout)
  const members = await currentDeployments(tx, rollout.id)
  const again = chosenOf(members, of)
  refuseOther(again)
  await refuseChanged(world, tx, { rollout, hosts: await hostsIn(tx, again), protectedMeant: of.protectedMeant })
  const rest = members.filter((row) => !again.includes(row))
  const policy = policyAgain(policyOf(rollout), rest)
  const state = rollout.state === 'paused' ? 'paused' : 'running'
  const reason = state === 'paused' ? rollout.state_reason : null
  await take(tx, rollout, { state, reason, policy })
  const ids: number[] = []
  for (const row of again) {
    await setStanding(tx, row.id, 'retried')
    const { setup_id: setupId, kind, position, wave, image_digest: imageDigest, host_id: hostId } = row
    const place = { rolloutId: rollout.id, hostId, setupId, kind, position, wave, imageDigest }
    const id = await addDeployment(tx, { ...place, state: 'waiting', retryOf: row.id }, now)
    const text = `rollout ${rollout.id} does it again, after deployment ${row.id} was ${row.state}`
    await addEvent(tx, { source: 'control', kind: 'retried', text, hostId, deploymentId: id }, now)
    ids.push(id)
  }
  // Whoever does some again has seen how the others ended.
  await acceptEnds(tx, rollout.id)
  return ids
}

type Row = Awaited<ReturnType<typeof currentDeployments>>[number]

/** Failure `wrong-state` when there are none, or when one that is chosen cannot be done again. */
function chosenOf(members: readonly Row[], { rollout, which = 'failed', chosen }: Which): Row[] {
  const mayRetry = ({ state }: Row) => (allowedIn.retry as readonly DeploymentState[]).includes(state)
  if (chosen !== undefined) {
    const rows = members.filter(({ host_id }) => chosen.has(host_id))
    const others = rows.filter((row) => !mayRetry(row))
    if (rows.length < chosen.size) {
      const sentence = `${chosen.size - rows.length} of the hosts are not in rollout ${rollout}: start another for them`
      throw new Failure('wrong-state', sentence, { at: 'nodeset' })
    }
    if (others.length === 0) return rows
    const states = [...new Set(others.map(({ state }) => state))].join(', ')
    const names = someOf(others.map(({ host }) => host))
    throw new Failure('wrong-state', `${names}: ${states}, and only what failed or was cancelled is done again`, {
      at: 'nodeset',
    })
  }
  const rows = members.filter((row) => (which === 'failed' ? row.state === 'failed' : mayRetry(row)))
  if (rows.length > 0) return rows
  const nothing = which === 'failed' ? 'no host of it has failed' : 'all of its hosts are done or under way'
  throw new Failure('wrong-state', `there is nothing to do again in rollout ${rollout}: ${nothing}`, { at: 'rollout' })
}

function refuseOther(rows: readonly Row[]): void {
  const other = rows.find(({ kind }) => kind !== 'deploy')
  if (!other) return
  throw new Failure('wrong-state', `deployment ${other.id} is of kind ${other.kind}: order it anew`, { at: 'rollout' })
}

async function hostsIn(tx: Db, rows: readonly Row[]): Promise<Host[]> {
  return await findHosts(
    tx,
    rows.map(({ host }) => host),
  )
}

/** Plans the hosts again: what would refuse them now refuses the retry. */
async function refuseChanged(
  world: World,
  tx: Db,
  of: { rollout: Rollout; hosts: readonly Host[]; protectedMeant: ReadonlySet<string> },
): Promise<void> {
  const { rollout, hosts, protectedMeant } = of
  const { name, version } = await setupById(tx, rollout.setup_id)
  const order = { setup: `${name}:${version}`, acceptNewDisk: rollout.accept_new_disk === 1, protectedMeant }
  const plan: Plan = await planRollout(world, tx, { hosts, ...order })
  refuseImpossible(plan)
  const now = plan.images.map(({ digest }) => digest).join()
  const then = (await imagesOfRollout(tx, rollout.id)).map(({ digest }) => digest).join()
  if (now === then) return
  const sentence = `an image of setup ${order.setup} is another one now than when rollout ${rollout.id} began: start a new rollout`
  throw new Failure('wrong-state', sentence, { at: 'rollout' })
}

/** The policy for those done again: a quorum that is reached, and a canary that did not end well, hold them up no more. */
function policyAgain(policy: Policy, rest: readonly Row[]): Policy {
  const isEnough = policy.quorum !== undefined && tallyOf(rest).done >= policy.quorum
  return resumedPolicy(isEnough ? { ...policy, goesOn: true } : policy, rest)
}
