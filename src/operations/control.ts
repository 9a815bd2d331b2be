// The Control Port's handlers: one a contract entry, each a straight line from input to rows and back.
import { statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { controlOperations } from '../contract/control.ts'
import type { Caller, Handlers, Input } from '../contract/operation.ts'
import { bootRecordsOf, releaseBootRecord, setBootTarget } from '../db/boot.ts'
import {
  activeDeployments,
  addRollout,
  countStates,
  deploymentsOf,
  findDeployment,
  findRollout,
  listRollouts,
  moveDeployment,
} from '../db/deployments.ts'
import { about, addEvent, listEvents } from '../db/events.ts'
import {
  addHost,
  changeHost,
  countHosts,
  findHosts,
  type Host,
  interfacesOf,
  powerMethodsOf,
  removeHost,
} from '../db/hosts.ts'
import { findImage, type Image, listImages } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { findSetup, listSetups, putSetup, type StoredSetup } from '../db/setups.ts'
import { findTask } from '../db/tasks.ts'
import { readForms } from '../image/forms.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { allowedIn } from '../model/deployment.ts'
import { Failure, invariant } from '../model/failure.ts'
import { formatImageReference, parseImageReference } from '../model/image.ts'
import { imagesOf } from '../model/layout.ts'
import { parseSetup } from '../model/setup.ts'
import { publishImage, withdrawImage } from './images.ts'
import { hostsOf } from './nodeset.ts'
import { storedPowerMethods } from './power.ts'
import { swarmHandlers } from './swarm.ts'
import { version } from './version.ts'
import { dateTime, deploymentView, eventView, hostViews, imageView, rolloutViews, taskView } from './views.ts'
import type { World } from './world.ts'

export function controlHandlers(world: World): Handlers<typeof controlOperations> {
  return {
    ...statusHandlers(world),
    ...hostHandlers(world),
    ...setupHandlers(world),
    ...imageHandlers(world),
    ...bootHandlers(world),
    ...rolloutHandlers(world),
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
      return { task: taskView(await findTask(db, task)) }
    },
  }
}

function hostHandlers({
  db,
  keyring,
  now,
}: World): Some<'addHost' | 'changeHost' | 'removeHost' | 'getHost' | 'listHosts'> {
  const viewOf = async (name: string) => {
    const [view] = await hostViews(db, await findHosts(db, [name]))
    if (!view) throw new Failure('unknown-host', `there is no host ${name}`, { at: 'name' })
    return { host: view }
  }
  return {
    async addHost(input) {
      const powerMethods = storedPowerMethods(keyring, input.powerMethods)
      await db.transaction().execute(async (tx) => {
        if (input.setup !== undefined) await findSetup(tx, input.setup)
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
      return { hosts: await hostViews(db, await hostsOf(db, nodeset)) }
    },
  }
}

function setupView(stored: StoredSetup) {
  const { layout } = parseSetup(stored.xml)
  return {
    name: stored.name,
    version: stored.version,
    createdAt: dateTime(stored.created_at),
    images: imagesOf(layout).map(formatImageReference),
  }
}

function setupHandlers({ db, now }: World): Some<'putSetup' | 'validateSetup' | 'getSetup' | 'listSetups'> {
  return {
    async putSetup({ xml }) {
      const setup = parseSetup(xml)
      const images = imagesOf(setup.layout)
      const stored = await db.transaction().execute(async (tx) => {
        for (const image of images) await findImage(tx, image)
        return await putSetup(tx, { name: setup.name, xml, images }, now())
      })
      return { setup: setupView(stored) }
    },
    async validateSetup({ xml }) {
      const setup = parseSetup(xml)
      return { name: setup.name, images: imagesOf(setup.layout).map(formatImageReference) }
    },
    async getSetup({ reference }) {
      const stored = await findSetup(db, reference)
      return { setup: setupView(stored), xml: stored.xml }
    },
    async listSetups() {
      return { setups: (await listSetups(db)).map(setupView) }
    },
  }
}

function imageHandlers(world: World): Some<'publishImage' | 'getImage' | 'listImages' | 'removeImage'> {
  const { db } = world
  return {
    async publishImage({ reference, path }) {
      return { task: taskView(await publishImage(world, parseImageReference(reference), path)) }
    },
    async getImage({ reference }) {
      return { image: imageView(await findImage(db, parseImageReference(reference))) }
    },
    async listImages() {
      return { images: (await listImages(db)).map(imageView) }
    },
    async removeImage({ reference }) {
      await withdrawImage(world, parseImageReference(reference))
      return {}
    },
  }
}

function bootHandlers({ db, now }: World): Some<'setBoot' | 'listBoot'> {
  const views = async (hosts: readonly Host[]) => {
    const records = await bootRecordsOf(
      db,
      hosts.map((host) => host.id),
    )
    return hosts.flatMap((host) => {
      const record = records.get(host.id)
      if (!record) return []
      return {
        host: host.name,
        target: record.target,
        defaultTarget: record.default_target,
        changedAt: dateTime(record.changed_at),
        ...(record.deployment_id === null ? {} : { deployment: record.deployment_id }),
      }
    })
  }
  return {
    async setBoot({ nodeset, target, asDefault }) {
      const hosts = await db.transaction().execute(async (tx) => {
        const found = await hostsOf(tx, nodeset)
        refuseBusy(await activeDeployments(tx), found, 'are being deployed: cancel that first')
        for (const host of found) {
          await setBootTarget(tx, host.id, { target, asDefault: asDefault ?? false }, now())
          const text = `boots ${target} next${asDefault ? ', and by default' : ''}`
          await addEvent(tx, { source: 'control', kind: 'boot-set', text, hostId: host.id }, now())
        }
        return found
      })
      return { records: await views(hosts) }
    },
    async listBoot({ nodeset }) {
      return { records: await views(await hostsOf(db, nodeset)) }
    },
  }
}

function refuseBusy(active: ReadonlyMap<number, unknown>, hosts: readonly Host[], sentence: string): void {
  const busy = hosts.filter((host) => active.has(host.id)).map((host) => host.name)
  if (busy.length > 0) throw new Failure('wrong-state', `${foldNodeset(busy)} ${sentence}`, { at: 'nodeset' })
}

function rolloutHandlers({
  db,
  library,
  log,
  now,
}: World): Some<'startRollout' | 'getRollout' | 'listRollouts' | 'cancelRollout' | 'getDeployment'> {
  const viewOf = async (id: number) => {
    const [rollout] = await rolloutViews(db, [await findRollout(db, id)], now())
    if (!rollout) throw new Failure('unknown-rollout', `there is no rollout ${id}`, { at: 'rollout' })
    return { rollout }
  }
  return {
    async startRollout({ nodeset, max, ...wanted }) {
      const { rolloutId, digests } = await db.transaction().execute(async (tx) => {
        const hosts = await hostsOf(tx, nodeset)
        if (hosts.length > (max ?? hosts.length)) {
          throw new Failure('bad-input', `the nodeset has ${hosts.length} hosts, more than the ${max} allowed`, {
            at: 'max',
          })
        }
        return await startRollout(tx, hosts, wanted, now())
      })
      // An image of an older version gets its torrent while the machines boot; what is wrong with it, agents will be told.
      for (const digest of digests) {
        readForms(library, digest).catch((error: unknown) =>
          log.warn({ err: error, digest }, 'an image has no torrent'),
        )
      }
      return await viewOf(rolloutId)
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
        await cancel(tx, rollout, only, caller, now())
      })
      return await viewOf(rollout)
    },
    async getDeployment({ deployment }) {
      return { deployment: deploymentView(await findDeployment(db, deployment), now()) }
    },
  }
}

/** Writes the rollout and points every host at the scout, all or nothing (design, step 2). */
async function startRollout(
  tx: Db,
  hosts: readonly Host[],
  { setup, ...overriding }: Omit<Input<typeof controlOperations.startRollout>, 'nodeset' | 'max'>,
  now: number,
): Promise<{ rolloutId: number; digests: string[] }> {
  if (hosts.length === 0) throw new Failure('bad-input', 'the nodeset has no hosts', { at: 'nodeset' })
  const references = new Set(hosts.map((host) => setup ?? host.setup))
  const [reference] = references
  if (references.size > 1 || reference === undefined || reference === null) {
    throw new Failure('bad-input', 'name the setup: the hosts have none, or different ones, of their own', {
      at: 'setup',
    })
  }
  const stored = await findSetup(tx, reference)
  const { layout, transfer, redeploy } = parseSetup(stored.xml)
  const found: Image[] = []
  for (const reference of imagesOf(layout)) found.push(await findImage(tx, reference))
  const [first, ...more] = found
  invariant(first, 'a setup names an image')
  const ids = hosts.map((host) => host.id)
  refuseBusy(await activeDeployments(tx), hosts, 'are in another rollout: wait for it or cancel it')
  refuseLacking(hosts, await powerMethodsOf(tx, ids), 'no-power-method', 'have no power method')
  refuseLacking(hosts, await interfacesOf(tx, ids), 'wrong-state', 'have no interface to boot from')
  const { rolloutId, deployments } = await addRollout(
    tx,
    { setupId: stored.id, images: [first, ...more], hostIds: ids, policy: { ...transfer, redeploy, ...overriding } },
    now,
  )
  for (const [hostId, deploymentId] of deployments) {
    await setBootTarget(tx, hostId, { target: 'scout', deploymentId }, now)
    const text = `rollout ${rolloutId} deploys ${stored.name}:${stored.version} with ${found.map(formatImageReference).join(', ')}`
    await addEvent(tx, { source: 'control', kind: 'rollout-started', text, hostId, deploymentId }, now)
  }
  return { rolloutId, digests: found.map(({ digest }) => digest) }
}

function refuseLacking(
  hosts: readonly Host[],
  have: ReadonlyMap<number, readonly unknown[]>,
  code: 'no-power-method' | 'wrong-state',
  sentence: string,
): void {
  const lacking = hosts.filter((host) => (have.get(host.id) ?? []).length === 0).map((host) => host.name)
  if (lacking.length > 0) throw new Failure(code, `${foldNodeset(lacking)} ${sentence}`, { at: 'nodeset' })
}

async function cancel(
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
