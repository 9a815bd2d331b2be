// The Control Port's handlers of hosts: one by one, and many at once from a file.
import type { controlOperations } from '../contract/control.ts'
import type { Caller, Handlers, Input } from '../contract/operation.ts'
import { openDeployments } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { pageOfHosts } from '../db/host-list.ts'
import { addHost, changeHost, findHosts, removeHost } from '../db/hosts.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { findSetup } from '../db/setups.ts'
import { Failure } from '../model/failure.ts'
import { refuseUnknownProfile } from './boot.ts'
import { hostIdsOf } from './nodeset.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { storedPowerMethods } from './power.ts'
import { keepProofsOf } from './proof.ts'
import { hostViews } from './views.ts'
import type { World } from './world.ts'

type Names = 'addHost' | 'changeHost' | 'removeHost' | 'getHost' | 'listHosts'

export function hostHandlers(world: World): Pick<Handlers<typeof controlOperations>, Names> {
  const { db, now } = world
  return {
    async addHost(input, caller) {
      return await db.transaction().execute(async (tx) => await addOne(world, tx, input, caller))
    },
    async changeHost(input) {
      return await db.transaction().execute(async (tx) => await changeOne(world, tx, input))
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
      return await hostView(world, db, name)
    },
    async listHosts({ nodeset, sort, limit, cursor, ...filter }) {
      const ids = await hostIdsOf(db, nodeset)
      const page = await pageOfHosts(db, { ids, ...filter }, sort ?? 'name', pageOf({ limit, cursor }))
      return { hosts: await hostViews(db, page.rows, now()), ...nextOf(page) }
    },
  }
}

/** One host as the contract shows it. Failure `unknown-host`. */
export async function hostView({ now }: World, db: Db, name: string) {
  const [host] = await hostViews(db, await findHosts(db, [name]), now())
  if (!host) throw new Failure('unknown-host', `there is no host ${name}`, { at: 'name' })
  return { host }
}

/** Makes a host known, in a transaction of the caller's. */
export async function addOne(world: World, tx: Db, input: Input<typeof controlOperations.addHost>, caller?: Caller) {
  await addHostRow(world, tx, input)
  return await answerAdded(world, tx, input.name, caller)
}

/** The rows of a new host, for who has more to add before it answers. Returns its id. */
export async function addHostRow(
  world: World,
  tx: Db,
  input: Input<typeof controlOperations.addHost>,
): Promise<number> {
  const { keyring, now } = world
  const powerMethods = storedPowerMethods(keyring, input.powerMethods)
  if (input.setup !== undefined) await findSetup(tx, input.setup)
  await refuseUnknownProfile(tx, input.defaultTarget, 'defaultTarget')
  const { loader = 'auto', defaultTarget = 'local' } = input
  const hostId = await addHost(tx, { ...input, loader, defaultTarget, powerMethods }, now())
  const text = `host ${input.name} was added`
  await addEvent(tx, { source: 'control', kind: 'host-added', text, hostId }, now())
  return hostId
}

/** The new host, kept as the answer of this call. */
export async function answerAdded(world: World, tx: Db, name: string, caller?: Caller) {
  const answer = await hostView(world, tx, name)
  await recordAnswer(tx, caller && onceOf(caller), answer)
  return answer
}

/** Changes what is given of a host, in a transaction of the caller's. */
export async function changeOne(
  world: World,
  tx: Db,
  { name, powerMethods, ...change }: Input<typeof controlOperations.changeHost>,
) {
  const { keyring, now } = world
  const sealed = powerMethods === undefined ? {} : { powerMethods: storedPowerMethods(keyring, powerMethods) }
  const [host] = await findHosts(tx, [name])
  if (host) {
    if (change.setup !== undefined) await findSetup(tx, change.setup)
    await refuseUnknownProfile(tx, change.defaultTarget, 'defaultTarget')
    await changeHost(tx, host.id, { ...change, ...sealed }, now())
    const text = `host ${name} was changed`
    await addEvent(tx, { source: 'control', kind: 'host-changed', text, hostId: host.id }, now())
  }
  return await hostView(world, tx, name)
}
