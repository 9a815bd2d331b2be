// Deployments and rollouts. Every change of state is one guarded statement (`... where state = ...`): whoever comes late
// changes nothing and is told so.
import type { Selectable } from 'kysely'
import type { DeploymentKind } from '../model/capture.ts'
import {
  activeStates,
  type DeploymentState,
  type DeploymentStep,
  isOpen,
  type Mover,
  mayMove,
  openStates,
} from '../model/deployment.ts'
import type { Excluded } from '../model/exclusion.ts'
import { Failure, invariant } from '../model/failure.ts'
import type { Loader } from '../model/host.ts'
import type { RedeployMode } from '../model/layout.ts'
import { defaultPolicy, type Policy, waveAt } from '../model/rollout-policy.ts'
import type { TransferPolicy } from '../model/transfer-policy.ts'
import { inChunks } from './chunks.ts'
import { eventMark } from './events.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { DeploymentRow, RolloutImageRow, RolloutRow } from './schema.ts'

export type Deployment = Selectable<DeploymentRow>

/** A deployment with the names that people know it by. */
export type NamedDeployment = Deployment & {
  readonly host: string
  readonly site: string | null
  readonly rack: string | null
  readonly setup_name: string
  readonly setup_version: number
  /** The host's own loader. */
  readonly loader: Loader
}

export type Rollout = Selectable<RolloutRow>

export type RolloutImage = Pick<Selectable<RolloutImageRow>, 'name' | 'version' | 'digest' | 'stored_bytes'>

export type StateTime = { readonly state: DeploymentState; readonly at: number }

/**
 * Writes a rollout and the deployments of its hosts, in the order in which they are to begin: all `queued` and due at
 * once, or `waiting` for the conductor. Call it in a transaction.
 */
export async function addRollout(
  db: Db,
  rollout: {
    readonly setupId: number
    readonly kind?: DeploymentKind
    /** None in a capture. */
    readonly images: readonly RolloutImage[]
    readonly hostIds: readonly number[]
    readonly policy: TransferPolicy & { readonly redeploy?: RedeployMode | undefined }
    readonly acceptNewDisk?: boolean | undefined
    readonly conduct?: { readonly policy: Policy; readonly isWaiting: boolean; readonly excluded: readonly Excluded[] }
  },
  now: number,
): Promise<{ rolloutId: number; deployments: Map<number, number> }> {
  const { engine, egressBytesPerSecond, ingressBytesPerSecond, lingerSeconds, redeploy } = rollout.policy
  const { conduct } = rollout
  const row = await db
    .insertInto('rollouts')
    .values({
      setup_id: rollout.setupId,
      started_at: now,
      engine,
      egress_bytes_per_second: egressBytesPerSecond ?? null,
      ingress_bytes_per_second: ingressBytesPerSecond ?? null,
      linger_seconds: lingerSeconds,
      redeploy: redeploy ?? null,
      accept_new_disk: rollout.acceptNewDisk ? 1 : 0,
      policy: conduct ? JSON.stringify(conduct.policy) : null,
      excluded: conduct && conduct.excluded.length > 0 ? JSON.stringify(conduct.excluded) : null,
    })
    .executeTakeFirstOrThrow()
  const rolloutId = Number(row.insertId)
  for (const [position, { name, version, digest, stored_bytes }] of rollout.images.entries()) {
    const image = { rollout_id: rolloutId, position, name, version, digest, stored_bytes }
    await db.insertInto('rollout_images').values(image).execute()
  }
  const deployments = new Map<number, number>()
  for (const [position, hostId] of rollout.hostIds.entries()) {
    const place = { position, wave: waveAt(position, conduct?.policy ?? defaultPolicy) }
    const of = { rolloutId, hostId, setupId: rollout.setupId, kind: rollout.kind ?? 'deploy', ...place }
    const imageDigest = rollout.images[0]?.digest ?? ''
    const state = conduct?.isWaiting ? 'waiting' : 'queued'
    deployments.set(hostId, await addDeployment(db, { ...of, imageDigest, state }, now))
  }
  return { rolloutId, deployments }
}

/** Writes a deployment, due at once, and returns its id. */
export async function addDeployment(
  db: Db,
  of: {
    readonly rolloutId: number
    readonly hostId: number
    readonly setupId: number
    readonly kind: DeploymentKind
    readonly imageDigest: string
    readonly state: 'waiting' | 'queued'
    readonly position: number
    readonly wave: number
    readonly retryOf?: number | undefined
  },
  now: number,
): Promise<number> {
  const { state, position, wave } = of
  const inserted = await db
    .insertInto('deployments')
    .values({
      rollout_id: of.rolloutId,
      host_id: of.hostId,
      setup_id: of.setupId,
      kind: of.kind,
      position,
      wave,
      retry_of: of.retryOf ?? null,
      image_digest: of.imageDigest,
      state,
      state_since: now,
      started_at: now,
      due_at: now,
      attempt: 0,
      done_bytes: 0,
      total_bytes: 0,
      bytes_per_second: 0,
      waiting_for:
        state === 'queued' ? 'its turn' : `its rollout to let ${wave === 0 ? 'the canary' : `wave ${wave}`} begin`,
      history: JSON.stringify([{ state, at: now } satisfies StateTime]),
    })
    .executeTakeFirstOrThrow()
  return Number(inserted.insertId)
}

/** The images of a rollout, in the order of its setup. */
export async function imagesOfRollout(db: Db, rolloutId: number): Promise<RolloutImage[]> {
  return await db
    .selectFrom('rollout_images')
    .select(['name', 'version', 'digest', 'stored_bytes'])
    .where('rollout_id', '=', rolloutId)
    .orderBy('position')
    .execute()
}

/** Deployments with the names that people know them by, as a query. */
export function namedDeployments(db: Db) {
  return db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .innerJoin('setups', 'setups.id', 'deployments.setup_id')
    .selectAll('deployments')
    .select([
      'hosts.name as host',
      'hosts.site',
      'hosts.rack',
      'hosts.loader',
      'setups.name as setup_name',
      'setups.version as setup_version',
    ])
}

/** The deployment; Failure `unknown-deployment`. */
export async function findDeployment(db: Db, id: number): Promise<NamedDeployment> {
  const row = await namedDeployments(db).where('deployments.id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('unknown-deployment', `there is no deployment ${id}`, { at: 'deployment' })
  return row
}

/** The deployments of rollouts, those of each in order of their hosts' names. */
export async function deploymentsOf(db: Db, rolloutIds: readonly number[]): Promise<NamedDeployment[]> {
  return await inChunks(rolloutIds, (chunk) =>
    namedDeployments(db).where('rollout_id', 'in', chunk).orderBy('hosts.name').execute(),
  )
}

/** The deployment under way of each of these hosts, or of all, by host id. One that waits to begin is not under way. */
export async function activeDeployments(db: Db, hostIds?: readonly number[]): Promise<Map<number, NamedDeployment>> {
  const active = namedDeployments(db).where('state', 'in', activeStates)
  const rows =
    hostIds === undefined
      ? await active.execute()
      : await inChunks(hostIds, (chunk) => active.where('host_id', 'in', chunk).execute())
  return new Map(rows.map((row) => [row.host_id, row]))
}

/** The oldest deployment that has not ended, under way or waiting to begin, of each of these hosts, by host id. */
export async function openDeployments(db: Db, hostIds: readonly number[]): Promise<Map<number, NamedDeployment>> {
  const rows = await inChunks(hostIds, (chunk) =>
    namedDeployments(db)
      .where('state', 'in', openStates)
      .where('host_id', 'in', chunk)
      .orderBy('deployments.id', 'desc')
      .execute(),
  )
  return new Map(rows.map((row) => [row.host_id, row]))
}

/** The newest deployment of each of these hosts, ended or not, by host id. */
export async function newestDeployments(
  db: Db,
  hostIds: readonly number[],
): Promise<Map<number, { id: number; state: DeploymentState }>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db
      .selectFrom('deployments')
      .select(['id', 'host_id', 'state'])
      .where('id', 'in', (eb) =>
        eb
          .selectFrom('deployments')
          .select(eb.fn.max('id').as('newest'))
          .where('host_id', 'in', chunk)
          .groupBy('host_id'),
      )
      .execute(),
  )
  return new Map(rows.map((row) => [row.host_id, row]))
}

/** When the next deployment of the same host began; undefined when this is its newest. */
export async function nextDeploymentAt(db: Db, { id, host_id }: Deployment): Promise<number | undefined> {
  const row = await db
    .selectFrom('deployments')
    .select('started_at')
    .where('host_id', '=', host_id)
    .where('id', '>', id)
    .orderBy('id')
    .limit(1)
    .executeTakeFirst()
  return row?.started_at
}

export async function findRollout(db: Db, id: number): Promise<Rollout> {
  const row = await db.selectFrom('rollouts').selectAll().where('id', '=', id).executeTakeFirst()
  if (!row) throw new Failure('unknown-rollout', `there is no rollout ${id}`, { at: 'rollout' })
  return row
}

/** Rollouts, newest first; with `isActive` those that have, or have not, a deployment under way. */
export async function pageOfRollouts(db: Db, isActive: boolean | undefined, page: Page): Promise<Paged<Rollout>> {
  const query = db
    .selectFrom('rollouts')
    .selectAll()
    .$if(isActive !== undefined, (rollouts) =>
      rollouts.where((eb) => {
        const active = eb
          .selectFrom('deployments')
          .select('deployments.rollout_id')
          .where('deployments.state', 'in', activeStates)
        return eb('rollouts.id', isActive ? 'in' : 'not in', active)
      }),
    )
  return await readPage(query, [newestFirst('rollouts.id')], page)
}

/** Deployments that fit, newest first. */
export async function pageOfDeployments(
  db: Db,
  filter: {
    readonly rollout?: number | undefined
    readonly hostIds?: readonly number[] | undefined
    readonly state?: DeploymentState | undefined
  },
  page: Page,
): Promise<Paged<NamedDeployment>> {
  const { rollout, hostIds, state } = filter
  const query = namedDeployments(db)
    .$if(rollout !== undefined, (rows) => rows.where('rollout_id', '=', rollout ?? 0))
    .$if(state !== undefined, (rows) => rows.where('state', '=', state ?? 'done'))
  const among = hostIds === undefined ? undefined : { column: 'host_id' as const, values: hostIds }
  return await readPage(query, [newestFirst('deployments.id')], page, among)
}

function newestFirst<By extends string>(by: By) {
  return { by, of: (row: { readonly id: number }) => row.id, descending: true }
}

/** The newest rollout of a setup with a deployment under way, or the newest of all; undefined when there is none. */
export async function newestRollout(db: Db): Promise<Rollout | undefined> {
  const [running] = await db
    .selectFrom('deployments')
    .select('rollout_id')
    .where('kind', '=', 'deploy')
    .where('state', 'in', openStates)
    .orderBy('rollout_id', 'desc')
    .limit(1)
    .execute()
  if (running) return await findRollout(db, running.rollout_id)
  const newest = await db
    .selectFrom('deployments')
    .select((eb) => eb.fn.max('rollout_id').as('id'))
    .where('kind', '=', 'deploy')
    .executeTakeFirst()
  return newest?.id ? await findRollout(db, newest.id) : undefined
}

/** How many hosts of a site are in a rollout and under way; one at least. */
export async function countInSite(db: Db, rolloutId: number, site: string): Promise<number> {
  const { count } = await db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('rollout_id', '=', rolloutId)
    .where('hosts.site', '=', site)
    .where('state', 'in', activeStates)
    .executeTakeFirstOrThrow()
  return Math.max(1, count)
}

/** How many hosts a rollout has, those that are done too. */
export async function countInRollout(db: Db, rolloutId: number): Promise<number> {
  const { count } = await db
    .selectFrom('deployments')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('rollout_id', '=', rolloutId)
    .executeTakeFirstOrThrow()
  return count
}

/** How many deployments are in each state. */
export async function countStates(db: Db): Promise<{ state: DeploymentState; count: number }[]> {
  return await db
    .selectFrom('deployments')
    .select((eb) => ['state', eb.fn.countAll<number>().as('count')])
    .groupBy('state')
    .execute()
}

/**
 * No engine puts a row off for longer, or leaves one lying for longer while it runs. Rows further ahead were written by a clock
 * that has been set back since, rows further behind waited while no service was there or met a clock set forward.
 */
export const unlookedMs = 60_000

/**
 * `now` by the clock that a row's times are of: that of the engine that looked last. A service whose clock is another would else
 * write that an agent spoke hours ago, or will.
 */
export function timeOf({ due_at }: Pick<Deployment, 'due_at'>, now: number): number {
  return Math.abs(now - due_at) > unlookedMs ? due_at : now
}

/** Columns that a change may bring along. */
export type Change = Partial<
  Pick<
    Deployment,
    | 'due_at'
    | 'deadline_at'
    | 'attempt'
    | 'boot_nonce'
    | 'agent'
    | 'heard_at'
    | 'step'
    | 'step_since'
    | 'done_bytes'
    | 'total_bytes'
    | 'bytes_per_second'
    | 'transfer'
    | 'track'
    | 'waiting_for'
    | 'failure'
    | 'failed_step'
    | 'log'
    | 'proof'
    | 'report_sequence'
    | 'seen_event'
    | 'boot_loader'
    | 'transfer_engine'
    | 'tries'
    | 'extra_attempts'
    | 'agent_version'
    | 'scout_sha256'
  >
>

/** What a change finds the row by: as it was read, and still claimed by `claim`, where the engine works under one. */
export type ReadAs = Pick<Deployment, 'id' | 'state' | 'attempt'> & { readonly claim?: string | undefined }

/**
 * Moves a deployment from the state and attempt it was read in to `to`: the one way in which a state changes. What the
 * table of model/deployment.ts does not let `by` do is a bug. The new state has no deadline yet; the engine gives it one
 * when it looks. Call it in a transaction. False when the row is no longer as it was read: someone else was first, and the
 * caller must not act on it.
 */
export async function moveDeployment(
  db: Db,
  from: ReadAs & Pick<Deployment, 'history'>,
  to: DeploymentState,
  change: Change,
  { by, at }: { readonly by: Mover; readonly at: number },
): Promise<boolean> {
  invariant(mayMove(from.state, to, by), `the ${by} may not move a deployment from ${from.state} to ${to}`)
  const history = [...statesOf(from), { state: to, at }]
  return await changeRow(db, from, {
    due_at: at,
    deadline_at: null,
    seen_event: null,
    ...change,
    state: to,
    state_since: at,
    state_event: await eventMark(db),
    history: JSON.stringify(history),
    ...(isOpen(to) ? {} : { ended_at: at, waiting_for: null }),
  })
}

/** Changes a deployment without changing its state, if it is still as it was read. */
export async function changeDeployment(db: Db, from: ReadAs, change: Change): Promise<boolean> {
  return await changeRow(db, from, change)
}

async function changeRow(
  db: Db,
  from: ReadAs,
  change: Change & Partial<Pick<Deployment, 'state' | 'state_since' | 'state_event' | 'history' | 'ended_at'>>,
): Promise<boolean> {
  let update = db
    .updateTable('deployments')
    .set(change)
    .where('id', '=', from.id)
    .where('state', '=', from.state)
    .where('attempt', '=', from.attempt)
  if (from.claim !== undefined) update = update.where('lease_owner', '=', from.claim)
  return (await update.executeTakeFirst()).numUpdatedRows === 1n
}

/** The states that a deployment was in, oldest first. */
export function statesOf({ history }: Pick<Deployment, 'history'>): StateTime[] {
  // Readers of our own JSON: `addRollout` and `moveDeployment` are its only writers.
  return JSON.parse(history) as StateTime[]
}

/** Keeps the tail of an agent's log, of an attempt that another one follows. */
export async function keepLog(db: Db, id: number, log: string): Promise<void> {
  await db.updateTable('deployments').set({ log }).where('id', '=', id).execute()
}

/** How many hosts of a rollout are under way; one at least. */
export async function countUnderWay(db: Db, rolloutId: number): Promise<number> {
  const { count } = await db
    .selectFrom('deployments')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('rollout_id', '=', rolloutId)
    .where('state', 'in', activeStates)
    .executeTakeFirstOrThrow()
  return Math.max(1, count)
}

/**
 * What an agent says of its progress, if its deployment still runs in that attempt and no later report has come before.
 * Reports of agents that do not number them count as they come.
 */
export async function recordProgress(
  db: Db,
  from: Pick<Deployment, 'id' | 'attempt' | 'step' | 'due_at'>,
  progress: {
    readonly step: DeploymentStep
    readonly sequence: number | undefined
    readonly doneBytes: number
    readonly totalBytes: number
    readonly bytesPerSecond: number
    /** JSON, as the columns have it; what is undefined stays as it was. */
    readonly transfer: string | undefined
    readonly track: string | undefined
  },
  now: number,
): Promise<boolean> {
  const { sequence } = progress
  const at = timeOf(from, now)
  let update = db
    .updateTable('deployments')
    .set({
      step: progress.step,
      done_bytes: progress.doneBytes,
      total_bytes: progress.totalBytes,
      bytes_per_second: progress.bytesPerSecond,
      heard_at: at,
      ...(from.step === progress.step ? {} : { step_since: at }),
      ...(sequence === undefined ? {} : { report_sequence: sequence }),
      ...(progress.transfer === undefined ? {} : { transfer: progress.transfer }),
      ...(progress.track === undefined ? {} : { track: progress.track }),
    })
    .where('id', '=', from.id)
    .where('attempt', '=', from.attempt)
    .where('state', '=', 'deploying')
  if (sequence !== undefined) {
    update = update.where((eb) => eb.or([eb('report_sequence', 'is', null), eb('report_sequence', '<', sequence)]))
  }
  return (await update.executeTakeFirst()).numUpdatedRows === 1n
}
