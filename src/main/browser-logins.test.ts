// Sessions of browsers: the routes as a browser calls them, and a real OpenID provider (oidc-provider) as the peer.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { controlPort } from '../contract/control.ts'
import type { UserCaller } from '../contract/operation.ts'
import { freePort } from '../lib/free-port.ts'
import { overseer } from '../operations/audit.ts'
import { userAuthenticator } from '../operations/authenticate.ts'
import { controlHandlers } from '../operations/control.ts'
import { openTestWorld, type TestWorld } from '../operations/testing.ts'
import { addAuthRoutes } from '../ports/auth-routes.ts'
import { served } from '../ports/dispatch.ts'
import { type PortServer, servePorts } from '../ports/http.ts'
import { browserLogins, type OidcFlags } from './browser-logins.ts'

let world: TestWorld
let folder: string
let server: PortServer | undefined
let provider: Server | undefined
let baseUrl: string
const admin: UserCaller = { kind: 'user', name: 'admin', role: 'admin', address: 'unix' }
const password = 'correct horse battery'
const json = { 'content-type': 'application/json' }

beforeEach(async () => {
  world = await openTestWorld()
  folder = await mkdtemp(join(tmpdir(), 'hades-browser-'))
  await controlHandlers(world).addUser({ name: 'alice', role: 'operator', password }, admin)
})
afterEach(async () => {
  await server?.close(0)
  provider?.closeAllConnections()
  provider?.close()
  server = provider = undefined
  await rm(folder, { recursive: true, force: true })
  await world.close()
})

async function serve(flags: OidcFlags = {}): Promise<void> {
  const port = await freePort()
  baseUrl = `http://127.0.0.1:${port}`
  const logins = await browserLogins(world, flags, baseUrl)
  server = await servePorts({
    ports: [served(controlPort, controlHandlers(world))],
    listen: [{ host: '127.0.0.1', port }],
    authenticate: userAuthenticator(world),
    oversight: overseer(world),
    log: world.log,
    routes: [(app, face) => addAuthRoutes(app, face, logins)],
  })
}

/** As much of a browser as is needed: it keeps cookies by host and sends them back. */
class Browser {
  readonly cookies = new Map<string, string>()
  readonly setCookies: string[] = []

  async go(url: string, init: RequestInit = {}): Promise<Response> {
    const { origin, pathname } = new URL(url)
    const mine = [...this.cookies].filter(
      ([key]) => key.startsWith(`${origin} `) && pathname.startsWith(key.split(' ')[1] ?? ''),
    )
    const cookie = mine.map(([key, value]) => `${key.split(' ')[2]}=${value}`).join('; ')
    const answer = await fetch(url, {
      redirect: 'manual',
      ...init,
      headers: { ...(init.headers as Record<string, string> | undefined), ...(cookie ? { cookie } : {}) },
    })
    for (const line of answer.headers.getSetCookie()) {
      this.setCookies.push(line)
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      const path = /path=([^;]+)/i.exec(line)?.[1] ?? '/'
      if (value === '') this.cookies.delete(`${origin} ${path} ${name}`)
      else this.cookies.set(`${origin} ${path} ${name}`, value)
    }
    return answer
  }

  async login(name: string, word: string): Promise<{ status: number; csrf: string }> {
    const body = JSON.stringify({ name, password: word })
    const answer = await this.go(`${baseUrl}/auth/login`, { method: 'POST', headers: json, body })
    const { csrf = '' } = (await answer.json()) as { csrf?: string }
    return { status: answer.status, csrf }
  }
}

async function change(browser: Browser, headers: Record<string, string>): Promise<number> {
  const body = JSON.stringify({ name: 'ci' })
  return (await browser.go(`${baseUrl}/control/v1/tokens`, { method: 'POST', headers: { ...json, ...headers }, body }))
    .status
}

test('a session reads with its cookie alone, and changes only with the header that another site cannot know', async () => {
  await serve()
  const browser = new Browser()
  const { status, csrf } = await browser.login('alice', password)
  expect(status).toBe(200)
  expect((await browser.go(`${baseUrl}/control/v1/hosts`)).status).toBe(200)
  expect([await change(browser, {}), await change(browser, { 'x-hades-csrf': 'guess' })]).toEqual([401, 401])
  expect(await change(browser, { 'x-hades-csrf': csrf })).toBe(200)
  const told = (await (await browser.go(`${baseUrl}/auth/session`)).json()) as object
  expect(told).toEqual({ name: 'alice', role: 'operator', csrf })
})

test('a session of somebody else has another header', async () => {
  await serve()
  const [browser, other] = [new Browser(), new Browser()]
  await browser.login('alice', password)
  const { csrf } = await other.login('alice', password)
  expect(await change(browser, { 'x-hades-csrf': csrf })).toBe(401)
})

test('no script and no other site gets the cookie', async () => {
  await serve()
  const browser = new Browser()
  await browser.login('alice', password)
  expect(browser.setCookies).toHaveLength(1)
  expect(browser.setCookies[0]).toMatch(/^hades=hades_[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/)
})

test('after logging out the cookie is good for nothing, wherever it was copied to', async () => {
  await serve()
  const browser = new Browser()
  const { csrf } = await browser.login('alice', password)
  const stolen = new Map(browser.cookies)
  const out = await browser.go(`${baseUrl}/auth/logout`, { method: 'POST', headers: { 'x-hades-csrf': csrf } })
  expect([out.status, browser.cookies.size]).toEqual([200, 0])
  for (const [key, value] of stolen) browser.cookies.set(key, value)
  expect((await browser.go(`${baseUrl}/control/v1/hosts`)).status).toBe(401)
  const { entries } = await controlHandlers(world).listAudit({}, admin)
  expect(entries.map(({ operation, user, outcome }) => `${operation} ${user} ${outcome}`)).toEqual([
    'logout alice ok',
    'login alice ok',
  ])
})

test("a form of another site cannot log a browser in to somebody else's session", async () => {
  await serve()
  const headers = { 'content-type': 'text/plain' }
  const body = JSON.stringify({ name: 'alice', password })
  const answer = await fetch(`${baseUrl}/auth/login`, { method: 'POST', headers, body })
  expect([answer.status, answer.headers.getSetCookie()]).toEqual([400, []])
})

test('a wrong password begins no session, and what is no login is told what it lacks', async () => {
  await serve()
  const browser = new Browser()
  expect((await browser.login('alice', 'wrong')).status).toBe(401)
  const answer = await browser.go(`${baseUrl}/auth/login`, { method: 'POST', headers: json, body: '{"name":"alice"}' })
  expect([answer.status, ((await answer.json()) as { at: string }).at]).toEqual([400, 'password'])
  expect(browser.cookies.size).toBe(0)
})

const providerPackage: string = 'oidc-provider'

type Providers = new (
  issuer: string,
  options: object,
) => { callback(): RequestListener; on(event: string, heard: (...all: unknown[]) => void): void }

async function startProvider(groups: Readonly<Record<string, readonly string[]>>): Promise<OidcFlags> {
  const issuer = `http://127.0.0.1:${await freePort()}`
  // The package has no types of its own.
  const { default: Provider } = (await import(providerPackage)) as { default: Providers }
  const made = new Provider(issuer, {
    clients: [
      {
        client_id: 'hades',
        client_secret: 'a-secret-of-the-client',
        redirect_uris: ['http://127.0.0.1:9/auth/oidc/callback'],
      },
    ],
    cookies: { keys: ['a-key'] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
    findAccount: (_context: unknown, sub: string) => ({
      accountId: sub,
      claims: async () => ({ sub, preferred_username: sub, groups: groups[sub] ?? [] }),
    }),
  })
  provider = createServer(made.callback())
  await new Promise<void>((done) => provider?.listen(Number(new URL(issuer).port), '127.0.0.1', () => done()))
  const oidcSecretFile = join(folder, 'secret')
  await writeFile(oidcSecretFile, 'a-secret-of-the-client\n')
  return {
    oidcIssuer: issuer,
    oidcClient: 'hades',
    oidcSecretFile,
    oidcRole: ['admin=hades-admins', 'operator=ops'],
    publicUrl: 'http://127.0.0.1:9',
  }
}

/** Logs in at the provider and returns the path with which it sends the browser back. */
async function throughProvider(browser: Browser, login: string): Promise<string> {
  let url = `${baseUrl}/auth/oidc/login`
  let init: RequestInit = {}
  for (let step = 0; step < 12; step += 1) {
    const answer = await browser.go(url, init)
    init = {}
    const location = answer.headers.get('location')
    if (location !== null) {
      url = new URL(location, url).href
      if (url.startsWith('http://127.0.0.1:9/')) return url.slice('http://127.0.0.1:9'.length)
      continue
    }
    const page = await answer.text()
    const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1]
    const action = /action="([^"]+)"/.exec(page)?.[1]
    if (prompt === undefined || action === undefined) throw new Error(`the provider says: ${page.slice(0, 300)}`)
    url = new URL(action, url).href
    init = {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ prompt, login, password: 'x' }).toString(),
    }
  }
  throw new Error('the provider sends the browser round and round')
}

test('who logs in at the provider has the role of its group here, and one without a group has none', async () => {
  await serve(await startProvider({ carol: ['staff', 'ops'], dora: ['ops', 'hades-admins'], eve: ['staff'] }))
  for (const [name, role] of [
    ['carol', 'operator'],
    ['dora', 'admin'],
  ] as const) {
    const browser = new Browser()
    const back = await browser.go(baseUrl + (await throughProvider(browser, name)))
    expect(back.status, await back.text()).toBe(200)
    expect(await (await browser.go(`${baseUrl}/auth/session`)).json()).toMatchObject({ name, role })
  }
  const browser = new Browser()
  expect((await browser.go(baseUrl + (await throughProvider(browser, 'eve')))).status).toBe(403)
  expect((await browser.go(`${baseUrl}/auth/session`)).status).toBe(401)
  const { entries } = await controlHandlers(world).listAudit({ user: 'carol' }, admin)
  expect(entries).toMatchObject([{ operation: 'login', outcome: 'ok', role: 'operator' }])
})

test('a code that another browser was given, a changed state and a code used twice let nobody in', async () => {
  await serve(await startProvider({ carol: ['ops'] }))
  const [browser, other] = [new Browser(), new Browser()]
  const path = await throughProvider(browser, 'carol')
  await other.go(`${baseUrl}/auth/oidc/login`)
  expect((await other.go(baseUrl + path)).status).toBe(401)
  expect((await new Browser().go(baseUrl + path)).status).toBe(401)
  const second = await throughProvider(browser, 'carol')
  const kept = new Map(browser.cookies)
  expect((await browser.go(baseUrl + second.replace(/state=[^&]+/, 'state=x'))).status).toBe(401)
  for (const [key, value] of kept) browser.cookies.set(key, value)
  expect((await browser.go(baseUrl + second)).status).toBe(200)
  for (const [key, value] of kept) browser.cookies.set(key, value)
  expect((await browser.go(baseUrl + second)).status).toBe(401)
})

test('a provider that does not answer is told as that, and passwords still log in', async () => {
  const flags = await startProvider({})
  provider?.closeAllConnections()
  await new Promise((done) => provider?.close(done))
  await serve(flags)
  const browser = new Browser()
  expect((await browser.go(`${baseUrl}/auth/oidc/login`)).status).toBe(503)
  expect((await browser.login('alice', password)).status).toBe(200)
})
