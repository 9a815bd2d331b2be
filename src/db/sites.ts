// Sites: places with a narrow way in or out. A host names its site; only a site with limits has a row.
import type { Selectable } from 'kysely'
import type { RateLimits } from '../model/transfer-policy.ts'
import type { Db } from './open.ts'
import type { SiteRow } from './schema.ts'

type Site = Selectable<SiteRow>

/** Sets the limits of a site; what is undefined is not limited any more. Call it in a transaction. */
export async function setSiteLimits(db: Db, name: string, limits: RateLimits): Promise<void> {
  await db.deleteFrom('sites').where('name', '=', name).execute()
  const { egressBytesPerSecond, ingressBytesPerSecond } = limits
  await db
    .insertInto('sites')
    .values({
      name,
      egress_bytes_per_second: egressBytesPerSecond ?? null,
      ingress_bytes_per_second: ingressBytesPerSecond ?? null,
    })
    .execute()
}

/** The limits of a site; undefined when none were ever set. */
export async function findSite(db: Db, name: string): Promise<Site | undefined> {
  return await db.selectFrom('sites').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Every site that has limits or hosts, by name, with the number of its hosts. */
export async function listSites(
  db: Db,
): Promise<(Pick<Site, 'name' | 'egress_bytes_per_second' | 'ingress_bytes_per_second'> & { hosts: number })[]> {
  const limited = await db.selectFrom('sites').selectAll().execute()
  const populated = await db
    .selectFrom('hosts')
    .select((eb) => ['site', eb.fn.countAll<number>().as('hosts')])
    .where('site', 'is not', null)
    .groupBy('site')
    .execute()
  const hostsOf = new Map(populated.map(({ site, hosts }) => [site ?? '', hosts]))
  const limitsOf = new Map(limited.map((site) => [site.name, site]))
  return [...new Set([...limitsOf.keys(), ...hostsOf.keys()])].sort().map((name) => ({
    name,
    egress_bytes_per_second: limitsOf.get(name)?.egress_bytes_per_second ?? null,
    ingress_bytes_per_second: limitsOf.get(name)?.ingress_bytes_per_second ?? null,
    hosts: hostsOf.get(name) ?? 0,
  }))
}
