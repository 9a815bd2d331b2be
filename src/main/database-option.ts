// Where the database is, from the command line and the environment; a password comes from a file or the environment alone.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { type DatabasePlace, parsePlace } from '../db/place.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { defaultConfigFile } from './config.ts'

export type DatabaseOptions = {
  readonly data: string
  /** A URL `mariadb://user@host/database`, or the path of a SQLite file; `hades.db` of the data folder without it. */
  readonly database?: string | undefined
  readonly databasePasswordFile?: string | undefined
}

/** Adds `--database` and `--database-password-file`. */
export function addDatabaseOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--config <file>', `configuration file; ${defaultConfigFile} when it is there (env: HADES_CONFIG)`),
    )
    .addOption(
      new Option(
        '--database <where>',
        'mariadb://user@host[,host]/name?tls=verify, or a SQLite file; hades.db of the data folder without',
      ).env('HADES_DATABASE'),
    )
    .addOption(
      new Option(
        '--database-password-file <file>',
        'a file that holds the password of the database; or HADES_DATABASE_PASSWORD in the environment',
      ).env('HADES_DATABASE_PASSWORD_FILE'),
    )
}

/** Failure `bad-input` names the option at fault. */
export function databasePlace({ data, database, databasePasswordFile }: DatabaseOptions): DatabasePlace {
  if (database === undefined || database === '') return { kind: 'sqlite', path: join(resolve(data), 'hades.db') }
  return parsePlace(database, passwordOf(databasePasswordFile))
}

function passwordOf(file: string | undefined): Secret | undefined {
  if (file === undefined) {
    const given = process.env.HADES_DATABASE_PASSWORD
    return given === undefined ? undefined : new Secret(given)
  }
  try {
    return new Secret(readFileSync(file, 'utf8').replace(/\r?\n$/, ''))
  } catch (cause) {
    throw new Failure('bad-input', `the password file ${file} cannot be read`, {
      cause,
      at: '--database-password-file',
    })
  }
}
