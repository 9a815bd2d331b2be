// The Control Port's handlers of webhooks and of what they could not deliver.
import type { eventOperations, WebhookView } from '../contract/events.ts'
import type { Handlers } from '../contract/operation.ts'
import { addEvent, eventHorizon, findEvent } from '../db/events.ts'
import {
  countDead,
  findDead,
  findWebhook,
  pageOfDead,
  pageOfWebhooks,
  putWebhook,
  removeDead,
  removeWebhook,
  type Webhook,
} from '../db/webhooks.ts'
import { expandNodeset, NodesetError } from '../lib/nodeset.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime, eventView, present } from './views.ts'
import { checkWebhookUrl, deliver } from './webhook-request.ts'
import { deliveryOf } from './webhook-sender.ts'
import type { World } from './world.ts'

type Names = 'putWebhook' | 'listWebhooks' | 'removeWebhook' | 'listDeadDeliveries' | 'retryDelivery'

export function webhookHandlers(world: World): Pick<Handlers<typeof eventOperations>, Names> {
  const { db, now, keyring } = world
  const viewsOf = async (webhooks: readonly Webhook[]): Promise<WebhookView[]> => {
    const [dead, horizon] = [await countDead(db), await eventHorizon(db, now())]
    return webhooks.map((row) => webhookView(row, horizon, dead.get(row.id) ?? 0))
  }
  return {
    async putWebhook({ name, url, secret, nodeset, kinds = [], enabled = true }) {
      checkWebhookUrl(url, world.allowsLocalWebhooks ?? false)
      checkNodeset(nodeset)
      const change = {
        url,
        sealed_secret: secret === undefined ? undefined : keyring.seal(new Secret(secret)),
        kinds: JSON.stringify(kinds),
        nodeset: nodeset ?? null,
        is_enabled: enabled ? 1 : 0,
      }
      const row = await db.transaction().execute(async (tx) => {
        await putWebhook(tx, name, change, await eventHorizon(tx, now()))
        const text = `webhook ${name} sends to ${new URL(url).origin}${enabled ? '' : ', when it is enabled again'}`
        await addEvent(tx, { source: 'control', kind: 'webhook-put', text }, now())
        return await findWebhook(tx, name)
      })
      const [webhook] = await viewsOf([row])
      if (!webhook) throw new Error('every webhook has a view')
      return { webhook }
    },
    async listWebhooks(input) {
      const page = await pageOfWebhooks(db, pageOf(input))
      return { webhooks: await viewsOf(page.rows), ...nextOf(page) }
    },
    async removeWebhook({ name }) {
      await db.transaction().execute(async (tx) => {
        await removeWebhook(tx, (await findWebhook(tx, name)).id)
        await addEvent(tx, { source: 'control', kind: 'webhook-removed', text: `webhook ${name} was removed` }, now())
      })
      return {}
    },
    async listDeadDeliveries({ webhook, ...input }) {
      const id = webhook === undefined ? undefined : (await findWebhook(db, webhook)).id
      const page = await pageOfDead(db, id, pageOf(input))
      const deliveries = await Promise.all(
        page.rows.map(async ({ id: delivery, webhook: of, event_id, died_at, said }) => {
          const event = await findEvent(db, event_id)
          // Events are kept for longer than a delivery takes to die; what is older is no longer there to be sent.
          if (event === undefined) return []
          return [{ id: delivery, webhook: of, event: eventView(event), diedAt: dateTime(died_at), said }]
        }),
      )
      return { deliveries: deliveries.flat(), ...nextOf(page) }
    },
    async retryDelivery({ delivery: id }) {
      const { dead, webhook } = await findDead(db, id)
      const event = await findEvent(db, dead.event_id)
      if (event === undefined) {
        throw new Failure('unknown-delivery', `the event of dead delivery ${id} is no longer kept`, { at: 'delivery' })
      }
      try {
        await deliver(deliveryOf(world, webhook, event), new AbortController().signal)
      } catch (cause) {
        throw new Failure('delivery-failed', `webhook ${webhook.name} did not take event ${event.id}`, { cause })
      }
      await removeDead(db, id)
      return {}
    },
  }
}

function checkNodeset(nodeset: string | undefined): void {
  if (nodeset === undefined || nodeset === '*') return
  try {
    expandNodeset(nodeset)
  } catch (cause) {
    if (cause instanceof NodesetError) throw new Failure('bad-input', cause.message, { at: 'nodeset' })
    throw cause
  }
}

function webhookView(row: Webhook, horizon: number, dead: number): WebhookView {
  return {
    name: row.name,
    url: row.url,
    kinds: JSON.parse(row.kinds) as string[],
    enabled: row.is_enabled === 1,
    behind: Math.max(0, horizon - row.last_event_id),
    dead,
    failures: row.failures,
    ...present({ nodeset: row.nodeset, said: row.said }),
    ...(row.failures > 0 ? { triesAgainAt: dateTime(row.due_at) } : {}),
  }
}
