// Webhooks. The events are the queue: each webhook has the place it has come to, and whoever holds its lease moves it on.
import type { Selectable } from 'kysely'
import { Failure } from '../model/failure.ts'
import { isDuplicate } from './errors.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { DeadDeliveryRow, WebhookRow } from './schema.ts'

export type Webhook = Selectable<WebhookRow>
export type DeadDelivery = Selectable<DeadDeliveryRow>

/** Of one webhook: older ones go when there are more. */
const deadMax = 10_000

export type WebhookChange = Pick<Webhook, 'url' | 'kinds' | 'nodeset' | 'is_enabled'> & {
  readonly sealed_secret: string | undefined
}

/**
 * Sets a webhook. A new one begins behind `lastEventId`; Failure `bad-input` when it has no secret. Call it in a
 * transaction.
 */
export async function putWebhook(
  db: Db,
  name: string,
  { sealed_secret, ...change }: WebhookChange,
  lastEventId: number,
): Promise<void> {
  const secret = sealed_secret === undefined ? {} : { sealed_secret }
  const afresh = { failures: 0, said: null, due_at: 0 }
  const result = await db
    .updateTable('webhooks')
    .set({ ...change, ...secret, ...afresh })
    .where('name', '=', name)
    .executeTakeFirst()
  if (result.numUpdatedRows > 0n) return
  if (sealed_secret === undefined) {
    throw new Failure('bad-input', `there is no webhook ${name} yet: give it a secret`, { at: 'secret' })
  }
  await db
    .insertInto('webhooks')
    .values({ name, ...change, ...afresh, sealed_secret, last_event_id: lastEventId, lease_until: 0 })
    .execute()
}

/** The webhook; Failure `unknown-webhook`. */
export async function findWebhook(db: Db, name: string): Promise<Webhook> {
  const row = await db.selectFrom('webhooks').selectAll().where('name', '=', name).executeTakeFirst()
  if (!row) throw new Failure('unknown-webhook', `there is no webhook ${name}`, { at: 'name' })
  return row
}

export async function pageOfWebhooks(db: Db, page: Page): Promise<Paged<Webhook>> {
  return await readPage(db.selectFrom('webhooks').selectAll(), [{ by: 'name', of: (row) => row.name }], page)
}

export async function removeWebhook(db: Db, id: number): Promise<void> {
  await db.deleteFrom('webhooks').where('id', '=', id).execute()
}

/** Takes webhooks that are due, for `claim` alone until `until`. */
export async function claimWebhooks(
  db: Db,
  { claim, until, limit }: { readonly claim: string; readonly until: number; readonly limit: number },
  now: number,
): Promise<Webhook[]> {
  const due = await db
    .selectFrom('webhooks')
    .select('id')
    .where('is_enabled', '=', 1)
    .where('due_at', '<=', now)
    .where('lease_until', '<=', now)
    .orderBy('due_at')
    .limit(limit)
    .execute()
  const claimed: Webhook[] = []
  for (const { id } of due) {
    const result = await db
      .updateTable('webhooks')
      .set({ lease_owner: claim, lease_until: until })
      .where('id', '=', id)
      .where('lease_until', '<=', now)
      .executeTakeFirst()
    if (result.numUpdatedRows !== 1n) continue
    claimed.push(await db.selectFrom('webhooks').selectAll().where('id', '=', id).executeTakeFirstOrThrow())
  }
  return claimed
}

/** Moves a claimed webhook on, or says what it met; false when the claim is lost, and nothing more may be sent. */
export async function changeClaimed(
  db: Db,
  { id, claim }: { readonly id: number; readonly claim: string },
  change: Partial<Pick<Webhook, 'last_event_id' | 'failures' | 'said' | 'due_at' | 'lease_until'>>,
): Promise<boolean> {
  const result = await db
    .updateTable('webhooks')
    .set(change)
    .where('id', '=', id)
    .where('lease_owner', '=', claim)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Keeps events that a webhook was not told of in time. */
export async function bury(
  db: Db,
  webhookId: number,
  eventIds: readonly number[],
  { said, now }: { readonly said: string; readonly now: number },
): Promise<void> {
  for (const event_id of eventIds) {
    try {
      await db.insertInto('dead_deliveries').values({ webhook_id: webhookId, event_id, died_at: now, said }).execute()
    } catch (error) {
      // Buried before, by one who died before it moved the webhook on.
      if (!isDuplicate(error)) throw error
    }
  }
  const oldestKept = await db
    .selectFrom('dead_deliveries')
    .select('id')
    .where('webhook_id', '=', webhookId)
    .orderBy('id', 'desc')
    .offset(deadMax)
    .limit(1)
    .executeTakeFirst()
  if (oldestKept === undefined) return
  const old = db.deleteFrom('dead_deliveries').where('webhook_id', '=', webhookId)
  await old.where('id', '<=', oldestKept.id).execute()
}

/** Dead deliveries, newest first, all or those of one webhook. */
export async function pageOfDead(
  db: Db,
  webhookId: number | undefined,
  page: Page,
): Promise<Paged<DeadDelivery & { readonly webhook: string }>> {
  const query = db
    .selectFrom('dead_deliveries')
    .innerJoin('webhooks', 'webhooks.id', 'dead_deliveries.webhook_id')
    .selectAll('dead_deliveries')
    .select('webhooks.name as webhook')
    .$if(webhookId !== undefined, (rows) => rows.where('webhook_id', '=', webhookId ?? 0))
  return await readPage(query, [{ by: 'dead_deliveries.id', of: (row) => row.id, descending: true }], page)
}

/** How many events each webhook was not told of in time, by its id. */
export async function countDead(db: Db): Promise<ReadonlyMap<number, number>> {
  const rows = await db
    .selectFrom('dead_deliveries')
    .select((eb) => ['webhook_id', eb.fn.countAll<number>().as('count')])
    .groupBy('webhook_id')
    .execute()
  return new Map(rows.map(({ webhook_id, count }) => [webhook_id, count]))
}

/** A dead delivery with its webhook; Failure `unknown-delivery`. */
export async function findDead(db: Db, id: number): Promise<{ dead: DeadDelivery; webhook: Webhook }> {
  const dead = await db.selectFrom('dead_deliveries').selectAll().where('id', '=', id).executeTakeFirst()
  if (!dead) throw new Failure('unknown-delivery', `there is no dead delivery ${id}`, { at: 'delivery' })
  const webhook = await db
    .selectFrom('webhooks')
    .selectAll()
    .where('id', '=', dead.webhook_id)
    .executeTakeFirstOrThrow()
  return { dead, webhook }
}

export async function removeDead(db: Db, id: number): Promise<void> {
  await db.deleteFrom('dead_deliveries').where('id', '=', id).execute()
}
