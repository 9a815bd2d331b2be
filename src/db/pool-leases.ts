// Addresses of the DHCP pool, which machines of no host have for a while: each stands on the row of the machine that has it.
import { inChunks } from './chunks.ts'
import { type Discovered, lookUpSeen, seenNow } from './discovered.ts'
import { isDuplicate } from './errors.ts'
import type { Db } from './open.ts'

/** Another service may give out the same address at the same moment; whoever loses looks again. */
const triesMax = 4

export type Pool = {
  readonly addresses: readonly string[]
  readonly leaseMs: number
  /** Whether one more machine may get an address now. */
  readonly mayTake: () => boolean
}

/**
 * The address of a machine (lower case, colons): the one that it has, or a free one. Undefined when there is none, when no more
 * may be given out now, and when the machine is a host.
 */
export async function leaseFromPool(db: Db, mac: string, pool: Pool, now: number): Promise<string | undefined> {
  const known = await lookUpSeen(db, mac)
  const keeps = known?.ip && !(await takenByOthers(db, known.id, pool, now)).has(known.ip) ? known.ip : undefined
  if (known && keeps !== undefined && pool.addresses.includes(keeps)) {
    if (await take(db, known, { address: keeps, until: now + pool.leaseMs, now })) return keeps
  }
  // Asked before anything is written: whoever forges addresses may be refused for ever.
  if (!pool.mayTake()) return undefined
  const seen = known ?? (await seenNow(db, { mac, source: 'dhcp', said: 'asked for an address' }, now))
  if (!seen) return undefined
  for (let tries = 0; tries < triesMax; tries += 1) {
    const taken = await takenByOthers(db, seen.id, pool, now)
    const address = pool.addresses.find((one) => !taken.has(one))
    if (address === undefined) return undefined
    if (await take(db, seen, { address, until: now + pool.leaseMs, now })) return address
  }
  return undefined
}

async function takenByOthers(db: Db, id: number, { addresses }: Pool, now: number): Promise<Set<string>> {
  const hosts = await inChunks(addresses, (chunk) =>
    db.selectFrom('interfaces').select('ip').where('ip', 'in', chunk).execute(),
  )
  const others = await db
    .selectFrom('discovered')
    .select('ip')
    .where('ip', 'is not', null)
    .where('leased_until', '>', now)
    .where('id', '!=', id)
    .execute()
  return new Set([...hosts, ...others].flatMap(({ ip }) => ip ?? []))
}

/** False when another machine got the address meanwhile. */
async function take(
  db: Db,
  seen: Discovered,
  { address, until, now }: { readonly address: string; readonly until: number; readonly now: number },
): Promise<boolean> {
  try {
    await db
      .updateTable('discovered')
      .set({ ip: null, leased_until: null })
      .where('ip', '=', address)
      .where('id', '!=', seen.id)
      .where('leased_until', '<=', now)
      .execute()
    const { numUpdatedRows } = await db
      .updateTable('discovered')
      .set({ ip: address, leased_until: until })
      .where('id', '=', seen.id)
      .executeTakeFirst()
    // MariaDB counts rows that were changed: the same lease, asked for twice in a millisecond, changes none.
    return numUpdatedRows > 0n || seen.ip === address
  } catch (error) {
    if (!isDuplicate(error)) throw error
    return false
  }
}
