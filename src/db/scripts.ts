// The script library: texts that setups name, each change a new version. What a rollout began with is kept with it, and
// stays as long as one of its deployments is under way.
import { createHash } from 'node:crypto'
import type { Selectable } from 'kysely'
import { openStates } from '../model/deployment.ts'
import { Failure } from '../model/failure.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { ScriptRow } from './schema.ts'

export type Script = Selectable<ScriptRow>

/**
 * Stores the next version of a script: of those that there are and those that rollouts tell of, so that no version ever
 * has two texts. Call it in a transaction.
 */
export async function putScript(db: Db, name: string, text: string, now: number): Promise<Script> {
  const { told } = await db
    .selectFrom('rollout_scripts')
    .select((eb) => eb.fn.max('version').as('told'))
    .where('name', '=', name)
    .executeTakeFirstOrThrow()
  const version = Math.max((await newest(db, name))?.version ?? 0, told ?? 0) + 1
  const sha256 = createHash('sha256').update(text).digest('hex')
  const script = { name, version, text, sha256, created_at: now }
  const { insertId } = await db.insertInto('scripts').values(script).executeTakeFirstOrThrow()
  return { id: Number(insertId), ...script }
}

async function newest(db: Db, name: string): Promise<Script | undefined> {
  return await db
    .selectFrom('scripts')
    .selectAll()
    .where('name', '=', name)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** A script by `name` (newest) or `name:version`. Failure `unknown-script`. */
export async function findScript(db: Db, reference: string): Promise<Script> {
  const [name = '', version] = reference.split(':')
  const named = db.selectFrom('scripts').selectAll().where('name', '=', name)
  const script =
    version === undefined
      ? await newest(db, name)
      : await named.where('version', '=', Number(version)).executeTakeFirst()
  if (!script) throw new Failure('unknown-script', `there is no script ${reference}`, { at: 'reference' })
  return script
}

/** The versions of one script, the newest first; or each script in its newest version. */
export async function listScripts(db: Db, name?: string): Promise<Script[]> {
  const all = db.selectFrom('scripts').selectAll().orderBy('name').orderBy('version', 'desc')
  if (name !== undefined) return await all.where('name', '=', name).execute()
  const rows = await all.execute()
  return rows.filter((row, index) => rows[index - 1]?.name !== row.name)
}

/** The versions of one script, the newest first; or each script in its newest version. */
export async function pageOfScripts(db: Db, name: string | undefined, page: Page): Promise<Paged<Script>> {
  const order = [
    { by: 'scripts.name' as const, of: (script: Script) => script.name },
    { by: 'scripts.version' as const, of: (script: Script) => script.version, descending: true },
  ]
  const all = db.selectFrom('scripts').selectAll('scripts')
  if (name !== undefined) return await readPage(all.where('scripts.name', '=', name), order, page)
  const newest = all.where((eb) =>
    eb.not(
      eb.exists(
        eb
          .selectFrom('scripts as newer')
          .select('newer.id')
          .whereRef('newer.name', '=', 'scripts.name')
          .whereRef('newer.version', '>', 'scripts.version'),
      ),
    ),
  )
  return await readPage(newest, order, page)
}

export async function removeScripts(db: Db, ids: readonly number[]): Promise<void> {
  await db.deleteFrom('scripts').where('id', 'in', ids).execute()
}

/** The hosts whose deployments under way began with one of these versions of a script. */
export async function hostsUsingScript(db: Db, name: string, versions: readonly number[]): Promise<string[]> {
  const rows = await db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .innerJoin('rollout_scripts', 'rollout_scripts.rollout_id', 'deployments.rollout_id')
    .select('hosts.name')
    .distinct()
    .where('rollout_scripts.name', '=', name)
    .where('rollout_scripts.version', 'in', versions)
    .where('state', 'in', openStates)
    .execute()
  return rows.map((row) => row.name)
}

/** Keeps what the references of a setup mean now, by reference. Call it in the transaction of the rollout. */
export async function keepScripts(db: Db, rolloutId: number, scripts: ReadonlyMap<string, Script>): Promise<void> {
  for (const [reference, { name, version, sha256 }] of scripts) {
    await db.insertInto('rollout_scripts').values({ rollout_id: rolloutId, reference, name, version, sha256 }).execute()
  }
}

/** The texts that a rollout began with, by the reference in its setup. */
export async function scriptsOfRollout(db: Db, rolloutId: number): Promise<Map<string, string>> {
  const rows = await db
    .selectFrom('rollout_scripts')
    .innerJoin('scripts', (join) =>
      join.onRef('scripts.name', '=', 'rollout_scripts.name').onRef('scripts.version', '=', 'rollout_scripts.version'),
    )
    .select(['rollout_scripts.reference', 'scripts.text'])
    .where('rollout_id', '=', rolloutId)
    .execute()
  return new Map(rows.map(({ reference, text }) => [reference, text]))
}
