// The cookie of a browser's session and the header beside it. A browser sends the cookie whichever page asks for a request;
// the header only a page of ours can set, because no other may read what it must hold.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { CookieSerializeOptions } from '@fastify/cookie'
import type { FastifyRequest } from 'fastify'
import { Failure } from '../model/failure.ts'

export const sessionCookie = 'hades'
const csrfHeader = 'x-hades-csrf'

/** No script can read it, no other site can make it be sent, over TLS it never goes in clear, and it ends with the browser. */
export function cookieOptions(isSecure: boolean): CookieSerializeOptions {
  return { path: '/', httpOnly: true, sameSite: 'strict', secure: isSecure }
}

/** What the header beside the cookie of this session must hold: any service can tell, and nothing needs to be kept. */
export function csrfOf(session: string): string {
  return createHash('sha256').update(`hades csrf ${session}`).digest('base64url')
}

/**
 * The session's word that a request comes with. Throws Failure `unauthorized` when the request could change something and
 * any page can have made it.
 */
export function sessionOf(request: FastifyRequest): string | undefined {
  const session = request.cookies[sessionCookie]
  if (session === undefined || session === '') return undefined
  if (request.method === 'GET' || request.method === 'HEAD') return session
  const { [csrfHeader]: given = '' } = request.headers
  const [a, b] = [Buffer.from(String(given)), Buffer.from(csrfOf(session))]
  if (a.length === b.length && timingSafeEqual(a, b)) return session
  throw new Failure(
    'unauthorized',
    `with a session, a call that can change something needs the header ${csrfHeader}: GET /auth/session tells it`,
  )
}
