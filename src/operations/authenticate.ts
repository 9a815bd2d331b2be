// Who calls: the unix socket, the word of `admin.token`, a token, or a browser's session. Wrong words by the thousand are
// slowed for each address; what was good a moment ago is never held up by them.
import { createHash, randomBytes } from 'node:crypto'
import type { UserCaller } from '../contract/operation.ts'
import { goodToken, markUsed, type OwnedToken } from '../db/tokens.ts'
import { senderOf } from '../lib/attempt-limit.ts'
import { sameSecret } from '../lib/seal.ts'
import { Secret } from '../lib/secret.ts'
import { administrator, lowerRole } from '../model/role.ts'
import { tooMany } from './attempts.ts'
import type { World } from './world.ts'

/** What a request says of its sender. */
type Credentials = {
  readonly address: string
  readonly isLocal: boolean
  readonly token: string | undefined
  readonly session?: string | undefined
}

/** The form of our words: what is not in it is looked up nowhere. */
const form = /^hades_[A-Za-z0-9_-]{43}$/

/** A new word for a token or a session, of 256 random bits. */
export function newWord(): Secret {
  return new Secret(`hades_${randomBytes(32).toString('base64url')}`)
}

/** How a word is kept: it is random, so that a quick digest is enough. */
export function digestOf(word: string): string {
  return createHash('sha256').update(word).digest('hex')
}

/** Words that were good lately, which a flood of wrong ones from the same address does not hold up. */
const knownMax = 10_000

export type Authenticator = (credentials: Credentials) => Promise<UserCaller | undefined>

/** Makes the judge of credentials. Its callers throw Failure `too-many-attempts` to an address that was wrong too often. */
export function userAuthenticator(world: Pick<World, 'db' | 'now' | 'log' | 'adminToken' | 'attempts'>): Authenticator {
  const { db, now, log, adminToken } = world
  const { words: wrong } = world.attempts
  const known = new Set<string>()
  return async ({ address, isLocal, token, session }) => {
    if (isLocal) return { kind: 'user', name: administrator, role: 'admin', address, via: 'unix socket' }
    const word = token ?? session
    if (word === undefined) return undefined
    if (token !== undefined && sameSecret(token, adminToken)) {
      return { kind: 'user', name: administrator, role: 'admin', address, via: 'admin.token' }
    }
    const hash = digestOf(word)
    const waitMs = known.has(hash) ? 0 : wrong.waitMs(senderOf(address), now())
    if (waitMs > 0) throw tooMany(`too many wrong tokens came from ${address}`, waitMs)
    const found = form.test(word) ? await goodToken(db, hash, now()) : undefined
    // A cookie's word is good as a cookie only, behind the check of the page that it came from, and a token only as a token.
    if (found && (found.kind === 'session') === (token === undefined)) {
      if (known.size >= knownMax) known.clear()
      known.add(hash)
      await markUsed(db, found, now()).catch((error: unknown) =>
        log.warn({ err: error }, 'the use of a token was not noted'),
      )
      return callerOf(found, address)
    }
    known.delete(hash)
    wrong.wrong(senderOf(address), now())
    return undefined
  }
}

/** Undefined when its owner is disabled. */
function callerOf(token: OwnedToken, address: string): UserCaller | undefined {
  if (token.owner_disabled === 1) return undefined
  const { nodeset, site } = token
  return {
    kind: 'user',
    name: token.owner ?? administrator,
    role: lowerRole(token.role, token.owner_role ?? 'admin'),
    address,
    via: token.kind === 'api' ? `token ${token.name}` : token.kind,
    token: token.id,
    ...(nodeset === null && site === null
      ? {}
      : { scope: { ...(nodeset === null ? {} : { nodeset }), ...(site === null ? {} : { site }) } }),
  }
}
