// Settings of a program from a schema: the same names in a YAML file, in the environment and as flags, and for each value where
// it comes from. What is wrong is told with its place; what is not known is wrong. Knows nothing of what the settings mean.
import type { TSchema } from 'typebox'
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { compileCheck, type Schema, schemaOf } from './schema.ts'
import { parseRate, parseSize, parseTime } from './size.ts'

/** A leaf of the schema. Beside the words of JSON Schema it says how people write the value, and what to call it in a flag. */
export type SettingSchema = Schema & {
  readonly default?: unknown
  /** Stands for a default that is not the same on every machine. */
  readonly defaultText?: string
  /** `bytes`, `rate` and `time` are numbers that people write with a unit; files are paths, a secret's is looked at. */
  readonly is?: 'bytes' | 'rate' | 'time' | 'path' | 'secret-file'
  readonly word?: string
  /** A value as somebody would give it, for the example file. */
  readonly example?: string
}

export type Setting = {
  readonly path: readonly string[]
  /** As in messages: `control.port`. */
  readonly key: string
  /** HADES_CONTROL_PORT */
  readonly env: string
  /** control-port, without its dashes. */
  readonly flag: string
  readonly schema: SettingSchema
}

export type SettingSource = 'flag' | 'environment' | 'file' | 'default'

export type SettingProblem = {
  /** `/etc/hades/hades.yaml:12`, `--control-port`, `HADES_CONTROL_PORT`. */
  readonly place: string
  readonly key: string
  readonly sentence: string
}

export type Settled = {
  /** Nested as the schema is; holds what is known even when there are problems. */
  readonly value: unknown
  /** By key: which kind of place the value is from, and which place. */
  readonly from: ReadonlyMap<string, { readonly source: SettingSource; readonly place: string }>
  readonly problems: readonly SettingProblem[]
}

/** A settings file is small; a larger one is something else. */
export const settingsFileBytesMax = 1024 * 1024

/** The leaves of the schema in its order; `prefix` begins the names of the environment. */
export function settingsOf(type: TSchema, prefix: string): Setting[] {
  const leaves = (schema: Schema, path: readonly string[]): Setting[] =>
    Object.entries(schema.properties ?? {}).flatMap(([name, part]) => {
      const here = [...path, name]
      if (part.properties) return leaves(part, here)
      const words = here.flatMap((one) => one.split(/(?=[A-Z0-9])/)).map((word) => word.toLowerCase())
      return {
        path: here,
        key: here.join('.'),
        env: `${prefix}_${words.join('_').toUpperCase()}`,
        flag: words.join('-'),
        schema: part,
      }
    })
  return leaves(schemaOf(type), [])
}

type Given = { readonly raw: unknown; readonly source: SettingSource; readonly place: string }

/**
 * Puts the values together: flags before the environment, the environment before the file, the file before defaults.
 * `env` holds what begins with the prefix, `flags` what was given, by key.
 */
export function settle(
  type: TSchema,
  settings: readonly Setting[],
  given: {
    readonly file: { readonly path: string; readonly text: string } | undefined
    readonly env: Readonly<Record<string, string>>
    readonly flags: Readonly<Record<string, string | boolean | readonly string[]>>
  },
): Settled {
  const problems: SettingProblem[] = []
  const file = given.file ? readFile(given.file, settings, problems) : new Map<string, Given>()
  for (const name of Object.keys(given.env)) {
    if (settings.some((setting) => setting.env === name)) continue
    const near = nearest(
      name,
      settings.map((setting) => setting.env),
    )
    problems.push({ place: name, key: name, sentence: `there is no setting ${name}${didYouMean(near)}` })
  }
  const value: Record<string, unknown> = {}
  const from = new Map<string, { source: SettingSource; place: string }>()
  for (const setting of settings) {
    const { key, env, flag, schema } = setting
    const one =
      (given.flags[key] !== undefined && { raw: given.flags[key], source: 'flag' as const, place: `--${flag}` }) ||
      (given.env[env] !== undefined && { raw: given.env[env], source: 'environment' as const, place: env }) ||
      file.get(key) ||
      (schema.default !== undefined && { raw: schema.default, source: 'default' as const, place: 'default' })
    if (!one) continue
    from.set(key, { source: one.source, place: one.place })
    const read = one.source === 'default' ? { value: one.raw } : meaningOf(one.raw, schema)
    if ('sentence' in read) problems.push({ place: one.place, key, sentence: read.sentence })
    else put(value, setting.path, read.value)
  }
  sections(schemaOf(type), value)
  const told = new Set(problems.map((problem) => problem.key))
  for (const { at, sentence } of compileCheck(type)(value)) {
    const key = at.replace(/\[.*$/, '')
    if (!told.has(key)) problems.push({ place: from.get(key)?.place ?? key, key, sentence })
  }
  return { value, from, problems }
}

/** What a text or a scalar of the file means for this setting. */
function meaningOf(raw: unknown, schema: SettingSchema): { value: unknown } | { sentence: string } {
  const { is } = schema
  if (is === 'bytes' || is === 'rate' || is === 'time') {
    const parse = { bytes: parseSize, rate: parseRate, time: parseTime }[is]
    const number = typeof raw === 'number' && is !== 'time' ? raw : parse(String(raw))
    const like = { bytes: '500GB or 20GiB', rate: '100M or 50MB/s', time: '90s, 30min, 12h or 30d' }[is]
    return number === undefined
      ? { sentence: `${JSON.stringify(raw)} must be written like ${like}` }
      : { value: number }
  }
  if (typeof raw !== 'string') return { value: raw }
  if (schema.type === 'array') return { value: raw.split(',').map((part) => part.trim()) }
  if (schema.type === 'integer' && /^-?\d{1,15}$/.test(raw)) return { value: Number(raw) }
  if (schema.type === 'boolean' && /^(true|yes|1)$/i.test(raw)) return { value: true }
  if (schema.type === 'boolean' && /^(false|no|0)$/i.test(raw)) return { value: false }
  return { value: raw }
}

function put(into: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [name = '', ...rest] = path
  if (rest.length === 0) into[name] = value
  else {
    into[name] ??= {}
    // Only this function makes what is inside, always from a path of the schema.
    put(into[name] as Record<string, unknown>, rest, value)
  }
}

/** Sections are there even when nothing in them is set. */
function sections(schema: Schema, value: Record<string, unknown>): void {
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    if (!part.properties) continue
    value[name] ??= {}
    sections(part, value[name] as Record<string, unknown>)
  }
}

/** The values of a file by key, each with its line. */
function readFile(
  file: { readonly path: string; readonly text: string },
  settings: readonly Setting[],
  problems: SettingProblem[],
): Map<string, Given> {
  const values = new Map<string, Given>()
  const counter = new LineCounter()
  const document = parseDocument(file.text, { lineCounter: counter, prettyErrors: false, strict: true })
  const placeOf = (offset: number | undefined): string => `${file.path}:${counter.linePos(offset ?? 0).line}`
  for (const { message, pos } of document.errors) {
    problems.push({ place: placeOf(pos[0]), key: '', sentence: `this is not YAML: ${message}` })
  }
  if (document.errors.length > 0) return values
  const walk = (node: Node | null, path: readonly string[], offset: number): void => {
    const key = path.join('.')
    const inside = settings.filter((one) => path.every((name, i) => one.path[i] === name))
    const say = (sentence: string, at: number | undefined = offset): void => {
      problems.push({ place: placeOf(at), key, sentence })
    }
    const leaf = inside.find((one) => one.key === key)
    if (leaf) {
      const raw = plainValue(node)
      if (raw === undefined) say(`\`${key}\` must be one value${leaf.schema.type === 'array' ? ' or a list' : ''}`)
      else if (raw === null) say(`\`${key}\` has no value: give one, or remove the line`)
      else values.set(key, { raw, source: 'file', place: placeOf(offset) })
      return
    }
    // A section, or a whole file, with nothing in it.
    if (node === null || (isScalar(node) && node.value === null)) return
    if (!isMap(node)) {
      say(`${key === '' ? 'the file' : `\`${key}\``} must hold settings, as \`name: value\``)
      return
    }
    for (const { key: nameNode, value } of node.items) {
      const name = isScalar(nameNode) ? String(nameNode.value) : ''
      const at = isScalar(nameNode) ? nameNode.range?.[0] : undefined
      const known = [...new Set(inside.map((one) => one.path[path.length] ?? ''))]
      if (known.includes(name)) walk(value as Node | null, [...path, name], at ?? offset)
      else say(unknownKey([...path, name], known, settings), at)
    }
  }
  walk(document.contents, [], 0)
  return values
}

/** A scalar, or a list of scalars; undefined for anything else, aliases too. */
function plainValue(node: Node | null): unknown {
  if (node === null) return null
  if (isScalar(node)) return node.value
  if (isSeq(node) && node.items.every((item) => isScalar(item))) return node.items.map((item) => item.value)
  return undefined
}

function unknownKey(path: readonly string[], known: readonly string[], settings: readonly Setting[]): string {
  const key = path.join('.')
  const name = path.at(-1) ?? ''
  if (known.includes(`${name}File`)) {
    return `there is no setting \`${key}\`: secrets stand in files of their own, named by \`${name}File\``
  }
  // The right name in the wrong section is as frequent as a slip of the finger.
  const elsewhere = settings.find((setting) => setting.path.at(-1) === name)?.key
  const near = nearest(name, known)
  return `there is no setting \`${key}\`${didYouMean(near === undefined ? elsewhere : [...path.slice(0, -1), near].join('.'))}`
}

function didYouMean(near: string | undefined): string {
  return near === undefined ? '' : `; did you mean \`${near}\`?`
}

/** The name that `text` was most likely meant to be, if one is near enough. */
function nearest(text: string, names: readonly string[]): string | undefined {
  const short = text.slice(0, 64)
  const all = names.map((name) => ({ name, far: distance(short.toLowerCase(), name.toLowerCase()) }))
  const [best] = all.sort((a, b) => a.far - b.far)
  return best && best.far <= Math.max(2, Math.floor(best.name.length / 4)) ? best.name : undefined
}

/** How many letters must be put in, taken out or changed to make one of the other (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
