// The settings on the command line: the flags of services that start, and `hades config check | show | example`.
import { type Command, Option } from 'commander'
import { stringify } from 'yaml'
import { plain } from '../cli/output.ts'
import { type GlobalOptions, tableOr } from '../cli/session.ts'
import type { Setting } from '../lib/settings.ts'
import { Failure } from '../model/failure.ts'
import { type ConfigSources, defaultConfigFile, lookAtConfig, readConfig, sentenceOf, valueAt } from './config.ts'
import { settings } from './config-schema.ts'

/** Adds --config and a flag for each setting. What they mean, and whether it is right, is for `readConfig`. */
export function addSettings(command: Command): Command {
  command.addOption(
    new Option('--config <file>', `configuration file; ${defaultConfigFile} when it is there (env: HADES_CONFIG)`),
  )
  // --data is an option of the whole program.
  for (const setting of settings.filter(({ key }) => key !== 'data')) {
    const { flag, schema } = setting
    const many = schema.type === 'array' ? '...' : ''
    const value =
      schema.type === 'boolean' ? '[yes|no]' : `<${schema.enum?.join('|') ?? schema.word ?? 'value'}${many}>`
    const otherwise = defaultOf(setting)
    const about = `${schema.description}${otherwise === undefined ? '' : ` (default: ${otherwise})`}`
    command.addOption(new Option(`--${flag} ${value}`, about))
  }
  return command
}

/** What was given as flags, and where else to look. */
export function sourcesOf(command: Command): ConfigSources {
  const options = command.optsWithGlobals<Record<string, string | boolean | string[] | undefined>>()
  const flags: Record<string, string | boolean | string[]> = {}
  for (const { key, flag } of settings) {
    const name = flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
    const given = options[name]
    if (given !== undefined && command.getOptionValueSourceWithGlobals(name) === 'cli') flags[key] = given
  }
  return { file: typeof options.config === 'string' ? options.config : undefined, env: process.env, flags }
}

/** The default as people write it. */
export function defaultOf({ schema }: Setting): string | undefined {
  if (schema.defaultText !== undefined) return schema.defaultText
  if (schema.default === undefined || schema.default === false) return undefined
  return textOf(schema.default, schema.is)
}

/** Adds `config` with its subcommands. */
export function addConfigCommands(program: Command): void {
  const config = program.command('config').description('the configuration of the services on this machine')
  addSettings(config.command('check'))
    .description('says everything that is wrong with file, environment and flags; ends with 2 when there is something')
    .action(async (_options, command: Command) => {
      const { problems, file } = await lookAtConfig(sourcesOf(command))
      if (isJson(command)) process.stdout.write(`${JSON.stringify({ file, problems }, undefined, 2)}\n`)
      else for (const problem of problems) process.stdout.write(`${plain(sentenceOf(problem))}\n`)
      if (problems.length > 0) {
        throw new Failure(
          'bad-input',
          `the configuration has ${problems.length} problem${problems.length > 1 ? 's' : ''}`,
        )
      }
      if (!isJson(command))
        process.stdout.write(`the configuration is good${file === undefined ? '; there is no file' : ` (${file})`}\n`)
    })
  addSettings(config.command('show'))
    .description('prints every setting with its value and where that comes from')
    .action(async (_options, command: Command) => {
      const { config, from } = await readConfig(sourcesOf(command))
      const rows = settings.map(({ key, path, schema }) => {
        const value = valueAt(config, path)
        return { setting: key, value, text: textOf(value, schema.is), from: from.get(key)?.place }
      })
      const asTable = tableOr(
        '',
        ['setting', 'value', 'from'],
        rows.map(({ setting, text, from }) => [setting, text, from]),
      )
      process.stdout.write(`${isJson(command) ? JSON.stringify(rows, undefined, 2) : asTable}\n`)
    })
  config
    .command('example')
    .description('prints a configuration file with every setting, its default and what it is for')
    .action(() => {
      process.stdout.write(exampleFile())
    })
}

function isJson(command: Command): boolean {
  return command.optsWithGlobals<GlobalOptions>().output === 'json'
}

/** A value as it would be written in the file; settings are texts, numbers, booleans and lists of texts. */
function textOf(value: unknown, is: Setting['schema']['is']): string {
  if (typeof value !== 'number' || is !== 'time')
    return value === undefined ? '' : `${value as string | number | boolean}`
  const [unit, ms] = timeUnits.find(([, ms]) => value % ms === 0) ?? ['ms', 1]
  return `${value / ms}${unit}`
}

const timeUnits = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const

/** A file in which every setting stands with its default, commented out where it has none or need not be said. */
export function exampleFile(): string {
  const lines = [
    '# Configuration of HaDeS. Each setting is also a variable of the environment (control.port: HADES_CONTROL_PORT) and a flag',
    '# (--control-port); flags go before the environment, the environment before this file. `hades config check` checks it,',
    '# `hades config show` says what counts and where it comes from. Settings begin with # alone: they show the default, or an',
    '# example where there is none; take the # away to set one, and that of its section.',
  ]
  let section = ''
  for (const setting of settings) {
    const { path, schema } = setting
    const here = path.slice(0, -1).join('.')
    if (here === '' || here !== section) lines.push('')
    if (here !== section && here !== '') lines.push(`#${here}:`)
    section = here
    const indent = '  '.repeat(path.length - 1)
    const value = schema.example ?? defaultOf(setting) ?? (schema.type === 'boolean' ? 'no' : '')
    lines.push(`# ${sentenceCase(schema.description ?? '')}`, `#${indent}${path.at(-1)}: ${scalar(value)}`)
  }
  return `${lines.join('\n')}\n`
}

function scalar(value: string): string {
  return /^(\d+|no)$/.test(value) ? value : stringify(value).trimEnd()
}

function sentenceCase(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
