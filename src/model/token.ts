// Which words let an agent in. None of them is stored: each is derived from the service's key and from what the row says
// now, so a token is good for one host and one attempt of one deployment, and dies with the state that armed it.
import { createHash, randomUUID } from 'node:crypto'
import type { Keyring } from '../lib/seal.ts'
import { Secret } from '../lib/secret.ts'
import type { DeploymentState } from './deployment.ts'

/** The part of a deployment that tokens come from. `nonce` is what `newNonce` made for the attempt. */
export type Armed = { readonly id: number; readonly state: DeploymentState; readonly nonce: string | null }

/** A random word for a new attempt; it begins with the id of the key that the words of its agent come from. */
export function newNonce(keyring: Pick<Keyring, 'ids'>): string {
  return `${keyring.ids[0]}.${randomUUID()}`
}

/** The key that a nonce names; undefined for one that was made before keys had ids. */
function keyIdOf(nonce: string): string | undefined {
  return /^([0-9a-f]{8})\./.exec(nonce)?.[1]
}

/** The word in the kernel's arguments; undefined while no agent of this deployment is expected. */
export function bootToken(keyring: Keyring, armed: Armed): Secret | undefined {
  return armed.state === 'powering' || armed.state === 'booting' ? attemptToken(keyring, armed) : undefined
}

/** What registration must show, whatever the state; undefined before the first attempt. */
export function attemptToken(keyring: Keyring, { id, nonce }: Omit<Armed, 'state'>): Secret | undefined {
  return nonce === null ? undefined : keyring.token(keyIdOf(nonce), 'boot', String(id), nonce)
}

/** What a registered agent shows with every report. The same agent that registers again gets the same key. */
export function sessionKey(
  keyring: Keyring,
  { id, nonce, agent }: Omit<Armed, 'state'> & { readonly agent: string | null },
): Secret | undefined {
  return nonce === null || agent === null
    ? undefined
    : keyring.token(keyIdOf(nonce), 'session', String(id), nonce, agent)
}

/** For how long a machine that is no host may use the token that it was told. */
export const reportTokenMs = 60 * 60_000

/**
 * What a machine that is no host shows with the inventory that it reports, once; undefined when it was told none, too long
 * ago, or by a key that is gone. Nothing else is opened by it: every other word comes from a deployment.
 */
export function reportToken(
  keyring: Keyring,
  { mac, nonce, armedAt }: { readonly mac: string; readonly nonce: string | null; readonly armedAt: number | null },
  now: number,
): Secret | undefined {
  if (nonce === null || armedAt === null || now - armedAt >= reportTokenMs) return undefined
  return keyring.token(keyIdOf(nonce), 'report', mac, nonce)
}

/**
 * What an agent shows to the tracker. Announces go in clear beside the images; who reads one can take this agent's place in
 * its swarm, and nothing else: the session key cannot be told from it.
 */
export function announceWord(sessionKey: Secret): Secret {
  return new Secret(createHash('sha256').update(`hades announce ${sessionKey.reveal()}`).digest('base64url'))
}
