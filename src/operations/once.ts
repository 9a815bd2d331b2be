// Calls with an idempotency key happen once: whoever calls again with the key gets the answer of the first call. Two at
// once, a caller that gave up, a service that was killed in the middle: none of them makes it happen twice.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Caller, OnceCall, OnceClaim, RunOnce } from '../contract/operation.ts'
import {
  addOnceCall,
  claimOnceCall,
  dropExpiredCalls,
  findOnceCall,
  forgetOnceCall,
  recordAnswer,
  renewOnceCall,
  type StoredCall,
} from '../db/once.ts'
import { Failure } from '../model/failure.ts'
import type { World } from './world.ts'

/** How long a key is remembered. */
export const onceKeptMs = 24 * 3_600_000

/** Whoever runs a call says so more often than this; one that does not is dead. */
const leaseMs = 30_000

/** How long a second call waits for the first. */
const waitMs = 20_000
const lookEveryMs = 100

/** The claim of a call with a key, for `recordAnswer`. */
export function onceOf(caller: Caller): OnceClaim | undefined {
  return caller.kind === 'user' ? caller.once : undefined
}

/** Makes what runs calls with a key. */
export function onceRunner({ db, now, log, keyring }: Pick<World, 'db' | 'now' | 'log' | 'keyring'>): RunOnce {
  const run = async (call: OnceCall, claim: OnceClaim, begin: (caller: Caller) => Promise<unknown>) => {
    const renewal = setInterval(() => {
      renewOnceCall(db, claim, now() + leaseMs).catch((err: unknown) => log.error({ err }, 'a lease was not renewed'))
    }, leaseMs / 3)
    try {
      const answer = await begin({ ...call.caller, once: claim } as Caller)
      await recordAnswer(db, claim, answer)
      return answer
    } catch (error) {
      // A recorded call has written its answer with what it began, and then this forgets nothing.
      await forgetOnceCall(db, claim).catch((err: unknown) => log.error({ err }, 'a key was not given back'))
      throw error
    } finally {
      clearInterval(renewal)
    }
  }
  return async (call, begin) => {
    const { key, operation, input, caller } = call
    const row = {
      caller: caller.kind === 'user' ? caller.name : caller.kind,
      idempotency_key: key,
      operation,
      input_mac: macOf(keyring, keyring.ids[0], input) ?? '',
    }
    const end = performance.now() + waitMs
    for (;;) {
      const at = now()
      await dropExpiredCalls(db, at)
      const claim = randomUUID()
      const lease = { claim, lease_until: at + leaseMs, expires_at: at + onceKeptMs }
      await addOnceCall(db, { ...row, ...lease })
      const found = await findOnceCall(db, row)
      // Whoever had the key may have given it back since.
      if (found === undefined) continue
      if (found.claim === claim) return await run(call, { id: found.id, claim }, begin)
      refuseOther(found, { operation, isSame: isSameInput(keyring, found, input) }, key)
      if (found.answer !== null) return answerOf(found, key)
      if (found.lease_until <= at) {
        if (!call.isRecorded) throw cutOff(key)
        if (await claimOnceCall(db, found, { claim, until: at + leaseMs, now: at })) {
          return await run(call, { id: found.id, claim }, begin)
        }
      }
      if (performance.now() > end) throw underWay(key)
      await delay(lookEveryMs)
    }
  }
}

/** An input that cannot be read back from this: it can hold a password. Undefined when the key is no more. */
function macOf(keyring: World['keyring'], keyId: string | undefined, input: unknown): string | undefined {
  const mac = keyring.token(keyId, 'once-call', canonical(input))?.reveal()
  return mac && `${keyId}:${mac}`
}

/** Whether a stored call had this input. One that was made with a key that is no more is believed to have had. */
function isSameInput(keyring: World['keyring'], { input_mac }: StoredCall, input: unknown): boolean {
  const mac = macOf(keyring, input_mac.split(':')[0], input)
  return mac === undefined || mac === input_mac
}

function refuseOther(
  found: Pick<StoredCall, 'operation'>,
  { operation, isSame }: { readonly operation: string; readonly isSame: boolean },
  key: string,
): void {
  if (found.operation === operation && isSame) return
  const what = found.operation === operation ? `${operation} with another input` : found.operation
  throw new Failure('already-exists', `the idempotency key ${key} was used for ${what}: give each call its own`, {
    at: 'idempotencyKey',
  })
}

function answerOf({ answer, operation }: StoredCall, key: string): unknown {
  const value: unknown = JSON.parse(answer ?? 'null')
  if (value !== null) return value
  const words = `${operation} has happened with the idempotency key ${key}; its answer was too long to be kept: look for it`
  throw new Failure('already-exists', words, { at: 'idempotencyKey' })
}

function cutOff(key: string): Failure {
  const words = `a call with the idempotency key ${key} was cut off, and nobody can tell how far it got: look, then use another key`
  return new Failure('wrong-state', words, { at: 'idempotencyKey' })
}

function underWay(key: string): Failure {
  return new Failure('wrong-state', `a call with the idempotency key ${key} is under way still: ask again later`, {
    at: 'idempotencyKey',
  })
}

/** JSON with the fields of objects in one order, whatever order they came in. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
