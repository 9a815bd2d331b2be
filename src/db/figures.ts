// What is counted of the rows for those who watch the service.
import type { DeploymentKind } from '../model/capture.ts'
import type { DeploymentState } from '../model/deployment.ts'
import type { Db } from './open.ts'

/** How many deployments there are, by kind and state. */
export async function countDeployments(
  db: Db,
): Promise<{ kind: DeploymentKind; state: DeploymentState; count: number }[]> {
  return await db
    .selectFrom('deployments')
    .select((eb) => ['kind', 'state', eb.fn.countAll<number>().as('count')])
    .groupBy(['kind', 'state'])
    .execute()
}

/** How many long operations run. */
export async function countRunningTasks(db: Db): Promise<number> {
  const row = await db
    .selectFrom('tasks')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('state', '=', 'running')
    .executeTakeFirstOrThrow()
  return row.count
}

export type EndedDeployment = {
  readonly id: number
  readonly kind: DeploymentKind
  readonly state: DeploymentState
  readonly ended_at: number
  readonly history: string
  readonly proof: string | null
  readonly failure: string | null
}

/** Deployments that ended after `after`, the earliest first, at most `limit`; of those at `after` itself only ids beyond `afterId`. */
export async function endedAfter(
  db: Db,
  { at, id }: { readonly at: number; readonly id: number },
  limit: number,
): Promise<EndedDeployment[]> {
  const rows = await db
    .selectFrom('deployments')
    .select(['id', 'kind', 'state', 'ended_at', 'history', 'proof', 'failure'])
    .where((eb) => eb.or([eb('ended_at', '>', at), eb.and([eb('ended_at', '=', at), eb('id', '>', id)])]))
    .orderBy('ended_at')
    .orderBy('id')
    .limit(limit)
    .execute()
  return rows.flatMap(({ ended_at, ...row }) => (ended_at === null ? [] : [{ ...row, ended_at }]))
}
