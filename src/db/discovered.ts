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

/** Notes that a machine of no host was seen. */
export async function recordSighting(
  db: Db,
  { mac, source, said }: Pick<Discovered, 'mac' | 'source' | 'said'>,
  now: number,
): Promise<void> {
  const seen = await db
    .updateTable('discovered')
    .set((eb) => ({ last_seen_at: now, source, said, sightings: eb('sightings', '+', 1) }))
    .where('mac', '=', mac)
    .executeTakeFirst()
  if (seen.numUpdatedRows > 0n) return
  await makeRoom(db)
  try {
    const times = { first_seen_at: now, last_seen_at: now, sightings: 1 }
    await db
      .insertInto('discovered')
      .values({ mac, state: 'waiting', source, said, ...times })
      .execute()
  } catch (error) {
    // Another service saw it in the same moment.
    if (!isDuplicate(error)) throw error
  }
}

async function makeRoom(db: Db): Promise<void> {
  const { count } = await db
    .selectFrom('discovered')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  if (count < discoveredMax) return
  const oldest = await db.selectFrom('discovered').select('id').orderBy('last_seen_at').limit(1).executeTakeFirst()
  if (oldest) await db.deleteFrom('discovered').where('id', '=', oldest.id).execute()
}

function strangers(db: Db) {
  return db
    .selectFrom('discovered')
    .selectAll('discovered')
    .where('mac', 'not in', (eb) => eb.selectFrom('interfaces').select('interfaces.mac'))
}

/** Machines of no host, the one that was seen last first. */
export async function pageOfDiscovered(
  db: Db,
  state: DiscoveredState | undefined,
  page: Page,
): Promise<Paged<Discovered>> {
  const order = [
    { by: 'discovered.last_seen_at' as const, of: (row: Discovered) => row.last_seen_at, descending: true },
    { by: 'discovered.id' as const, of: (row: Discovered) => row.id, descending: true },
  ]
  const query = strangers(db).$if(state !== undefined, (rows) => rows.where('state', '=', state ?? 'waiting'))
  return await readPage(query, order, page)
}

/** The machine; Failure `unknown-machine`, also when it is a host by now. */
export async function findDiscovered(db: Db, mac: string): Promise<Discovered> {
  const row = await strangers(db).where('mac', '=', normalMac(mac)).executeTakeFirst()
  if (!row) throw new Failure('unknown-machine', `no machine ${normalMac(mac)} was seen that is no host`, { at: 'mac' })
  return row
}

export async function setDiscoveredState(db: Db, id: number, state: DiscoveredState): Promise<void> {
  await db.updateTable('discovered').set({ state }).where('id', '=', id).execute()
}

/** Forgets a machine: it is a host now. */
export async function removeDiscovered(db: Db, id: number): Promise<void> {
  await db.deleteFrom('discovered').where('id', '=', id).execute()
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
