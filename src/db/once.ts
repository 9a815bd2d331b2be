// Calls with an idempotency key: who runs one now, and what it answered. The row is claimed before the call, and its answer
// is written in the transaction of what the call begins.
import type { Selectable } from 'kysely'
import { Failure } from '../model/failure.ts'
import { isDuplicate } from './errors.ts'
import type { Db } from './open.ts'
import type { OnceCallRow } from './schema.ts'

export type StoredCall = Selectable<OnceCallRow>

/** Longer answers are not kept: who asks again is told that the call has happened. */
const answerLengthMax = 4 * 1024 * 1024

/** Adds the row of a call, claimed. False when another row has its key. */
export async function addOnceCall(db: Db, row: Omit<StoredCall, 'id' | 'answer'>): Promise<boolean> {
  try {
    await db.insertInto('once_calls').values(row).execute()
    return true
  } catch (error) {
    if (isDuplicate(error)) return false
    throw error
  }
}

export async function findOnceCall(
  db: Db,
  { caller, idempotency_key }: Pick<StoredCall, 'caller' | 'idempotency_key'>,
): Promise<StoredCall | undefined> {
  return await db
    .selectFrom('once_calls')
    .selectAll()
    .where('caller', '=', caller)
    .where('idempotency_key', '=', idempotency_key)
    .executeTakeFirst()
}

/** Takes a call over whose runner has died. False when another was first. */
export async function claimOnceCall(
  db: Db,
  { id, claim: old }: StoredCall,
  { claim, until, now }: { readonly claim: string; readonly until: number; readonly now: number },
): Promise<boolean> {
  const result = await db
    .updateTable('once_calls')
    .set({ claim, lease_until: until })
    .where('id', '=', id)
    .where('claim', '=', old)
    .where('lease_until', '<=', now)
    .where('answer', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

type Claim = { readonly id: number; readonly claim: string }

/** Says that the call is still being run. */
export async function renewOnceCall(db: Db, { id, claim }: Claim, until: number): Promise<void> {
  await db
    .updateTable('once_calls')
    .set({ lease_until: until })
    .where('id', '=', id)
    .where('claim', '=', claim)
    .execute()
}

/**
 * Keeps the answer of a call, in the transaction of what it begins: both are there, or neither. Nothing to do without a
 * claim. Failure `wrong-state` when another has taken the call over, so that the transaction must not be committed.
 */
export async function recordAnswer(db: Db, claim: Claim | undefined, answer: unknown): Promise<void> {
  if (claim === undefined) return
  const text = JSON.stringify(answer)
  const result = await db
    .updateTable('once_calls')
    .set({ answer: text.length > answerLengthMax ? 'null' : text })
    .where('id', '=', claim.id)
    .where('claim', '=', claim.claim)
    .executeTakeFirst()
  if (result.numUpdatedRows === 1n) return
  throw new Failure('wrong-state', 'this call took so long that another one with its idempotency key was begun')
}

/** Forgets a call that has not happened, so that its key may be used again. */
export async function forgetOnceCall(db: Db, { id, claim }: Claim): Promise<void> {
  await db
    .deleteFrom('once_calls')
    .where('id', '=', id)
    .where('claim', '=', claim)
    .where('answer', 'is', null)
    .execute()
}

/** Forgets every call whose time is over. */
export async function dropExpiredCalls(db: Db, now: number): Promise<void> {
  await db.deleteFrom('once_calls').where('expires_at', '<=', now).execute()
}
