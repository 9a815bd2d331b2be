// Which words let an agent in. None of them is stored: each is derived from the service's key and from what the row says
// now, so a token is good for one host and one attempt of one deployment, and dies with the state that armed it.
import type { Keyring } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import type { DeploymentState } from './deployment.ts'

/** The part of a deployment that tokens come from. `nonce` is a random word of the attempt. */
export type Armed = { readonly id: number; readonly state: DeploymentState; readonly nonce: string | null }

/** The word in the kernel's arguments; undefined while no agent of this deployment is expected. */
export function bootToken(keyring: Keyring, armed: Armed): Secret | undefined {
  return armed.state === 'powering' || armed.state === 'booting' ? attemptToken(keyring, armed) : undefined
}

/** What registration must show, whatever the state; undefined before the first attempt. */
export function attemptToken(keyring: Keyring, { id, nonce }: Omit<Armed, 'state'>): Secret | undefined {
  return nonce === null ? undefined : keyring.token('boot', String(id), nonce)
}

/** What a registered agent shows with every report. The same agent that registers again gets the same key. */
export function sessionKey(
  keyring: Keyring,
  { id, nonce, agent }: Omit<Armed, 'state'> & { readonly agent: string | null },
): Secret | undefined {
  return nonce === null || agent === null ? undefined : keyring.token('session', String(id), nonce, agent)
}
