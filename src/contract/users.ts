// The part of the Control Port that is about who may do what: users, tokens, the audit, and the keys behind them.
import { Type } from 'typebox'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import { dateTime, id } from './types.ts'
import {
  auditEntry,
  certificate,
  givenPassword,
  identity,
  newPassword,
  role,
  sealingKey,
  secretWord,
  token,
  tokenOrder,
  user,
  userName,
} from './user-types.ts'

const sessionOperations = {
  login: operation({
    summary: 'Gives a token for twelve hours to who knows the password of a user',
    access: 'anyone',
    changes: true,
    rest: { method: 'POST', path: '/login' },
    input: Type.Object({ name: userName, password: givenPassword }),
    output: Type.Object({ identity, secret: secretWord, expiresAt: dateTime }),
    failures: [],
  }),
  logout: operation({
    summary: 'Revokes the token or session that the call was made with',
    access: 'viewer',
    changes: true,
    rest: { method: 'POST', path: '/logout' },
    input: Type.Object({}),
    output: Type.Object({}),
    failures: ['wrong-state'],
  }),
  whoAmI: operation({
    summary: 'Who the service takes the caller for, and why',
    access: 'viewer',
    rest: { method: 'GET', path: '/whoami' },
    input: Type.Object({}),
    output: Type.Object({ identity }),
    failures: [],
  }),
}

export const userOperations = {
  ...sessionOperations,

  addUser: operation({
    summary: 'Makes a user known; without a password it can log in by OpenID Connect, or be given tokens',
    access: 'admin',
    rest: { method: 'POST', path: '/users' },
    input: Type.Object({ name: userName, role, password: Type.Optional(newPassword) }),
    output: Type.Object({ user }),
    once: 'recorded',
    failures: ['already-exists'],
  }),
  changeUser: operation({
    summary: 'Changes role, password or state of a user; a new password and a disabled user end its sessions',
    access: 'admin',
    rest: { method: 'PATCH', path: '/users/{name}' },
    input: Type.Object({
      name: userName,
      role: Type.Optional(role),
      password: Type.Optional(newPassword),
      isDisabled: Type.Optional(Type.Boolean()),
    }),
    output: Type.Object({ user }),
    failures: ['unknown-user'],
  }),
  changePassword: operation({
    summary: "Changes the caller's own password, and ends its other sessions",
    access: 'viewer',
    changes: true,
    rest: { method: 'POST', path: '/password' },
    input: Type.Object({ oldPassword: givenPassword, newPassword }),
    output: Type.Object({}),
    failures: ['wrong-state'],
  }),
  removeUser: operation({
    summary: 'Forgets a user, its tokens and its sessions; what the audit tells of it stays',
    access: 'admin',
    rest: { method: 'DELETE', path: '/users/{name}' },
    input: Type.Object({ name: userName }),
    output: Type.Object({}),
    failures: ['unknown-user'],
  }),
  listUsers: operation({
    summary: 'The users',
    access: 'admin',
    rest: { method: 'GET', path: '/users' },
    input: Type.Object(pageInput()),
    output: Type.Object({ users: Type.Array(user), ...pageOutput }),
    failures: [],
  }),

  createToken: operation({
    summary: 'Makes a token for a program: at most the role of its owner, bound to some hosts if that is said',
    access: 'viewer',
    changes: true,
    rest: { method: 'POST', path: '/tokens' },
    input: Type.Object(tokenOrder),
    output: Type.Object({ token, secret: secretWord }),
    failures: ['unknown-user', 'already-exists'],
  }),
  listTokens: operation({
    summary: "Tokens and sessions that are good: the caller's own, and to an administrator everyone's",
    access: 'viewer',
    rest: { method: 'GET', path: '/tokens' },
    input: Type.Object({ owner: Type.Optional(userName), ...pageInput() }),
    output: Type.Object({ tokens: Type.Array(token), ...pageOutput }),
    failures: ['unknown-user'],
  }),
  revokeToken: operation({
    summary: 'Ends a token or a session, at once and everywhere',
    access: 'viewer',
    changes: true,
    rest: { method: 'DELETE', path: '/tokens/{token}' },
    input: Type.Object({ token: id }),
    output: Type.Object({}),
    failures: ['unknown-token'],
  }),

  listAudit: operation({
    summary: 'Who changed what, the newest first',
    access: 'admin',
    rest: { method: 'GET', path: '/audit' },
    input: Type.Object({
      user: Type.Optional(Type.String({ maxLength: 190, description: 'Only what this user did' })),
      operation: Type.Optional(Type.String({ maxLength: 190, description: 'Only this operation, as `startRollout`' })),
      before: Type.Optional(Type.Integer({ minimum: 1, description: 'Only what is older than the entry of this id' })),
      ...pageInput(),
    }),
    output: Type.Object({ entries: Type.Array(auditEntry), ...pageOutput }),
    failures: [],
  }),

  listKeys: operation({
    summary: 'The keys that seal secrets in the database, and what each still seals',
    access: 'admin',
    rest: { method: 'GET', path: '/keys' },
    input: Type.Object({}),
    output: Type.Object({ keys: Type.Array(sealingKey) }),
    failures: [],
  }),
  rotateKeys: operation({
    summary: 'Makes a new key and seals every secret anew; the old one stays until nothing needs it',
    access: 'admin',
    rest: { method: 'POST', path: '/keys/rotate' },
    input: Type.Object({}),
    output: Type.Object({ keys: Type.Array(sealingKey) }),
    once: 'acts',
    failures: ['wrong-state'],
  }),
  getCertificate: operation({
    summary: 'The certificate to trust when talking to this service by TLS',
    access: 'anyone',
    rest: { method: 'GET', path: '/certificate' },
    input: Type.Object({}),
    output: Type.Object({ certificate }),
    failures: ['wrong-state'],
  }),
}
