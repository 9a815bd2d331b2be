// Many hosts at once. A dry run is the run itself, in a transaction that is taken back: what it says is what would happen.
import type { Static } from 'typebox'
import { checkInput } from '../contract/check.ts'
import { controlOperations } from '../contract/control.ts'
import type { hostFileOperations } from '../contract/host-file-types.ts'
import type { Handlers, Input, Output } from '../contract/operation.ts'
import type { HostView } from '../contract/types.ts'
import { findHosts, normalMac, powerMethodsOf } from '../db/hosts.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { Failure } from '../model/failure.ts'
import { type HostEntry, readHostFile } from '../model/host-file.ts'
import { addOne, changeOne } from './hosts.ts'
import { onceOf } from './once.ts'
import { hostViews } from './views.ts'
import type { World } from './world.ts'

type Answer = Output<typeof hostFileOperations.importHosts>
type NewHost = Static<typeof controlOperations.addHost.input>

/** A failure names no more bad lines than this; a dry run gives them all. */
const linesTold = 20

/** Takes a transaction back and carries what it found. */
class TakenBack extends Error {
  readonly answer: Answer

  constructor(answer: Answer) {
    super('the transaction was only to see')
    this.answer = answer
  }
}

export function hostImportHandlers(world: World): Pick<Handlers<typeof hostFileOperations>, 'importHosts'> {
  return {
    async importHosts({ format, text, dryRun = false }: Input<typeof hostFileOperations.importHosts>, caller) {
      const entries = readHostFile(format, text)
      try {
        return await world.db.transaction().execute(async (tx) => {
          const answer = await importAll(world, tx, entries)
          if (dryRun || answer.problems.length > 0) throw new TakenBack(answer)
          await recordAnswer(tx, onceOf(caller), answer)
          return answer
        })
      } catch (error) {
        if (!(error instanceof TakenBack)) throw error
        if (dryRun) return error.answer
        throw refusal(error.answer.problems)
      }
    },
  }
}

function refusal(problems: Answer['problems']): Failure {
  const told = problems.slice(0, linesTold).map(({ line, text }) => `line ${line}: ${text}`)
  const more = problems.length > linesTold ? [`and ${problems.length - linesTold} more`] : []
  return new Failure('bad-input', `no host was imported: ${[...told, ...more].join('; ')}`, { at: 'text' })
}

async function importAll(world: World, tx: Db, entries: readonly HostEntry[]): Promise<Answer> {
  const hosts: Answer['hosts'] = []
  const problems: Answer['problems'] = []
  const lines = new Map<string, number>()
  for (const { line, value } of entries) {
    try {
      const host = checkInput(controlOperations.addHost, value) as NewHost
      const first = lines.get(host.name)
      if (first !== undefined) throw new Failure('bad-input', `host ${host.name} stands on line ${first} already`)
      lines.set(host.name, line)
      hosts.push({ line, name: host.name, ...(await importOne(world, tx, host)) })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      problems.push({ line, text: error.message.slice(0, 4000), ...(error.at === undefined ? {} : { at: error.at }) })
    }
  }
  return { hosts, problems }
}

async function importOne(
  world: World,
  tx: Db,
  host: NewHost,
): Promise<Pick<Answer['hosts'][number], 'action' | 'changes'>> {
  const known = await findHosts(tx, [host.name]).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'unknown-host') return []
    throw error
  })
  const [row] = known
  if (row === undefined) {
    await addOne(world, tx, host)
    return { action: 'add', changes: [] }
  }
  const [view] = await hostViews(tx, [row], world.now())
  if (view === undefined) throw new Error('every host has a view')
  const change = await differences(world, tx, { id: row.id, view, host })
  if (change.words.length === 0) return { action: 'none', changes: [] }
  await changeOne(world, tx, { name: host.name, ...change.fields })
  return { action: 'change', changes: change.words }
}

type Fields = Partial<Omit<NewHost, 'name'>>

/** What a host is to become that it is not. A field that the file does not give stays as it is. */
async function differences(
  { keyring }: World,
  tx: Db,
  { id, view, host }: { readonly id: number; readonly view: HostView; readonly host: NewHost },
): Promise<{ words: string[]; fields: Fields }> {
  const words: string[] = []
  const fields: Fields = {}
  for (const name of ['site', 'rack', 'loader', 'setup', 'defaultTarget'] as const) {
    if (host[name] === undefined || host[name] === view[name]) continue
    Object.assign(fields, { [name]: host[name] })
    words.push(`${name}: ${view[name] ?? 'none'} -> ${host[name]}`)
  }
  const [before, after] = [interfaceWords(view.interfaces), interfaceWords(host.interfaces)]
  if (before !== after) {
    fields.interfaces = host.interfaces
    words.push(`interfaces: ${before} -> ${after}`)
  }
  if (host.powerMethods.length > 0) {
    const stored = (await powerMethodsOf(tx, [id])).get(id) ?? []
    const isSame =
      methodWords(view.powerMethods) === methodWords(host.powerMethods) &&
      host.powerMethods.every(({ password }, index) => {
        const sealed = stored[index]?.sealed_password
        return password === undefined || (sealed !== undefined && keyring.open(sealed).reveal() === password)
      })
    if (!isSame) {
      fields.powerMethods = host.powerMethods
      words.push(`power: ${methodWords(view.powerMethods)} -> ${methodWords(host.powerMethods)}`)
    }
  }
  return { words: words.map((word) => word.slice(0, 1000)), fields }
}

function interfaceWords(interfaces: NewHost['interfaces']): string {
  return interfaces.map(({ mac, ip }) => normalMac(mac) + (ip === undefined ? '' : `=${ip}`)).join(' ') || 'none'
}

function methodWords(methods: NewHost['powerMethods']): string {
  const all = methods.map(({ driver, address = '', username = '', options }) =>
    [driver, address, username, ...options.map(({ name, value }) => `${name}=${value}`)].filter(Boolean).join(' '),
  )
  return all.join('; ') || 'none'
}
