// Who an agent is: the boot token and the session key that the row of its deployment gives, and nothing else.
import type { Caller } from '../contract/operation.ts'
import { findDeployment, type NamedDeployment } from '../db/deployments.ts'
import { sameSecret } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { sessionKey } from '../model/token.ts'
import type { World } from './world.ts'

/** Throws Failure `token-refused` unless the caller shows `expected`. */
export function bearer(caller: Caller, expected: Secret | undefined, what: string): void {
  if (caller.kind === 'bearer' && expected !== undefined && sameSecret(caller.token, expected)) return
  throw new Failure('token-refused', `the ${what} is not the one that is good now`)
}

/** The deployment, if the caller is the agent that registered for it. */
export async function admit({ db, keyring }: World, deployment: number, caller: Caller): Promise<NamedDeployment> {
  const row = await findDeployment(db, deployment)
  bearer(caller, sessionKey(keyring, armed(row)), 'session key')
  return row
}

/** What the words of its agent come from. */
export function armed({ id, state, boot_nonce, agent }: NamedDeployment) {
  return { id, state, nonce: boot_nonce, agent }
}

/** The answer to an agent whose work has ended. */
export function stop(row: NamedDeployment): { action: 'stop'; reason: string } {
  return { action: 'stop', reason: `deployment ${row.id} of ${row.host} is ${row.state}` }
}
