// The memory that a controller refused a login, so that the same wrong password is not sent again and again until the
// account is locked. In memory and for a bounded time: after a restart one more attempt is made, never a series.
import { createHmac, randomBytes } from 'node:crypto'
import { Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'

/** Controllers that lock an account count wrong logins over 5 to 15 minutes; one attempt in this time is always safe. */
const rememberedMs = 15 * 60_000
/** More methods than any installation has; the oldest is forgotten first. */
const rememberedMax = 20_000
/** Not a plain hash: a memory dump shall not allow to try passwords against it elsewhere. */
const processKey = randomBytes(32)

const refused = new Map<string, { readonly untilMs: number; readonly failure: Failure }>()

/** Throws what the controller answered to this very login, if that was a refusal and not long ago. */
export function heedRefusal(method: PowerMethod): void {
  const key = loginKey(method)
  const refusal = refused.get(key)
  if (refusal === undefined) return
  const leftMs = refusal.untilMs - performance.now()
  if (leftMs <= 0) {
    refused.delete(key)
    return
  }
  const { code, at, message } = refusal.failure
  throw new Failure(
    code,
    `${message}; so as not to lock the account it is not sent again for ${Math.ceil(leftMs / 60_000)} min, unless the method is changed or tested`,
    { cause: refusal.failure.cause, ...(at ? { at } : {}) },
  )
}

export function rememberRefusal(method: PowerMethod, failure: Failure): void {
  refused.set(loginKey(method), { untilMs: performance.now() + rememberedMs, failure })
  if (refused.size <= rememberedMax) return
  const oldest = refused.keys().next()
  if (!oldest.done) refused.delete(oldest.value)
}

export function forgetRefusal(method: PowerMethod): void {
  refused.delete(loginKey(method))
}

function loginKey(method: PowerMethod): string {
  const login = JSON.stringify([method.driver, method.address.toLowerCase(), method.username, method.password.reveal()])
  return createHmac('sha256', processKey).update(login).digest('base64')
}
