// Boot records: what each host boots, one row a host, found by the MAC address of the machine that asks.
import type { BootRecord, BootTarget } from '../model/boot.ts'
import type { DeploymentState } from '../model/deployment.ts'
import type { Loader } from '../model/host.ts'
import { inChunks } from './chunks.ts'
import type { Db } from './open.ts'

/** How a loader can tell one partition from every other: by the UUID of its file system, or its own in a GPT. */
export type PartitionFacts = { readonly fsUuid?: string | undefined; readonly partUuid?: string | undefined }

/** Everything that the answer to one boot request depends on. */
export type BootView = {
  readonly hostId: number
  readonly host: string
  readonly mac: string
  readonly ip: string | null
  readonly loader: Loader
  readonly record: BootRecord
  readonly changedAt: number
  /** The deployment that armed the record, when there is one. */
  readonly deployment:
    | { readonly id: number; readonly state: DeploymentState; readonly nonce: string | null }
    | undefined
}

function view(db: Db) {
  return db
    .selectFrom('interfaces')
    .innerJoin('hosts', 'hosts.id', 'interfaces.host_id')
    .innerJoin('boot_records', 'boot_records.host_id', 'hosts.id')
    .leftJoin('deployments', 'deployments.id', 'boot_records.deployment_id')
    .select([
      'hosts.id as hostId',
      'hosts.name as host',
      // The attempt may have another one than the host: then it is the way that has not been tried yet.
      (eb) => eb.fn.coalesce('deployments.boot_loader', 'hosts.loader').as('loader'),
      'interfaces.mac',
      'interfaces.ip',
      'boot_records.target',
      'boot_records.default_target as defaultTarget',
      'boot_records.is_once as isOnce',
      'boot_records.asked_at as askedAt',
      'boot_records.changed_at as changedAt',
      'deployments.id as deploymentId',
      'deployments.state',
      'deployments.boot_nonce as nonce',
    ])
}

/** What the machine with this MAC address (lower case, colons) is to boot; undefined when it belongs to no host. */
export async function bootByMac(db: Db, mac: string): Promise<BootView | undefined> {
  return shape(await view(db).where('interfaces.mac', '=', mac).executeTakeFirst())
}

/** The same by the address that our DHCP server gave the machine. */
export async function bootByAddress(db: Db, ip: string): Promise<BootView | undefined> {
  return shape(await view(db).where('interfaces.ip', '=', ip).executeTakeFirst())
}

function shape(row: Awaited<ReturnType<ReturnType<typeof view>['executeTakeFirst']>>): BootView | undefined {
  if (!row) return undefined
  const { deploymentId, state, nonce, target, defaultTarget, isOnce, askedAt, ...rest } = row
  return {
    ...rest,
    record: { target, defaultTarget, isOnce: isOnce === 1, askedAt },
    deployment: deploymentId === null || state === null ? undefined : { id: deploymentId, state, nonce },
  }
}

/**
 * What the last proof of a host says of its partition `number`, on the first disk that has one; undefined when nothing is
 * known, and its number must do.
 */
export async function knownPartition(db: Db, hostId: number, number: number): Promise<PartitionFacts | undefined> {
  const row = await db
    .selectFrom('deployments')
    .select('proof')
    .where('host_id', '=', hostId)
    .where('proof', 'is not', null)
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
  // Readers of our own JSON; proofs of before there were layouts have no places.
  const proof = JSON.parse(row?.proof ?? '{}') as {
    places?: readonly { partition?: number; uuid?: string; partitionUuid?: string }[]
  }
  const place = proof.places?.find(({ partition }) => partition === number)
  if (place === undefined || (place.uuid === undefined && place.partitionUuid === undefined)) return undefined
  // A partition that is given another file system by hand keeps its own UUID.
  return place.partitionUuid === undefined ? { fsUuid: place.uuid } : { partUuid: place.partitionUuid }
}

/** A boot record with what is kept beside it. */
export type StoredBootRecord = BootRecord & { readonly deploymentId: number | null; readonly changedAt: number }

/** The boot records of hosts, by host id. */
export async function bootRecordsOf(db: Db, hostIds: readonly number[]): Promise<Map<number, StoredBootRecord>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('boot_records').selectAll().where('host_id', 'in', chunk).execute(),
  )
  return new Map(
    rows.map((row) => [
      row.host_id,
      {
        target: row.target,
        defaultTarget: row.default_target,
        isOnce: row.is_once === 1,
        askedAt: row.asked_at,
        deploymentId: row.deployment_id,
        changedAt: row.changed_at,
      },
    ]),
  )
}

/** Points a host at `target`; with `deploymentId` the record belongs to that deployment until it lets go. */
export async function setBootTarget(
  db: Db,
  hostId: number,
  to: { target: BootTarget; asDefault?: boolean; once?: boolean; deploymentId?: number },
  now: number,
): Promise<void> {
  await db
    .updateTable('boot_records')
    .set({
      target: to.target,
      ...(to.asDefault ? { default_target: to.target } : {}),
      deployment_id: to.deploymentId ?? null,
      changed_at: now,
      is_once: to.once ? 1 : 0,
      asked_at: null,
    })
    .where('host_id', '=', hostId)
    .execute()
}

/** Keeps when the script of a record was first asked for, unless the record has changed since it was read. */
export async function markAsked(db: Db, { hostId, changedAt }: BootView, now: number): Promise<void> {
  await db
    .updateTable('boot_records')
    .set({ asked_at: now })
    .where('host_id', '=', hostId)
    .where('changed_at', '=', changedAt)
    .where('asked_at', 'is', null)
    .execute()
}

/**
 * Puts a record whose one boot is over back to its default, unless it has changed since it was read. Nobody has changed
 * it by this, so `changed_at` stays.
 */
export async function endOnce(db: Db, { hostId, changedAt }: BootView, now: number): Promise<void> {
  await db
    .updateTable('boot_records')
    .set((eb) => ({ target: eb.ref('default_target'), is_once: 0, asked_at: now }))
    .where('host_id', '=', hostId)
    .where('changed_at', '=', changedAt)
    .where('is_once', '=', 1)
    .execute()
}

/** The names of the hosts whose boot records name `target`, at most `limit` of them. */
export async function hostsThatBoot(db: Db, target: BootTarget, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom('boot_records')
    .innerJoin('hosts', 'hosts.id', 'boot_records.host_id')
    .select('hosts.name')
    .where((eb) => eb.or([eb('target', '=', target), eb('default_target', '=', target)]))
    .orderBy('hosts.name')
    .limit(limit)
    .execute()
  return rows.map((row) => row.name)
}

/**
 * Takes the record back from a deployment that has ended: to `target`, or to the host's default. Leaves it alone when
 * another deployment or a person has taken it since.
 */
export async function releaseBootRecord(
  db: Db,
  hostId: number,
  deploymentId: number,
  target: BootTarget | undefined,
  now: number,
): Promise<void> {
  await db
    .updateTable('boot_records')
    .set((eb) => ({
      target: target ?? eb.ref('default_target'),
      deployment_id: null,
      changed_at: now,
      is_once: 0,
      asked_at: null,
    }))
    .where('host_id', '=', hostId)
    .where('deployment_id', '=', deploymentId)
    .execute()
}
