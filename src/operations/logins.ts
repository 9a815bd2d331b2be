// Logging in: a user's password, or a word of an OpenID provider, becomes a token of the command line or a session of a
// browser. Wrong passwords are slowed for each user and each address; tokens, sessions and the unix socket are not.
import type { UserCaller } from '../contract/operation.ts'
import type { Db } from '../db/open.ts'
import { addToken } from '../db/tokens.ts'
import { addUser, changeUser, lookUpUser, markLogin, type User, userBySubject } from '../db/users.ts'
import { senderOf } from '../lib/attempt-limit.ts'
import { canCheckPassword, isPassword } from '../lib/password.ts'
import { sameSecret } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { administrator, type Role } from '../model/role.ts'
import { tooMany } from './attempts.ts'
import { digestOf, newWord } from './authenticate.ts'
import type { World } from './world.ts'

export type LoginKind = 'login' | 'session'

/** A login ends after so long, and a browser's session when it was not used for the second of them. */
const loginMs = 12 * 3600_000
const idleMs = 30 * 60_000

export type Login = {
  readonly word: Secret
  readonly expiresAt: number
  readonly caller: UserCaller
}

/** What a provider says of somebody who has logged in there. */
export type ProvidedUser = { readonly name: string; readonly subject: string; readonly role: Role }

type Here = Pick<World, 'db' | 'now' | 'adminToken' | 'attempts'>

/** Failures `unauthorized`, which does not tell whether there is such a user, and `too-many-attempts`. */
export async function loginByPassword(
  world: Here,
  asked: { readonly name: string; readonly password: string; readonly address: string; readonly kind: LoginKind },
): Promise<Login> {
  const { name, password, address } = asked
  if (name === administrator) {
    if (await counted(world, asked, async () => sameSecret(password, world.adminToken))) {
      return await begin(world.db, undefined, asked, world.now())
    }
  } else {
    const user = await userByPassword(world, { name, password, address })
    if (user) return await begin(world.db, user, asked, world.now())
  }
  throw new Failure('unauthorized', 'the name or the password is wrong')
}

/** Failure `forbidden` for who is disabled here, and for a name that is a local user's. */
export async function loginByProvider({ db, now }: Here, provided: ProvidedUser, address: string): Promise<Login> {
  const user = await db.transaction().execute((tx) => providedUser(tx, provided, now()))
  return await begin(db, user, { kind: 'session', address }, now())
}

/** The user, if it has this password and is not disabled. Failure `too-many-attempts`. */
export async function userByPassword(
  world: Here,
  { name, password, address }: { readonly name: string; readonly password: string; readonly address: string },
): Promise<User | undefined> {
  const user = await lookUpUser(world.db, name)
  const hash = user?.is_disabled === 0 ? (user.password ?? undefined) : undefined
  return (await counted(world, { name, address }, () => isPassword(password, hash))) ? user : undefined
}

/** Whether `isRight`, which is not asked after too many wrong attempts, and is counted when it is not. */
async function counted(
  { attempts, now }: Here,
  { name, address }: { readonly name: string; readonly address: string },
  isRight: () => Promise<boolean>,
): Promise<boolean> {
  const { addresses, users } = attempts
  const sender = senderOf(address)
  const waitMs = Math.max(addresses.waitMs(sender, now()), users.waitMs(name, now()))
  if (waitMs > 0) throw tooMany(`too many wrong passwords for ${name} or from ${address}`, waitMs)
  if (!canCheckPassword()) throw tooMany('too many logins at once', 1000)
  // Counted before it is known: of many that come at once no more are tried than of many in a row.
  addresses.wrong(sender, now())
  users.wrong(name, now())
  if (!(await isRight())) return false
  addresses.right(sender)
  users.right(name)
  return true
}

/** The user that a provider's subject is here, made or changed to what the provider says now. */
async function providedUser(tx: Db, { name, subject, role }: ProvidedUser, now: number): Promise<User> {
  const user = await userBySubject(tx, subject)
  if (!user) {
    if (name === administrator || (await lookUpUser(tx, name))) {
      throw new Failure('forbidden', `the name ${name} is a local user's: an administrator must remove or rename one`)
    }
    return await addUser(tx, { name, role, oidcSubject: subject }, now)
  }
  if (user.is_disabled === 1) throw new Failure('forbidden', `the user ${user.name} is disabled here`)
  if (user.role !== role) await changeUser(tx, user.id, { role }, now)
  return { ...user, role }
}

/** Begins a login of a user, or of the administrator. */
async function begin(
  db: Db,
  user: User | undefined,
  { kind, address }: { readonly kind: LoginKind; readonly address: string },
  now: number,
): Promise<Login> {
  const word = newWord()
  const expiresAt = now + loginMs
  const role = user?.role ?? 'admin'
  const id = await addToken(db, {
    kind,
    name: `from ${address}`,
    user_id: user?.id ?? null,
    hash: digestOf(word.reveal()),
    // What a user may do is asked at each call; the login itself sets no bound.
    role: 'admin',
    nodeset: null,
    site: null,
    created_at: now,
    expires_at: expiresAt,
    idle_ms: kind === 'session' ? idleMs : null,
    last_used_at: now,
  })
  if (user) await markLogin(db, user.id, now)
  const name = user?.name ?? administrator
  return { word, expiresAt, caller: { kind: 'user', name, role, address, via: kind, token: id } }
}
