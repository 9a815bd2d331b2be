// Does what was decided for one deployment, and records it by guarded statements under the engine's claim. Orders to
// controllers are recorded before they are given: whoever takes over from a dead engine knows of each, and gives none twice.
import { failureMeanings } from '../contract/failures.ts'
import type { FailureReport, PowerOutcome } from '../contract/types.ts'
import { beginAttempt } from '../db/attempts.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { changeDeployment, moveDeployment } from '../db/deployments.ts'
import { about, addEvent } from '../db/events.ts'
import { needsNetwork } from '../model/boot.ts'
import type { DeploymentKind } from '../model/capture.ts'
import { stateRules } from '../model/deployment.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'
import { newNonce } from '../model/token.ts'
import { coldSeconds, type Rung, readTries, type Try, withOutcome, withTry } from '../model/tries.ts'
import type { Context } from './context.ts'
import type { Decision } from './decide.ts'
import type { Claimed } from './facts.ts'

/** A controller that was silent is left alone for so long. */
const powerRetryMs = 10_000

/** An order waits behind others of its controller, and may let a system shut down or leave it off for a while. */
const orderMs = 5 * 60_000

/** Controllers asked at once by one engine; the Power Port holds its own, narrower limits. */
const ordersMax = 64
/** Whoever waits for one of them to be free looks again so soon. */
const turnMs = 2_000

/** What is said of the end of what deploys nothing. */
const endWords: Partial<Record<DeploymentKind, string>> = {
  capture: 'the image is published',
  erase: 'the disks are erased',
}

/** Does what was decided. Returns when to look at the row again. */
export async function perform(
  context: Context,
  row: Claimed,
  course: Course,
  decision: Decision,
  signal: AbortSignal,
): Promise<number> {
  const { db, now, ordering, keyring } = context
  const asks = decision.kind === 'order' || decision.kind === 'nudge' || row.state === 'queued'
  if (asks && ordering.size >= ordersMax && decision.kind !== 'fail') {
    await waitFor(context, row, `its turn: ${ordersMax} controllers are being asked`)
    return now() + turnMs
  }
  switch (decision.kind) {
    case 'wait':
      await waitFor(context, row, decision.waitingFor)
      return decision.untilMs
    case 'attempt': {
      const wasHeard = row.seen_event !== null
      const attempt = { to: decision.to, why: decision.why, by: 'engine', nonce: newNonce(keyring), wasHeard } as const
      await db.transaction().execute((tx) => beginAttempt(tx, row, attempt, now()))
      return now()
    }
    case 'order':
      return await inOrder(context, row, () => powerOn(context, row, decision.rung, signal))
    case 'nudge':
      return await inOrder(context, row, () => nudge(context, row, course, decision.why, signal))
    case 'done':
      await end(context, row, 'done', endWords[row.kind] ?? decision.why)
      return now()
    case 'fail':
      await end(context, row, 'failed', decision.why, { code: decision.code, message: [decision.why] })
      return now()
  }
}

async function waitFor({ db }: Context, row: Claimed, waiting_for: string): Promise<void> {
  if (row.waiting_for !== waiting_for) await changeDeployment(db, row, { waiting_for })
}

async function inOrder<T>({ ordering }: Context, { id }: Claimed, work: () => Promise<T>): Promise<T> {
  ordering.add(id)
  try {
    return await work()
  } finally {
    ordering.delete(id)
  }
}

async function powerOn(context: Context, row: Claimed, rung: Rung, signal: AbortSignal): Promise<number> {
  const { db, now } = context
  const how = `${rung.level}, by power method ${rung.method + 1}`
  const tries = await beginTry(context, row, { attempt: row.attempt, step: 'power', how, at: now(), rung })
  if (!tries) return now()
  const { failure, confirmed } = await cycleInto(context, row, 'network', rung, signal)
  if (failure) return await powerFailed(context, row, tries, failure)
  const outcome = confirmed ? 'the machine is on' : 'asked, and nobody can look'
  const waiting_for = confirmed
    ? stateRules.booting.waitsFor
    : 'an operator to power-cycle the machine: its power method cannot'
  await db.transaction().execute(async (tx) => {
    const change = { waiting_for, tries: JSON.stringify(withOutcome(tries, { outcome })) }
    if (!(await moveDeployment(tx, row, 'booting', change, { by: 'engine', at: now() }))) return
    const text = confirmed ? 'the machine is on, set to boot from the network' : waiting_for
    await addEvent(tx, { source: 'engine', kind: 'booting', text, ...about(row) }, now())
  })
  return now()
}

/** Records an order before it is given; undefined when the row is not ours any more, and it must not be. */
async function beginTry({ db }: Context, row: Claimed, one: Try): Promise<Try[] | undefined> {
  const tries = withTry(readTries(row.tries), one)
  return (await changeDeployment(db, row, { tries: JSON.stringify(tries) })) ? tries : undefined
}

/** Boot device, then power cycle. A controller that cannot take a boot device is no obstacle: the boot order may do. */
async function cycleInto(
  { db, power, now, coldSeconds: offSeconds = coldSeconds }: Context,
  row: Claimed,
  device: 'network' | 'disk',
  { level, method: place }: Pick<Rung, 'level' | 'method'>,
  signal: AbortSignal,
): Promise<Pick<PowerOutcome, 'failure' | 'confirmed'>> {
  const to = { nodeset: row.host, method: place + 1 }
  const call = { signal, deadlineMs: orderMs }
  const ways = { soft: { soft: true }, hard: {}, cold: { offSeconds } }
  try {
    const [set] = (await power.setBootDevice({ ...to, device }, call)).outcomes
    if (set?.failure) {
      const text = `the boot device could not be set to ${device}: ${set.failure.message.join(': ')}`
      await addEvent(db, { source: 'power', kind: 'boot-device', text, ...about(row) }, now())
      // A refused password would be refused again by the next command, and lock the account.
      if (!failureMeanings[set.failure.code].retry) return { failure: set.failure, confirmed: false }
    }
    const [cycled] = (await power.setPower({ ...to, action: 'cycle', ...ways[level] }, call)).outcomes
    return cycled ?? { confirmed: false, failure: { code: 'internal', message: ['the Power Port gave no answer'] } }
  } catch (error) {
    // When the service stops or its database fails in the middle, no controller has said no: the step is taken up again.
    if (signal.aborted || !(error instanceof Failure) || error.code === 'database-unavailable') throw error
    return { confirmed: false, failure: { code: error.code, message: causeChain(error) } }
  }
}

/** Keeps what the controller said; what to try next is decided at the next look. */
async function powerFailed(context: Context, row: Claimed, tries: Try[], failure: FailureReport): Promise<number> {
  const { db, now } = context
  const { code, message } = failure
  const outcome = message.join(': ')
  const isFinal = !failureMeanings[code].retry
  const text = `the machine could not be switched (${tries.at(-1)?.how}): ${outcome}`
  const ended = withOutcome(tries, { outcome, code, ...(isFinal ? { final: true } : {}) })
  await db.transaction().execute(async (tx) => {
    if (!(await changeDeployment(tx, row, { tries: JSON.stringify(ended), waiting_for: text }))) return
    await addEvent(tx, { source: 'power', kind: 'power-failed', text, ...about(row) }, now())
  })
  return isFinal ? now() : now() + powerRetryMs
}

async function nudge(
  context: Context,
  row: Claimed,
  { finish: { target } }: Course,
  why: string,
  signal: AbortSignal,
): Promise<number> {
  const { db, now } = context
  const device = needsNetwork(target) ? 'network' : 'disk'
  const from = device === 'disk' ? 'its disk' : 'the network'
  const tries = await beginTry(context, row, { attempt: row.attempt, step: 'observe', how: `from ${from}`, at: now() })
  if (!tries) return now()
  await addEvent(
    db,
    { source: 'engine', kind: 'nudged', text: `${why}: booting it from ${from} once more`, ...about(row) },
    now(),
  )
  const { failure } = await cycleInto(context, row, device, { level: 'hard', method: 0 }, signal)
  const outcome = failure ? failure.message.join(': ') : 'the machine is on'
  await changeDeployment(db, row, { tries: JSON.stringify(withOutcome(tries, { outcome })) })
  if (failure) {
    const text = `the machine could not be switched: ${outcome}`
    await addEvent(db, { source: 'power', kind: 'power-failed', text, ...about(row) }, now())
  }
  return now()
}

/** Ends a deployment and gives its boot record back, together. */
async function end(
  { db, now, keepProof }: Context,
  row: Claimed,
  to: 'done' | 'failed',
  text: string,
  failure?: FailureReport,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const change = failure ? { failure: JSON.stringify(failure), failed_step: row.step ?? row.state } : {}
    if (!(await moveDeployment(tx, row, to, change, { by: 'engine', at: now() }))) return
    // A deployment that is `rebooting` has given its record back already.
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
    await addEvent(tx, { source: 'engine', kind: to, text, ...about(row) }, now())
  })
  await keepProof?.(row.id)
}
