// The data types of users, tokens and the audit.
import { type Static, Type } from 'typebox'
import { failureCodes } from '../model/failure.ts'
import { roles } from '../model/role.ts'
import { dateTime, id, label, nodeset, words } from './types.ts'

export const role = words(roles, {
  title: 'Role',
  description:
    '`viewer` reads, `operator` also deploys, switches and publishes, `admin` also decides what there is and who may',
})

export const userName = Type.String({
  title: 'UserName',
  maxLength: 64,
  pattern: '^[a-z0-9][a-z0-9._@-]*$',
  description: 'A user: lower-case letters, digits, `.`, `_`, `@` and `-`, beginning with a letter or digit',
})

/** Long enough that guessing at the pace that is let through finds none in a lifetime. */
export const newPassword = Type.String({ minLength: 12, maxLength: 190, description: 'At least 12 characters' })
export const givenPassword = Type.String({ minLength: 1, maxLength: 190 })

export const user = Type.Object(
  {
    name: userName,
    role,
    isDisabled: Type.Boolean(),
    hasPassword: Type.Boolean({ description: 'Without one it logs in by OpenID Connect, or has only tokens' }),
    createdAt: dateTime,
    lastLoginAt: Type.Optional(dateTime),
  },
  { title: 'User' },
)
export type UserView = Static<typeof user>

export const tokenKinds = ['api', 'login', 'session'] as const

const scopeFields = {
  nodeset: Type.Optional(nodeset),
  site: Type.Optional(label),
}

export const tokenName = Type.String({
  title: 'TokenName',
  maxLength: 64,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._ -]*$',
  description: 'What a token is for: letters, digits, blanks, `.`, `_` and `-`',
})

export const token = Type.Object(
  {
    id,
    kind: words(tokenKinds, {
      description: '`api`: for programs; `login`: of a command line; `session`: of a browser',
    }),
    name: Type.String(),
    owner: userName,
    role,
    ...scopeFields,
    createdAt: dateTime,
    expiresAt: Type.Optional(dateTime),
    lastUsedAt: Type.Optional(dateTime),
  },
  { title: 'Token' },
)
export type TokenView = Static<typeof token>

/** What a new token is bound to. */
export const tokenOrder = {
  name: tokenName,
  role: Type.Optional(role),
  owner: Type.Optional(userName),
  ...scopeFields,
  days: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650, description: 'For how long; 90 unless said' })),
}

export const identity = Type.Object(
  {
    name: Type.String(),
    role,
    via: Type.String({ description: 'What proved it: the unix socket, a token, a session' }),
    address: Type.String(),
    ...scopeFields,
    expiresAt: Type.Optional(dateTime),
  },
  { title: 'Identity' },
)

export const secretWord = Type.String({
  minLength: 1,
  description: 'Shown this once: the service keeps only its digest',
})

export const auditEntry = Type.Object(
  {
    id,
    at: dateTime,
    user: Type.String({ description: 'Empty when nobody known asked' }),
    role: Type.Optional(role),
    via: Type.String({ description: 'What proved who it was' }),
    address: Type.String({ description: 'Where the call came from' }),
    operation: Type.String({ description: 'As `startRollout`' }),
    target: Type.String({ description: 'What it was about: the fields of the input that are names, numbers or words' }),
    outcome: words(['begun', 'ok', ...failureCodes], {
      title: 'AuditOutcome',
      description: '`begun`: under way, or the service ended before it',
    }),
    endedAt: Type.Optional(dateTime),
    request: Type.String({ description: "The call's number in the log" }),
  },
  { title: 'AuditEntry' },
)

export const sealingKey = Type.Object(
  {
    id: Type.String({ description: 'From the key; tells nothing of it' }),
    isCurrent: Type.Boolean(),
    sealed: Type.Integer({ minimum: 0, description: 'Secrets that are sealed with it' }),
    deployments: Type.Integer({
      minimum: 0,
      description: 'Deployments under way whose agents got their words from it',
    }),
  },
  { title: 'SealingKey' },
)
export type SealingKeyView = Static<typeof sealingKey>

export const certificate = Type.Object(
  {
    isOwnAuthority: Type.Boolean({ description: 'False: the certificate was given, and only its own is told here' }),
    pem: Type.String({ description: 'The certificate to trust: of the own authority, or the given one' }),
    fingerprint: Type.String({ description: 'SHA-256 of it, to pin with --fingerprint' }),
    names: Type.Array(Type.String(), { description: "Names and addresses in the service's certificate" }),
    expiresAt: dateTime,
  },
  { title: 'Certificate' },
)
export type CertificateView = Static<typeof certificate>
