// The hosts that a nodeset of an operation's input stands for.
import { findHosts, type Host } from '../db/hosts.ts'
import type { Db } from '../db/open.ts'
import { expandNodeset, NodesetError } from '../lib/nodeset.ts'
import { Failure } from '../model/failure.ts'

/** The hosts of a nodeset, in its order; `*`, or none given, is every host. Failures `bad-input`, `unknown-host`. */
export async function hostsOf(db: Db, nodeset: string | undefined): Promise<Host[]> {
  if (nodeset === undefined || nodeset === '*') return await findHosts(db, undefined)
  try {
    return await findHosts(db, expandNodeset(nodeset))
  } catch (cause) {
    if (cause instanceof NodesetError) throw new Failure('bad-input', cause.message, { at: 'nodeset' })
    throw cause
  }
}

/** The ids of the hosts of a nodeset; undefined, which filters nothing, for `*` and when none is given. */
export async function hostIdsOf(db: Db, nodeset: string | undefined): Promise<number[] | undefined> {
  if (nodeset === undefined || nodeset === '*') return undefined
  return (await hostsOf(db, nodeset)).map((host) => host.id)
}

/** The names of protected hosts that are meant. Failure `bad-input` unless each of them is named. */
export function namesMeant(nodeset: string | undefined): ReadonlySet<string> {
  if (nodeset === undefined) return new Set()
  try {
    return new Set(expandNodeset(nodeset))
  } catch (cause) {
    if (!(cause instanceof NodesetError)) throw cause
    throw new Failure('bad-input', 'name the protected hosts that are meant', { cause, at: 'includeProtected' })
  }
}
