// Sends events to webhooks: in order, at least once, from the database, so that a restart or another service goes on where
// this one was. A webhook's lease keeps two from sending at once.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { eventHorizon, pageOfEvents } from '../db/events.ts'
import { bury, changeClaimed, claimWebhooks, type Webhook } from '../db/webhooks.ts'
import { expandNodeset } from '../lib/nodeset.ts'
import { causeChain } from '../model/failure.ts'
import { eventView } from './views.ts'
import { deliver, deliveryMs } from './webhook-request.ts'
import type { World } from './world.ts'

/** How often it is looked whether there is something to send. */
const lookEveryMs = 500

/** Webhooks that are served at once. */
const atOnce = 16

/** Events that are read at once. */
const batchMax = 100

/** Renewed after each delivery, which ends sooner. */
const leaseMs = 3 * deliveryMs

/** An event that could not be delivered for so long is dead. */
export const deliveryDeadlineMs = 3_600_000

/** How long after so many failures in a row it is tried again: from a second to five minutes. */
export function backoffMs(failures: number): number {
  return Math.min(300_000, 1000 * 2 ** Math.min(failures - 1, 20))
}

/** Sends until closed. */
export function startWebhookSender(world: World): { readonly close: () => Promise<void> } {
  const stop = new AbortController()
  const loop = run(world, stop.signal)
  return {
    async close() {
      stop.abort()
      await loop
    },
  }
}

async function run(world: World, signal: AbortSignal): Promise<void> {
  const { db, now, log } = world
  const claim = randomUUID()
  const busy = new Set<Promise<void>>()
  while (!signal.aborted) {
    try {
      const room = atOnce - busy.size
      const taken = room > 0 ? await claimWebhooks(db, { claim, until: now() + leaseMs, limit: room }, now()) : []
      for (const webhook of taken) {
        const work = serve(world, webhook, claim, signal).catch((err: unknown) =>
          log.error({ err, webhook: webhook.name }, 'a webhook could not be served'),
        )
        busy.add(work)
        void work.finally(() => busy.delete(work))
      }
    } catch (err) {
      log.error({ err }, 'webhooks could not be looked at')
    }
    await delay(lookEveryMs, undefined, { signal }).catch(() => {})
  }
  await Promise.all(busy)
}

/** Sends what a webhook has not been told, until it has been told of all, one fails, or the lease is lost. */
async function serve(world: World, webhook: Webhook, claim: string, signal: AbortSignal): Promise<void> {
  const { db, now } = world
  const mine = { id: webhook.id, claim }
  const kinds = JSON.parse(webhook.kinds) as string[]
  const isAbout = hostFilter(webhook.nodeset)
  const horizon = await eventHorizon(db, now())
  const { rows } = await pageOfEvents(db, { kinds, after: webhook.last_event_id }, { limit: batchMax })
  const events = rows.filter(({ id }) => id <= horizon)
  const hasMore = rows.length === batchMax
  for (const [index, event] of events.entries()) {
    if (signal.aborted) break
    if (!isAbout(event.host)) continue
    try {
      await deliver(deliveryOf(world, webhook, event), signal)
    } catch (error) {
      if (signal.aborted) break
      const said = causeChain(error).join(': ').slice(0, 1000)
      const late = events.slice(index).filter(({ at }) => at < now() - deliveryDeadlineMs)
      await bury(
        db,
        webhook.id,
        late.filter(({ host }) => isAbout(host)).map(({ id }) => id),
        { said, now: now() },
      )
      const last = late.at(-1)?.id
      const failures = webhook.failures + 1
      const moved = last === undefined ? {} : { last_event_id: last }
      const again = { failures, said, due_at: now() + backoffMs(failures), lease_until: 0 }
      await changeClaimed(db, mine, { ...moved, ...again })
      return
    }
    const moved = { last_event_id: event.id, failures: 0, said: null, lease_until: now() + leaseMs }
    if (!(await changeClaimed(db, mine, moved))) return
  }
  // What is of no interest to it is passed over too, so that it is not read again.
  const passed = signal.aborted ? undefined : hasMore ? events.at(-1)?.id : horizon
  const isOn = passed !== undefined && passed > webhook.last_event_id
  await changeClaimed(db, mine, { ...(isOn ? { last_event_id: passed } : {}), lease_until: 0 })
}

/** What is sent of an event to a webhook. */
export function deliveryOf(
  { keyring, now, allowsLocalWebhooks }: World,
  webhook: Webhook,
  event: Parameters<typeof eventView>[0],
) {
  return {
    url: webhook.url,
    secret: keyring.open(webhook.sealed_secret),
    id: `hades-${webhook.name}-${event.id}`,
    event: eventView(event),
    now: now(),
    allowsInside: allowsLocalWebhooks ?? false,
  }
}

function hostFilter(nodeset: string | null): (host: string | null) => boolean {
  if (nodeset === null || nodeset === '*') return () => true
  const names = new Set(expandNodeset(nodeset))
  return (host) => host !== null && names.has(host)
}
