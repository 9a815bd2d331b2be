// What hadesd does for swarms: the tracker, wired to the database and the library, and the seeder for stock clients.
import type { FastifyInstance } from 'fastify'
import { imagePaths } from '../image/library.ts'
import type { TokenBucket } from '../lib/rate-limit.ts'
import { tellLimit } from '../lib/tell-limit.ts'
import { swarmAdmission } from '../operations/swarm-admission.ts'
import { version } from '../operations/version.ts'
import type { World } from '../operations/world.ts'
import { startSeeder } from '../swarm/seeder.ts'
import { Tracker } from '../swarm/tracker.ts'
import { type Admission, type Asking, addTrackerRoutes } from '../swarm/tracker-routes.ts'

export type SwarmServices = {
  readonly tracker: Tracker
  /** Where the seeder listens. */
  readonly seederPort: number
  /** Adds the tracker to the server that machines talk to. */
  readonly addRoutes: (app: FastifyInstance) => void
  readonly close: () => Promise<void>
}

/**
 * Starts the seeder at `address`. `isOpen` admits anyone who has the torrent of a published image; what the seeder
 * sends passes `egress`. Throws when its port is taken.
 */
export async function swarmServices(
  world: World,
  options: {
    readonly isOpen: boolean
    readonly address: string
    readonly seederPort: number
    readonly egress: TokenBucket | undefined
  },
): Promise<SwarmServices> {
  const seeder = await startSeeder({
    host: options.address,
    port: options.seederPort,
    client: `HaDeS ${version}`,
    egress: options.egress,
  })
  // Routes are planned less than once a millisecond: no number of an earlier start comes again.
  const tracker = new Tracker({ firstVersion: world.startedAt, originOf: (infoHash) => seeder.peerOf(infoHash) })
  const mayTell = tellLimit({ burst: 3, perSecond: 0.1 })
  const tell = (err: unknown, text: string): void => {
    const held = mayTell()
    if (held !== undefined) world.log.error({ err, held }, text)
  }
  const admission = swarmAdmission(world, options)
  const admit = async (asking: Asking): Promise<Admission> => {
    const admitted = await admission(asking)
    // Only stock clients need a seeder of their kind; agents fetch from the origin by HTTP.
    if (admitted.kind === 'stranger') {
      const { image: path } = imagePaths(world.library, admitted.digest)
      await seeder
        .open(asking.infoHash, { path, geometry: admitted.geometry })
        .catch((error: unknown) => tell(error, 'an image cannot be seeded'))
    }
    return admitted
  }
  return {
    tracker,
    seederPort: seeder.port,
    addRoutes: (app) =>
      addTrackerRoutes(app, { tracker, admit, onError: (error) => tell(error, 'an announce could not be admitted') }),
    close: () => seeder.close(),
  }
}
