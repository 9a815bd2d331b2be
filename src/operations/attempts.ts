// How often somebody may be wrong before being slowed: one set a process. The unix socket is never slowed, nor are tokens
// and sessions that were good a moment ago.
import { AttemptLimit } from '../lib/attempt-limit.ts'
import { Failure } from '../model/failure.ts'

export type Attempts = {
  /** Tokens and sessions, by address: programs that start together with an old token may be wrong a few times each. */
  readonly words: AttemptLimit
  /** Passwords, by address. */
  readonly addresses: AttemptLimit
  /** Passwords, by user, from anywhere. */
  readonly users: AttemptLimit
}

export function newAttempts(): Attempts {
  return {
    words: new AttemptLimit({ burst: 30, everyMs: 2000 }),
    addresses: new AttemptLimit({ burst: 10, everyMs: 6000 }),
    users: new AttemptLimit({ burst: 20, everyMs: 15_000 }),
  }
}

/** The answer to who was wrong too often. */
export function tooMany(what: string, waitMs: number): Failure {
  return new Failure('too-many-attempts', `${what}: wait ${Math.ceil(waitMs / 1000)} s`)
}
