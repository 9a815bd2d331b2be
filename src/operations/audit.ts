// The audit of changes: kept in the database, read by listAudit; and the bound of tokens that are for some hosts only.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import { beginAudit, endAudit, listAudit } from '../db/audit.ts'
import { findHosts } from '../db/hosts.ts'
import { expandNodeset, foldNodeset, NodesetError } from '../lib/nodeset.ts'
import { Failure, type FailureCode } from '../model/failure.ts'
import type { Role, Scope } from '../model/role.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime } from './views.ts'
import type { World } from './world.ts'

/** Longer than the longest word of ours; what strangers send is cut. */
const wordMax = 190

type Act = {
  readonly user: string
  readonly role: Role | undefined
  readonly via: string
  readonly address: string
  readonly operation: string
  readonly target: string
  readonly request: string
}

/** Records changes, and holds scoped tokens to their hosts: what the ports need to watch over calls. */
export function overseer({ db, now, log }: Pick<World, 'db' | 'now' | 'log'>) {
  return {
    record: async ({ user, role, via, address, ...act }: Act) => {
      const who = { user_name: user.slice(0, wordMax), role: role ?? null, via: via.slice(0, wordMax), address }
      const id = await beginAudit(db, { at: now(), ...who, ...act, outcome: 'begun' })
      return async (outcome: 'ok' | FailureCode): Promise<void> => {
        // The change is made: its caller must not be told that it failed. The row says `begun`, the log why.
        await endAudit(db, id, outcome, now()).catch((error: unknown) =>
          log.error({ err: error, audit: id, outcome }, 'the end of a change was not recorded'),
        )
      }
    },
    requireWithin: async (scope: Scope, nodesets: readonly string[]): Promise<void> => {
      const names = await namesOf(nodesets)
      const allowed =
        scope.nodeset === undefined || scope.nodeset === '*' ? undefined : new Set(expandNodeset(scope.nodeset))
      let outside = allowed ? names.filter((name) => !allowed.has(name)) : []
      if (outside.length === 0 && scope.site !== undefined) {
        const hosts = await findHosts(db, names)
        outside = hosts.filter(({ site }) => site !== scope.site).map(({ name }) => name)
      }
      if (outside.length === 0) return
      throw new Failure('forbidden', `this token is not for ${foldNodeset(outside).slice(0, 500)}`)
    },
  }

  async function namesOf(nodesets: readonly string[]): Promise<string[]> {
    if (nodesets.includes('*')) return (await findHosts(db, undefined)).map(({ name }) => name)
    try {
      return [...new Set(nodesets.flatMap(expandNodeset))]
    } catch (cause) {
      if (cause instanceof NodesetError) throw new Failure('bad-input', cause.message, { at: 'nodeset' })
      throw cause
    }
  }
}

export function auditHandlers({ db }: World): Pick<Handlers<typeof controlOperations>, 'listAudit'> {
  return {
    async listAudit({ user, operation, before, ...input }) {
      const page = await listAudit(db, { user, operation, before }, pageOf(input))
      return {
        ...nextOf(page),
        entries: page.rows.map(({ id, at, role, ended_at, ...row }) => ({
          id,
          at: dateTime(at),
          user: row.user_name,
          ...(role === null ? {} : { role }),
          via: row.via,
          address: row.address,
          operation: row.operation,
          target: row.target,
          outcome: row.outcome,
          ...(ended_at === null ? {} : { endedAt: dateTime(ended_at) }),
          request: row.request,
        })),
      }
    },
  }
}
