// Events: the timeline of each host, append-only. Rows are written in the order in which things were seen.
import { inChunks } from './chunks.ts'
import type { Db } from './open.ts'

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

export type StoredEvent = {
  readonly id: number
  readonly at: number
  readonly source: string
  readonly kind: string
  readonly host: string | null
  readonly deployment_id: number | null
  readonly text: string
}

/** Events after `after`, oldest first; with `newest` the last `limit` of them. */
export async function listEvents(
  db: Db,
  which: {
    readonly hostIds?: readonly number[] | undefined
    readonly deploymentId?: number | undefined
    readonly after?: number | undefined
    readonly newest?: boolean | undefined
    readonly limit: number
  },
): Promise<StoredEvent[]> {
  const wanted = db
    .selectFrom('events')
    .leftJoin('hosts', 'hosts.id', 'events.host_id')
    .select(['events.id', 'events.at', 'source', 'kind', 'hosts.name as host', 'deployment_id', 'text'])
    .$if(which.deploymentId !== undefined, (query) => query.where('deployment_id', '=', which.deploymentId ?? null))
    .$if(which.after !== undefined, (query) => query.where('events.id', '>', which.after ?? 0))
    .orderBy('events.id', which.newest ? 'desc' : 'asc')
    .limit(which.limit)
  if (which.hostIds === undefined) return inOrder(await wanted.execute(), which)
  return inOrder(await inChunks(which.hostIds, (chunk) => wanted.where('host_id', 'in', chunk).execute()), which)
}

/** Oldest first, of all chunks together, and no more than were asked for. */
function inOrder(rows: StoredEvent[], { newest, limit }: { newest?: boolean | undefined; limit: number }) {
  rows.sort((a, b) => a.id - b.id)
  return newest ? rows.slice(-limit) : rows.slice(0, limit)
}

/** The newest event of a deployment since a moment, of one of these sources. */
export async function lastEventOf(
  db: Db,
  deploymentId: number,
  since: number,
  sources: readonly string[],
): Promise<{ at: number; source: string; kind: string; text: string } | undefined> {
  return await db
    .selectFrom('events')
    .select(['at', 'source', 'kind', 'text'])
    .where('deployment_id', '=', deploymentId)
    .where('at', '>=', since)
    .where('source', 'in', sources)
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

/** When a host, or a deployment, last had an event of this kind since a moment; undefined when it had none. */
export async function lastEventAt(
  db: Db,
  of: { readonly hostId: number } | { readonly deploymentId: number },
  kind: string,
  since: number,
): Promise<number | undefined> {
  const row = await db
    .selectFrom('events')
    .select('at')
    .where((eb) => ('hostId' in of ? eb('host_id', '=', of.hostId) : eb('deployment_id', '=', of.deploymentId)))
    .where('kind', '=', kind)
    .where('at', '>=', since)
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.at
}
