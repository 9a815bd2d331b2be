// Beginning an attempt: a machine boots the scout anew, with a word of its own for its boot token, so that whatever an agent
// of the attempt before still says is refused. Engine and Service Port both begin attempts.
import { type DeploymentState, type GivenDeadlines, type Mover, stateRules } from '../model/deployment.ts'
import { engineAfter, loaderOf, readTries, type Try, withTry } from '../model/tries.ts'
import { type Change, moveDeployment, type NamedDeployment, type ReadAs } from './deployments.ts'
import { about, addEvent } from './events.ts'
import type { Db } from './open.ts'

/** Whether the machine may be told to boot the scout once more. Attempts in which no service was there do not count. */
export function hasAttemptLeft(
  row: Pick<NamedDeployment, 'attempt' | 'extra_attempts'>,
  given: GivenDeadlines,
): boolean {
  return row.attempt < given.attempts + row.extra_attempts
}

/**
 * Begins the next attempt: `powering` when the machine is to be switched, `booting` when it boots by itself. `why` says what
 * became of the one before. Call it in a transaction; false when the row is no longer as it was read.
 */
export async function beginAttempt(
  tx: Db,
  row: NamedDeployment & ReadAs,
  {
    to,
    why,
    by,
    nonce,
    wasHeard = false,
  }: {
    readonly to: 'powering' | 'booting'
    readonly why: string
    readonly by: Mover
    /** The word that its boot token is derived from. */
    readonly nonce: string
    /** The machine asked for something while it booted, so that another loader may help. */
    readonly wasHeard?: boolean
  },
  now: number,
): Promise<boolean> {
  const attempt = row.attempt + 1
  const loader = loaderOf(attempt, row.loader, wasHeard)
  const engine = engineAfter(row.step, row.transfer_engine)
  const another = [
    ...(loader === undefined ? [] : [triedNow('boot', `loader ${loader}`, attempt, now)]),
    ...(engine === undefined || engine === row.transfer_engine ? [] : [triedNow('transfer', engine, attempt, now)]),
  ]
  const change: Change = {
    attempt,
    boot_nonce: nonce,
    boot_loader: loader ?? null,
    transfer_engine: engine ?? null,
    tries: JSON.stringify(another.reduce(withTry, endedTries(row, why, now))),
    waiting_for: stateRules[to].waitsFor,
    ...clean,
  }
  if (!(await moveDeployment(tx, row, to, change, { by, at: now }))) return false
  const ways = another.map(({ how }) => `, this time by ${how}`).join('')
  await addEvent(tx, { source: 'engine', kind: to, text: `attempt ${attempt}: ${why}${ways}`, ...about(row) }, now)
  return true
}

/** Nothing of the attempt before. */
const clean = {
  agent: null,
  heard_at: null,
  step: null,
  step_since: null,
  report_sequence: null,
  done_bytes: 0,
  bytes_per_second: 0,
  transfer: null,
  track: null,
} satisfies Change

/** What went wrong in the attempt that ends, as a try of its own. */
function endedTries(row: NamedDeployment, why: string, now: number): Try[] {
  const tries = readTries(row.tries)
  if (row.attempt === 0) return tries
  const step = ({ booting: 'boot', deploying: row.step === 'transfer' ? 'transfer' : 'work' } as const)[
    row.state as Extract<DeploymentState, 'booting' | 'deploying'>
  ]
  const how = row.state === 'deploying' ? `step ${row.step ?? 'inventory'}` : 'boot'
  return withTry(tries, { attempt: row.attempt, step: step ?? 'boot', how, at: now, outcome: why })
}

function triedNow(step: 'boot' | 'transfer', how: string, attempt: number, at: number): Try {
  return { attempt, step, how, at, outcome: 'in place of the usual way' }
}
