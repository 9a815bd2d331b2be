// What the claims of an OpenID provider say of somebody: the name and the role here. Claims come from outside: what does not
// fit makes nobody known.
import { Failure } from './failure.ts'
import { type Role, roles } from './role.ts'

export type ClaimRules = {
  /** The claim with a user's groups, as `groups` or, inside an object, `realm_access.roles`. */
  readonly roleClaim: string
  /** The values of it that give each role; a user of several gets the highest. */
  readonly roleValues: Readonly<Record<Role, readonly string[]>>
}

type Claims = Readonly<Record<string, unknown>>

/** A user as its provider tells of it. Failure `forbidden` when it has no role here, or no name that could be one here. */
export function userOfClaims(
  claims: Claims,
  { roleClaim, roleValues }: ClaimRules,
): { name: string; subject: string; role: Role } {
  const { iss, sub, preferred_username, email } = claims
  const said = [preferred_username, email, sub].find((one) => typeof one === 'string' && one !== '')
  const name = String(said).toLowerCase()
  if (!/^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name)) {
    throw new Failure('forbidden', 'the provider gives a name that cannot be one here')
  }
  const groups = [valueAt(claims, roleClaim)].flat().filter((one) => typeof one === 'string')
  const role = roles.findLast((one) => roleValues[one].some((value) => groups.includes(value)))
  if (role === undefined) throw new Failure('forbidden', `${name} has no role here: the claim ${roleClaim} gives none`)
  return { name, subject: `${String(iss)}#${String(sub)}`.slice(0, 190), role }
}

function valueAt(claims: Claims, path: string): unknown {
  let value: unknown = claims
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Claims)[name]
  }
  return value
}
