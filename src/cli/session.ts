// What every command has: the ports of the service, and where and how to write.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createClient, type Transport } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { type Cell, type Format, table } from './output.ts'

/** Options that every command takes. */
export type GlobalOptions = {
  readonly output: Format
  readonly data: string
  readonly server?: string
  readonly tokenFile?: string
}

/** Where the service keeps its data, and its socket, unless told otherwise. */
export const defaultDataFolder = '/var/lib/hades'

/** The service's unix socket in its data folder: whoever may open it is its administrator. */
export function controlSocket(dataFolder: string): string {
  return join(resolve(dataFolder), 'control.sock')
}

export type Session = {
  readonly control: PortClient<typeof controlPort.operations>
  readonly power: PortClient<typeof powerPort.operations>
  readonly format: Format
  /** Prints a line of the result. */
  readonly print: (line: string) => void
  /** Prints `value` as JSON, or as what `asText` makes of it. */
  readonly show: <T>(value: T, asText: (value: T) => string) => void
}

/** Makes the session when a command runs, from the options as they were given. */
export type OpenSession = (command: Command) => Session

/** Opens nothing yet: the first call does. Failure `bad-input` when the token file cannot be read. */
export function openSession(options: GlobalOptions): Session {
  const transport = transportOf(options)
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  return {
    control: createClient(controlPort, transport),
    power: createClient(powerPort, transport),
    format: options.output,
    print,
    show: (value, asText) => print(options.output === 'json' ? JSON.stringify(value, undefined, 2) : asText(value)),
  }
}

function transportOf({ server, tokenFile, data }: GlobalOptions): Transport {
  if (server === undefined) return { kind: 'unix', socketPath: controlSocket(data) }
  const file = tokenFile ?? join(resolve(data), 'admin.token')
  try {
    return { kind: 'http', baseUrl: server, token: new Secret(readFileSync(file, 'utf8').trim()) }
  } catch (cause) {
    throw new Failure('bad-input', `the token file ${file} cannot be read: name another with --token-file`, { cause })
  }
}

/** A table, or a sentence when it would be empty. */
export function tableOr(nothing: string, headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return rows.length === 0 ? nothing : table(headings, rows)
}
