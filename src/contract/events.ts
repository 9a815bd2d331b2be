// The part of the Control Port that tells what happens: events by list, by stream and by webhook.
import { type Static, Type } from 'typebox'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import { dateTime, event, id, label, nodeset } from './types.ts'

const eventKind = Type.String({
  title: 'EventKind',
  maxLength: 190,
  pattern: '^[a-z0-9.-]+[*]?$',
  description: 'A kind of event, as `completed`; with `*` at its end every kind that begins so, as `dhcp.*`',
})

const kindsMax = 50

/** Which events somebody wants to hear of. */
const eventFilter = {
  nodeset: Type.Optional(nodeset),
  deployment: Type.Optional(id),
  // In a query a list without items is no list.
  kinds: Type.Optional(Type.Array(eventKind, { minItems: 1, maxItems: kindsMax, description: 'Only of these kinds' })),
}

const after = Type.Integer({
  minimum: 0,
  maximum: Number.MAX_SAFE_INTEGER,
  description: 'The id of the last event already seen',
})

const webhookName = Type.String({
  title: 'WebhookName',
  maxLength: 100,
  pattern: '^[a-z0-9][a-z0-9._-]*$',
  description: 'A webhook: lower-case letters, digits, ".", "_" and "-"',
})

export const webhook = Type.Object(
  {
    name: webhookName,
    url: label,
    nodeset: Type.Optional(nodeset),
    kinds: Type.Array(eventKind, { maxItems: kindsMax, description: 'Only of these kinds; of all when there is none' }),
    enabled: Type.Boolean(),
    behind: Type.Integer({ minimum: 0, description: 'Events that it has not been told of, or need not be, yet' }),
    dead: Type.Integer({ minimum: 0, description: 'Events that it was not told of in time' }),
    failures: Type.Integer({ minimum: 0, description: 'Deliveries that failed in a row' }),
    said: Type.Optional(Type.String({ maxLength: 4000, description: 'What the last failed delivery met' })),
    triesAgainAt: Type.Optional(dateTime),
  },
  { title: 'Webhook' },
)
export type WebhookView = Static<typeof webhook>

export const deadDelivery = Type.Object(
  { id, webhook: webhookName, event, diedAt: dateTime, said: Type.String({ maxLength: 4000 }) },
  { title: 'DeadDelivery' },
)

export const eventOperations = {
  listEvents: operation({
    summary: 'Events, oldest first, after one already seen; waits for news when asked',
    access: 'viewer',
    rest: { method: 'GET', path: '/events' },
    input: Type.Object({
      ...eventFilter,
      after: Type.Optional(after),
      newest: Type.Optional(
        Type.Boolean({ description: 'The newest ones, still oldest first; the next page is of those before' }),
      ),
      ...pageInput({ usual: 1000, max: 10_000 }),
      waitMs: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 30_000, description: 'How long to wait when there is none yet' }),
      ),
    }),
    output: Type.Object({ events: Type.Array(event), ...pageOutput }),
    failures: ['unknown-host'],
  }),

  putWebhook: operation({
    summary: 'Sets where events are sent as they happen, from now on; signed, in order, at least once',
    access: 'admin',
    rest: { method: 'PUT', path: '/webhooks/{name}' },
    input: Type.Object({
      name: webhookName,
      url: Type.String({ minLength: 8, maxLength: 190, description: 'As `https://orchestrator.example/hades`' }),
      secret: Type.Optional(
        Type.String({
          minLength: 16,
          maxLength: 190,
          description: 'Signs the deliveries; taken and never given back. A new webhook needs one',
        }),
      ),
      nodeset: Type.Optional(nodeset),
      kinds: Type.Optional(Type.Array(eventKind, { maxItems: kindsMax, description: 'Only of these kinds' })),
      enabled: Type.Optional(Type.Boolean({ description: 'False keeps its place and sends nothing' })),
    }),
    output: Type.Object({ webhook }),
    failures: [],
  }),
  listWebhooks: operation({
    summary: 'Webhooks, and how far each is behind',
    access: 'viewer',
    rest: { method: 'GET', path: '/webhooks' },
    input: Type.Object(pageInput()),
    output: Type.Object({ webhooks: Type.Array(webhook), ...pageOutput }),
    failures: [],
  }),
  removeWebhook: operation({
    summary: 'Forgets a webhook and its dead deliveries',
    access: 'admin',
    rest: { method: 'DELETE', path: '/webhooks/{name}' },
    input: Type.Object({ name: webhookName }),
    output: Type.Object({}),
    failures: ['unknown-webhook'],
  }),
  listDeadDeliveries: operation({
    summary: 'Events that a webhook was not told of in time, newest first',
    access: 'viewer',
    rest: { method: 'GET', path: '/dead-deliveries' },
    input: Type.Object({ webhook: Type.Optional(webhookName), ...pageInput() }),
    output: Type.Object({ deliveries: Type.Array(deadDelivery), ...pageOutput }),
    failures: ['unknown-webhook'],
  }),
  retryDelivery: operation({
    summary: 'Delivers a dead delivery now, once; it is no longer dead when it was taken',
    access: 'operator',
    rest: { method: 'POST', path: '/dead-deliveries/{delivery}/retry' },
    input: Type.Object({ delivery: id }),
    output: Type.Object({}),
    once: 'acts',
    failures: ['unknown-delivery', 'delivery-failed'],
  }),
}

/** The events as they happen, for as long as the reader likes (server-sent events). */
export const eventStream = {
  summary: 'Events as they happen, from `after` or Last-Event-ID on, or from now on',
  access: 'viewer',
  path: '/events/stream',
  input: Type.Object({ ...eventFilter, after: Type.Optional(after) }),
  item: event,
} as const
