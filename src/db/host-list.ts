// Lists of hosts, by what is asked of them.
import { sql } from 'kysely'
import type { BootTarget } from '../model/boot.ts'
import type { DeploymentState } from '../model/deployment.ts'
import type { HostSort } from '../model/host.ts'
import { type Host, normalMac } from './hosts.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'

export type HostFilter = {
  /** Only these. */
  readonly ids?: readonly number[] | undefined
  readonly site?: string | undefined
  readonly rack?: string | undefined
  readonly setup?: string | undefined
  readonly target?: BootTarget | undefined
  /** Of the newest deployment. */
  readonly state?: DeploymentState | undefined
  readonly mac?: string | undefined
}

/** Hosts that fit, by name; or by site, rack and name; or the newest first. */
export async function pageOfHosts(
  db: Db,
  { ids, site, rack, setup, target, state, mac }: HostFilter,
  sort: HostSort,
  page: Page,
): Promise<Paged<Host>> {
  const query = db
    .selectFrom('hosts')
    .selectAll('hosts')
    .$if(site !== undefined, (hosts) => hosts.where('site', '=', site ?? ''))
    .$if(rack !== undefined, (hosts) => hosts.where('rack', '=', rack ?? ''))
    .$if(setup !== undefined, (hosts) => hosts.where('setup', '=', setup ?? ''))
    .$if(target !== undefined, (hosts) =>
      hosts.where('hosts.id', 'in', (eb) =>
        eb
          .selectFrom('boot_records')
          .select('host_id')
          .where('target', '=', target ?? 'local'),
      ),
    )
    .$if(mac !== undefined, (hosts) =>
      hosts.where('hosts.id', 'in', (eb) =>
        eb
          .selectFrom('interfaces')
          .select('host_id')
          .where('interfaces.mac', '=', normalMac(mac ?? '')),
      ),
    )
    .$if(state !== undefined, (hosts) =>
      hosts.where((eb) =>
        eb.exists(
          eb
            .selectFrom('deployments')
            .select('deployments.id')
            .where('state', '=', state ?? 'done')
            .where('deployments.id', '=', (newest) =>
              newest
                .selectFrom('deployments as others')
                .select((fn) => fn.fn.max('others.id').as('id'))
                .whereRef('others.host_id', '=', 'hosts.id'),
            ),
        ),
      ),
    )
  const name = { by: 'hosts.name' as const, of: (host: Host) => host.name }
  const among = ids === undefined ? undefined : { column: 'hosts.id' as const, values: ids }
  if (sort === 'name') return await readPage(query, [name], page, among)
  if (sort === 'newest') {
    const newest = { by: 'hosts.id' as const, of: (host: Host) => host.id, descending: true }
    return await readPage(query, [newest], page, among)
  }
  // A host without a place comes first: null is behind nothing and before nothing, so a cursor could not pass it.
  const place = [
    { by: sql<string>`coalesce(hosts.site, '')`, of: (host: Host) => host.site ?? '' },
    { by: sql<string>`coalesce(hosts.rack, '')`, of: (host: Host) => host.rack ?? '' },
  ]
  return await readPage(query, [...place, name], page, among)
}
