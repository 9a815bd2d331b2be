// Hosts with their interfaces, power methods and inventories.
import type { Selectable } from 'kysely'
import type { BootTarget } from '../model/boot.ts'
import { Failure } from '../model/failure.ts'
import type { Loader } from '../model/host.ts'
import { inChunks } from './chunks.ts'
import type { Db } from './open.ts'
import type { HostRow, PowerMethodRow } from './schema.ts'

export type Host = Selectable<HostRow>

/** A power method as it is stored: the password sealed. */
export type StoredPowerMethod = Pick<
  Selectable<PowerMethodRow>,
  'driver' | 'address' | 'username' | 'sealed_password' | 'options'
>

export type NewHost = {
  readonly name: string
  readonly site?: string | undefined
  readonly rack?: string | undefined
  readonly loader: Loader
  readonly setup?: string | undefined
  readonly defaultTarget: BootTarget
  /** Why no rollout may take it unless it is named as meant; empty: it is not protected. */
  readonly protected?: string | undefined
  readonly interfaces: readonly { readonly mac: string; readonly ip?: string | undefined }[]
  readonly powerMethods: readonly StoredPowerMethod[]
}

export type HostChange = Partial<NewHost>

/** One form for each MAC address: lower case, colons. */
export function normalMac(mac: string): string {
  return mac.toLowerCase().replaceAll('-', ':')
}

/** Adds a host and returns its id. Failure `already-exists` names what is taken. Call it in a transaction. */
export async function addHost(db: Db, host: NewHost, now: number): Promise<number> {
  const taken = await db.selectFrom('hosts').select('id').where('name', '=', host.name).executeTakeFirst()
  if (taken) throw new Failure('already-exists', `there is a host ${host.name} already`, { at: 'name' })
  const row = await db
    .insertInto('hosts')
    .values({
      name: host.name,
      site: host.site ?? null,
      rack: host.rack ?? null,
      loader: host.loader,
      setup: host.setup ?? null,
      created_at: now,
      protected_reason: host.protected || null,
    })
    .executeTakeFirstOrThrow()
  const id = Number(row.insertId)
  await putInterfaces(db, id, host.interfaces)
  await putPowerMethods(db, id, host.powerMethods)
  await db
    .insertInto('boot_records')
    .values({
      host_id: id,
      target: host.defaultTarget,
      default_target: host.defaultTarget,
      deployment_id: null,
      changed_at: now,
      is_once: 0,
      asked_at: null,
    })
    .execute()
  return id
}

/** Changes what `change` gives; lists replace the old ones. Call it in a transaction. */
export async function changeHost(db: Db, id: number, change: HostChange, now: number): Promise<void> {
  const columns = {
    ...(change.site === undefined ? {} : { site: change.site }),
    ...(change.rack === undefined ? {} : { rack: change.rack }),
    ...(change.loader === undefined ? {} : { loader: change.loader }),
    ...(change.setup === undefined ? {} : { setup: change.setup }),
    ...(change.protected === undefined ? {} : { protected_reason: change.protected || null }),
  }
  if (Object.keys(columns).length > 0) await db.updateTable('hosts').set(columns).where('id', '=', id).execute()
  if (change.interfaces) await putInterfaces(db, id, change.interfaces)
  if (change.powerMethods) await putPowerMethods(db, id, change.powerMethods)
  if (change.defaultTarget) {
    await db
      .updateTable('boot_records')
      .set({ default_target: change.defaultTarget, changed_at: now })
      .where('host_id', '=', id)
      .execute()
  }
}

async function putInterfaces(db: Db, id: number, interfaces: NewHost['interfaces']): Promise<void> {
  await db.deleteFrom('interfaces').where('host_id', '=', id).execute()
  for (const [index, { mac, ip }] of interfaces.entries()) {
    const normal = normalMac(mac)
    const other = await db
      .selectFrom('interfaces')
      .innerJoin('hosts', 'hosts.id', 'interfaces.host_id')
      .select(['hosts.name', 'interfaces.mac'])
      .where((eb) => eb.or([eb('mac', '=', normal), ...(ip === undefined ? [] : [eb('ip', '=', ip)])]))
      .executeTakeFirst()
    if (other) {
      const what = other.mac === normal ? `MAC address ${normal}` : `IP address ${ip}`
      throw new Failure('already-exists', `the ${what} belongs to host ${other.name}`, { at: `interfaces[${index}]` })
    }
    await db
      .insertInto('interfaces')
      .values({ host_id: id, mac: normal, ip: ip ?? null })
      .execute()
  }
}

async function putPowerMethods(db: Db, id: number, methods: readonly StoredPowerMethod[]): Promise<void> {
  await db.deleteFrom('power_methods').where('host_id', '=', id).execute()
  for (const [position, method] of methods.entries()) {
    await db
      .insertInto('power_methods')
      .values({ host_id: id, position, ...method })
      .execute()
  }
}

/** Forgets a host, its boot record and its ended deployments; its events stay. */
export async function removeHost(db: Db, id: number): Promise<void> {
  await db.deleteFrom('hosts').where('id', '=', id).execute()
}

/** The id of a host; undefined when there is none of this name. */
export async function hostIdOf(db: Db, name: string): Promise<number | undefined> {
  return (await db.selectFrom('hosts').select('id').where('name', '=', name).executeTakeFirst())?.id
}

/**
 * The hosts of these names, in that order; all hosts by name when `names` is undefined. Failure `unknown-host` names
 * those that there are not.
 */
export async function findHosts(db: Db, names: readonly string[] | undefined): Promise<Host[]> {
  const all = db.selectFrom('hosts').selectAll().orderBy('name')
  if (names === undefined) return await all.execute()
  const found = await inChunks(names, (chunk) => all.where('name', 'in', chunk).execute())
  const byName = new Map(found.map((host) => [host.name, host]))
  const unknown = names.filter((name) => !byName.has(name))
  if (unknown.length > 0) {
    const shown = unknown.slice(0, 10).join(', ') + (unknown.length > 10 ? ` and ${unknown.length - 10} more` : '')
    throw new Failure('unknown-host', `there is no host ${shown}`, { at: 'nodeset' })
  }
  return names.map((name) => byName.get(name)).filter((host) => host !== undefined)
}

/** Interfaces of hosts, by host id. */
export async function interfacesOf(
  db: Db,
  hostIds: readonly number[],
): Promise<Map<number, { mac: string; ip: string | null }[]>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('interfaces').selectAll().where('host_id', 'in', chunk).orderBy('id').execute(),
  )
  const found = new Map<number, { mac: string; ip: string | null }[]>()
  for (const { host_id, mac, ip } of rows) found.set(host_id, [...(found.get(host_id) ?? []), { mac, ip }])
  return found
}

/** The names of the hosts that have these IP addresses, by address. */
export async function hostNamesAt(db: Db, addresses: readonly string[]): Promise<Map<string, string>> {
  const rows = await inChunks(addresses, (chunk) =>
    db
      .selectFrom('interfaces')
      .innerJoin('hosts', 'hosts.id', 'interfaces.host_id')
      .select(['interfaces.ip', 'hosts.name'])
      .where('interfaces.ip', 'in', chunk)
      .execute(),
  )
  return new Map(rows.map(({ ip, name }) => [ip ?? '', name]))
}

/** Power methods of hosts, by host id, the current one first. */
export async function powerMethodsOf(db: Db, hostIds: readonly number[]): Promise<Map<number, StoredPowerMethod[]>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('power_methods').selectAll().where('host_id', 'in', chunk).orderBy('position').execute(),
  )
  const found = new Map<number, StoredPowerMethod[]>()
  for (const row of rows) found.set(row.host_id, [...(found.get(row.host_id) ?? []), row])
  return found
}

/** A host that has one of these MAC addresses (lower case, colons). */
export async function hostOfMacs(db: Db, macs: readonly string[]): Promise<Pick<Host, 'id' | 'name'> | undefined> {
  return await db
    .selectFrom('interfaces')
    .innerJoin('hosts', 'hosts.id', 'interfaces.host_id')
    .select(['hosts.id', 'hosts.name'])
    .where('interfaces.mac', 'in', macs)
    .orderBy('hosts.id')
    .limit(1)
    .executeTakeFirst()
}

/** Keeps what the agent found in the machine, as JSON. */
export async function putInventory(db: Db, hostId: number, json: string, now: number): Promise<void> {
  await db.deleteFrom('inventories').where('host_id', '=', hostId).execute()
  await db.insertInto('inventories').values({ host_id: hostId, at: now, json }).execute()
}

/** Inventories of hosts, by host id. */
export async function inventoriesOf(
  db: Db,
  hostIds: readonly number[],
): Promise<Map<number, { at: number; json: string }>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('inventories').selectAll().where('host_id', 'in', chunk).execute(),
  )
  return new Map(rows.map((row) => [row.host_id, row]))
}

/** How many hosts there are. */
export async function countHosts(db: Db): Promise<number> {
  const row = await db
    .selectFrom('hosts')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .executeTakeFirstOrThrow()
  return row.n
}
