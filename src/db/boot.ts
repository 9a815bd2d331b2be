// Boot records: what each host boots, one row a host, found by the MAC address of the machine that asks.
import type { BootTarget } from '../model/boot.ts'
import type { DeploymentState } from '../model/deployment.ts'
import type { Loader } from '../model/host.ts'
import { inChunks } from './chunks.ts'
import type { Db } from './open.ts'

/** Everything that the answer to one boot request depends on. */
export type BootView = {
  readonly hostId: number
  readonly host: string
  readonly mac: string
  readonly ip: string | null
  readonly loader: Loader
  readonly target: BootTarget
  readonly defaultTarget: BootTarget
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
      'hosts.loader',
      'interfaces.mac',
      'interfaces.ip',
      'boot_records.target',
      'boot_records.default_target as defaultTarget',
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
  const { deploymentId, state, nonce, ...rest } = row
  return {
    ...rest,
    deployment: deploymentId === null || state === null ? undefined : { id: deploymentId, state, nonce },
  }
}

/** The boot records of hosts, by host id. */
export async function bootRecordsOf(
  db: Db,
  hostIds: readonly number[],
): Promise<
  Map<number, { target: BootTarget; default_target: BootTarget; deployment_id: number | null; changed_at: number }>
> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('boot_records').selectAll().where('host_id', 'in', chunk).execute(),
  )
  return new Map(rows.map((row) => [row.host_id, row]))
}

/** Points a host at `target`; with `deploymentId` the record belongs to that deployment until it lets go. */
export async function setBootTarget(
  db: Db,
  hostId: number,
  to: { target: BootTarget; asDefault?: boolean; deploymentId?: number },
  now: number,
): Promise<void> {
  await db
    .updateTable('boot_records')
    .set({
      target: to.target,
      ...(to.asDefault ? { default_target: to.target } : {}),
      deployment_id: to.deploymentId ?? null,
      changed_at: now,
    })
    .where('host_id', '=', hostId)
    .execute()
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
    .set((eb) => ({ target: target ?? eb.ref('default_target'), deployment_id: null, changed_at: now }))
    .where('host_id', '=', hostId)
    .where('deployment_id', '=', deploymentId)
    .execute()
}
