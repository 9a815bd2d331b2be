// Rollouts as the contract shows them: how each goes on and why it waits, by the same decision that the conductor acts on.
import type { RolloutView } from '../contract/types.ts'
import { capturesOfRollouts } from '../db/captures.ts'
import { deploymentsOf, findRollout, imagesOfRollout, type NamedDeployment, type Rollout } from '../db/deployments.ts'
import type { Db } from '../db/open.ts'
import { membersOf, policyOf } from '../db/rollouts.ts'
import { setupById } from '../db/setups.ts'
import { conduct, currentWave, isConducted, tallyOf } from '../model/conduct.ts'
import { isOpen } from '../model/deployment.ts'
import type { Excluded } from '../model/exclusion.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { copiesOf, originBytes, sum, transferOf } from './transfers.ts'
import { dateTime, deploymentView, policyView, present } from './views.ts'

/** Rollouts with the newest deployment of each of their hosts. */
export async function rolloutViews(db: Db, rollouts: readonly Rollout[], now: number): Promise<RolloutView[]> {
  if (rollouts.length === 0) return []
  const ids = rollouts.map((rollout) => rollout.id)
  const byRollout = Map.groupBy(await deploymentsOf(db, ids), (row) => row.rollout_id)
  const captures = await capturesOfRollouts(db, ids)
  const views: RolloutView[] = []
  for (const rollout of rollouts) {
    const setup = await setupById(db, rollout.setup_id)
    const all = byRollout.get(rollout.id) ?? []
    const rows = all.filter(({ standing }) => standing !== 'retried')
    const images = await imagesOfRollout(db, rollout.id)
    const captured = captures.get(rollout.id)
    const ended = rows.every((row) => row.ended_at !== null)
    const fetched = sum(all.map((row) => originBytes(row, transferOf(row))))
    views.push({
      id: rollout.id,
      setup: `${setup.name}:${setup.version}`,
      ...(captured ? { captures: formatImageReference(captured) } : {}),
      startedAt: dateTime(rollout.started_at),
      ...policyView(rollout),
      ...present({ copiesOutOfOrigin: copiesOf(fetched, images) }),
      ...(await conductView(db, rollout, rows, now)),
      deployments: rows.map((row) => deploymentView(row, now)),
      ...(ended && rows.length > 0 ? { endedAt: dateTime(Math.max(...rows.map((row) => row.ended_at ?? 0))) } : {}),
    })
  }
  return views
}

/** A rollout as it is shown; Failure `unknown-rollout`. */
export async function rolloutView(db: Db, id: number, now: number): Promise<RolloutView> {
  const [rollout] = await rolloutViews(db, [await findRollout(db, id)], now)
  if (!rollout) throw new Failure('unknown-rollout', `there is no rollout ${id}`, { at: 'rollout' })
  return rollout
}

type ConductView = Pick<
  RolloutView,
  'state' | 'reason' | 'waitsFor' | 'wave' | 'waves' | 'counts' | 'policy' | 'excluded'
>

async function conductView(
  db: Db,
  rollout: Rollout,
  rows: readonly NamedDeployment[],
  now: number,
): Promise<ConductView> {
  const policy = policyOf(rollout)
  const isWaiting = rows.some(({ state }) => state === 'waiting')
  // Who is ahead of whom is only asked where somebody waits.
  const members = isWaiting ? await membersOf(db, rollout.id) : rows
  const due = conduct({ state: rollout.state, policy, members }, now)
  // Until the conductor has seen it, too.
  const state = due.kind === 'end' ? due.to : rollout.state
  const reason = due.kind === 'end' ? due.why : rollout.state_reason
  const waves = rows.reduce((last, { wave }) => Math.max(last, wave), 0)
  const { startAt, goesOn: _goesOn, ...bounds } = policy
  return {
    state,
    waves,
    counts: tallyOf(members),
    ...present({
      reason,
      waitsFor: due.kind === 'wait' ? due.why : undefined,
      wave: isConducted(rollout.state) && rows.some((row) => isOpen(row.state)) ? currentWave(members) : undefined,
    }),
    ...(rollout.policy === null
      ? {}
      : {
          policy: {
            ...present(bounds),
            ...present({ startAt: startAt === undefined ? undefined : dateTime(startAt) }),
          },
        }),
    // Reader of our own JSON: `addRollout` is its only writer.
    excluded: rollout.excluded === null ? [] : (JSON.parse(rollout.excluded) as Excluded[]),
  }
}
