// What browsers log in with, put together from the options: passwords always, and an OpenID provider if one is named.
import { readFile } from 'node:fs/promises'
import { revokeToken } from '../db/tokens.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { type ClaimRules, userOfClaims } from '../model/provided-user.ts'
import { type Role, roles } from '../model/role.ts'
import { loginByPassword, loginByProvider } from '../operations/logins.ts'
import type { World } from '../operations/world.ts'
import type { BrowserLogins } from '../ports/auth-routes.ts'
import { oidcLogin } from '../ports/oidc.ts'

export type OidcFlags = {
  readonly oidcIssuer?: string
  readonly oidcClient?: string
  readonly oidcSecretFile?: string
  readonly oidcClaim?: string
  /** As `admin=hades-admins`. */
  readonly oidcRole?: readonly string[]
  readonly publicUrl?: string
}

/** Failure `bad-input` names the option at fault. */
export async function browserLogins(world: World, flags: OidcFlags, ownUrl: string): Promise<BrowserLogins> {
  const { db, keyring, now } = world
  return {
    now,
    byPassword: async (asked) => await loginByPassword(world, { ...asked, kind: 'session' }),
    logout: async ({ token }) => {
      if (token !== undefined) await revokeToken(db, token)
    },
    oidc: await provider(world, flags, ownUrl, keyring),
  }
}

async function provider(
  world: World,
  { oidcIssuer: issuer, oidcClient: clientId, oidcSecretFile: file, oidcClaim, oidcRole, publicUrl }: OidcFlags,
  ownUrl: string,
  keyring: World['keyring'],
): Promise<BrowserLogins['oidc']> {
  if (issuer === undefined) return undefined
  if (!URL.canParse(issuer)) throw new Failure('bad-input', 'the issuer is no URL', { at: '--oidc-issuer' })
  if (clientId === undefined) throw new Failure('bad-input', 'which client are we there?', { at: '--oidc-client' })
  if (file === undefined) throw new Failure('bad-input', 'where is its secret?', { at: '--oidc-secret-file' })
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at: '--oidc-secret-file' })
  })
  const rules = { roleClaim: oidcClaim ?? 'groups', roleValues: roleValues(oidcRole ?? []) }
  const clientSecret = new Secret(text.trim())
  return {
    login: oidcLogin({ issuer, clientId, clientSecret, publicUrl: publicUrl ?? ownUrl }),
    byClaims: async (claims, address) => await loginByProvider(world, userOfClaims(claims, rules), address),
    seal: (secret) => keyring.seal(secret),
    open: (sealed) => keyring.open(sealed),
  }
}

function roleValues(words: readonly string[]): ClaimRules['roleValues'] {
  const values: Record<Role, string[]> = { viewer: [], operator: [], admin: [] }
  for (const word of words) {
    const [, role, value] = /^(\w+)=(.+)$/.exec(word) ?? []
    const known = roles.find((one) => one === role)
    if (known === undefined || value === undefined) {
      throw new Failure('bad-input', `write role=group, with the role ${roles.join(', ')}`, { at: '--oidc-role' })
    }
    values[known].push(value)
  }
  return values
}
