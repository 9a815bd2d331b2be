// Tokens and sessions: words that prove who calls, kept by their digests. What is revoked has no row, so that any service
// on this database refuses it from then on.
import { type Insertable, type Selectable, sql } from 'kysely'
import type { Db } from './open.ts'
import type { TokenRow } from './schema.ts'

export type Token = Selectable<TokenRow>

/** A token with its owner; the owner is null when it is the administrator's of the unix socket. */
export type OwnedToken = Token & {
  readonly owner: string | null
  readonly owner_role: TokenRow['role'] | null
  readonly owner_disabled: number | null
}

/** Logins and sessions of one user, so that they cannot fill the table; the oldest make room. */
const loginsMax = 32
/** `last_used_at` is written no more often than this. */
const usedEveryMs = 60_000

export async function addToken(db: Db, token: Insertable<TokenRow>): Promise<number> {
  const { insertId } = await db.insertInto('tokens').values(token).executeTakeFirstOrThrow()
  if (token.kind !== 'api') await dropOldest(db, token.user_id ?? null, token.kind)
  return Number(insertId)
}

async function dropOldest(db: Db, userId: number | null, kind: TokenRow['kind']): Promise<void> {
  const rows = await db
    .selectFrom('tokens')
    .select('id')
    .where('user_id', userId === null ? 'is' : '=', userId)
    .where('kind', '=', kind)
    .orderBy('id', 'desc')
    .limit(loginsMax + 100)
    .execute()
  const old = rows.slice(loginsMax).map(({ id }) => id)
  if (old.length > 0) await db.deleteFrom('tokens').where('id', 'in', old).execute()
}

function owned(db: Db) {
  return db
    .selectFrom('tokens')
    .leftJoin('users', 'users.id', 'tokens.user_id')
    .selectAll('tokens')
    .select(['users.name as owner', 'users.role as owner_role', 'users.is_disabled as owner_disabled'])
}

/** Tokens that are good at `now`. */
function good(db: Db, now: number) {
  return owned(db)
    .where('expires_at', '>', now)
    .where((eb) => eb.or([eb('idle_ms', 'is', null), eb(sql<number>`last_used_at + idle_ms`, '>', now)]))
}

/** The token with this digest, if it is good now. */
export async function goodToken(db: Db, hash: string, now: number): Promise<OwnedToken | undefined> {
  return await good(db, now).where('hash', '=', hash).executeTakeFirst()
}

export async function tokenById(db: Db, id: number): Promise<OwnedToken | undefined> {
  return await owned(db).where('tokens.id', '=', id).executeTakeFirst()
}

/** The tokens that are good now, the newest first; of one user, or all (at most 10,000). */
export async function listTokens(db: Db, owner: number | null | undefined, now: number): Promise<OwnedToken[]> {
  return await good(db, now)
    .$if(owner !== undefined, (query) => query.where('user_id', owner === null ? 'is' : '=', owner ?? null))
    .orderBy('tokens.id', 'desc')
    .limit(10_000)
    .execute()
}

/** Notes that a token was used. */
export async function markUsed(db: Db, token: Pick<Token, 'id' | 'last_used_at'>, now: number): Promise<void> {
  if (now - token.last_used_at < usedEveryMs) return
  await db
    .updateTable('tokens')
    .set({ last_used_at: now })
    .where('id', '=', token.id)
    .where('last_used_at', '<', now)
    .execute()
}

/** True when there was such a token. */
export async function revokeToken(db: Db, id: number): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('tokens').where('id', '=', id).executeTakeFirst()
  return numDeletedRows > 0n
}

/** Ends what a user has logged in, but for one: its API tokens stay. */
export async function endLogins(db: Db, userId: number, except?: number): Promise<void> {
  await db
    .deleteFrom('tokens')
    .where('user_id', '=', userId)
    .where('kind', '!=', 'api')
    .$if(except !== undefined, (query) => query.where('id', '!=', except ?? 0))
    .execute()
}

/** Forgets tokens that are no longer good. */
export async function forgetExpired(db: Db, now: number): Promise<void> {
  await db
    .deleteFrom('tokens')
    .where((eb) => eb.or([eb('expires_at', '<=', now), eb(sql<number>`last_used_at + idle_ms`, '<=', now)]))
    .execute()
}
