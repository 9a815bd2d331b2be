// Users, their tokens, and who the caller is.
import type { controlOperations } from '../contract/control.ts'
import type { Caller, Handlers, UserCaller } from '../contract/operation.ts'
import type { TokenView, UserView } from '../contract/user-types.ts'
import { recordAnswer } from '../db/once.ts'
import { slicePage } from '../db/page.ts'
import { addToken, endLogins, listTokens, type OwnedToken, revokeToken, tokenById } from '../db/tokens.ts'
import { addUser, changeUser, findUser, listUsers, removeUser, type User } from '../db/users.ts'
import { expandNodeset } from '../lib/nodeset.ts'
import { hashPassword } from '../lib/password.ts'
import { Failure, invariant } from '../model/failure.ts'
import { administrator, lowerRole, mayAct } from '../model/role.ts'
import { digestOf, newWord } from './authenticate.ts'
import { loginByPassword, userByPassword } from './logins.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime, present } from './views.ts'
import type { World } from './world.ts'

const dayMs = 24 * 3600_000
const tokenDays = 90

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

/** The operations are of users alone: `admit` lets no other in. */
function userOf(caller: Caller): UserCaller {
  invariant(caller.kind === 'user', 'a user calls')
  return caller
}

export function sessionHandlers(world: World): Some<'login' | 'logout' | 'whoAmI' | 'changePassword'> {
  const { db, now } = world
  return {
    async login({ name, password }, { address }) {
      const { word, expiresAt, caller } = await loginByPassword(world, { name, password, address, kind: 'login' })
      return { identity: identityView(caller, expiresAt), secret: word.reveal(), expiresAt: dateTime(expiresAt) }
    },
    async logout(_input, caller) {
      const { token } = userOf(caller)
      if (token === undefined) throw new Failure('wrong-state', 'the call came without a login: nothing is to end')
      await revokeToken(db, token)
      return {}
    },
    async whoAmI(_input, caller) {
      const user = userOf(caller)
      const token = user.token === undefined ? undefined : await tokenById(db, user.token)
      return { identity: identityView(user, token?.expires_at) }
    },
    async changePassword({ oldPassword, newPassword }, caller) {
      const { name, address, token } = userOf(caller)
      if (name === administrator) {
        throw new Failure(
          'wrong-state',
          'the administrator of the data folder has no password: its word is admin.token',
        )
      }
      const user = await userByPassword(world, { name, password: oldPassword, address })
      if (!user) throw new Failure('bad-input', 'the old password is wrong', { at: 'oldPassword' })
      const password = await hashPassword(newPassword)
      await db.transaction().execute(async (tx) => {
        await changeUser(tx, user.id, { password }, now())
        await endLogins(tx, user.id, token)
      })
      return {}
    },
  }
}

export function userHandlers(world: World): Some<'addUser' | 'changeUser' | 'removeUser' | 'listUsers'> {
  const { db, now } = world
  return {
    async addUser({ name, role, password }, caller) {
      if (name === administrator) {
        const text = `${administrator} is who comes by the unix socket or with admin.token: choose another name`
        throw new Failure('already-exists', text, { at: 'name' })
      }
      const hash = password === undefined ? {} : { password: await hashPassword(password) }
      return await db.transaction().execute(async (tx) => {
        const answer = { user: userView(await addUser(tx, { name, role, ...hash }, now())) }
        await recordAnswer(tx, onceOf(caller), answer)
        return answer
      })
    },
    async changeUser({ name, role, password, isDisabled }) {
      const change = {
        ...(role === undefined ? {} : { role }),
        ...(password === undefined ? {} : { password: await hashPassword(password) }),
        ...(isDisabled === undefined ? {} : { is_disabled: isDisabled ? 1 : 0 }),
      }
      await db.transaction().execute(async (tx) => {
        const { id } = await findUser(tx, name)
        await changeUser(tx, id, change, now())
        if (password !== undefined || isDisabled === true) await endLogins(tx, id)
      })
      return { user: userView(await findUser(db, name)) }
    },
    async removeUser({ name }) {
      await db.transaction().execute(async (tx) => removeUser(tx, (await findUser(tx, name)).id))
      return {}
    },
    async listUsers(input) {
      const page = slicePage(await listUsers(db), [{ of: (user) => user.name }], pageOf(input))
      return { users: page.rows.map(userView), ...nextOf(page) }
    },
  }
}

export function tokenHandlers({ db, now }: World): Some<'createToken' | 'listTokens' | 'revokeToken'> {
  return {
    async createToken({ name, role, owner, nodeset, site, days }, caller) {
      const { name: creator, role: own, scope } = userOf(caller)
      // Only by a way around `requireScope`: createToken names no hosts of its own.
      if (scope) throw new Failure('forbidden', 'a token that is bound to some hosts makes no tokens')
      if (owner !== undefined && owner !== creator && !mayAct(own, 'admin')) {
        throw new Failure('forbidden', 'to make a token for somebody else takes the role admin', { at: 'owner' })
      }
      if (role !== undefined && !mayAct(own, role)) {
        throw new Failure('forbidden', `${creator} comes with the role ${own}, and cannot give ${role}`, { at: 'role' })
      }
      if (nodeset !== undefined) refuseBroken(nodeset)
      const user = await ownerOf(owner ?? creator)
      const word = newWord()
      const id = await db.transaction().execute(async (tx) => {
        const { user_id } = user
        if ((await listTokens(tx, user_id, now())).some((token) => token.kind === 'api' && token.name === name)) {
          throw new Failure('already-exists', `${owner ?? creator} has a token ${name} already`, { at: 'name' })
        }
        return await addToken(tx, {
          kind: 'api',
          name,
          user_id,
          hash: digestOf(word.reveal()),
          role: role ?? lowerRole(own, user.role),
          nodeset: nodeset ?? null,
          site: site ?? null,
          created_at: now(),
          expires_at: now() + (days ?? tokenDays) * dayMs,
          idle_ms: null,
          last_used_at: now(),
        })
      })
      const token = await tokenById(db, id)
      invariant(token, 'a token that was just made is there')
      return { token: tokenView(token), secret: word.reveal() }
    },
    async listTokens({ owner, ...input }, caller) {
      const { name, role } = userOf(caller)
      const shown = (tokens: readonly OwnedToken[]) => {
        const page = slicePage(tokens, [{ of: ({ id }) => id, descending: true }], pageOf(input))
        return { tokens: page.rows.map(tokenView), ...nextOf(page) }
      }
      if (owner === undefined && mayAct(role, 'admin')) {
        return shown(await listTokens(db, undefined, now()))
      }
      if (owner !== undefined && owner !== name && !mayAct(role, 'admin')) {
        throw new Failure('forbidden', "to see somebody else's tokens takes the role admin", { at: 'owner' })
      }
      const { user_id } = await ownerOf(owner ?? name)
      return shown(await listTokens(db, user_id, now()))
    },
    async revokeToken({ token: id }, caller) {
      const { name, role } = userOf(caller)
      const token = await tokenById(db, id)
      const isOwn = token !== undefined && (token.owner ?? administrator) === name
      // Whether there is a token of this number is told to its owner and to administrators.
      if (!token || !(isOwn || mayAct(role, 'admin')) || !(await revokeToken(db, id))) {
        throw new Failure('unknown-token', `there is no token ${id} of ${name}`, { at: 'token' })
      }
      return {}
    },
  }

  async function ownerOf(name: string) {
    if (name === administrator) return { user_id: null, role: 'admin' as const }
    const { id, role } = await findUser(db, name, 'owner')
    return { user_id: id, role }
  }
}

function refuseBroken(nodeset: string): void {
  if (nodeset === '*') return
  try {
    expandNodeset(nodeset)
  } catch (cause) {
    throw new Failure('bad-input', 'the nodeset cannot be read', { cause, at: 'nodeset' })
  }
}

function identityView({ name, role, via, address, scope }: UserCaller, expiresAt: number | undefined) {
  const ends = expiresAt === undefined ? {} : { expiresAt: dateTime(expiresAt) }
  return { name, role, via: via ?? '', address, ...present(scope ?? {}), ...ends }
}

function userView({ name, role, is_disabled, password, created_at, last_login_at }: User): UserView {
  return {
    name,
    role,
    isDisabled: is_disabled === 1,
    hasPassword: password !== null,
    createdAt: dateTime(created_at),
    ...(last_login_at === null ? {} : { lastLoginAt: dateTime(last_login_at) }),
  }
}

function tokenView({ id, kind, name, owner, owner_role, role, ...row }: OwnedToken): TokenView {
  return {
    id,
    kind,
    name,
    owner: owner ?? administrator,
    role: lowerRole(role, owner_role ?? 'admin'),
    ...present({ nodeset: row.nodeset, site: row.site }),
    createdAt: dateTime(row.created_at),
    expiresAt: dateTime(row.expires_at),
    ...(row.last_used_at === row.created_at ? {} : { lastUsedAt: dateTime(row.last_used_at) }),
  }
}
