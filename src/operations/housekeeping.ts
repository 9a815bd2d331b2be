// Housekeeping: what is older or more than the retention settings keep goes, in small batches, by one of several services at a
// time. What it removed is told as an event, in the log and in the figures.
import { setTimeout as delay } from 'node:timers/promises'
import { addEvent } from '../db/events.ts'
import { giveLeaseBack, takeLease } from '../db/leases.ts'
import {
  auditBeyond,
  eventsBeyond,
  removeOldAudit,
  removeOldDeliveries,
  removeOldEvents,
  removeOldLogs,
  removeOldTasks,
  tidyDatabase,
} from '../db/retention.ts'
import type { World } from './world.ts'

export type Retention = {
  readonly eventAge: number
  /** No more than this are kept. */
  readonly events: number
  readonly taskAge: number
  readonly logAge: number
  readonly deliveryAge: number
  readonly auditAge: number
  /** No more rows than this are kept. */
  readonly audit: number
}

export type HousekeepingOptions = {
  readonly retention: Retention
  readonly onRemoved: (table: string, rows: number) => void
}

const leaseName = 'housekeeping'
const everyMs = 10 * 60_000
/** One round at most; what is left is for the next. */
const roundMsMax = 5 * 60_000
/** Longer than a round: whoever holds it is at work or gone. */
const leaseMs = 2 * roundMsMax
/** Between two batches, for everyone else. */
const pauseMs = 20

/** Keeps house now and then until closed. */
export function startHousekeeping(world: World, options: HousekeepingOptions): { readonly close: () => Promise<void> } {
  const stopping = new AbortController()
  const { signal } = stopping
  const loop = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await keepHouse(world, options, signal)
      } catch (error) {
        if (!signal.aborted) world.log.error({ err: error }, 'housekeeping failed; it is tried again')
      }
      await delay(everyMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }
  const running = loop()
  return {
    async close() {
      stopping.abort()
      await running
    },
  }
}

/** One round, unless another service is at it. Returns what was removed, by table; undefined when another one does it. */
export async function keepHouse(
  world: World,
  { retention, onRemoved }: HousekeepingOptions,
  signal: AbortSignal,
): Promise<Readonly<Record<string, number>> | undefined> {
  const { db, log, now, owner } = world
  if (!(await takeLease(db, { name: leaseName, owner, until: now() + leaseMs }, now()))) return undefined
  const removed: Record<string, number> = {}
  const end = performance.now() + roundMsMax
  /** Repeats a batch until it removes nothing. */
  const all = async (table: string, batch: () => Promise<number>): Promise<void> => {
    while (!signal.aborted && performance.now() < end) {
      const rows = await batch()
      if (rows === 0) return
      removed[table] = (removed[table] ?? 0) + rows
      onRemoved(table, rows)
      await delay(pauseMs)
    }
  }
  try {
    const beyond = await eventsBeyond(db, retention.events)
    const before = Math.max(now() - retention.eventAge, beyond ?? 0)
    let after: number | undefined = 0
    await all('events', async () => {
      if (after === undefined) return 0
      const batch = await removeOldEvents(db, { before, after })
      after = batch.after
      return batch.removed
    })
    await all('tasks', () => removeOldTasks(db, now() - retention.taskAge))
    await all('logs', () => removeOldLogs(db, now() - retention.logAge))
    await all('deliveries', () => removeOldDeliveries(db, now() - retention.deliveryAge))
    const upTo = await auditBeyond(db, retention.audit)
    await all('audit', () => removeOldAudit(db, { before: now() - retention.auditAge, upTo }))
    await tidyDatabase(db)
  } finally {
    await giveLeaseBack(db, leaseName, owner)
  }
  const told = Object.entries(removed).map(([table, rows]) => `${rows} ${table}`)
  if (told.length > 0) {
    const text = `housekeeping removed what was too old or too much: ${told.join(', ')}`
    log.info({ removed }, text)
    await addEvent(db, { source: 'service', kind: 'housekeeping', text }, now())
  }
  return removed
}
