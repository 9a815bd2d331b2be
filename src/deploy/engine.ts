// The one loop that moves deployments forward. It reads intent from the database, decides (decide.ts), acts (perform.ts), and
// records each step by a guarded statement; it keeps nothing between two rounds that the next process could not find in the
// rows. Any number of engines work on one database: each row is claimed by one of them, and a dead one's claims are freed.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { beatEveryMs, claimDue, releaseClaim } from '../db/claims.ts'
import type { NamedDeployment } from '../db/deployments.ts'
import { isActive } from '../model/deployment.ts'
import { type ClaimKeeper, claimKeeper } from './claim-keeper.ts'
import type { Context, EngineOptions } from './context.ts'
import { decide } from './decide.ts'
import { type Claimed, caughtUp, courseFor, factsOf } from './facts.ts'
import { idle } from './idle.ts'
import { perform } from './perform.ts'

export type Engine = {
  /**
   * Ends the loop and lets steps under way end within `graceMs` (0). What is then still being asked of a controller is given
   * up, and taken up again by the next process.
   */
  readonly close: (graceMs?: number) => Promise<void>
}

/** The parts of the loop, for who turns it at a pace of their own. */
export type EngineParts = Pick<ClaimKeeper, 'beat' | 'watch' | 'relieve' | 'stop' | 'count'> & {
  /** Claims what is due and begins to work on it. Returns what resolves when each is done; none rejects. */
  look(): Promise<readonly Promise<void>[]>
}

/** How often the loop looks for rows that are due. */
const roundMs = 250
/** Rows looked at at once, those whose controllers are being asked not counted. */
const looksMax = 64
/** When a step met an error of ours or of the database. */
const againMs = 10_000

/** Starts the loop. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { log } = options
  const parts = engineParts(options)
  /** No more rows are claimed; claims are kept until their work is done. */
  const ending = new AbortController()
  const stopping = new AbortController()
  const every = async (
    ms: number,
    what: string,
    work: () => Promise<boolean>,
    { signal } = stopping,
  ): Promise<void> => {
    while (!signal.aborted) {
      const isMore = await work().catch((error: unknown) => {
        log.error({ err: error }, `the engine could not ${what}`)
        return false
      })
      if (!isMore) await delay(ms, undefined, { signal }).catch(() => {})
    }
  }
  const round = async (): Promise<number> => {
    const began = performance.now()
    const told = { claimed: 0, failed: true }
    try {
      told.claimed = (await parts.look()).length
      told.failed = false
      return told.claimed
    } finally {
      options.onRound?.({ ...told, ms: performance.now() - began })
    }
  }
  const running = Promise.all([
    every(roundMs, 'look for work', async () => (await round()) >= looksMax, ending),
    every(beatEveryMs, 'keep its claims', async () => {
      await parts.beat()
      return false
    }),
    every(beatEveryMs, 'free the claims of the dead', async () => {
      await parts.relieve()
      return false
    }),
    // By itself: a database that hangs holds up the others.
    every(beatEveryMs, 'watch its claims', async () => {
      parts.watch()
      return false
    }),
  ])
  return {
    async close(graceMs = 0) {
      const reason = new Error('the service is stopping')
      ending.abort(reason)
      await idle(parts.count, graceMs)
      stopping.abort(reason)
      await parts.stop(reason)
      await running
    },
  }
}

/** Makes an engine that does nothing by itself. */
export function engineParts(options: EngineOptions): EngineParts {
  const { db, now } = options
  const monotonic = options.monotonic ?? (() => performance.now())
  const owner = randomUUID()
  const looked = { setups: new Map(), counts: new Map(), ordering: new Set<number>() }
  const context: Context = { ...options, ...looked, monotonic, owner }
  const keeper = claimKeeper(context)
  let isStopped = false
  return {
    beat: () => keeper.beat(),
    count: () => keeper.count(),
    watch: () => keeper.watch(),
    relieve: () => keeper.relieve(),

    async look() {
      const free = looksMax + context.ordering.size - keeper.count()
      if (free <= 0 || isStopped) return []
      const claimed = await claimDue(db, { owner, limit: free }, now())
      // What was claimed while we were being stopped is freed by others, as the claims of the dead are.
      const rows = isStopped ? [] : claimed
      return rows.map((row) => keeper.keep(row.id, (signal) => work(context, row, signal)))
    },

    async stop(reason) {
      isStopped = true
      await keeper.stop(reason)
    },
  }
}

/** Looks at a claimed row and gives it back, whatever comes of it. */
async function work(context: Context, row: NamedDeployment, signal: AbortSignal): Promise<void> {
  const { db, log, now, monotonic, owner } = context
  const offset = (): number => now() - monotonic()
  const before = offset()
  let dueAt: number
  try {
    dueAt = await step(context, { ...row, claim: owner }, signal)
  } catch (error) {
    dueAt = now() + againMs
    if (!signal.aborted) log.error({ err: error, host: row.host, deployment: row.id }, 'a step failed')
  }
  // By the clock of the row's other times: when ours was set in the middle, the next look finds all of them off by as much.
  dueAt -= Math.round(offset() - before)
  await releaseClaim(db, row, owner, dueAt).catch((error: unknown) => {
    if (!signal.aborted) log.error({ err: error, deployment: row.id }, 'a claim could not be given back')
  })
}

/** Looks at one deployment and does the one thing that is due. Returns when to look again. */
async function step(context: Context, claimed: Claimed, signal: AbortSignal): Promise<number> {
  if (!isActive(claimed.state)) return claimed.due_at
  const course = await courseFor(context, claimed)
  const row = await caughtUp(context, claimed, course)
  if (!row) return context.now()
  const facts = await factsOf(context, row, course, signal)
  const decision = decide(facts, course, context.now())
  signal.throwIfAborted()
  return await perform(context, row, course, decision, signal)
}
