// Netboot profiles, by name; a new one of a name replaces the old.
import { Failure } from '../model/failure.ts'
import type { NetbootProfile } from '../model/profile.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'

export type StoredProfile = NetbootProfile & { readonly changedAt: number }

function shape(row: { json: string; changed_at: number }): StoredProfile {
  // Written by `putProfile` alone.
  return { ...(JSON.parse(row.json) as NetbootProfile), changedAt: row.changed_at }
}

export async function putProfile(db: Db, profile: NetbootProfile, now: number): Promise<void> {
  const columns = { json: JSON.stringify(profile), changed_at: now }
  const changed = await db.updateTable('profiles').set(columns).where('name', '=', profile.name).executeTakeFirst()
  if (changed.numUpdatedRows > 0n) return
  await db
    .insertInto('profiles')
    .values({ name: profile.name, ...columns })
    .execute()
}

/** The profile, or undefined when there is none of this name. */
export async function lookUpProfile(db: Db, name: string): Promise<StoredProfile | undefined> {
  const row = await db.selectFrom('profiles').selectAll().where('name', '=', name).executeTakeFirst()
  return row && shape(row)
}

/** The profile; Failure `unknown-profile`. */
export async function findProfile(db: Db, name: string, at = 'name'): Promise<StoredProfile> {
  const profile = await lookUpProfile(db, name)
  if (!profile) throw new Failure('unknown-profile', `there is no netboot profile ${name}`, { at })
  return profile
}

export async function pageOfProfiles(db: Db, page: Page): Promise<Paged<StoredProfile>> {
  const query = db.selectFrom('profiles').selectAll()
  const { rows, nextCursor } = await readPage(query, [{ by: 'name', of: (row) => row.name }], page)
  return { rows: rows.map(shape), nextCursor }
}

export async function removeProfile(db: Db, name: string): Promise<void> {
  await db.deleteFrom('profiles').where('name', '=', name).execute()
}
