// Captures: the order of each, and how much of the disk has come. A capture is a deployment of its own kind, in a rollout of
// its own; who moves it and how it ends is in its row of `deployments`.
import type { Selectable } from 'kysely'
import { type CaptureFinish, courseOfCapture, emptyChain } from '../model/capture.ts'
import { activeStates } from '../model/deployment.ts'
import { courseOfErase } from '../model/erase.ts'
import { Failure } from '../model/failure.ts'
import type { DiskHint } from '../model/host.ts'
import type { ImageReference } from '../model/image.ts'
import { type Course, parseSetup } from '../model/setup.ts'
import { defaultTransferPolicy } from '../model/transfer-policy.ts'
import { addRollout, type NamedDeployment } from './deployments.ts'
import { findErasure } from './erasures.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { CaptureRow } from './schema.ts'
import { setupById } from './setups.ts'

export type Capture = Selectable<CaptureRow>

export type CaptureOrder = ImageReference & {
  readonly disk: string | undefined
  readonly hints: readonly DiskHint[]
  readonly partition: number | undefined
  readonly repair: boolean
  readonly finish: CaptureFinish
  readonly deadlineMs: number
  readonly storedBytesMax: number | undefined
}

/** Writes a capture with its rollout and deployment, `queued` and due at once. Call it in a transaction. */
export async function addCapture(
  db: Db,
  hostId: number,
  order: CaptureOrder,
  now: number,
): Promise<{ rolloutId: number; deploymentId: number }> {
  const setup = await db
    .selectFrom('setups')
    .select('id')
    .where('name', '=', 'capture')
    .where('version', '=', 0)
    .executeTakeFirstOrThrow()
  const rollout = {
    setupId: setup.id,
    kind: 'capture',
    images: [],
    hostIds: [hostId],
    policy: defaultTransferPolicy,
  } as const
  const { rolloutId, deployments } = await addRollout(db, rollout, now)
  const deploymentId = deployments.get(hostId)
  if (deploymentId === undefined) throw new Error('a rollout has a deployment for each of its hosts')
  await db
    .insertInto('captures')
    .values({
      deployment_id: deploymentId,
      name: order.name,
      version: order.version,
      disk: order.disk ?? null,
      hints: JSON.stringify(order.hints),
      partition_number: order.partition ?? null,
      repair: order.repair ? 1 : 0,
      finish: order.finish,
      deadline_ms: order.deadlineMs,
      stored_bytes_max: order.storedBytesMax ?? null,
      frames: 0,
      stored_bytes: 0,
      chain: emptyChain,
    })
    .execute()
  return { rolloutId, deploymentId }
}

/** The capture; Failure `unknown-deployment`. */
export async function findCapture(db: Db, deploymentId: number): Promise<Capture> {
  const row = await db.selectFrom('captures').selectAll().where('deployment_id', '=', deploymentId).executeTakeFirst()
  if (!row) throw new Failure('unknown-deployment', `deployment ${deploymentId} is no capture`, { at: 'deployment' })
  return row
}

/** Captures, newest first, all or those of hosts. */
export async function pageOfCaptures(
  db: Db,
  hostIds: readonly number[] | undefined,
  page: Page,
): Promise<Paged<Capture>> {
  const query = db
    .selectFrom('captures')
    .innerJoin('deployments', 'deployments.id', 'captures.deployment_id')
    .selectAll('captures')
  const newest = { by: 'captures.deployment_id' as const, of: (row: Capture) => row.deployment_id, descending: true }
  const among = hostIds === undefined ? undefined : { column: 'deployments.host_id' as const, values: hostIds }
  return await readPage(query, [newest], page, among)
}

/** The captures of these rollouts, by rollout. */
export async function capturesOfRollouts(db: Db, rolloutIds: readonly number[]): Promise<Map<number, ImageReference>> {
  const rows = await db
    .selectFrom('captures')
    .innerJoin('deployments', 'deployments.id', 'captures.deployment_id')
    .select(['deployments.rollout_id', 'captures.name', 'captures.version'])
    .where('deployments.rollout_id', 'in', [...rolloutIds])
    .execute()
  return new Map(rows.map(({ rollout_id, name, version }) => [rollout_id, { name, version }]))
}

/** The deployment that is capturing an image of this name now. */
export async function captureUnderWay(db: Db, { name, version }: ImageReference): Promise<number | undefined> {
  const row = await db
    .selectFrom('captures')
    .innerJoin('deployments', 'deployments.id', 'captures.deployment_id')
    .select('deployments.id')
    .where('captures.name', '=', name)
    .where('captures.version', '=', version)
    .where('deployments.state', 'in', activeStates)
    .executeTakeFirst()
  return row?.id
}

/** Of these deployments, those whose capture is under way. */
export async function capturesUnderWay(db: Db): Promise<ReadonlySet<number>> {
  const rows = await db
    .selectFrom('deployments')
    .select('id')
    .where('kind', '=', 'capture')
    .where('state', 'in', activeStates)
    .execute()
  return new Set(rows.map(({ id }) => id))
}

/** Says how large the disk is, and that nothing of it has come yet. */
export async function beginFrames(
  db: Db,
  deploymentId: number,
  disk: { readonly sizeBytes: number; readonly sectorBytes: number },
): Promise<void> {
  await db
    .updateTable('captures')
    .set({ size_bytes: disk.sizeBytes, sector_bytes: disk.sectorBytes, frames: 0, stored_bytes: 0, chain: emptyChain })
    .where('deployment_id', '=', deploymentId)
    .execute()
}

/** Says that frames are durable in the staged file. False when others came first. */
export async function recordFrames(
  db: Db,
  from: Pick<Capture, 'deployment_id' | 'frames' | 'stored_bytes'>,
  to: Pick<Capture, 'frames' | 'stored_bytes' | 'chain'>,
): Promise<boolean> {
  const result = await db
    .updateTable('captures')
    .set(to)
    .where('deployment_id', '=', from.deployment_id)
    .where('frames', '=', from.frames)
    .where('stored_bytes', '=', from.stored_bytes)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

export async function recordReport(db: Db, deploymentId: number, report: string): Promise<void> {
  await db.updateTable('captures').set({ report }).where('deployment_id', '=', deploymentId).execute()
}

export async function recordDigest(db: Db, deploymentId: number, digest: string): Promise<void> {
  await db.updateTable('captures').set({ digest }).where('deployment_id', '=', deploymentId).execute()
}

/** What the engine needs to know of a deployment: from its setup, or from the order of its capture or erasure. */
export async function courseOf(db: Db, row: Pick<NamedDeployment, 'id' | 'kind' | 'setup_id'>): Promise<Course> {
  if (row.kind === 'deploy') return parseSetup((await setupById(db, row.setup_id)).xml)
  if (row.kind === 'erase') {
    const { finish, deadline_ms } = await findErasure(db, row.id)
    return courseOfErase({ finish, deadlineMs: deadline_ms })
  }
  const { finish, deadline_ms } = await findCapture(db, row.id)
  return courseOfCapture({ finish, deadlineMs: deadline_ms })
}
