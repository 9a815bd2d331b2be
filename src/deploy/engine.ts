// The one loop that moves deployments forward. It reads intent from the database, decides (decide.ts), acts, and records
// each step by a guarded statement; it keeps nothing between two rounds that the next process could not find in the rows.
import { setTimeout as delay } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import { failureMeanings } from '../contract/failures.ts'
import type { PortClient } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { FailureReport, PowerOutcome } from '../contract/types.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { courseOf } from '../db/captures.ts'
import {
  changeDeployment,
  claimDue,
  findDeployment,
  moveDeployment,
  type NamedDeployment,
  releaseClaim,
  releaseClaimsOf,
} from '../db/deployments.ts'
import { about, addEvent, lastEventAt, lastEventOf } from '../db/events.ts'
import { interfacesOf } from '../db/hosts.ts'
import type { Schema } from '../db/schema.ts'
import type { Keyring } from '../lib/seal.ts'
import { type BootTarget, needsNetwork } from '../model/boot.ts'
import type { DeploymentKind } from '../model/capture.ts'
import { isActive } from '../model/deployment.ts'
import { causeChain, Failure, invariant } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'
import { newNonce } from '../model/token.ts'
import { type Decision, type DeploymentFacts, decide } from './decide.ts'
import { idle } from './idle.ts'
import { tcpAnswers } from './probe.ts'

export type EngineOptions = {
  readonly db: Kysely<Schema>
  readonly power: PortClient<typeof powerOperations>
  readonly log: Logger
  readonly now: () => number
  readonly keyring: Pick<Keyring, 'ids'>
  /** This process's name in leases; the same after a restart. */
  readonly owner: string
  /** Told of every deployment that has ended, to keep its proof; it does not throw. */
  readonly keepProof?: (deployment: number) => Promise<void>
  /** Told of each look at the rows, also of those that could not look; it must not throw. */
  readonly onRound?: (round: { readonly claimed: number; readonly ms: number; readonly failed: boolean }) => void
}

/** The options, with the setups that were read: a version of a setup never changes. */
type Context = EngineOptions & { readonly setups: Map<number, Course> }

export type Engine = {
  /**
   * Ends the loop and lets steps under way end within `graceMs` (0). What is then still being asked of a controller is given
   * up, and taken up again by the next process.
   */
  readonly close: (graceMs?: number) => Promise<void>
}

/** How often the loop looks for rows that are due. */
const roundMs = 250

/** Deployments worked on at once. More wait for their turn; the Power Port holds its own, narrower limits. */
const workersMax = 64

/** A claim lasts longer than the longest step, which is a power cycle of a slow controller. */
const leaseMs = 5 * 60_000

/** How long controllers that are silent or lie are asked again, in one attempt. */
const poweringMs = 5 * 60_000
const powerRetryMs = 10_000

/** Starts the loop. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { db, log, now, owner } = options
  const context: Context = { ...options, setups: new Map() }
  /** No more rows are claimed. */
  const ending = new AbortController()
  /** Steps under way are given up. */
  const stopping = new AbortController()
  const limit = pLimit(workersMax)
  const startedAt = now()
  await releaseClaimsOf(db, owner)

  const round = async (): Promise<number> => {
    const free = workersMax - limit.activeCount - limit.pendingCount
    if (free <= 0) return 0
    const claimed = await claimDue(db, { owner, until: now() + leaseMs, limit: free }, now())
    for (const row of claimed) void limit(() => work(row))
    return claimed.length
  }
  const work = async (row: NamedDeployment): Promise<void> => {
    let dueAt = now() + powerRetryMs
    try {
      dueAt = await step(context, row, startedAt, stopping.signal)
    } catch (error) {
      if (!stopping.signal.aborted) log.error({ err: error, host: row.host, deployment: row.id }, 'a step failed')
    }
    await releaseClaim(db, row.id, owner, dueAt).catch((error: unknown) => {
      if (!stopping.signal.aborted) log.error({ err: error, deployment: row.id }, 'a claim could not be given back')
    })
  }
  const loop = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      const began = performance.now()
      const told = { claimed: 0, failed: false }
      try {
        told.claimed = await round()
      } catch (error) {
        told.failed = true
        log.error({ err: error }, 'the engine could not look for work')
      }
      options.onRound?.({ ...told, ms: performance.now() - began })
      await delay(roundMs, undefined, { signal: ending.signal }).catch(() => {})
    }
  }
  const running = loop()
  return {
    async close(graceMs = 0) {
      ending.abort()
      await running
      await idle(limit, graceMs)
      stopping.abort(new Error('the service is stopping'))
      await idle(limit)
    },
  }
}

/** Looks at one deployment and does the one thing that is due. Returns when to look again. */
async function step(context: Context, row: NamedDeployment, startedAt: number, signal: AbortSignal): Promise<number> {
  if (!isActive(row.state)) return row.due_at
  const { now } = context
  const setup = await setupOf(context, row)
  const decision = decide(await factsOf(context, row, setup, startedAt, signal), setup, now())
  return await perform(context, row, setup, decision, signal)
}

/** Setups kept parsed; more than a site has in use at a time. */
const setupsMax = 200

async function setupOf({ db, setups }: Context, row: NamedDeployment): Promise<Course> {
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

async function factsOf(
  context: Context,
  row: NamedDeployment,
  setup: Course,
  startedAt: number,
  signal: AbortSignal,
): Promise<DeploymentFacts> {
  const { db } = context
  invariant(isActive(row.state), 'only active deployments are claimed')
  const of = { deploymentId: row.id }
  const booting = row.state === 'booting'
  const boot = booting ? await lastEventOf(db, row.id, row.state_since, ['dhcp', 'tftp', 'http']) : undefined
  return {
    state: row.state,
    stateSince: row.state_since,
    deadlineAt: row.deadline_at ?? undefined,
    attempt: row.attempt,
    heardAt: row.heard_at === null ? undefined : Math.max(row.heard_at, startedAt),
    bootSeen: boot && { at: Math.max(boot.at, startedAt), text: boot.text },
    bootedAgainAt: row.state === 'deploying' ? await lastEventAt(db, of, 'boot-script', row.state_since) : undefined,
    observed: row.state === 'rebooting' && (await isObserved(context, row, setup, signal)),
    nudged: row.state === 'rebooting' && (await lastEventAt(db, of, 'nudged', row.state_since)) !== undefined,
  }
}

/** Whether the new system has shown itself since the agent handed over. */
async function isObserved(
  { db, power }: Context,
  row: NamedDeployment,
  setup: Course,
  signal: AbortSignal,
): Promise<boolean> {
  if (setup.finish.action === 'stay') return false
  if (setup.finish.action === 'poweroff') {
    const { outcomes } = await power.getPower({ nodeset: row.host }, { signal })
    return outcomes[0]?.state === 'off'
  }
  if (setup.probe.kind === 'dhcp') {
    return (await lastEventAt(db, { hostId: row.host_id }, 'dhcp-system', row.state_since)) !== undefined
  }
  if (setup.probe.kind === 'none') return true
  const interfaces = (await interfacesOf(db, [row.host_id])).get(row.host_id) ?? []
  for (const { ip } of interfaces) {
    if (ip !== null && (await tcpAnswers({ host: ip, port: setup.probe.port, expect: setup.probe.expect }, signal))) {
      return true
    }
  }
  return false
}

/** What is said of the end of what deploys nothing. */
const endWords: Partial<Record<DeploymentKind, string>> = {
  capture: 'the image is published',
  erase: 'the disks are erased',
}

async function perform(
  context: Context,
  row: NamedDeployment,
  setup: Course,
  decision: Decision,
  signal: AbortSignal,
): Promise<number> {
  const { now } = context
  switch (decision.kind) {
    case 'wait':
      if (row.waiting_for !== decision.waitingFor) {
        await changeDeployment(context.db, row, { waiting_for: decision.waitingFor })
      }
      return decision.untilMs
    case 'power':
      return await powerOn(context, row, setup, decision.why, signal)
    case 'boot-again':
      await moveAttempt(context, row, 'booting', decision.why, { deadline_at: now() + setup.deadlines.bootMs })
      return now()
    case 'nudge':
      return await nudge(context, row, { target: setup.finish.target, why: decision.why }, signal)
    case 'done':
      await end(context, row, 'done', endWords[row.kind] ?? decision.why)
      return now()
    case 'fail':
      await end(context, row, 'failed', decision.why, { code: decision.code, message: [decision.why] })
      return now()
  }
}

/** Begins a new attempt: a new word for its boot token, no agent yet. */
async function moveAttempt(
  { db, now, keyring }: Context,
  row: NamedDeployment,
  to: 'powering' | 'booting',
  why: string,
  change: { deadline_at: number },
): Promise<boolean> {
  return await db.transaction().execute(async (tx) => {
    const attempt = {
      attempt: row.attempt + 1,
      boot_nonce: newNonce(keyring),
      agent: null,
      heard_at: null,
      step: null,
      done_bytes: 0,
      bytes_per_second: 0,
      transfer: null,
      track: null,
      waiting_for: to === 'powering' ? 'the controller to switch the machine' : 'the machine to ask for its boot file',
    }
    if (!(await moveDeployment(tx, row, to, { ...change, ...attempt }, now()))) return false
    const text = `attempt ${row.attempt + 1}: ${why}`
    await addEvent(tx, { source: 'engine', kind: to, text, ...about(row) }, now())
    return true
  })
}

async function powerOn(
  context: Context,
  before: NamedDeployment,
  setup: Course,
  why: string,
  signal: AbortSignal,
): Promise<number> {
  const { db, now } = context
  if (before.state !== 'powering') {
    if (!(await moveAttempt(context, before, 'powering', why, { deadline_at: now() + poweringMs }))) return now()
  }
  const row = await findDeployment(db, before.id)
  if (row.state !== 'powering') return now()
  const outcome = await cycleInto(context, row, 'network', signal)
  if (outcome.failure) return await powerFailed(context, row, outcome.failure)
  const waiting_for = outcome.confirmed
    ? 'the machine to ask for its boot file'
    : 'an operator to power-cycle the machine: its power method cannot'
  await db.transaction().execute(async (tx) => {
    const change = { deadline_at: now() + setup.deadlines.bootMs, waiting_for }
    if (!(await moveDeployment(tx, row, 'booting', change, now()))) return
    const text = outcome.confirmed ? 'the machine is on, set to boot from the network' : waiting_for
    await addEvent(tx, { source: 'engine', kind: 'booting', text, ...about(row) }, now())
  })
  return now()
}

/** Boot device, then power cycle. A controller that cannot take a boot device is no obstacle: the boot order may do. */
async function cycleInto(
  { db, power, now }: Context,
  row: NamedDeployment,
  device: 'network' | 'disk',
  signal: AbortSignal,
): Promise<Pick<PowerOutcome, 'failure' | 'confirmed'>> {
  try {
    const [set] = (await power.setBootDevice({ nodeset: row.host, device }, { signal })).outcomes
    if (set?.failure) {
      const text = `the boot device could not be set to ${device}: ${set.failure.message.join(': ')}`
      await addEvent(db, { source: 'power', kind: 'boot-device', text, ...about(row) }, now())
      // A refused password would be refused again by the next command, and lock the account.
      if (!failureMeanings[set.failure.code].retry) return { failure: set.failure, confirmed: false }
    }
    const [cycled] = (await power.setPower({ nodeset: row.host, action: 'cycle' }, { signal })).outcomes
    return cycled ?? { confirmed: false, failure: { code: 'internal', message: ['the Power Port gave no answer'] } }
  } catch (error) {
    // When the service stops in the middle, the deployment has not failed: the next process takes it up again.
    if (signal.aborted || !(error instanceof Failure)) throw error
    return { confirmed: false, failure: { code: error.code, message: causeChain(error) } }
  }
}

async function powerFailed(context: Context, row: NamedDeployment, failure: FailureReport): Promise<number> {
  const { db, now } = context
  const sentence = failure.message.join(': ')
  const late = row.deadline_at !== null && now() >= row.deadline_at
  if (late || !failureMeanings[failure.code].retry) {
    await end(context, row, 'failed', `the machine could not be switched: ${sentence}`, failure)
    return now()
  }
  const text = `the machine could not be switched, and is tried again: ${sentence}`
  await addEvent(db, { source: 'power', kind: 'power-failed', text, ...about(row) }, now())
  await changeDeployment(db, row, { waiting_for: text })
  return now() + powerRetryMs
}

async function nudge(
  context: Context,
  row: NamedDeployment,
  { target, why }: { target: BootTarget; why: string },
  signal: AbortSignal,
): Promise<number> {
  const { db, now } = context
  const device = needsNetwork(target) ? 'network' : 'disk'
  const text = `${why}: booting it from ${device === 'disk' ? 'its disk' : 'the network'} once more`
  await addEvent(db, { source: 'engine', kind: 'nudged', text, ...about(row) }, now())
  const { failure } = await cycleInto(context, row, device, signal)
  if (failure) {
    const words = `the machine could not be switched: ${failure.message.join(': ')}`
    await addEvent(db, { source: 'power', kind: 'power-failed', text: words, ...about(row) }, now())
  }
  return now()
}

/** Ends a deployment and gives its boot record back, together. */
async function end(
  { db, now, keepProof }: Context,
  row: NamedDeployment,
  to: 'done' | 'failed',
  text: string,
  failure?: FailureReport,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const change = failure ? { failure: JSON.stringify(failure), failed_step: row.step ?? row.state } : {}
    if (!(await moveDeployment(tx, row, to, change, now()))) return
    // A deployment that is `rebooting` has given its record back already.
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
    await addEvent(tx, { source: 'engine', kind: to, text, ...about(row) }, now())
  })
  await keepProof?.(row.id)
}
