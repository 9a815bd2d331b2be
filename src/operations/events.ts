// Events for whoever asks: a list that can wait for news, and a stream.
import { setTimeout as delay } from 'node:timers/promises'
import type { Static } from 'typebox'
import type { eventOperations, eventStream } from '../contract/events.ts'
import type { Handlers, StreamItems } from '../contract/operation.ts'
import { type EventFilter, eventHorizon, pageOfEvents } from '../db/events.ts'
import type { Db } from '../db/open.ts'
import { hostIdsOf } from './nodeset.ts'
import { nextOf, pageOf } from './paging.ts'
import { eventView } from './views.ts'
import type { World } from './world.ts'

/** How long whoever waits for events is let wait between two looks. */
const lookEveryMs = 200

/** Events that a stream reads at once. */
const batchMax = 500

export function eventHandlers({ db, now }: World): Pick<Handlers<typeof eventOperations>, 'listEvents'> {
  return {
    async listEvents({ nodeset, deployment, kinds, after, newest, limit, cursor, waitMs = 0 }) {
      const hostIds = await hostIdsOf(db, nodeset)
      const filter = { hostIds, deploymentId: deployment, kinds, after, newest }
      const end = performance.now() + waitMs
      for (;;) {
        // Who goes on from an id must see every event behind it; who reads what has been need not wait for that.
        const page =
          after === undefined || newest
            ? await pageOfEvents(db, filter, pageOf({ limit, cursor }, 1000))
            : await settledPage(db, filter, pageOf({ limit, cursor }, 1000), now())
        if (page.rows.length > 0 || performance.now() >= end) {
          return { events: page.rows.map(eventView), ...nextOf(page) }
        }
        await delay(lookEveryMs)
      }
    },
  }
}

async function settledPage(db: Db, filter: EventFilter, page: Parameters<typeof pageOfEvents>[2], now: number) {
  const found = await pageOfEvents(db, filter, page)
  if (found.rows.length === 0) return found
  const horizon = await eventHorizon(db, now)
  const rows = found.rows.filter(({ id }) => id <= horizon)
  return rows.length === found.rows.length ? found : { rows, nextCursor: undefined }
}

/** Events as they happen, for the stream of the Control Port. */
export function eventItems({ db, now }: World): StreamItems {
  return async function* (input, lastSeen, signal) {
    // The port has checked it against the contract.
    const { nodeset, deployment, kinds, after = lastSeen } = input as Static<typeof eventStream.input>
    const hostIds = await hostIdsOf(db, nodeset)
    let seen = lastSeen ?? after ?? (await eventHorizon(db, now()))
    while (!signal.aborted) {
      const filter = { hostIds, deploymentId: deployment, kinds, after: seen }
      const { rows } = await settledPage(db, filter, { limit: batchMax }, now())
      seen = rows.at(-1)?.id ?? seen
      if (rows.length > 0) yield rows.map((row) => ({ id: row.id, item: eventView(row) }))
      if (rows.length < batchMax) await delay(lookEveryMs, undefined, { signal }).catch(() => {})
    }
  }
}
