// What people may do: three roles, each with all that the one before may do, and the hosts that a token is bound to.

/** `viewer` reads, `operator` also deploys, switches and publishes, `admin` also decides what there is and who may. */
export const roles = ['viewer', 'operator', 'admin'] as const
export type Role = (typeof roles)[number]

/** Whether a user of `role` may do what takes at least `least`. */
export function mayAct(role: Role, least: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(least)
}

/** The lower of two roles: a token never does more than its owner may now. */
export function lowerRole(a: Role, b: Role): Role {
  return mayAct(a, b) ? b : a
}

/** The hosts that a token may change anything of: those of a nodeset, those of a site, or those that are in both. */
export type Scope = { readonly nodeset?: string | undefined; readonly site?: string | undefined }

/** The name of who comes by the unix socket or with `admin.token`; no user can have it. */
export const administrator = 'admin'
