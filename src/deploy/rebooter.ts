// Switches machines so that they boot what their boot records say (`setBoot` with `reboot`). Like the engine it reads
// intent from rows, does one thing a row at a time and records it: whoever comes after a stop goes on from there.
import { setTimeout as delay } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import { failureMeanings } from '../contract/failures.ts'
import type { PortClient } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { FailureReport } from '../contract/types.ts'
import { bootRecordsOf, type StoredBootRecord } from '../db/boot.ts'
import { addEvent } from '../db/events.ts'
import {
  changeReboot,
  claimReboots,
  countOpenReboots,
  type Reboot,
  rebootsOf,
  releaseRebootsOf,
  settledReboots,
} from '../db/reboots.ts'
import type { Schema } from '../db/schema.ts'
import { endTask, runningTasks } from '../db/tasks.ts'
import { needsNetwork } from '../model/boot.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { bootAskMs, decideReboot } from '../model/reboot.ts'
import { idle } from './idle.ts'

export type RebooterOptions = {
  readonly db: Kysely<Schema>
  readonly power: PortClient<typeof powerOperations>
  readonly log: Logger
  readonly now: () => number
  /** This process's name in leases; the same after a restart. */
  readonly owner: string
}

export type Rebooter = {
  /** As the engine's. */
  readonly close: (graceMs?: number) => Promise<void>
}

const roundMs = 250
/** Machines worked on at once; the Power Port has its own, narrower limits and queues. */
const workersMax = 256
/** A claim lasts longer than the longest step: a system that is given time to shut down, and a slow controller. */
const leaseMs = 10 * 60_000
/** When a step that went wrong is tried again. */
const againMs = 10_000

/** Starts the loop. */
export async function startRebooter(options: RebooterOptions): Promise<Rebooter> {
  const { db, log, now, owner } = options
  const ending = new AbortController()
  const stopping = new AbortController()
  const limit = pLimit(workersMax)
  const underWay = () => limit.activeCount + limit.pendingCount
  await releaseRebootsOf(db, owner)

  const work = async (row: Reboot): Promise<void> => {
    let dueAt = now()
    try {
      await step(options, row, stopping.signal)
    } catch (error) {
      dueAt = now() + againMs
      if (!stopping.signal.aborted) log.error({ err: error, host: row.host, task: row.task_id }, 'a reboot step failed')
    }
    await changeReboot(db, row, { lease_owner: null, lease_until: 0, due_at: dueAt }).catch((error: unknown) => {
      log.error({ err: error, host: row.host, task: row.task_id }, 'a claim could not be given back')
    })
  }
  const round = async (): Promise<void> => {
    const free = workersMax - underWay()
    if (free > 0) {
      const claimed = await claimReboots(db, { owner, until: now() + leaseMs, limit: free }, now())
      for (const row of claimed) void limit(() => work(row))
    }
    // All machines that are on in one look: ten thousand may wait here for minutes.
    for (const row of await settledReboots(db, workersMax, now())) await step(options, row, stopping.signal)
    for (const { id } of await runningTasks(db, 'reboot')) {
      if ((await countOpenReboots(db, id)) === 0) await endOfTask(options, id)
    }
  }
  const loop = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      await round().catch((error: unknown) => log.error({ err: error }, 'the rebooter could not look for work'))
      await delay(roundMs, undefined, { signal: ending.signal }).catch(() => {})
    }
  }
  const running = loop()
  return {
    async close(graceMs = 0) {
      ending.abort()
      await running
      await idle(underWay, graceMs)
      stopping.abort(new Error('the service is stopping'))
      await idle(underWay)
    },
  }
}

/** Does the one thing that is due for one machine. */
async function step(options: RebooterOptions, row: Reboot, signal: AbortSignal): Promise<void> {
  const { db, now } = options
  const facts = {
    state: row.state,
    target: row.target,
    beganAt: row.began_at ?? undefined,
    deadlineAt: row.deadline_at ?? undefined,
    record: await recordOf(db, row),
  }
  const decision = decideReboot(facts, now())
  switch (decision.kind) {
    case 'wait':
      break
    case 'done':
      await end(options, row, 'done', decision.said)
      break
    case 'fail':
      await end(options, row, 'failed', undefined, { code: decision.code, message: [decision.why] })
      break
    case 'switch':
      await switchMachine(options, row, signal)
      break
  }
}

/** The boot record that the machine is switched for; undefined when somebody has set it anew since. */
async function recordOf(db: RebooterOptions['db'], row: Reboot): Promise<StoredBootRecord | undefined> {
  const record = (await bootRecordsOf(db, [row.host_id])).get(row.host_id)
  return record?.changedAt === row.record_changed_at ? record : undefined
}

async function switchMachine(options: RebooterOptions, row: Reboot, signal: AbortSignal): Promise<void> {
  const { db, power, now } = options
  const begun = { state: 'switching', said: 'its controller is asked', began_at: now() } as const
  await changeReboot(db, row, begun)
  const isRemote = needsNetwork(row.target)
  const outcome = await cycle(power, row.host, isRemote ? 'network' : 'disk', {
    signal,
    isWanted: async () => (await recordOf(db, row)) !== undefined,
  })
  if (outcome === 'not wanted') return
  if (outcome.failure) {
    await end(options, row, 'failed', 'it could not be switched', outcome.failure)
  } else if (!outcome.confirmed) {
    const said = 'an operator must power-cycle it: its power method cannot'
    if (isRemote) await awaitScript(options, row, said)
    else await end(options, row, 'done', said)
  } else if (isRemote) {
    await awaitScript(options, row, 'it is on, and has not asked for its script yet')
  } else await end(options, row, 'done', 'it was switched off and on, and starts from its disk')
}

async function awaitScript({ db, now }: RebooterOptions, row: Reboot, said: string): Promise<void> {
  await changeReboot(db, row, { state: 'booting', said, deadline_at: now() + bootAskMs })
}

/** Boot device, then power cycle. A controller that cannot take a boot device is no obstacle: the boot order may do. */
async function cycle(
  power: RebooterOptions['power'],
  nodeset: string,
  device: 'network' | 'disk',
  { signal, isWanted }: { signal: AbortSignal; isWanted: () => Promise<boolean> },
): Promise<{ confirmed: boolean; failure?: FailureReport | undefined } | 'not wanted'> {
  try {
    const [off] = (await power.setPower({ nodeset, action: 'off', soft: true }, { signal })).outcomes
    if (off?.failure) return { confirmed: false, failure: off.failure }
    // The system may have taken a minute, and a rollout may have begun meanwhile: from here the machine is the rollout's.
    if (!(await isWanted())) return 'not wanted'
    // Between off and on: a controller forgets the device after a minute, and a system may take that long to shut down.
    const [set] = (await power.setBootDevice({ nodeset, device }, { signal })).outcomes
    // A refused password would be refused again by the next command, and lock the account.
    if (set?.failure && !failureMeanings[set.failure.code].retry) return { confirmed: false, failure: set.failure }
    // A machine that is off already is left off for the second that its power supply needs.
    const [on] = (await power.setPower({ nodeset, action: 'cycle' }, { signal })).outcomes
    if (!on) throw new Error('the Power Port gave no answer')
    return { confirmed: on.confirmed, failure: on.failure }
  } catch (error) {
    // When the service stops or its database fails in the middle, the machine has not failed: it is taken up again.
    if (signal.aborted || !(error instanceof Failure) || error.code === 'database-unavailable') throw error
    return { confirmed: false, failure: { code: error.code, message: causeChain(error) } }
  }
}

async function end(
  { db, now }: RebooterOptions,
  row: Reboot,
  state: 'done' | 'failed',
  said: string | undefined,
  failure?: FailureReport,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const change = { state, said: said ?? null, failure: failure ? JSON.stringify(failure) : null }
    if (!(await changeReboot(tx, row, change))) return
    const kind = failure ? 'reboot-failed' : 'rebooted'
    const text = [said, ...(failure?.message ?? [])].filter((part) => part !== undefined).join(': ')
    await addEvent(tx, { source: 'engine', kind, text: `task ${row.task_id}: ${text}`, hostId: row.host_id }, now())
  })
}

/** A task is done when every machine is; else it fails with the code of the first that did, and each has its row. */
async function endOfTask({ db, now }: RebooterOptions, taskId: number): Promise<void> {
  const rows = await rebootsOf(db, taskId)
  const failed = rows.filter((row) => row.state === 'failed')
  const [first] = failed
  if (!first) return await endTask(db, taskId, undefined, now())
  // Written by `end` alone, with every failed row.
  const { code } = JSON.parse(first.failure ?? '{}') as FailureReport
  const message = [
    `${failed.length} of ${rows.length} hosts did not get there, ${first.host} first: each has its own row`,
  ]
  await endTask(db, taskId, JSON.stringify({ code, message }), now())
}
