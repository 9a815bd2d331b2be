// What every command has: the ports of the service, and where and how to write.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createClient, type Transport } from '../client/client.ts'
import { plainFingerprint, type Trust } from '../client/trust.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { type Cell, type Format, table } from './output.ts'
import { savedLogin } from './saved-login.ts'

/** Options that every command takes. */
export type GlobalOptions = {
  readonly output: Format
  readonly data: string
  readonly server?: string
  readonly tokenFile?: string
  readonly idempotencyKey?: string
  readonly ca?: string
  readonly fingerprint?: string
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
export function openSession(options: GlobalOptions, isDataGiven: boolean): Session {
  const transport = transportOf(options, isDataGiven)
  const { idempotencyKey } = options
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  return {
    control: createClient(controlPort, transport, { idempotencyKey }),
    power: createClient(powerPort, transport, { idempotencyKey }),
    format: options.output,
    print,
    show: (value, asText) => print(options.output === 'json' ? JSON.stringify(value, undefined, 2) : asText(value)),
  }
}

/**
 * The service at --server, known by the token file or the saved login; where the last login went, when nothing else is said;
 * or the unix socket of the data folder.
 */
function transportOf(options: GlobalOptions, isDataGiven: boolean): Transport {
  const saved = options.server === undefined && isDataGiven ? undefined : savedLogin()
  const { server = isDataGiven ? undefined : saved?.server } = options
  if (server === undefined) return { kind: 'unix', socketPath: controlSocket(options.data) }
  if (options.tokenFile === undefined && saved?.server === server) {
    return serverTransport(server, { ...saved, ...options }, saved.token)
  }
  return serverTransport(server, options, readToken(options))
}

/** The word of the token file, or of the data folder's if there is one that can be read. */
function readToken({ tokenFile, data }: GlobalOptions): string | undefined {
  const file = tokenFile ?? join(resolve(data), 'admin.token')
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    if (tokenFile === undefined) return undefined
    throw new Failure('bad-input', `the token file ${file} cannot be read: name another with --token-file`, { cause })
  }
}

/** How the service at a URL is reached, and known by its certificate. Failure `bad-input` for what is no certificate. */
export function serverTransport(
  server: string,
  { ca, fingerprint }: Trust,
  token?: string,
): Extract<Transport, { kind: 'http' }> {
  if (fingerprint !== undefined && plainFingerprint(fingerprint) === undefined) {
    throw new Failure('bad-input', 'a fingerprint has 64 hexadecimal digits, as `hades ca` prints it', {
      at: '--fingerprint',
    })
  }
  const word = token === undefined ? {} : { token: new Secret(token) }
  return {
    kind: 'http',
    baseUrl: server,
    ...word,
    trust: { ca: ca === undefined ? undefined : readCa(ca), fingerprint },
  }
}

/** A certificate in PEM: the file's, or what a login has kept. */
function readCa(ca: string): string {
  if (ca.startsWith('-----BEGIN')) return ca
  try {
    return readFileSync(ca, 'utf8')
  } catch (cause) {
    throw new Failure('bad-input', `the certificate ${ca} cannot be read`, { cause, at: '--ca' })
  }
}

/** A table, or a sentence when it would be empty. */
export function tableOr(nothing: string, headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return rows.length === 0 ? nothing : table(headings, rows)
}
