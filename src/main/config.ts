// Reads the configuration: file, environment and flags become one `Config`, or failures that say where and how to mend them.
import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { readTlsFiles } from '../db/mariadb-tls.ts'
import { parsePlace } from '../db/place.ts'
import { secretFileProblem } from '../lib/secret-file.ts'
import { type SettingProblem, type Settled, settingsFileBytesMax, settle } from '../lib/settings.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { type Config, configSchema, settings } from './config-schema.ts'

/** Read when no other file is named, if it is there. */
export const defaultConfigFile = '/etc/hades/hades.yaml'

/** Of the client commands and of the program itself: no settings of services. */
const otherVariables = ['HADES_CONFIG', 'HADES_SERVER', 'HADES_TOKEN_FILE', 'HADES_DATABASE_PASSWORD']

export type ConfigSources = {
  /** The file that was asked for; without it the default file is read if there is one. */
  readonly file: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  /** By key, what was given as flags. */
  readonly flags: Readonly<Record<string, string | boolean | readonly string[]>>
}

export type ReadConfig = {
  readonly config: Config
  /** The file that was read. */
  readonly file: string | undefined
  readonly from: Settled['from']
}

/** The configuration of a service that starts. Failure `bad-input` naming the first problem. */
export async function readConfig(sources: ConfigSources): Promise<ReadConfig> {
  const { problems, ...read } = await lookAtConfig(sources)
  const [first, ...more] = problems
  if (!first) return read
  const rest = more.length > 0 ? `; ${more.length} more: \`hades config check\` tells all of them` : ''
  throw new Failure('bad-input', `${sentenceOf(first)}${rest}`)
}

/** One problem as people read it. */
export function sentenceOf({ place, sentence }: SettingProblem): string {
  return `${place}: ${sentence}`
}

/** As `readConfig`, with everything that is wrong. The configuration can be used when nothing is. */
export async function lookAtConfig(
  sources: ConfigSources,
): Promise<ReadConfig & { readonly problems: readonly SettingProblem[] }> {
  const file = await fileOf(sources)
  const env = Object.fromEntries(
    Object.entries(sources.env).filter(
      (entry): entry is [string, string] =>
        entry[0].startsWith('HADES_') && !otherVariables.includes(entry[0]) && entry[1] !== undefined,
    ),
  )
  const { value, from, problems } = settle(configSchema, settings, { file, env, flags: sources.flags })
  // A relative path of the file means: beside the file.
  for (const { key, path, schema } of settings) {
    const isFile = from.get(key)?.source === 'file'
    if (file && isFile && (schema.is === 'path' || schema.is === 'secret-file')) beside(value, path, dirname(file.path))
  }
  // `settle` has checked it against the schema; with problems nobody uses it.
  const config = value as Config
  const said =
    problems.length > 0
      ? problems
      : [...together(config, from), ...(await secretProblems(config, from)), ...(await databaseProblems(config, from))]
  return { config, from, file: file?.path, problems: said }
}

/** The value of a setting. */
export function valueAt(config: Config, path: readonly string[]): unknown {
  return path.reduce<unknown>((inside, name) => (inside as Record<string, unknown> | undefined)?.[name], config)
}

async function fileOf(sources: ConfigSources): Promise<{ path: string; text: string } | undefined> {
  const asked = sources.file ?? sources.env.HADES_CONFIG
  const path = resolve(asked ?? defaultConfigFile)
  try {
    const { size } = await stat(path)
    if (size > settingsFileBytesMax) throw new Error(`it has ${size} bytes; ${settingsFileBytesMax} are allowed`)
    return { path, text: await readFile(path, 'utf8') }
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
    if (isMissing && asked === undefined) return undefined
    throw new Failure('bad-input', `the configuration file ${path} cannot be read`, { cause, at: '--config' })
  }
}

function beside(value: unknown, path: readonly string[], folder: string): void {
  const [name = '', ...rest] = path
  // Made by `settle` along the same path.
  const here = value as Record<string, unknown>
  if (rest.length > 0) beside(here[name], rest, folder)
  else if (typeof here[name] === 'string') here[name] = resolve(folder, here[name])
}

/** What each value allows and all of them together do not. */
function together(config: Config, from: Settled['from']): SettingProblem[] {
  const problems: SettingProblem[] = []
  const say = (key: string, sentence: string): void => {
    problems.push({ place: from.get(key)?.place ?? key, key, sentence })
  }
  const { address, router, control, http, seeder } = config
  if (router !== undefined && address === undefined) {
    say('router', '`router` is for the machines of a network, and there is none: set `address` too')
  }
  const listeners = [
    { key: 'control.port', host: control.host, port: control.port },
    ...(address === undefined
      ? []
      : [
          { key: 'http.port', host: address, port: http.port },
          { key: 'seeder.port', host: address, port: seeder.port },
        ]),
  ]
  for (const [i, one] of listeners.entries()) {
    const other = listeners.slice(0, i).find(({ host, port }) => {
      return port === one.port && port !== 0 && (host === one.host || host === '0.0.0.0' || host === '::')
    })
    if (other)
      say(one.key, `\`${one.key}\` and \`${other.key}\` are both ${one.port} on one address: change one of them`)
  }
  return problems
}

async function secretProblems(config: Config, from: Settled['from']): Promise<SettingProblem[]> {
  const problems: SettingProblem[] = []
  for (const { key, path, schema } of settings) {
    const file = valueAt(config, path)
    if (schema.is !== 'secret-file' || typeof file !== 'string') continue
    const problem = await secretFileProblem(file)
    if (problem !== undefined)
      problems.push({ place: from.get(key)?.place ?? key, key, sentence: `\`${key}\`: ${problem}` })
  }
  return problems
}

/** What is wrong with the database's address, and with the files of its TLS. */
async function databaseProblems({ database }: Config, from: Settled['from']): Promise<SettingProblem[]> {
  if (database === undefined) return []
  try {
    const place = parsePlace(database)
    if (place.kind === 'mariadb' && place.tls !== undefined) await readTlsFiles(place.tls)
    return []
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const key = 'database'
    return [{ place: from.get(key)?.place ?? key, key, sentence: `\`${key}\`: ${causeChain(error).join(': ')}` }]
  }
}
