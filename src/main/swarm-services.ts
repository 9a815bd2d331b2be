// What hadesd does for swarms: the tracker, wired to the database and the library.
import type { FastifyInstance } from 'fastify'
import { tellLimit } from '../lib/tell-limit.ts'
import { swarmAdmission } from '../operations/swarm-admission.ts'
import type { World } from '../operations/world.ts'
import { Tracker } from '../swarm/tracker.ts'
import { addTrackerRoutes } from '../swarm/tracker-routes.ts'

export type SwarmServices = {
  readonly tracker: Tracker
  /** Adds the tracker to the server that machines talk to. */
  readonly addRoutes: (app: FastifyInstance) => void
}

/** `isOpen` admits anyone who has the torrent of a published image. */
export function swarmServices(world: World, options: { readonly isOpen: boolean }): SwarmServices {
  // Routes are planned less than once a millisecond: no number of an earlier start comes again.
  const tracker = new Tracker({ firstVersion: world.startedAt })
  const mayTell = tellLimit({ burst: 3, perSecond: 0.1 })
  return {
    tracker,
    addRoutes: (app) =>
      addTrackerRoutes(app, {
        tracker,
        admit: swarmAdmission(world, options),
        onError: (error) => {
          const held = mayTell()
          if (held !== undefined) world.log.error({ err: error, held }, 'an announce could not be admitted')
        },
      }),
  }
}
