// The Control Port's handlers of rollouts: planning, starting and watching. What goes on by itself after that is the
// conductor's and the engine's; rollout-holds.ts has what people do to one that goes on.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers, Input } from '../contract/operation.ts'
import { addRollout, findDeployment, findRollout, pageOfDeployments, pageOfRollouts } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import type { Host } from '../db/hosts.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { armBootRecord } from '../db/rollouts.ts'
import { keepScripts } from '../db/scripts.ts'
import { readForms } from '../image/forms.ts'
import { expandNodeset, foldNodeset, NodesetError } from '../lib/nodeset.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { beginsAtOnce } from '../model/rollout-policy.ts'
import { hostIdsOf, hostsOf, namesMeant } from './nodeset.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { type Plan, type PlanOrder, planRollout, refuseImpossible, someOf } from './plan.ts'
import { planView } from './plan-view.ts'
import { rolloutView, rolloutViews } from './rollout-views.ts'
import { deploymentView } from './views.ts'
import type { World } from './world.ts'

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

export function rolloutHandlers(
  world: World,
): Some<'startRollout' | 'planRollout' | 'getRollout' | 'listRollouts' | 'getDeployment' | 'listDeployments'> {
  const { db, library, log, now } = world
  const viewOf = async (id: number, tx: Db = db) => ({ rollout: await rolloutView(tx, id, now()) })
  return {
    async startRollout(input, caller) {
      const { rolloutId, digests } = await db.transaction().execute(async (tx) => {
        const started = await startRollout(world, tx, input)
        await recordAnswer(tx, onceOf(caller), await viewOf(started.rolloutId, tx))
        return started
      })
      // An image of an older version gets its torrent while the machines boot; what is wrong with it, agents will be told.
      for (const digest of digests) {
        readForms(library, digest).catch((error: unknown) =>
          log.warn({ err: error, digest }, 'an image has no torrent'),
        )
      }
      return await viewOf(rolloutId)
    },
    async planRollout({ nodeset, max, ...order }) {
      // In one transaction, so that all of it was true at one moment.
      return await db.transaction().execute(async (tx) => {
        const plan = await planFor(world, tx, { nodeset, max, order })
        return { plan: await planView(tx, plan, world.confirmAbove) }
      })
    },
    async getRollout({ rollout }) {
      return await viewOf(rollout)
    },
    async listRollouts({ active, ...input }) {
      const page = await pageOfRollouts(db, active, pageOf(input, 20))
      return { rollouts: await rolloutViews(db, page.rows, now()), ...nextOf(page) }
    },
    async getDeployment({ deployment }) {
      return { deployment: deploymentView(await findDeployment(db, deployment), now()) }
    },
    async listDeployments({ rollout, nodeset, state, ...input }) {
      if (rollout !== undefined) await findRollout(db, rollout)
      const hostIds = await hostIdsOf(db, nodeset)
      const page = await pageOfDeployments(db, { rollout, hostIds, state }, pageOf(input))
      const at = now()
      return { deployments: page.rows.map((row) => deploymentView(row, at)), ...nextOf(page) }
    },
  }
}

type Order = Omit<Input<typeof controlOperations.planRollout>, 'nodeset' | 'max'>

async function planFor(
  world: World,
  tx: Db,
  { nodeset, max, order }: { nodeset: string; max: number | undefined; order: Order },
): Promise<Plan> {
  const hosts = await hostsWithin(tx, nodeset, max)
  const { includeProtected, ...rest } = order
  const planOrder: PlanOrder = { ...rest, protectedMeant: namesMeant(includeProtected) }
  return await planRollout(world, tx, { hosts, ...planOrder })
}

async function hostsWithin(tx: Db, nodeset: string, max: number | undefined): Promise<Host[]> {
  const hosts = await hostsOf(tx, nodeset)
  if (hosts.length <= (max ?? hosts.length)) return hosts
  throw new Failure('bad-input', `the nodeset has ${hosts.length} hosts, more than the ${max} allowed`, { at: 'max' })
}

/** Writes the rollout and points every host that begins now at the scout, all or nothing (design, step 2). */
async function startRollout(
  world: World,
  tx: Db,
  { nodeset, max, confirm, ...input }: Input<typeof controlOperations.startRollout>,
): Promise<{ rolloutId: number; digests: string[] }> {
  const now = world.now()
  const { engine, redeploy, egressBytesPerSecond, ingressBytesPerSecond, ...order } = input
  const plan = await planFor(world, tx, { nodeset, max, order })
  refuseEmpty(plan)
  refuseImpossible(plan)
  const hosts = plan.hosts.map(({ host }) => host)
  requireConfirmed(hosts, confirm, world.confirmAbove)
  const { stored, images, scripts, policy, excluded } = plan
  const overriding = { engine, redeploy, egressBytesPerSecond, ingressBytesPerSecond }
  const given = Object.fromEntries(Object.entries(overriding).filter(([, value]) => value !== undefined))
  const isWaiting = !beginsAtOnce(policy) || plan.hosts.some(({ behind }) => behind !== undefined)
  const { rolloutId, deployments } = await addRollout(
    tx,
    {
      setupId: stored.id,
      images,
      hostIds: hosts.map((host) => host.id),
      policy: { ...plan.setup.transfer, redeploy: plan.setup.redeploy, ...given },
      acceptNewDisk: order.acceptNewDisk,
      conduct: { policy, isWaiting, excluded },
    },
    now,
  )
  await keepScripts(tx, rolloutId, scripts)
  const names = images.map(formatImageReference).join(', ')
  for (const [hostId, deploymentId] of deployments) {
    if (!isWaiting && !(await armBootRecord(tx, hostId, deploymentId, now))) {
      throw new Failure('wrong-state', 'another rollout began at this moment with the same hosts', { at: 'nodeset' })
    }
    const text = `rollout ${rolloutId} deploys ${stored.name}:${stored.version} with ${names}`
    await addEvent(tx, { source: 'control', kind: 'rollout-started', text, hostId, deploymentId }, now)
  }
  return { rolloutId, digests: images.map(({ digest }) => digest) }
}

function refuseEmpty({ hosts, excluded }: Plan): void {
  if (hosts.length > 0) return
  const why = [...new Set(excluded.map(({ reason }) => reason))].join(', ')
  throw new Failure('bad-input', `no host is left: all ${excluded.length} are excluded (${why})`, { at: 'exclude' })
}

/**
 * Many hosts begin only when whoever asks has said how many or which: a nodeset may name more than was thought. What was
 * said of fewer must be right, too. Failure `confirm-needed`.
 */
function requireConfirmed(hosts: readonly Host[], confirm: string | undefined, above: number): void {
  const names = hosts.map(({ name }) => name)
  if (confirm === undefined && names.length <= above) return
  if (confirm !== undefined && isMeant(names, confirm.trim())) return
  const said = confirm === undefined ? 'and nothing was confirmed' : `and \`${confirm}\` was confirmed`
  const sentence = `this deploys to ${names.length} hosts, ${someOf(names)}, ${said}: confirm ${names.length} if all of them are meant`
  throw new Failure('confirm-needed', sentence, { at: 'confirm' })
}

function isMeant(names: readonly string[], confirm: string): boolean {
  if (confirm === String(names.length) || confirm === foldNodeset(names)) return true
  try {
    const confirmed = new Set(expandNodeset(confirm))
    return confirmed.size === names.length && names.every((name) => confirmed.has(name))
  } catch (error) {
    if (error instanceof NodesetError) return false
    throw error
  }
}
