// The Control Port's handlers: one a contract entry, each a straight line from input to rows and back.
import { statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import { countStates, openDeployments } from '../db/deployments.ts'
import { addEvent, listEvents } from '../db/events.ts'
import { addHost, changeHost, countHosts, findHosts, removeHost } from '../db/hosts.ts'
import { listImages } from '../db/images.ts'
import { rebootsOf } from '../db/reboots.ts'
import { findSetup, listSetups } from '../db/setups.ts'
import { findTask } from '../db/tasks.ts'
import { Failure } from '../model/failure.ts'
import { auditHandlers } from './audit.ts'
import { bootHandlers, profileHandlers, refuseUnknownProfile } from './boot.ts'
import { captureHandlers } from './captures.ts'
import { eraseHandlers } from './erasures.ts'
import { explainHandlers } from './explain.ts'
import { imageHandlers } from './image-handlers.ts'
import { keyHandlers } from './keys.ts'
import { hostsOf } from './nodeset.ts'
import { storedPowerMethods } from './power.ts'
import { preflightHandlers } from './preflight.ts'
import { keepProofsOf, proofHandlers } from './proof.ts'
import { holdHandlers } from './rollout-holds.ts'
import { rolloutHandlers } from './rollouts.ts'
import { scriptHandlers, setupHandlers } from './setups.ts'
import { swarmHandlers } from './swarm.ts'
import { sessionHandlers, tokenHandlers, userHandlers } from './users.ts'
import { version } from './version.ts'
import { dateTime, eventView, hostViews, taskView } from './views.ts'
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
    ...holdHandlers(world),
    ...captureHandlers(world),
    ...eraseHandlers(world),
    ...swarmHandlers(world),
    ...explainHandlers(world),
    ...proofHandlers(world),
    ...preflightHandlers(world),
    ...eventHandlers(world),
    ...sessionHandlers(world),
    ...userHandlers(world),
    ...tokenHandlers(world),
    ...auditHandlers(world),
    ...keyHandlers(world),
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

function hostHandlers(world: World): Some<'addHost' | 'changeHost' | 'removeHost' | 'getHost' | 'listHosts'> {
  const { db, keyring, now } = world
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
        const open = (await openDeployments(tx, [host.id])).get(host.id)
        if (open) throw new Failure('in-use', `${name} is in rollout ${open.rollout_id}: cancel it there first`)
        await keepProofsOf(world, tx, host.id)
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
