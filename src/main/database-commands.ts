// `hades db`: the database of a service, worked on directly. These need no service; `restore` and `migrate` need it stopped.
import { access } from 'node:fs/promises'
import { connect as connectSocket } from 'node:net'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { controlSocket, type GlobalOptions } from '../cli/session.ts'
import { backUp, restore } from '../db/backup.ts'
import { checkDatabase } from '../db/check.ts'
import { openDatabase } from '../db/open.ts'
import { nameOfPlace } from '../db/place.ts'
import { openLibrary, storedImages } from '../image/library.ts'
import { Failure } from '../model/failure.ts'
import { readConfig } from './config.ts'
import { sourcesOf } from './config-cli.ts'
import { addDatabaseOptions, type DatabaseOptions, databasePlace } from './database-option.ts'

type Options = GlobalOptions & DatabaseOptions

/** The options of a command, with data folder and database as the configuration of the service says. */
async function optionsOf<Given extends Options>(command: Command): Promise<Given> {
  const { config } = await readConfig(sourcesOf(command))
  const { data, database, databasePasswordFile } = config
  return { ...command.optsWithGlobals<Given>(), data, database, databasePasswordFile }
}

/** Prints the JSON of a result, or its sentence. */
function say({ output }: Options, result: object, text: string): void {
  process.stdout.write(`${output === 'json' ? JSON.stringify(result, undefined, 2) : text}\n`)
}

export function addDatabaseCommands(program: Command): void {
  const db = program.command('db').description('the database: migrate, backup, restore, check')
  addDatabaseOptions(
    db.command('migrate').description("brings the schema to this version's, as starting the service does"),
  ).action(async (_options, command: Command) => {
    const options = await optionsOf<Options>(command)
    const place = databasePlace(options)
    await (await openDatabase(place)).destroy()
    say(options, { migrated: true }, `${nameOfPlace(place)} has the schema of this version`)
  })
  addDatabaseOptions(
    db
      .command('backup')
      .argument('<folder>', 'a folder that is not there yet')
      .description('writes all rows of one moment to a new folder; the service may run meanwhile'),
  ).action(async (folder: string, _options, command: Command) => {
    const options = await optionsOf<Options>(command)
    const manifest = await backUp(databasePlace(options), resolve(folder), Date.now())
    const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0)
    say(options, manifest, `${rows} rows of ${manifest.tables.length} tables are in ${folder}`)
  })
  addDatabaseOptions(
    db
      .command('restore')
      .argument('<folder>', 'a backup')
      .option('--replace', 'gives up what the database holds now')
      .description('puts a backup into an empty database, SQLite or MariaDB; stop every service on it first'),
  ).action(async (folder: string, _options, command: Command) => {
    const options = await optionsOf<Options & { replace?: boolean }>(command)
    await refuseRunning(options.data)
    const place = databasePlace(options)
    const done = await restore(place, resolve(folder), { replace: options.replace ?? false, now: Date.now() })
    say(
      options,
      done,
      `${done.rows} rows are in ${nameOfPlace(place)}; ${done.ended} deployments that were under way have ended`,
    )
  })
  addDatabaseOptions(
    db.command('check').description('schema, foreign keys, rows that point at nothing, images without files'),
  ).action(async (_options, command: Command) => {
    const options = await optionsOf<Options>(command)
    const problems = await findProblems(options)
    say(options, { problems }, problems.length === 0 ? 'nothing is wrong' : problems.join('\n'))
    if (problems.length > 0) process.exitCode = 1
  })
}

async function findProblems(options: Options): Promise<string[]> {
  const { problems, digests } = await checkDatabase(databasePlace(options), Date.now())
  const folder = join(resolve(options.data), 'images')
  const hasLibrary = await access(folder).then(
    () => true,
    () => false,
  )
  if (!hasLibrary) return [...problems, ...(digests.size > 0 ? [`there is no image library in ${folder}`] : [])]
  const stored = new Set((await storedImages(await openLibrary(folder))).map(({ digest }) => digest))
  const lost = [...digests].filter(([digest]) => !stored.has(digest))
  return [...problems, ...lost.map(([digest, name]) => `image ${name} has no files in the library (${digest})`)]
}

/** A service of this data folder that answers would work on rows that are being replaced. */
async function refuseRunning(data: string): Promise<void> {
  const isUp = await new Promise<boolean>((found) => {
    const socket = connectSocket(controlSocket(data))
    socket.on('connect', () => found(true))
    socket.on('error', () => found(false))
    socket.on('connect', () => socket.destroy())
  })
  if (isUp)
    throw new Failure('in-use', `the service of ${data} runs: stop it, and every other one on this database, first`)
}
