// The Control Port's handlers: one a contract entry, each a straight line from input to rows and back.
import { statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers, Input } from '../contract/operation.ts'
import { setBootTarget } from '../db/boot.ts'
import {
  activeDeployments,
  addRollout,
  countStates,
  findDeployment,
  findRollout,
  listRollouts,
} from '../db/deployments.ts'
import { addEvent, listEvents } from '../db/events.ts'
import { addHost, changeHost, countHosts, findHosts, type Host, removeHost } from '../db/hosts.ts'
import { listImages } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { rebootsOf } from '../db/reboots.ts'
import { keepScripts } from '../db/scripts.ts'
import { findSetup, listSetups } from '../db/setups.ts'
import { findTask } from '../db/tasks.ts'
import { readForms } from '../image/forms.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { bootHandlers, profileHandlers, refuseUnknownProfile } from './boot.ts'
import { cancelDeployments } from './cancel.ts'
import { captureHandlers } from './captures.ts'
import { eraseHandlers } from './erasures.ts'
import { imageHandlers } from './image-handlers.ts'
import { hostsOf } from './nodeset.ts'
import { planRollout, planView, refuseImpossible } from './plan.ts'
import { storedPowerMethods } from './power.ts'
import { scriptHandlers, setupHandlers } from './setups.ts'
import { swarmHandlers } from './swarm.ts'
import { version } from './version.ts'
import { dateTime, deploymentView, eventView, hostViews, rolloutViews, taskView } from './views.ts'
import type { World } from './world.ts'

export function controlHandlers(world: World): Handlers<typeof controlOperations> {
  return {
    ...statusHandlers(world),
    ...hostHandlers(world),
    ...setupHandlers(world),
    ...scriptHandlers(world),
    ...imageHandlers(world),
    ...bootHandlers(world),
    ...profileHandlers(world),
    ...rolloutHandlers(world),
    ...captureHandlers(world),
    ...eraseHandlers(world),
    ...swarmHandlers(world),
    ...eventHandlers(world),
  }
}

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

function statusHandlers({ db, library, startedAt, services }: World): Some<'getStatus' | 'getTask'> {
  return {
    async getStatus() {
      const { bavail, bsize } = await statfs(library.folder)
      return {
        version,
        startedAt: dateTime(startedAt),
        hosts: await countHosts(db),
        images: (await listImages(db)).length,
        setups: (await listSetups(db)).length,
        states: await countStates(db),
        freeBytes: bavail * bsize,
        services: [...services],
      }
    },
    async getTask({ task }) {
      const found = await findTask(db, task)
      return { task: taskView(found, found.kind === 'reboot' ? await rebootsOf(db, found.id) : undefined) }
    },
  }
}

function hostHandlers({
  db,
  keyring,
  now,
}: World): Some<'addHost' | 'changeHost' | 'removeHost' | 'getHost' | 'listHosts'> {
  const viewOf = async (name: string) => {
    const [view] = await hostViews(db, await findHosts(db, [name]), now())
    if (!view) throw new Failure('unknown-host', `there is no host ${name}`, { at: 'name' })
    return { host: view }
  }
  return {
    async addHost(input) {
      const powerMethods = storedPowerMethods(keyring, input.powerMethods)
      await db.transaction().execute(async (tx) => {
        if (input.setup !== undefined) await findSetup(tx, input.setup)
        await refuseUnknownProfile(tx, input.defaultTarget, 'defaultTarget')
        const host = {
          ...input,
          loader: input.loader ?? 'auto',
          defaultTarget: input.defaultTarget ?? 'local',
          powerMethods,
        }
        const hostId = await addHost(tx, host, now())
        await addEvent(
          tx,
          { source: 'control', kind: 'host-added', text: `host ${input.name} was added`, hostId },
          now(),
        )
      })
      return await viewOf(input.name)
    },
    async changeHost({ name, powerMethods, ...change }) {
      const sealed = powerMethods === undefined ? {} : { powerMethods: storedPowerMethods(keyring, powerMethods) }
      await db.transaction().execute(async (tx) => {
        const [host] = await findHosts(tx, [name])
        if (!host) return
        if (change.setup !== undefined) await findSetup(tx, change.setup)
        await refuseUnknownProfile(tx, change.defaultTarget, 'defaultTarget')
        await changeHost(tx, host.id, { ...change, ...sealed }, now())
        await addEvent(
          tx,
          { source: 'control', kind: 'host-changed', text: `host ${name} was changed`, hostId: host.id },
          now(),
        )
      })
      return await viewOf(name)
    },
    async removeHost({ name }) {
      await db.transaction().execute(async (tx) => {
        const [host] = await findHosts(tx, [name])
        if (!host) return
        const active = (await activeDeployments(tx, [host.id])).get(host.id)
        if (active) throw new Failure('in-use', `rollout ${active.rollout_id} is deploying ${name}: cancel it first`)
        await removeHost(tx, host.id)
        await addEvent(tx, { source: 'control', kind: 'host-removed', text: `host ${name} was removed` }, now())
      })
      return {}
    },
    async getHost({ name }) {
      return await viewOf(name)
    },
    async listHosts({ nodeset }) {
      return { hosts: await hostViews(db, await hostsOf(db, nodeset), now()) }
    },
  }
}

type RolloutNames = 'startRollout' | 'planRollout' | 'getRollout' | 'listRollouts' | 'cancelRollout' | 'getDeployment'

function rolloutHandlers(world: World): Some<RolloutNames> {
  const { db, library, log, now } = world
  const viewOf = async (id: number) => {
    const [rollout] = await rolloutViews(db, [await findRollout(db, id)], now())
    if (!rollout) throw new Failure('unknown-rollout', `there is no rollout ${id}`, { at: 'rollout' })
    return { rollout }
  }
  return {
    async startRollout(input) {
      const { rolloutId, digests } = await db.transaction().execute((tx) => startRollout(world, tx, input))
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
      const plan = await db.transaction().execute(async (tx) => {
        const hosts = await hostsWithin(tx, nodeset, max)
        return await planRollout(world, tx, { hosts, ...order })
      })
      return { plan: planView(plan) }
    },
    async getRollout({ rollout }) {
      return await viewOf(rollout)
    },
    async listRollouts({ limit }) {
      return { rollouts: await rolloutViews(db, await listRollouts(db, limit ?? 20), now()) }
    },
    async cancelRollout({ rollout, nodeset }, caller) {
      await db.transaction().execute(async (tx) => {
        await findRollout(tx, rollout)
        const only = nodeset === undefined ? undefined : new Set((await hostsOf(tx, nodeset)).map((host) => host.id))
        await cancelDeployments(tx, rollout, only, caller, now())
      })
      return await viewOf(rollout)
    },
    async getDeployment({ deployment }) {
      return { deployment: deploymentView(await findDeployment(db, deployment), now()) }
    },
  }
}

async function hostsWithin(tx: Db, nodeset: string, max: number | undefined): Promise<Host[]> {
  const hosts = await hostsOf(tx, nodeset)
  if (hosts.length <= (max ?? hosts.length)) return hosts
  throw new Failure('bad-input', `the nodeset has ${hosts.length} hosts, more than the ${max} allowed`, { at: 'max' })
}

/** Writes the rollout and points every host at the scout, all or nothing (design, step 2). */
async function startRollout(
  world: World,
  tx: Db,
  { nodeset, max, setup, acceptNewDisk, ignoreInventory, ...overriding }: Input<typeof controlOperations.startRollout>,
): Promise<{ rolloutId: number; digests: string[] }> {
  const now = world.now()
  const hosts = await hostsWithin(tx, nodeset, max)
  const plan = await planRollout(world, tx, { hosts, setup, acceptNewDisk, ignoreInventory })
  refuseImpossible(plan)
  const { stored, images, scripts } = plan
  const hostIds = hosts.map((host) => host.id)
  const policy = { ...plan.setup.transfer, redeploy: plan.setup.redeploy, ...overriding }
  const { rolloutId, deployments } = await addRollout(
    tx,
    { setupId: stored.id, images, hostIds, policy, acceptNewDisk },
    now,
  )
  await keepScripts(tx, rolloutId, scripts)
  const names = images.map(formatImageReference).join(', ')
  for (const [hostId, deploymentId] of deployments) {
    await setBootTarget(tx, hostId, { target: 'scout', deploymentId }, now)
    const text = `rollout ${rolloutId} deploys ${stored.name}:${stored.version} with ${names}`
    await addEvent(tx, { source: 'control', kind: 'rollout-started', text, hostId, deploymentId }, now)
  }
  return { rolloutId, digests: images.map(({ digest }) => digest) }
}

/** How long a caller that waits for events is let wait between two looks. */
const eventLookMs = 200

function eventHandlers({ db, now }: World): Some<'listEvents'> {
  return {
    async listEvents({ nodeset, deployment, after, newest, limit, waitSeconds }) {
      const hostIds = nodeset === undefined ? undefined : (await hostsOf(db, nodeset)).map((host) => host.id)
      const which = { hostIds, deploymentId: deployment, after, newest, limit: limit ?? 1000 }
      const end = now() + (waitSeconds ?? 0) * 1000
      for (;;) {
        const events = await listEvents(db, which)
        if (events.length > 0 || now() >= end) return { events: events.map(eventView) }
        await delay(eventLookMs)
      }
    },
  }
}
