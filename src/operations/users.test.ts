import { afterEach, beforeEach, expect, test } from 'vitest'
import type { UserCaller } from '../contract/operation.ts'
import { addHost } from '../db/hosts.ts'
import type { Failure } from '../model/failure.ts'
import { overseer } from './audit.ts'
import { type Authenticator, userAuthenticator } from './authenticate.ts'
import { controlHandlers } from './control.ts'
import { loginByPassword, loginByProvider } from './logins.ts'
import { openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let authenticate: Authenticator
const admin: UserCaller = { kind: 'user', name: 'admin', role: 'admin', address: 'unix', via: 'unix socket' }
const password = 'correct horse battery'
const dayMs = 24 * 3600_000

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  authenticate = userAuthenticator(world)
})
afterEach(() => world.close())

async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  return await call.then(
    () => undefined,
    (error: Failure) => error.code,
  )
}

const by = (word: string, address = '192.0.2.1') => authenticate({ address, isLocal: false, token: word })
const bySession = (word: string) =>
  authenticate({ address: '192.0.2.1', isLocal: false, token: undefined, session: word })

async function addAlice(role: 'viewer' | 'operator' | 'admin' = 'operator'): Promise<UserCaller> {
  await control.addUser({ name: 'alice', role, password }, admin)
  return { kind: 'user', name: 'alice', role, address: '192.0.2.1' }
}

const login = (name: string, word: string, kind: 'login' | 'session' = 'login', address = '192.0.2.1') =>
  loginByPassword(world, { name, password: word, address, kind })

test('a user logs in with its password, and the word it gets lets it in until it logs out', async () => {
  await addAlice()
  const { secret, identity } = await control.login({ name: 'alice', password }, { kind: 'stranger', address: 'x' })
  expect(identity).toMatchObject({ name: 'alice', role: 'operator' })
  const caller = await by(secret)
  expect(caller).toMatchObject({ name: 'alice', role: 'operator', via: 'login' })
  await control.logout({}, caller ?? admin)
  expect(await by(secret)).toBeUndefined()
})

test('a wrong password and a user that is not there are told apart by nobody', async () => {
  await addAlice()
  const wrong = await login('alice', 'wrong').catch((error: Failure) => error)
  const nobody = await login('bob', 'wrong').catch((error: Failure) => error)
  expect(wrong).toMatchObject({ code: 'unauthorized' })
  expect(JSON.stringify(wrong)).toBe(JSON.stringify(nobody))
})

test('the administrator of the data folder logs in with the word of admin.token', async () => {
  expect((await login('admin', 'the-admin-token')).caller).toMatchObject({ name: 'admin', role: 'admin' })
  expect(await codeOf(login('admin', 'wrong'))).toBe('unauthorized')
  expect(await codeOf(control.addUser({ name: 'admin', role: 'viewer' }, admin))).toBe('already-exists')
})

test('neither a password nor a token is in the database', async () => {
  await addAlice()
  const { secret } = await control.createToken({ name: 'ci' }, admin)
  const { word } = await login('alice', password, 'session')
  const stored = JSON.stringify([
    await world.db.selectFrom('users').selectAll().execute(),
    await world.db.selectFrom('tokens').selectAll().execute(),
  ])
  for (const one of [password, secret, word.reveal()]) expect(stored).not.toContain(one)
  expect(stored).toContain('$argon2id$')
})

test('a new password, a disabled user and a removed user end what was logged in, at once', async () => {
  const alice = await addAlice()
  const first = (await login('alice', password)).word.reveal()
  await control.changeUser({ name: 'alice', password: 'another long password' }, admin)
  expect(await by(first)).toBeUndefined()
  const second = (await login('alice', 'another long password')).word.reveal()
  const { secret } = await control.createToken({ name: 'ci' }, alice)
  await control.changeUser({ name: 'alice', isDisabled: true }, admin)
  expect([await by(second), await by(secret)]).toEqual([undefined, undefined])
  expect(await codeOf(login('alice', 'another long password'))).toBe('unauthorized')
  await control.changeUser({ name: 'alice', isDisabled: false }, admin)
  expect(await by(secret)).toMatchObject({ name: 'alice' })
  await control.removeUser({ name: 'alice' }, admin)
  expect(await by(secret)).toBeUndefined()
})

test('who changes its own password must know the old one, and stays logged in here alone', async () => {
  await addAlice()
  const [here, there] = [await login('alice', password), await login('alice', password)]
  const change = (oldPassword: string) =>
    control.changePassword({ oldPassword, newPassword: 'another long password' }, here.caller)
  expect(await codeOf(change('wrong'))).toBe('bad-input')
  await change(password)
  expect([await by(here.word.reveal()), await by(there.word.reveal())]).toMatchObject([{ name: 'alice' }, undefined])
})

test('a token does no more than its role, and never more than its owner may now', async () => {
  const alice = await addAlice('operator')
  const { secret } = await control.createToken({ name: 'ci', role: 'operator' }, alice)
  const { secret: small } = await control.createToken({ name: 'look', role: 'viewer' }, alice)
  expect([(await by(secret))?.role, (await by(small))?.role]).toEqual(['operator', 'viewer'])
  await control.changeUser({ name: 'alice', role: 'viewer' }, admin)
  expect((await by(secret))?.role).toBe('viewer')
  await control.changeUser({ name: 'alice', role: 'admin' }, admin)
  expect((await by(secret))?.role).toBe('operator')
})

test('nobody makes a token that may do more than its maker, or for somebody else, but an administrator', async () => {
  const alice = await addAlice('operator')
  expect(await codeOf(control.createToken({ name: 'x', role: 'admin' }, alice))).toBe('forbidden')
  expect(await codeOf(control.createToken({ name: 'x', owner: 'admin' }, alice))).toBe('forbidden')
  const { token } = await control.createToken({ name: 'x', owner: 'alice' }, admin)
  expect(token).toMatchObject({ owner: 'alice', role: 'operator', name: 'x' })
  expect(await codeOf(control.createToken({ name: 'x', owner: 'alice' }, admin))).toBe('already-exists')
})

test('a token ends when its time is over, and a revoked one at once', async () => {
  const { secret, token } = await control.createToken({ name: 'a', days: 1 }, admin)
  const { secret: other, token: second } = await control.createToken({ name: 'b', days: 30 }, admin)
  world.clock.offsetMs = dayMs + 1000
  expect([await by(secret), await by(other)]).toMatchObject([undefined, { name: 'admin' }])
  expect((await control.listTokens({}, admin)).tokens.map(({ id }) => id)).toEqual([second.id])
  await control.revokeToken({ token: second.id }, admin)
  expect(await by(other)).toBeUndefined()
  expect(await codeOf(control.revokeToken({ token: token.id + 100 }, admin))).toBe('unknown-token')
})

test('when a token was last used is told, to the minute', async () => {
  const { secret, token } = await control.createToken({ name: 'a' }, admin)
  expect(token.lastUsedAt).toBeUndefined()
  world.clock.offsetMs = 3600_000
  await by(secret)
  const [listed] = (await control.listTokens({}, admin)).tokens
  expect(Date.parse(listed?.lastUsedAt ?? '') - Date.parse(token.createdAt)).toBeGreaterThanOrEqual(3600_000)
})

test("a user sees and revokes its own tokens only; others' look as if they were not there", async () => {
  const alice = await addAlice()
  await control.createToken({ name: 'mine' }, alice)
  const { token } = await control.createToken({ name: 'theirs' }, admin)
  expect((await control.listTokens({}, alice)).tokens.map(({ name }) => name)).toEqual(['mine'])
  expect(await codeOf(control.listTokens({ owner: 'admin' }, alice))).toBe('forbidden')
  expect(await codeOf(control.revokeToken({ token: token.id }, alice))).toBe('unknown-token')
})

test('a session ends when it is not used for half an hour, and after twelve hours in any case', async () => {
  await addAlice()
  const { word } = await login('alice', password, 'session')
  for (let minutes = 0; minutes < 12 * 60; minutes += 20) {
    world.clock.offsetMs = minutes * 60_000
    expect(await bySession(word.reveal()), `${minutes} min`).toMatchObject({ name: 'alice' })
  }
  world.clock.offsetMs = 12 * 3600_000 + 1000
  expect(await bySession(word.reveal())).toBeUndefined()
  const { word: idle } = await login('alice', password, 'session')
  world.clock.offsetMs += 31 * 60_000
  expect(await bySession(idle.reveal())).toBeUndefined()
})

test("a session's word is no token, and a token is no session", async () => {
  await addAlice()
  const { word: session } = await login('alice', password, 'session')
  const { word: token } = await login('alice', password, 'login')
  expect([await by(session.reveal()), await bySession(token.reveal())]).toEqual([undefined, undefined])
})

test('thousands of logins of one user do not fill the database', async () => {
  const { caller } = await login('admin', 'the-admin-token')
  for (let i = 0; i < 100; i += 1) await login('admin', 'the-admin-token')
  expect((await control.listTokens({}, admin)).tokens).toHaveLength(32)
  expect(caller.token).toBe(1)
})

test('a name that changes hands at the provider does not change hands here', async () => {
  await addAlice()
  const provided = { name: 'carol', subject: 'https://id#1', role: 'operator' } as const
  expect((await loginByProvider(world, provided, 'x')).caller).toMatchObject({ name: 'carol', role: 'operator' })
  const renamed = { ...provided, name: 'dave', role: 'viewer' } as const
  expect((await loginByProvider(world, renamed, 'x')).caller).toMatchObject({ name: 'carol', role: 'viewer' })
  for (const name of ['carol', 'alice', 'admin']) {
    const other = { name, subject: 'https://id#2', role: 'admin' } as const
    expect(await codeOf(loginByProvider(world, other, 'x')), name).toBe('forbidden')
  }
})

test('a thousand wrong tokens from one address are slowed; others, and what was good a moment ago, are not', async () => {
  const { secret } = await control.createToken({ name: 'ci' }, admin)
  expect(await by(secret)).toMatchObject({ name: 'admin' })
  const answers = new Map<string, number>()
  for (let i = 0; i < 1000; i += 1) {
    const answer = (await codeOf(by(`hades_${String(i).padStart(43, 'x')}`))) ?? 'nobody'
    answers.set(answer, (answers.get(answer) ?? 0) + 1)
  }
  expect(answers.get('nobody')).toBeLessThan(40)
  expect(answers.get('too-many-attempts')).toBeGreaterThan(960)
  expect(await by(secret)).toMatchObject({ name: 'admin' })
  expect(await by(secret, '192.0.2.2')).toMatchObject({ name: 'admin' })
  expect(await by('the-admin-token')).toMatchObject({ name: 'admin' })
  expect(await authenticate({ address: 'unix', isLocal: true, token: undefined })).toMatchObject({ role: 'admin' })
})

test('wrong passwords are slowed for an address and for a user, and let through again with time', async () => {
  await addAlice()
  let tried = 0
  const guess = async (address: string): Promise<string | undefined> => {
    const code = await codeOf(login('alice', 'a wrong password', 'login', address))
    if (code === 'unauthorized') tried += 1
    return code
  }
  for (let i = 0; i < 12; i += 1) await guess('192.0.2.1')
  expect(tried).toBe(10)
  for (let i = 0; i < 30; i += 1) await guess(`198.51.100.${i}`)
  expect(tried).toBe(20)
  // Many at once are no more than many in a row.
  await Promise.all(Array.from({ length: 20 }, (_, i) => guess(`203.0.113.${i}`)))
  expect(tried).toBe(20)
  expect(await codeOf(login('alice', password, 'login', '192.0.2.9'))).toBe('too-many-attempts')
  world.clock.offsetMs = 60_000
  expect((await login('alice', password, 'login', '192.0.2.9')).caller.name).toBe('alice')
})

test('a token of some hosts is held to them', async () => {
  for (const [i, site] of ['turin', 'turin', 'milan'].entries()) {
    const interfaces = [{ mac: `52:54:00:00:00:0${i}` }]
    const host = {
      name: `n${i + 1}`,
      site,
      loader: 'auto',
      defaultTarget: 'local',
      interfaces,
      powerMethods: [],
    } as const
    await addHost(world.db, host, 1)
  }
  const { requireWithin } = overseer(world)
  const may = async (scope: Parameters<typeof requireWithin>[0], ...nodesets: string[]) =>
    (await codeOf(requireWithin(scope, nodesets))) ?? 'ok'
  expect(await may({ nodeset: 'n[1-2]' }, 'n[1-2]')).toBe('ok')
  expect(await may({ nodeset: 'n[1-2]' }, 'n1', 'n[2-3]')).toBe('forbidden')
  expect(await may({ nodeset: 'n[1-2]' }, '*')).toBe('forbidden')
  expect(await may({ site: 'turin' }, 'n[1-2]')).toBe('ok')
  expect(await may({ site: 'turin' }, 'n3')).toBe('forbidden')
  expect(await may({ nodeset: 'n[2-3]', site: 'turin' }, 'n2')).toBe('ok')
  expect(await may({ nodeset: 'n[2-3]', site: 'turin' }, 'n1')).toBe('forbidden')
  expect(await may({ nodeset: '*' }, '*')).toBe('ok')
  expect(await may({ nodeset: 'n1' }, 'n[')).toBe('bad-input')
  const { secret } = await control.createToken({ name: 'turin', nodeset: 'n[1-2]', site: 'turin' }, admin)
  const caller = await by(secret)
  expect(caller?.scope).toEqual({ nodeset: 'n[1-2]', site: 'turin' })
  expect(await codeOf(control.createToken({ name: 'wider' }, caller ?? admin))).toBe('forbidden')
  expect(await codeOf(control.createToken({ name: 'x', nodeset: 'n[' }, admin))).toBe('bad-input')
})
