// Events: the timeline of each host, append-only. Rows are written in the order in which things were seen.
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'

/** Longer texts are cut: an event is a line, and machines on the boot network can send anything. */
const textMax = 2000

type NewEvent = {
  readonly source: string
  readonly kind: string
  readonly text: string
  readonly hostId?: number | undefined
  readonly deploymentId?: number | undefined
}

/** The part of an event that says which deployment, and with it which host, it is about. */
export function about(deployment: { readonly id: number; readonly host_id: number }) {
  return { hostId: deployment.host_id, deploymentId: deployment.id }
}

/** Appends an event. */
export async function addEvent(db: Db, event: NewEvent, now: number): Promise<void> {
  await db
    .insertInto('events')
    .values({
      at: now,
      source: event.source,
      kind: event.kind,
      host_id: event.hostId ?? null,
      deployment_id: event.deploymentId ?? null,
      text: event.text.length > textMax ? `${event.text.slice(0, textMax)}…` : event.text,
    })
    .execute()
}

/**
 * A number above those of all events there are, and below those of all to come. One is added for it and taken away: to read the
 * newest in a transaction would lock the end of the timeline, and of two that have done so neither could add its own event
 * (a deadlock on MariaDB). Call it in a transaction.
 */
export async function eventMark(tx: Db): Promise<number> {
  const row = { at: 0, source: 'engine', kind: 'mark', text: '' }
  const { insertId } = await tx.insertInto('events').values(row).executeTakeFirstOrThrow()
  const id = Number(insertId)
  await tx.deleteFrom('events').where('id', '=', id).execute()
  return id
}

export type StoredEvent = {
  readonly id: number
  readonly at: number
  readonly source: string
  readonly kind: string
  readonly host: string | null
  readonly deployment_id: number | null
  readonly text: string
}

export type EventFilter = {
  readonly hostIds?: readonly number[] | undefined
  readonly deploymentId?: number | undefined
  /** Words, or beginnings of words with `*`; every kind when there is none. */
  readonly kinds?: readonly string[] | undefined
  readonly after?: number | undefined
}

/** Events that fit, oldest first; with `newest` the page is the last of them, and the next one is of those before. */
export async function pageOfEvents(
  db: Db,
  filter: EventFilter & { readonly newest?: boolean | undefined },
  page: Page,
): Promise<Paged<StoredEvent>> {
  const { hostIds, newest = false } = filter
  const among = hostIds === undefined ? undefined : { column: 'events.host_id' as const, values: hostIds }
  const order = [{ by: 'events.id' as const, of: (row: StoredEvent) => row.id, descending: newest }]
  const { rows, nextCursor } = await readPage(eventsThatFit(db, filter), order, page, among)
  return { rows: newest ? rows.reverse() : rows, nextCursor }
}

function eventsThatFit(db: Db, { deploymentId, kinds = [], after }: EventFilter) {
  const exact = kinds.filter((kind) => !kind.endsWith('*'))
  const begun = kinds.filter((kind) => kind.endsWith('*')).map((kind) => `${kind.slice(0, -1)}%`)
  return db
    .selectFrom('events')
    .leftJoin('hosts', 'hosts.id', 'events.host_id')
    .select(['events.id', 'events.at', 'source', 'kind', 'hosts.name as host', 'deployment_id', 'text'])
    .$if(deploymentId !== undefined, (query) => query.where('deployment_id', '=', deploymentId ?? null))
    .$if(after !== undefined, (query) => query.where('events.id', '>', after ?? 0))
    .$if(kinds.length > 0, (query) =>
      query.where((eb) =>
        eb.or([
          ...(exact.length > 0 ? [eb('kind', 'in', exact)] : []),
          ...begun.map((like) => eb('kind', 'like', like)),
        ]),
      ),
    )
}

/** A transaction that began before this has committed or never will. */
const settledMs = 5000
const horizonRows = 1000

/**
 * The id up to which every event is there: on a database with several writers, a number can be given out and appear
 * after a greater one. Readers that go on from an id must not go beyond this, or they would miss it for good.
 */
export async function eventHorizon(db: Db, now: number): Promise<number> {
  const newest = await db.selectFrom('events').select(['id', 'at']).orderBy('id', 'desc').limit(horizonRows).execute()
  let horizon = newest[0]?.id ?? 0
  for (const [index, { id, at }] of newest.entries()) {
    const before = newest[index + 1]
    if (before !== undefined && before.id < id - 1 && at > now - settledMs) horizon = before.id
  }
  return horizon
}

/** The event; undefined when there is none of this number, or no longer. */
export async function findEvent(db: Db, id: number): Promise<StoredEvent | undefined> {
  return await eventsThatFit(db, {}).where('events.id', '=', id).executeTakeFirst()
}

/** The newest event of a host or a deployment after another one, of one of these sources or kinds. */
export async function newestEventAfter(
  db: Db,
  of: { readonly hostId: number } | { readonly deploymentId: number },
  after: number,
  which: { readonly sources: readonly string[] } | { readonly kinds: readonly string[] },
): Promise<{ id: number; at: number; text: string } | undefined> {
  return await db
    .selectFrom('events')
    .select(['id', 'at', 'text'])
    .where((eb) => ('hostId' in of ? eb('host_id', '=', of.hostId) : eb('deployment_id', '=', of.deploymentId)))
    .where('id', '>', after)
    .where((eb) => ('sources' in which ? eb('source', 'in', which.sources) : eb('kind', 'in', which.kinds)))
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/**
 * The newest events of a host, or of no host, in a time, oldest first, at most `limit`. `sources` leaves the others out.
 */
export async function eventsBetween(
  db: Db,
  hostId: number | null,
  during: { readonly from: number; readonly to: number; readonly sources?: readonly string[]; readonly limit: number },
): Promise<StoredEvent[]> {
  const rows = await db
    .selectFrom('events')
    .leftJoin('hosts', 'hosts.id', 'events.host_id')
    .select(['events.id', 'events.at', 'source', 'kind', 'hosts.name as host', 'deployment_id', 'text'])
    .where('events.host_id', hostId === null ? 'is' : '=', hostId)
    .where('events.at', '>=', during.from)
    .where('events.at', '<=', during.to)
    .$if(during.sources !== undefined, (query) => query.where('source', 'in', during.sources ?? []))
    .orderBy('events.id', 'desc')
    .limit(during.limit)
    .execute()
  return rows.reverse()
}

/** When the newest event was seen; undefined when there is none. */
export async function newestEventAt(db: Db): Promise<number | undefined> {
  return (await db.selectFrom('events').select('at').orderBy('id', 'desc').limit(1).executeTakeFirst())?.at
}

/** When a host last asked for anything to boot by, before a moment; undefined when it never did. */
export async function lastBootRequest(db: Db, hostId: number, before: number): Promise<number | undefined> {
  const row = await db
    .selectFrom('events')
    .select('at')
    .where('host_id', '=', hostId)
    .where('at', '<', before)
    .where('kind', 'in', ['dhcp-discover', 'dhcp-request', 'tftp-sent', 'http-sent', 'boot-script'])
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.at
}
