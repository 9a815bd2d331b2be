// Which secrets the database holds, sealed, and which keys they and the agents' words still need: what the rotation of keys
// works through. A column that holds sealed secrets is a line of the list here.
import { activeStates } from '../model/deployment.ts'
import type { Db } from './open.ts'

/** The columns that hold what `Keyring.seal` made; each of these tables has an `id`. */
const sealedColumns = [
  { table: 'power_methods', column: 'sealed_password' },
  { table: 'webhooks', column: 'sealed_secret' },
] as const

export type SealedSecret = {
  readonly id: number
  readonly table: (typeof sealedColumns)[number]['table']
  readonly column: (typeof sealedColumns)[number]['column']
  readonly sealed: string
}

/** At most `limit` secrets that are sealed with another key than this. */
export async function sealedOtherwise(db: Db, keyId: string, limit: number): Promise<SealedSecret[]> {
  const found: SealedSecret[] = []
  for (const { table, column } of sealedColumns) {
    const rows = await db
      .selectFrom(table)
      .select(['id', `${column} as sealed`])
      .where(column, 'not like', `${keyId}:%`)
      .limit(limit - found.length)
      .execute()
    found.push(...rows.map((row) => ({ ...row, table, column })))
    if (found.length >= limit) break
  }
  return found
}

/** Puts the same secret, sealed anew, in place of the old one, unless somebody has changed it meanwhile. */
export async function putSealed(db: Db, { id, table, column, sealed }: SealedSecret, anew: string): Promise<void> {
  await db
    .updateTable(table)
    .set({ [column]: anew })
    .where('id', '=', id)
    .where(column, '=', sealed)
    .execute()
}

/** How many secrets are sealed with a key. `isOldest`: those too that were sealed before keys had ids. */
export async function countSealed(db: Db, keyId: string, isOldest: boolean): Promise<number> {
  let count = 0
  for (const { table, column } of sealedColumns) {
    const row = await db
      .selectFrom(table)
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .where((eb) => eb.or([eb(column, 'like', `${keyId}:%`), ...(isOldest ? [eb(column, 'not like', '%:%')] : [])]))
      .executeTakeFirstOrThrow()
    count += row.count
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
