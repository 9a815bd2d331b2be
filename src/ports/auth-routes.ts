// Sessions of browsers: log in by password or by a provider, ask who is logged in, log out. What a page does with a session
// are the ports' own operations, with the cookie and the header beside it (session-cookie.ts).
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { checkInput } from '../contract/check.ts'
import { controlOperations } from '../contract/control.ts'
import type { Input, Operation, UserCaller } from '../contract/operation.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import type { Face } from './face.ts'
import { callbackPath, type OidcBegun, type OidcLogin } from './oidc.ts'
import { overseen } from './oversight.ts'
import { failureOf, sendFailure } from './rest.ts'
import { cookieOptions, csrfOf, sessionCookie } from './session-cookie.ts'

type Session = { readonly word: Secret; readonly caller: UserCaller }

export type BrowserLogins = {
  readonly byPassword: (asked: { name: string; password: string; address: string }) => Promise<Session>
  readonly logout: (caller: UserCaller) => Promise<void>
  readonly now: () => number
  /** Undefined when there is no provider. */
  readonly oidc?:
    | {
        readonly login: OidcLogin
        readonly byClaims: (claims: Readonly<Record<string, unknown>>, address: string) => Promise<Session>
        /** Nobody but the services of this installation can read or make what it gives. */
        readonly seal: (text: Secret) => string
        readonly open: (sealed: string) => Secret
      }
    | undefined
}

const oidcCookie = 'hades_oidc'
/** How long somebody may take to log in at the provider. */
const oidcMs = 10 * 60_000

export function addAuthRoutes(app: FastifyInstance, face: Face, logins: BrowserLogins): void {
  app.setErrorHandler((error, request, reply) => sendFailure(reply, failureOf(error, request, face)))
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })
  const recorded = <T>(
    request: FastifyRequest,
    name: 'login' | 'logout',
    given: Parameters<typeof overseen<T>>[2],
    work: () => Promise<T>,
  ): Promise<T> => {
    const operation: Operation = controlOperations[name]
    return overseen(face.oversight, { name, operation, requestId: request.id }, given, work)
  }
  const begin = async (request: FastifyRequest, reply: FastifyReply, input: unknown, login: () => Promise<Session>) => {
    const { address } = face.credentialsOf(request)
    const { word, caller } = await recorded(
      request,
      'login',
      { input, caller: { kind: 'stranger', address }, became: (session) => session.caller },
      login,
    )
    reply.setCookie(sessionCookie, word.reveal(), cookieOptions(request.protocol === 'https'))
    return { ...nameOf(caller), csrf: csrfOf(word.reveal()) }
  }

  app.post('/auth/login', async (request, reply) => {
    // Before a browser has a session its request needs no header: that it is JSON keeps other sites' forms out.
    const input = checkInput(controlOperations.login, request.body) as Input<typeof controlOperations.login>
    const { address } = face.credentialsOf(request)
    return await begin(request, reply, input, () => logins.byPassword({ ...input, address }))
  })
  app.get('/auth/session', async (request) => {
    const { session, caller } = await known(request, face)
    return { ...nameOf(caller), csrf: csrfOf(session) }
  })
  app.get('/auth/methods', async () => ({ password: true, oidc: logins.oidc !== undefined }))
  app.post('/auth/logout', async (request, reply) => {
    const { caller } = await known(request, face)
    await recorded(request, 'logout', { input: {}, caller }, () => logins.logout(caller))
    reply.clearCookie(sessionCookie, cookieOptions(request.protocol === 'https'))
    return {}
  })
  const { oidc } = logins
  if (!oidc) return
  app.get('/auth/oidc/login', async (request, reply) => {
    const { url, begun } = await oidc.login.begin(logins.now())
    // Lax: the provider sends the browser back from another site, and this cookie must come along.
    const options = { ...cookieOptions(request.protocol === 'https'), path: '/auth/oidc', sameSite: 'lax' } as const
    reply.setCookie(oidcCookie, oidc.seal(new Secret(JSON.stringify(begun))), { ...options, maxAge: oidcMs / 1000 })
    return reply.redirect(url)
  })
  app.get(callbackPath, async (request, reply) => {
    const begun = readBegun(request.cookies[oidcCookie], oidc.open, logins.now())
    reply.clearCookie(oidcCookie, { path: '/auth/oidc' })
    await begin(request, reply, {}, async () => {
      const { address } = face.credentialsOf(request)
      return await oidc.byClaims(await oidc.login.end(request.url, begun), address)
    })
    // Not a redirect: the browser would count it to the provider's site, and keep the strict cookie back.
    return reply.type('text/html; charset=utf-8').send('<!doctype html><meta http-equiv="refresh" content="0; url=/">')
  })
}

function nameOf({ name, role }: UserCaller) {
  return { name, role }
}

async function known(request: FastifyRequest, face: Face): Promise<{ session: string; caller: UserCaller }> {
  const credentials = face.credentialsOf(request)
  const { session } = credentials
  const caller = session === undefined ? undefined : await face.authenticate({ ...credentials, isLocal: false })
  if (session === undefined || caller?.kind !== 'user') throw new Failure('unauthorized', 'nobody is logged in')
  return { session, caller }
}

function readBegun(cookie: string | undefined, open: (sealed: string) => Secret, now: number): OidcBegun {
  try {
    // Sealed by one of our services, which seal nothing else for this cookie.
    const begun = JSON.parse(open(cookie ?? '').reveal()) as OidcBegun
    if (now - begun.at < oidcMs) return begun
  } catch {
    // What it was is the browser's business; it did not begin here.
  }
  throw new Failure('unauthorized', 'no login began here, or it took too long: begin again')
}
