// Which secrets the database holds, sealed, and which keys they and the agents' words still need: what the rotation of keys
// works through. A column that holds sealed secrets is a line of the list here.
import { sql } from 'kysely'
import { activeStates } from '../model/deployment.ts'
import type { Db } from './open.ts'

/** The columns that hold what `Keyring.seal` made, whose names begin with `sealed_`; each of these tables has an `id`. */
export const sealedColumns = [
  { table: 'power_methods', column: 'sealed_password' },
  { table: 'webhooks', column: 'sealed_secret' },
] as const

export type SealedSecret = (typeof sealedColumns)[number] & { readonly id: number; readonly sealed: string }

/** At most `limit` secrets that are sealed with another key than this. */
export async function sealedOtherwise(db: Db, keyId: string, limit: number): Promise<SealedSecret[]> {
  const found: SealedSecret[] = []
  for (const place of sealedColumns) {
    const [table, column] = [sql.table(place.table), sql.ref(place.column)]
    const { rows } = await sql<{ id: number; sealed: string }>`
      select id, ${column} as sealed from ${table} where ${column} not like ${`${keyId}:%`} limit ${limit}`.execute(db)
    found.push(...rows.map((row) => ({ ...row, ...place })))
  }
  return found
}

/** Puts the same secret, sealed anew, in place of the old one, unless somebody has changed it meanwhile. */
export async function putSealed(db: Db, { id, sealed, ...place }: SealedSecret, anew: string): Promise<void> {
  const [table, column] = [sql.table(place.table), sql.ref(place.column)]
  await sql`update ${table} set ${column} = ${anew} where id = ${id} and ${column} = ${sealed}`.execute(db)
}

/** How many secrets are sealed with a key. `isOldest`: those too that were sealed before keys had ids. */
export async function countSealed(db: Db, keyId: string, isOldest: boolean): Promise<number> {
  let count = 0
  for (const place of sealedColumns) {
    const [table, column] = [sql.table(place.table), sql.ref(place.column)]
    const before = isOldest ? sql`or ${column} not like '%:%'` : sql``
    const { rows } = await sql<{ count: number }>`
      select count(*) as count from ${table} where ${column} like ${`${keyId}:%`} ${before}`.execute(db)
    count += rows[0]?.count ?? 0
  }
  return count
}

/** How many deployments are under way whose agents have their words from a key. */
export async function countArmed(db: Db, keyId: string, isOldest: boolean): Promise<number> {
  const { count } = await db
    .selectFrom('deployments')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('state', 'in', activeStates)
    .where((eb) =>
      eb.or([eb('boot_nonce', 'like', `${keyId}.%`), ...(isOldest ? [eb('boot_nonce', 'not like', '%.%')] : [])]),
    )
    .executeTakeFirstOrThrow()
  return count
}
