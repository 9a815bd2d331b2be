// What the engine knows of a deployment when it looks at it: the row, and what machine, agent and controller have shown since
// its state began. Since then means later in the timeline, not later by a clock: clocks are set.
import { hasAttemptLeft } from '../db/attempts.ts'
import { courseOf } from '../db/captures.ts'
import {
  changeDeployment,
  countUnderWay,
  findRollout,
  imagesOfRollout,
  type NamedDeployment,
  type ReadAs,
  unlookedMs,
} from '../db/deployments.ts'
import { about, addEvent, newestEventAfter } from '../db/events.ts'
import { interfacesOf, powerMethodsOf } from '../db/hosts.ts'
import { isActive, type Scale, stateMs } from '../model/deployment.ts'
import { invariant } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'
import { extraAttemptsMax, readTries } from '../model/tries.ts'
import type { Context } from './context.ts'
import type { DeploymentFacts } from './decide.ts'
import { tcpAnswers } from './probe.ts'

/** A row that this engine has claimed. */
export type Claimed = NamedDeployment & Required<ReadAs>

/** Setups kept parsed; more than a site has in use at a time. */
const setupsMax = 200
/** How long a count of the hosts under way is good enough. */
const countMs = 5_000

/** What the deployment's setup, or the order of its capture or erasure, says of its course. */
export async function courseFor({ db, setups }: Context, row: NamedDeployment): Promise<Course> {
  // Each capture and erasure has a course of its own, and few of them run at a time.
  if (row.kind !== 'deploy') return await courseOf(db, row)
  let setup = setups.get(row.setup_id)
  if (!setup) {
    setup = await courseOf(db, row)
    if (setups.size >= setupsMax) setups.clear()
    setups.set(row.setup_id, setup)
  }
  return setup
}

/**
 * The row as the engine may judge it. While no service was there, or when a clock was set, time passed that is nobody's fault:
 * the row's times are moved by as much, and the attempt does not count. A state that was just entered gets its deadline.
 * Undefined when the row has changed meanwhile.
 */
export async function caughtUp(context: Context, row: Claimed, course: Course): Promise<Claimed | undefined> {
  const { db, now } = context
  invariant(isActive(row.state), 'only active deployments are claimed')
  const at = now()
  const missedMs = at - row.due_at
  let current = row
  if (Math.abs(missedMs) > unlookedMs) {
    const moved = (time: number | null) => (time === null ? null : time + missedMs)
    const isAttempt = row.state === 'booting' || row.state === 'deploying'
    const change = {
      due_at: at,
      deadline_at: moved(row.deadline_at),
      heard_at: moved(row.heard_at),
      step_since: moved(row.step_since),
      extra_attempts: Math.min(extraAttemptsMax, row.extra_attempts + (isAttempt ? 1 : 0)),
    }
    const text = `nobody looked after it for ${Math.round(missedMs / 1000)} s, or a clock was set: its times are moved by as much`
    const isMoved = await db.transaction().execute(async (tx) => {
      if (!(await changeDeployment(tx, row, change))) return false
      await addEvent(tx, { source: 'engine', kind: 'times-moved', text, ...about(row) }, at)
      return true
    })
    if (!isMoved) return undefined
    current = { ...row, ...change }
  }
  if (current.deadline_at !== null) return current
  const deadline_at = at + stateMs(row.state, await scaleOf(context, row), course.deadlines)
  return (await changeDeployment(db, row, { deadline_at })) ? { ...current, deadline_at } : undefined
}

async function scaleOf(context: Context, row: NamedDeployment): Promise<Scale> {
  const { linger_seconds } = await findRollout(context.db, row.rollout_id)
  const images = await imagesOfRollout(context.db, row.rollout_id)
  const bytes = images.reduce((sum, { stored_bytes }) => sum + stored_bytes, 0)
  return { hosts: await hostsUnderWay(context, row.rollout_id), bytes, lingerMs: (linger_seconds ?? 0) * 1000 }
}

async function hostsUnderWay({ db, counts, monotonic }: Context, rolloutId: number): Promise<number> {
  const known = counts.get(rolloutId)
  if (known && monotonic() - known.atMs < countMs) return known.hosts
  const hosts = await countUnderWay(db, rolloutId)
  if (counts.size >= setupsMax) counts.clear()
  counts.set(rolloutId, { hosts, atMs: monotonic() })
  return hosts
}

export async function factsOf(
  context: Context,
  row: Claimed,
  course: Course,
  signal: AbortSignal,
): Promise<DeploymentFacts> {
  const { state, deadline_at, step, step_since } = row
  invariant(isActive(state) && deadline_at !== null, 'the row was caught up')
  const scale = await scaleOf(context, row)
  const seen = state === 'booting' ? await seenBooting(context, row) : undefined
  const methods =
    state === 'powering' ? (await powerMethodsOf(context.db, [row.host_id])).get(row.host_id)?.length : undefined
  return {
    state,
    kind: row.kind,
    attempt: row.attempt,
    hasAttemptLeft: hasAttemptLeft(row, course.deadlines),
    deadlineAt: deadline_at,
    limitMs: stateMs(state, scale, course.deadlines),
    heardAt: seen ? seen.heardAt : (row.heard_at ?? undefined),
    bootSeen: seen?.text,
    bootedAgain: state === 'deploying' && (await hasBootedAgain(context, row)),
    step: step === null ? undefined : { name: step, since: step_since ?? row.heard_at ?? context.now() },
    scale: { ...scale, bytes: state === 'deploying' ? row.total_bytes : scale.bytes },
    observed: state === 'rebooting' && (await isObserved(context, row, course, signal)),
    tries: readTries(row.tries),
    methods: methods ?? 0,
  }
}

/** What the machine asked for last, and when the engine noticed: the clock of whoever answered it may be another. */
async function seenBooting({ db, now }: Context, row: Claimed): Promise<{ text: string; heardAt: number } | undefined> {
  const sources = ['dhcp', 'tftp', 'http']
  const newest = await newestEventAfter(db, { deploymentId: row.id }, row.state_event ?? 0, { sources })
  if (!newest) return undefined
  if (newest.id === row.seen_event && row.heard_at !== null) return { text: newest.text, heardAt: row.heard_at }
  const heard_at = now()
  await changeDeployment(db, row, { seen_event: newest.id, heard_at })
  return { text: newest.text, heardAt: heard_at }
}

async function hasBootedAgain({ db }: Context, row: Claimed): Promise<boolean> {
  const kinds = ['boot-script']
  const asked = await newestEventAfter(db, { deploymentId: row.id }, row.state_event ?? 0, { kinds })
  return asked !== undefined && asked.at > (row.heard_at ?? row.state_since)
}

/** Whether the new system has shown itself since the agent handed over. */
async function isObserved({ db, power }: Context, row: Claimed, course: Course, signal: AbortSignal): Promise<boolean> {
  if (course.finish.action === 'stay') return false
  if (course.finish.action === 'poweroff') {
    const { outcomes } = await power.getPower({ nodeset: row.host }, { signal })
    return outcomes[0]?.state === 'off'
  }
  if (course.probe.kind === 'dhcp') {
    const kinds = ['dhcp-system']
    return (await newestEventAfter(db, { hostId: row.host_id }, row.state_event ?? 0, { kinds })) !== undefined
  }
  if (course.probe.kind === 'none') return true
  const interfaces = (await interfacesOf(db, [row.host_id])).get(row.host_id) ?? []
  for (const { ip } of interfaces) {
    if (ip !== null && (await tcpAnswers({ host: ip, port: course.probe.port, expect: course.probe.expect }, signal))) {
      return true
    }
  }
  return false
}
