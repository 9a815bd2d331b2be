// Hosts in a file, as YAML or CSV: text to entries with their lines, and back. What an entry may hold is for the contract to
// say; here is only where each one stands.
import { isMap, isSeq, LineCounter, parseDocument, stringify } from 'yaml'
import { Failure } from './failure.ts'

export const hostFileFormats = ['yaml', 'csv'] as const
export type HostFileFormat = (typeof hostFileFormats)[number]

/** More hosts than this are no file that somebody has written. */
const hostsMax = 20_000

export type HostEntry = {
  readonly line: number
  /** As `addHost` takes it, unchecked. */
  readonly value: Readonly<Record<string, unknown>>
}

/** The columns of CSV; `mac` and `ip` may hold several words, parted by blanks, for several interfaces. */
const columns = [
  'name',
  'mac',
  'ip',
  'site',
  'rack',
  'loader',
  'setup',
  'defaultTarget',
  'power',
  'powerAddress',
  'powerUser',
  'powerPassword',
  'powerOptions',
] as const
type Column = (typeof columns)[number]

/** Reads a file. Failure `bad-input` when it is none of that format; what is wrong inside an entry is not seen here. */
export function readHostFile(format: HostFileFormat, text: string): HostEntry[] {
  let entries: HostEntry[]
  try {
    entries = format === 'yaml' ? readYaml(text) : readCsv(text)
  } catch (cause) {
    if (cause instanceof Failure) throw cause
    // Aliases of YAML, and what is nested deeper than the stack.
    throw new Failure('bad-input', `it cannot be read as ${format}`, { cause, at: 'text' })
  }
  if (entries.length === 0) throw bad('there is no host in it')
  if (entries.length > hostsMax) throw bad(`there are more than ${hostsMax} hosts in it`)
  return entries
}

function bad(sentence: string): Failure {
  return new Failure('bad-input', sentence, { at: 'text' })
}

function readYaml(text: string): HostEntry[] {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, schema: 'core', uniqueKeys: true })
  const [error] = document.errors
  if (error) throw bad(`line ${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]?.slice(0, 300)}`)
  const root = document.contents
  const list = isMap(root) ? root.get('hosts', true) : root
  if (!isSeq(list)) throw bad('it must be a list of hosts, or `hosts:` with one')
  return list.items.map((item) => {
    const { range } = item as { range?: readonly number[] | null }
    const line = lines.linePos(range?.[0] ?? 0).line
    if (!isMap(item)) throw bad(`line ${line}: a host is written as fields with values`)
    // A file of ours repeats nothing by reference; a hostile one would, without end.
    const value = item.toJS(document, { maxAliasCount: 0 }) as Record<string, unknown>
    return { line, value: withUsual(value) }
  })
}

/** What every host has and few files say. */
function withUsual(value: Record<string, unknown>): Record<string, unknown> {
  const methods = Array.isArray(value.powerMethods) ? value.powerMethods : []
  const powerMethods = methods.map((method: unknown) =>
    typeof method === 'object' && method !== null ? { options: [], ...method } : method,
  )
  return { interfaces: [], ...value, powerMethods: value.powerMethods === undefined ? [] : powerMethods }
}

function readCsv(text: string): HostEntry[] {
  const [head, ...rows] = csvRows(text).filter(({ cells }) => cells.some((cell) => cell !== ''))
  if (!head) return []
  const names = head.cells.map((cell) => cell.trim())
  const unknown = names.filter((name) => !columns.some((column) => column === name))
  if (unknown.length > 0) {
    throw bad(`line ${head.line}: there is no column ${unknown[0]?.slice(0, 60)}; there are ${columns.join(', ')}`)
  }
  return rows.map(({ line, cells }) => {
    if (cells.length > names.length) throw bad(`line ${line}: it has ${cells.length} cells, the head ${names.length}`)
    const of = (column: Column): string => cells[names.indexOf(column)]?.trim() ?? ''
    return { line, value: fromCells(of) }
  })
}

function fromCells(of: (column: Column) => string): Record<string, unknown> {
  const given = (column: Column, name: string = column) => (of(column) === '' ? {} : { [name]: of(column) })
  const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')
  const ips = words(of('ip'))
  const options = words(of('powerOptions')).map((word) => {
    const [name = '', ...value] = word.split('=')
    return { name, value: value.join('=') }
  })
  const power = {
    driver: of('power'),
    ...given('powerAddress', 'address'),
    ...given('powerUser', 'username'),
    ...given('powerPassword', 'password'),
    options,
  }
  return {
    ...given('name'),
    ...given('site'),
    ...given('rack'),
    ...given('loader'),
    ...given('setup'),
    ...given('defaultTarget'),
    interfaces: words(of('mac')).map((mac, i) => ({ mac, ...(ips[i] === undefined ? {} : { ip: ips[i] }) })),
    powerMethods: of('power') === '' ? [] : [power],
  }
}

/** RFC 4180, with the line on which each row begins. */
function csvRows(text: string): { line: number; cells: string[] }[] {
  const rows: { line: number; cells: string[] }[] = []
  let line = 1
  let row = { line, cells: [] as string[] }
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y
  const body = text.replace(/^\uFEFF/, '')
  while (cell.lastIndex < body.length) {
    const found = cell.exec(body)
    if (!found) throw bad(`line ${line}: a quote is not closed, or something stands behind one`)
    const [whole, quoted, plain = '', end] = found
    row.cells.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    line += whole.split('\n').length - 1
    if (end === ',') continue
    rows.push(row)
    row = { line, cells: [] }
  }
  if (row.cells.length > 0) rows.push(row)
  return rows
}

/** What is written of a host; passwords are never known here. */
export type WrittenHost = {
  readonly name: string
  readonly site?: string
  readonly rack?: string
  readonly loader: string
  readonly setup?: string
  readonly defaultTarget: string
  readonly interfaces: readonly { readonly mac: string; readonly ip?: string }[]
  readonly powerMethods: readonly {
    readonly driver: string
    readonly address?: string
    readonly username?: string
    readonly options: readonly { readonly name: string; readonly value: string }[]
  }[]
}

/** Writes hosts as `readHostFile` reads them. CSV has room for one power method. */
export function writeHostFile(format: HostFileFormat, hosts: readonly WrittenHost[]): string {
  const plain = hosts.map(({ name, site, rack, loader, setup, defaultTarget, interfaces, powerMethods }) => ({
    name,
    site,
    rack,
    loader,
    setup,
    defaultTarget,
    interfaces,
    powerMethods,
  }))
  if (format === 'yaml') return stringify({ hosts: plain }, { aliasDuplicateObjects: false })
  const rows = plain.map(({ interfaces, powerMethods: [power], ...host }) => {
    const cells: Readonly<Partial<Record<Column, string | undefined>>> = {
      ...host,
      mac: interfaces.map(({ mac }) => mac).join(' '),
      ip: interfaces.map(({ ip }) => ip ?? '').join(' '),
      power: power?.driver,
      powerAddress: power?.address,
      powerUser: power?.username,
      powerOptions: power?.options.map(({ name, value }) => `${name}=${value}`).join(' '),
    }
    return columns.map((column) => csvCell(cells[column] ?? '')).join(',')
  })
  return `${[columns.join(','), ...rows].join('\n')}\n`
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
