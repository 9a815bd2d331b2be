// Leases: what one of several services does at a time, and the next when that one is gone.
import type { Db } from './open.ts'

/** Takes or keeps the lease until `until`. False when another owner has it. */
export async function takeLease(
  db: Db,
  lease: { readonly name: string; readonly owner: string; readonly until: number },
  now: number,
): Promise<boolean> {
  const { name, owner, until } = lease
  const taken = await db
    .updateTable('leases')
    .set({ owner, until })
    .where('name', '=', name)
    .where((eb) => eb.or([eb('owner', '=', owner), eb('until', '<=', now)]))
    .executeTakeFirst()
  if (taken.numUpdatedRows === 1n) return true
  const there = await db.selectFrom('leases').select('owner').where('name', '=', name).executeTakeFirst()
  // MariaDB counts only rows that it changed: a lease taken twice in one millisecond is ours all the same.
  if (there) return there.owner === owner
  try {
    await db.insertInto('leases').values(lease).execute()
    return true
  } catch (error) {
    // Another service was first; any other reason shows again at the next try.
    const now = await db.selectFrom('leases').select('owner').where('name', '=', name).executeTakeFirst()
    if (now === undefined) throw error
    return now.owner === owner
  }
}

/** Gives a lease back, if it is this owner's. */
export async function giveLeaseBack(db: Db, name: string, owner: string): Promise<void> {
  await db.deleteFrom('leases').where('name', '=', name).where('owner', '=', owner).execute()
}
