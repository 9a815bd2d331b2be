// Who may make a call: what a request says of its sender, what the service makes of it, and whether that is enough for the
// operation.
import { type Access, type Caller, isChange, type Operation, type UserCaller } from '../contract/operation.ts'
import { Failure } from '../model/failure.ts'
import { mayAct, type Role } from '../model/role.ts'
import { type Oversight, recordRefusal } from './oversight.ts'

/** What a request says of its sender, before anyone has judged it. */
export type Credentials = {
  /** Where it came from: an IP address, or `unix`. */
  readonly address: string
  /** True for a unix socket, which the file system guards. */
  readonly isLocal: boolean
  /** Of `Authorization: Bearer`, or the password of `Authorization: Basic`. */
  readonly token: string | undefined
  /** Of the cookie of a browser whose page is ours. */
  readonly session?: string | undefined
}

/** Judges credentials: who is it? `undefined`: nobody known. May throw Failure. */
export type Authenticate = (credentials: Credentials) => Caller | undefined | Promise<Caller | undefined>

export type Admission = {
  readonly authenticate: Authenticate
  readonly oversight?: Oversight | undefined
}

/** The caller, if it may use the operation. Throws Failure `unauthorized` or `forbidden`. */
export async function admit(
  asked: { readonly name: string; readonly operation: Operation; readonly requestId: string },
  credentials: Credentials,
  { authenticate, oversight }: Admission,
): Promise<Caller> {
  const { access } = asked.operation
  if (access === 'anyone') return { kind: 'stranger', address: credentials.address }
  const caller = await authenticate(credentials)
  if (access === 'boot' || access === 'agent') {
    if (caller?.kind === 'bearer') return caller
    throw unauthorized(access, credentials)
  }
  if (caller?.kind !== 'user') throw unauthorized(access, credentials)
  if (mayAct(caller.role, access)) return caller
  const failure = tooLow(asked.name, access, caller)
  if (isChange(asked.operation)) await recordRefusal(oversight, asked, caller, failure.code)
  throw failure
}

function unauthorized(access: Access, { token, session }: Credentials): Failure {
  const wanted = { boot: 'a boot token', agent: 'a session key' }[access as string] ?? 'a user, by a token or a session'
  if (token === undefined && session === undefined) {
    return new Failure('unauthorized', `this call needs ${wanted}, and there was none`)
  }
  return new Failure('unauthorized', `this call needs ${wanted}, and what was given is none that is good now`)
}

function tooLow(name: string, least: Role, { name: user, role }: UserCaller): Failure {
  return new Failure('forbidden', `${name} takes the role ${least}, and ${user} comes with the role ${role}`)
}
