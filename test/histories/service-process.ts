// A service as the histories see it: the engine and the handlers of one process, on the database that all processes share, and
// a gate in front of every statement at which the process can be killed: before the statement, or when it is done and its
// answer is lost.
import { randomUUID } from 'node:crypto'
import type { Kysely, KyselyPlugin } from 'kysely'
import pino from 'pino'
import type { PortClient } from '../../src/contract/operation.ts'
import type { powerOperations } from '../../src/contract/power.ts'
import { isLost } from '../../src/db/errors.ts'
import type { Schema } from '../../src/db/schema.ts'
import { type EngineParts, engineParts } from '../../src/deploy/engine.ts'
import { Failure } from '../../src/model/failure.ts'
import { serviceHandlers } from '../../src/operations/service.ts'
import type { World } from '../../src/operations/world.ts'

export class Killed extends Error {}

/** The database does not answer, or its answer is lost: what the service meets then, beyond all tries of `src/db`. */
export class Away extends Failure {
  constructor() {
    super('database-unavailable', 'the database is away')
  }
}

/**
 * Whether a service may meet it in a history: it was killed, or its database is away; a machine that is too busy can keep a real
 * one from being reached, too. That others change the same rows is nothing that anybody should hear of.
 */
export function isFate(error: unknown): boolean {
  return error instanceof Killed || error instanceof Away || isLost(error)
}

export type ServiceProcess = {
  readonly db: Kysely<Schema>
  readonly engine: EngineParts
  readonly service: ReturnType<typeof serviceHandlers>
  readonly isAlive: () => boolean
  /** Kills it at the n-th boundary of a statement from now. */
  killIn(statements: number): void
  /** For so many boundaries of statements the database is away. */
  awayFor(statements: number): void
  /** It stands still, as a virtual machine does that is suspended, and does not know it. */
  isPaused: boolean
  /** What the engine is working on. */
  readonly works: Set<Promise<void>>
  /** How many of these wait for a slow controller. */
  waiting: number
  /** Told when it begins to wait for one. */
  onWaiting: () => void
  /** By how much its clock is wrong. */
  skewMs: number
}

export type ProcessOptions = {
  readonly db: Kysely<Schema>
  readonly world: Omit<World, 'db' | 'now' | 'log' | 'owner'>
  readonly trueMs: () => number
  /** The Power Port of this process: machines must know who asks. */
  readonly powerOf: (process: () => ServiceProcess) => PortClient<typeof powerOperations>
  /** What the process has logged as an error. */
  readonly onError: (error: unknown, message: string) => void
}

/** Starts one. */
export function startProcess({ db: shared, world, trueMs, powerOf, onError }: ProcessOptions): ServiceProcess {
  let left = Number.POSITIVE_INFINITY
  let away = 0
  let isAlive = true
  const pass = (): void => {
    left -= 1
    if (left <= 0) isAlive = false
    if (!isAlive) throw new Killed('the process was killed')
    away -= 1
    if (away >= 0) throw new Away()
  }
  const gate: KyselyPlugin = {
    transformQuery({ node }) {
      pass()
      return node
    },
    async transformResult({ result }) {
      pass()
      return result
    },
  }
  const db = shared.withPlugin(gate)
  const now = (): number => trueMs() + self.skewMs
  const log = pino(
    {
      level: 'error',
      hooks: { logMethod: (args) => isAlive && onError((args[0] as { err?: unknown }).err, String(args[1])) },
    },
    { write: () => {} },
  )
  const power = powerOf(() => self)
  const self: ServiceProcess = {
    db,
    engine: engineParts({ db, power, log, now, keyring: world.keyring, monotonic: trueMs }),
    service: serviceHandlers({ ...world, db, now, log, owner: randomUUID() }),
    isAlive: () => isAlive,
    killIn(statements) {
      left = statements
    },
    awayFor(statements) {
      away = statements
    },
    isPaused: false,
    works: new Set(),
    waiting: 0,
    onWaiting: () => {},
    skewMs: 0,
  }
  return self
}
