// Machines that nobody has made known: who decides on them by the Control Port, and the one report that each may make of itself.
import type { discoveryOperations, reportOperations } from '../contract/discovery.ts'
import type { Handlers } from '../contract/operation.ts'
import type { Inventory } from '../contract/types.ts'
import {
  type Discovered,
  discoveryPolicy,
  findDiscovered,
  inventoryBytesMax,
  keepReport,
  type ListedDiscovered,
  lookUpSeen,
  pageOfDiscovered,
  removeDiscovered,
  setDiscoveredState,
  setDiscoveryPolicy,
} from '../db/discovered.ts'
import { addEvent } from '../db/events.ts'
import { hostOfMacs, normalMac, putInventory } from '../db/hosts.ts'
import { isTooOld, oldestAgent } from '../model/agent-version.ts'
import { macsOf, sayFound } from '../model/discovery.ts'
import { Failure } from '../model/failure.ts'
import { reportToken } from '../model/token.ts'
import { bearer } from './agent-session.ts'
import { addHostRow, answerAdded } from './hosts.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime, present } from './views.ts'
import type { World } from './world.ts'

export function discoveryHandlers(world: World): Handlers<typeof discoveryOperations> {
  const { db, now } = world
  return {
    async listDiscovered({ state, ...input }) {
      const page = await pageOfDiscovered(db, state, pageOf(input))
      return { machines: page.rows.map(machineView), policy: await discoveryPolicy(db), ...nextOf(page) }
    },
    async getDiscovered({ mac }) {
      const machine = await findDiscovered(db, mac)
      return { machine: machineView(machine), ...present({ inventory: inventoryOf(machine) }) }
    },
    async approveDiscovered({ mac, ip, powerMethods = [], ...given }, caller) {
      return await db.transaction().execute(async (tx) => {
        const machine = await findDiscovered(tx, mac)
        const inventory = inventoryOf(machine)
        const macs = macsOf(machine.mac, inventory?.interfaces ?? [])
        const interfaces = macs.map((one, index) => ({ mac: one, ...(index === 0 ? present({ ip }) : {}) }))
        const hostId = await addHostRow(world, tx, { ...given, interfaces, powerMethods })
        if (machine.inventory !== null) await putInventory(tx, hostId, machine.inventory, machine.inventory_at ?? now())
        await removeDiscovered(tx, macs)
        return await answerAdded(world, tx, given.name, caller)
      })
    },
    async ignoreDiscovered({ mac, ignore = true }) {
      return await db.transaction().execute(async (tx) => {
        const { id } = await findDiscovered(tx, mac)
        await setDiscoveredState(tx, id, ignore ? 'ignored' : 'waiting')
        return { machine: machineView(await findDiscovered(tx, mac)) }
      })
    },
    async forgetDiscovered({ mac }) {
      const machine = await findDiscovered(db, mac)
      await removeDiscovered(db, [machine.mac])
      return {}
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

/**
 * Takes what a machine says of itself. It says so by a word that opens nothing else, and what is kept of it decides nothing:
 * until somebody approves the machine it is no host, and only hosts have deployments.
 */
export function reportIntake({ db, keyring, now }: World): Handlers<typeof reportOperations> {
  return {
    async reportDiscovered({ mac: given, agent, agentVersion, inventory }, caller) {
      const mac = normalMac(given)
      const row = await lookUpSeen(db, mac)
      const token = row && reportToken(keyring, { mac, nonce: row.nonce, armedAt: row.armed_at }, now())
      bearer(caller, token, 'token of the report')
      if (!row || isTooOld(agentVersion)) {
        const words = `the scout has an agent of version ${agentVersion}, and this service takes ${oldestAgent} and later`
        throw new Failure('agent-too-old', words, { at: 'agentVersion' })
      }
      // The agent asks again when our answer was lost.
      if (row.agent === agent) return {}
      if (row.agent !== null) throw new Failure('token-refused', `the token of ${mac} was used by another agent`)
      const text = JSON.stringify(inventory)
      if (Buffer.byteLength(text) > inventoryBytesMax) {
        throw new Failure('too-large', `the inventory has more than ${inventoryBytesMax} bytes`, { at: 'inventory' })
      }
      await db.transaction().execute(async (tx) => {
        // A host that boots by a card which nobody has told us of is no host to its loader.
        const host = await hostOfMacs(tx, macsOf(mac, inventory.interfaces))
        const found = sayFound(inventory) + (host ? `; has an interface of host ${host.name}` : '')
        if (!(await keepReport(tx, row, { agent, found, inventory: text }, now()))) {
          throw new Failure('wrong-state', `what is known of ${mac} has just changed: ask again`)
        }
        const line = `a machine that is no host reported from ${caller.address}: ${found} (from ${mac})`
        await addEvent(tx, { source: 'service', kind: 'machine-reported', text: line, hostId: host?.id }, now())
      })
      return {}
    },
  }
}

/** It was checked by the contract when it came. */
function inventoryOf({ inventory }: Discovered): Inventory | undefined {
  return inventory === null ? undefined : (JSON.parse(inventory) as Inventory)
}

function machineView({ found, inventory_at, ...row }: ListedDiscovered) {
  const { mac, state, source, said, sightings, ip, first_seen_at, last_seen_at } = row
  return {
    mac,
    state,
    source,
    said,
    sightings,
    firstSeenAt: dateTime(first_seen_at),
    lastSeenAt: dateTime(last_seen_at),
    ...present({ address: ip, found, reportedAt: inventory_at === null ? null : dateTime(inventory_at) }),
  }
}
