// The Control Port's handlers of machines that nobody has made known.
import type { discoveryOperations } from '../contract/discovery.ts'
import type { Handlers } from '../contract/operation.ts'
import {
  type Discovered,
  discoveryPolicy,
  findDiscovered,
  pageOfDiscovered,
  removeDiscovered,
  setDiscoveredState,
  setDiscoveryPolicy,
} from '../db/discovered.ts'
import { addEvent } from '../db/events.ts'
import { addOne } from './hosts.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime } from './views.ts'
import type { World } from './world.ts'

export function discoveryHandlers(world: World): Handlers<typeof discoveryOperations> {
  const { db, now } = world
  return {
    async listDiscovered({ state, ...input }) {
      const page = await pageOfDiscovered(db, state, pageOf(input))
      return { machines: page.rows.map(machineView), policy: await discoveryPolicy(db), ...nextOf(page) }
    },
    async approveDiscovered({ mac, ip, powerMethods = [], ...given }, caller) {
      return await db.transaction().execute(async (tx) => {
        const machine = await findDiscovered(tx, mac)
        const interfaces = [{ mac: machine.mac, ...(ip === undefined ? {} : { ip }) }]
        const answer = await addOne(world, tx, { ...given, interfaces, powerMethods }, caller)
        await removeDiscovered(tx, machine.id)
        return answer
      })
    },
    async ignoreDiscovered({ mac, ignore = true }) {
      return await db.transaction().execute(async (tx) => {
        const { id } = await findDiscovered(tx, mac)
        await setDiscoveredState(tx, id, ignore ? 'ignored' : 'waiting')
        return { machine: machineView(await findDiscovered(tx, mac)) }
      })
    },
    async setDiscovery({ policy }) {
      await db.transaction().execute(async (tx) => {
        await setDiscoveryPolicy(tx, policy)
        const text = `machines that are no host are told: ${policy}`
        await addEvent(tx, { source: 'control', kind: 'discovery-set', text }, now())
      })
      return { policy }
    },
  }
}

function machineView({ mac, state, source, said, sightings, first_seen_at, last_seen_at }: Discovered) {
  return {
    mac,
    state,
    source,
    said,
    sightings,
    firstSeenAt: dateTime(first_seen_at),
    lastSeenAt: dateTime(last_seen_at),
  }
}
