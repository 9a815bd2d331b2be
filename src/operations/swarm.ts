// The Control Port's handlers around the swarm: watching it, and the limits of sites.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import { findRollout, imagesOfRollout, newestRollout } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { hostNamesAt } from '../db/hosts.ts'
import { slicePage } from '../db/page.ts'
import { currentDeployments } from '../db/rollouts.ts'
import { setupById } from '../db/setups.ts'
import { listSites, setSiteLimits } from '../db/sites.ts'
import { Failure } from '../model/failure.ts'
import { nextOf, pageOf } from './paging.ts'
import { swarmView, withNames } from './swarm-view.ts'
import { siteView } from './views.ts'
import type { World } from './world.ts'

/** As many hosts as a rollout can have. */
const hostsMax = 100_000

export function swarmHandlers({
  db,
  now,
}: World): Pick<Handlers<typeof controlOperations>, 'getSwarm' | 'setSite' | 'listSites'> {
  return {
    async getSwarm({ rollout: id, limit }) {
      const rollout = id === undefined ? await newestRollout(db) : await findRollout(db, id)
      if (!rollout) throw new Failure('unknown-rollout', 'there is no rollout yet', { at: 'rollout' })
      const rows = await currentDeployments(db, rollout.id)
      const { name, version } = await setupById(db, rollout.setup_id)
      const images = await imagesOfRollout(db, rollout.id)
      const all = { rollout, setup: `${name}:${version}`, rows, images }
      const swarm = swarmView(all, limit ?? hostsMax, now())
      const addresses = new Set(swarm.hosts.flatMap(({ sources }) => sources.map((source) => source.name)))
      return { swarm: withNames(swarm, await hostNamesAt(db, [...addresses])) }
    },
    async setSite({ name, egressBytesPerSecond, ingressBytesPerSecond }) {
      const sites = await db.transaction().execute(async (tx) => {
        await setSiteLimits(tx, name, { egressBytesPerSecond, ingressBytesPerSecond })
        const said = [
          egressBytesPerSecond === undefined ? 'any rate out' : `${egressBytesPerSecond} bytes/s out`,
          ingressBytesPerSecond === undefined ? 'any rate in' : `${ingressBytesPerSecond} bytes/s in`,
        ]
        await addEvent(tx, { source: 'control', kind: 'site-set', text: `site ${name}: ${said.join(', ')}` }, now())
        return await listSites(tx)
      })
      const site = sites.find((one) => one.name === name)
      if (!site) throw new Error(`site ${name} was set and is not listed`)
      return { site: siteView(site) }
    },
    async listSites(input) {
      const page = slicePage(await listSites(db), [{ of: (site) => site.name }], pageOf(input))
      return { sites: page.rows.map(siteView), ...nextOf(page) }
    },
  }
}
