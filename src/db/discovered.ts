// Machines that were seen and belong to no host, and what they are told.
import type { Selectable } from 'kysely'
import { type DiscoveredState, type DiscoveryPolicy, discoveryPolicies } from '../model/discovery.ts'
import { Failure } from '../model/failure.ts'
import { isDuplicate } from './errors.ts'
import { normalMac } from './hosts.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { DiscoveredRow } from './schema.ts'

export type Discovered = Selectable<DiscoveredRow>

/** MAC addresses cost a stranger nothing: when there are so many, the one that was seen longest ago goes. */
const discoveredMax = 10_000

/** Inventories that are kept, of `inventoryBytesMax` each at most: then the one of the machine seen longest ago goes. */
const inventoriesMax = 2_000
export const inventoryBytesMax = 64 * 1024

type Sighting = Pick<Discovered, 'mac' | 'source' | 'said'>

/** Notes that a machine of no host was seen. */
export async function recordSighting(db: Db, { mac, source, said }: Sighting, now: number): Promise<void> {
  const seen = await db
    .updateTable('discovered')
    .set((eb) => ({ last_seen_at: now, source, said, sightings: eb('sightings', '+', 1) }))
    .where('mac', '=', mac)
    .executeTakeFirst()
  if (seen.numUpdatedRows === 0n) await addSeen(db, { mac, source, said, sightings: 1 }, now)
}

async function addSeen(db: Db, sighting: Sighting & Pick<Discovered, 'sightings'>, now: number): Promise<void> {
  await makeRoom(db)
  try {
    const times = { first_seen_at: now, last_seen_at: now }
    await db
      .insertInto('discovered')
      .values({ ...sighting, state: 'waiting', ...times })
      .execute()
  } catch (error) {
    // Another service saw it in the same moment.
    if (!isDuplicate(error)) throw error
  }
}

/** A machine that has said what it is goes after those of which only an address is known. */
async function makeRoom(db: Db): Promise<void> {
  const { count } = await db
    .selectFrom('discovered')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  if (count < discoveredMax) return
  const byAge = db.selectFrom('discovered').select('id').orderBy('last_seen_at').limit(1)
  const oldest = (await byAge.where('inventory_at', 'is', null).executeTakeFirst()) ?? (await byAge.executeTakeFirst())
  if (oldest) await db.deleteFrom('discovered').where('id', '=', oldest.id).execute()
}

/** The machine with this MAC address (lower case, colons); undefined when it was never seen, or is a host. */
export async function lookUpSeen(db: Db, mac: string): Promise<Discovered | undefined> {
  return await strangers(db).selectAll().where('mac', '=', mac).executeTakeFirst()
}

/** The same, of a machine that is seen now at the latest. Undefined when it is a host. */
export async function seenNow(db: Db, sighting: Sighting, now: number): Promise<Discovered | undefined> {
  const seen = await lookUpSeen(db, sighting.mac)
  if (seen) return seen
  // Whoever records this sighting counts it.
  await addSeen(db, { ...sighting, sightings: 0 }, now)
  return await lookUpSeen(db, sighting.mac)
}

/** Gives a machine a new nonce in place of the one that it was read with. False when another was faster. */
export async function putNonce(db: Db, row: Discovered, nonce: string, now: number): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('discovered')
    .set({ nonce, armed_at: now, agent: null })
    .where('id', '=', row.id)
    .where('nonce', row.nonce === null ? 'is' : '=', row.nonce)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** Keeps what a machine said of itself, the first time that it says so by this nonce. Call it in a transaction. */
export async function keepReport(
  db: Db,
  { id, nonce }: Discovered,
  report: { readonly agent: string; readonly found: string; readonly inventory: string },
  now: number,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('discovered')
    .set({ ...report, inventory_at: now, last_seen_at: now })
    .where('id', '=', id)
    .where('nonce', '=', nonce)
    .where('agent', 'is', null)
    .executeTakeFirst()
  if (numUpdatedRows === 0n) return false
  const reported = db.selectFrom('discovered').where('inventory_at', 'is not', null)
  const { count } = await reported.select((eb) => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow()
  if (count <= inventoriesMax) return true
  const oldest = await reported.select('id').orderBy('last_seen_at').limit(1).executeTakeFirst()
  const nothing = { inventory: null, inventory_at: null, found: null, nonce: null, agent: null }
  if (oldest) await db.updateTable('discovered').set(nothing).where('id', '=', oldest.id).execute()
  return true
}

function strangers(db: Db) {
  return db
    .selectFrom('discovered')
    .where('mac', 'not in', (eb) => eb.selectFrom('interfaces').select('interfaces.mac'))
}

/** Inventories are long: a list has a line of each. */
const listed = [
  'discovered.id',
  'mac',
  'state',
  'source',
  'said',
  'sightings',
  'first_seen_at',
  'last_seen_at',
  'found',
  'inventory_at',
  'ip',
] as const
export type ListedDiscovered = Pick<Discovered, 'id' | Exclude<(typeof listed)[number], 'discovered.id'>>

/** Machines of no host, the one that was seen last first. */
export async function pageOfDiscovered(
  db: Db,
  state: DiscoveredState | undefined,
  page: Page,
): Promise<Paged<ListedDiscovered>> {
  const order = [
    { by: 'discovered.last_seen_at' as const, of: (row: ListedDiscovered) => row.last_seen_at, descending: true },
    { by: 'discovered.id' as const, of: (row: ListedDiscovered) => row.id, descending: true },
  ]
  const query = strangers(db)
    .select(listed)
    .$if(state !== undefined, (rows) => rows.where('state', '=', state ?? 'waiting'))
  return await readPage(query, order, page)
}

/** The machine; Failure `unknown-machine`, also when it is a host by now. */
export async function findDiscovered(db: Db, mac: string): Promise<Discovered> {
  const row = await lookUpSeen(db, normalMac(mac))
  if (!row) throw new Failure('unknown-machine', `no machine ${normalMac(mac)} was seen that is no host`, { at: 'mac' })
  return row
}

export async function setDiscoveredState(db: Db, id: number, state: DiscoveredState): Promise<void> {
  await db.updateTable('discovered').set({ state }).where('id', '=', id).execute()
}

/** Forgets machines: by these MAC addresses they are a host now, or are to be as if they had never been seen. */
export async function removeDiscovered(db: Db, macs: readonly string[]): Promise<void> {
  await db.deleteFrom('discovered').where('mac', 'in', macs).execute()
}

const policySetting = 'discovery-policy'

/** What machines of no host are told; nothing, unless it was set. */
export async function discoveryPolicy(db: Db): Promise<DiscoveryPolicy> {
  const row = await db.selectFrom('settings').select('value').where('name', '=', policySetting).executeTakeFirst()
  return discoveryPolicies.find((policy) => policy === row?.value) ?? 'ignore'
}

/** Sets it. Call it in a transaction. */
export async function setDiscoveryPolicy(db: Db, policy: DiscoveryPolicy): Promise<void> {
  await db.deleteFrom('settings').where('name', '=', policySetting).execute()
  await db.insertInto('settings').values({ name: policySetting, value: policy }).execute()
}
