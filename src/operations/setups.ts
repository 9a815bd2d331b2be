// The Control Port's handlers for setups and the script library.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import type { ScriptView } from '../contract/setup-types.ts'
import { addEvent } from '../db/events.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import {
  findScript,
  hostsUsingScript,
  listScripts,
  pageOfScripts,
  putScript,
  removeScripts,
  type Script,
} from '../db/scripts.ts'
import { findSetup, listSetups, pageOfSetups, putSetup, type StoredSetup } from '../db/setups.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { unifiedDiff } from '../lib/text-diff.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { imagesOf } from '../model/layout.ts'
import { parseSetup, parseSetupWithLines } from '../model/setup.ts'
import { diffSetups } from '../model/setup-diff.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { checkSetup } from './setup-check.ts'
import { dateTime } from './views.ts'
import type { World } from './world.ts'

type Names = 'putSetup' | 'validateSetup' | 'getSetup' | 'listSetups' | 'diffSetups'

export function setupHandlers({ db, now }: World): Pick<Handlers<typeof controlOperations>, Names> {
  return {
    async putSetup({ xml }, caller) {
      const read = parseSetupWithLines(xml)
      const { name, layout } = read.setup
      const stored = await db.transaction().execute(async (tx) => {
        await checkSetup(tx, read)
        const put = await putSetup(tx, { name, xml, images: imagesOf(layout) }, now())
        await recordAnswer(tx, onceOf(caller), { setup: setupView(put) })
        return put
      })
      return { setup: setupView(stored) }
    },
    async validateSetup({ xml }) {
      const read = parseSetupWithLines(xml)
      await checkSetup(db, read)
      return { name: read.setup.name, images: imagesOf(read.setup.layout).map(formatImageReference) }
    },
    async getSetup({ reference }) {
      const stored = await findSetup(db, reference)
      return { setup: setupView(stored), xml: stored.xml }
    },
    async listSetups({ name, versions = false, ...input }) {
      if (name !== undefined) await findSetup(db, name)
      const page = await pageOfSetups(db, { name, versions }, pageOf(input))
      return { setups: page.rows.map(setupView), ...nextOf(page) }
    },
    async diffSetups({ from, to, xml, withText }) {
      if ((to === undefined) === (xml === undefined)) {
        throw new Failure('bad-input', 'give either another setup or a document, one of both', { at: 'to' })
      }
      const before = await findSetup(db, from)
      const after = to === undefined ? undefined : await findSetup(db, to)
      const names = { from: referenceOf(before), to: after === undefined ? 'the document' : referenceOf(after) }
      const newXml = after?.xml ?? xml ?? ''
      return {
        ...names,
        changes: diffSetups(parseSetup(before.xml), parseSetup(newXml)),
        ...(withText === true ? { text: unifiedDiff(before.xml, newXml, names) } : {}),
      }
    },
  }
}

function referenceOf({ name, version }: StoredSetup): string {
  return `${name}:${version}`
}

function setupView(stored: StoredSetup) {
  const { layout } = parseSetup(stored.xml)
  return {
    name: stored.name,
    version: stored.version,
    createdAt: dateTime(stored.created_at),
    images: imagesOf(layout).map(formatImageReference),
  }
}

type ScriptNames = 'putScript' | 'getScript' | 'listScripts' | 'removeScript'

export function scriptHandlers({ db, now }: World): Pick<Handlers<typeof controlOperations>, ScriptNames> {
  return {
    async putScript({ name, text }, caller) {
      const script = await db.transaction().execute(async (tx) => {
        const stored = await putScript(tx, name, text, now())
        await addEvent(
          tx,
          { source: 'control', kind: 'script-put', text: `script ${name}:${stored.version} was stored` },
          now(),
        )
        await recordAnswer(tx, onceOf(caller), { script: scriptView(stored) })
        return stored
      })
      return { script: scriptView(script) }
    },
    async getScript({ reference }) {
      const script = await findScript(db, reference)
      return { script: scriptView(script), text: script.text }
    },
    async listScripts({ name, ...input }) {
      if (name !== undefined) await findScript(db, name)
      const page = await pageOfScripts(db, name, pageOf(input))
      return { scripts: page.rows.map(scriptView), ...nextOf(page) }
    },
    async removeScript({ reference }) {
      await db.transaction().execute(async (tx) => {
        await removeScript(tx, reference)
        await addEvent(
          tx,
          { source: 'control', kind: 'script-removed', text: `script ${reference} was removed` },
          now(),
        )
      })
      return {}
    },
  }
}

async function removeScript(tx: Db, reference: string): Promise<void> {
  const script = await findScript(tx, reference)
  const all = await listScripts(tx, script.name)
  const isOne = reference.includes(':')
  const removed = isOne ? [script] : all
  const users = await usersOf(tx, script.name, { removed, newest: all[0] })
  if (users.length > 0) {
    const shown = users.slice(0, 10).join(', ') + (users.length > 10 ? ` and ${users.length - 10} more` : '')
    throw new Failure('in-use', `script ${reference} is used by ${shown}`, { at: 'reference' })
  }
  await removeScripts(
    tx,
    removed.map(({ id }) => id),
  )
}

/** What needs one of these versions, in words: setups that name it (newest versions), deployments under way. */
async function usersOf(
  tx: Db,
  name: string,
  { removed, newest }: { readonly removed: readonly Script[]; readonly newest: Script | undefined },
): Promise<string[]> {
  const versions = removed.map(({ version }) => version)
  const isNamed = (reference: string | undefined): boolean => {
    const [named, version] = reference?.split(':') ?? []
    return named === name && versions.includes(version === undefined ? (newest?.version ?? 0) : Number(version))
  }
  const setups = (await listSetups(tx)).filter(({ xml }) =>
    parseSetup(xml).postInstall?.scripts.some(({ library }) => isNamed(library)),
  )
  const hosts = await hostsUsingScript(tx, name, versions)
  return [
    ...setups.map((setup) => `setup ${referenceOf(setup)}`),
    ...(hosts.length === 0 ? [] : [`the deployments of ${foldNodeset(hosts)}`]),
  ]
}

function scriptView({ name, version, text, sha256, created_at }: Script): ScriptView {
  return { name, version, createdAt: dateTime(created_at), sha256, characters: text.length }
}
