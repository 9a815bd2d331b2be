// Which hosts fetch which image now: what the tracker admits agents and stock clients by.
import type { DeploymentState } from '../model/deployment.ts'
import type { Db } from './open.ts'

/** While an agent works, and while it hands over and others may still take from it. */
const fetchingStates = ['deploying', 'rebooting'] as const satisfies readonly DeploymentState[]

/** A host whose agent is at work, with what its session key is derived from. */
export type FetchingHost = {
  readonly deploymentId: number
  readonly nonce: string | null
  readonly agent: string | null
  readonly rolloutId: number
  readonly host: string
  readonly site: string | null
  readonly rack: string | null
}

function fetching(db: Db) {
  return db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .select([
      'deployments.id as deploymentId',
      'deployments.boot_nonce as nonce',
      'deployments.agent',
      'deployments.rollout_id as rolloutId',
      'hosts.name as host',
      'hosts.site',
      'hosts.rack',
    ])
    .where('deployments.state', 'in', fetchingStates)
}

/** Whether the hosts of a rollout fetch the image with this digest. */
export async function rolloutBrings(db: Db, rolloutId: number, digest: string): Promise<boolean> {
  const row = await db
    .selectFrom('rollout_images')
    .select('position')
    .where('rollout_id', '=', rolloutId)
    .where('digest', '=', digest)
    .executeTakeFirst()
  return row !== undefined
}

/** All of them. */
export async function fetchingHosts(db: Db): Promise<FetchingHost[]> {
  return await fetching(db).execute()
}

/** The one with this address; undefined when no host has it, or none that fetches. */
export async function fetchingHostAt(db: Db, ip: string): Promise<FetchingHost | undefined> {
  return await fetching(db)
    .innerJoin('interfaces', 'interfaces.host_id', 'hosts.id')
    .where('interfaces.ip', '=', ip)
    .executeTakeFirst()
}
