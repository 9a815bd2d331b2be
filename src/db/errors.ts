// What a database driver's error means: a duplicate, a conflict that goes away when the same is done again, a database that
// cannot be worked with now, or (everything else) a defect of ours. The only place that knows the codes of SQLite, MariaDB
// and Galera.
import { Failure } from '../model/failure.ts'

/** The parts of an error of mysql2 or of node:sqlite that are read here. */
type DriverError = Error & {
  readonly code?: unknown
  readonly errno?: unknown
  readonly errcode?: unknown
  readonly sqlState?: unknown
}

/** SQLite's primary result codes; the extended ones have them in the low byte. */
const sqliteUnavailable: Readonly<Record<number, string>> = {
  5: 'another process holds the database file',
  6: 'another process holds the database file',
  8: 'the database file is read-only',
  10: 'the disk under the database file has an error',
  11: 'the database file is damaged',
  13: 'the disk under the database file is full',
  14: 'the database file cannot be opened',
  26: 'the file is no SQLite database',
}

/** Error numbers of MariaDB and MySQL with which nothing was done, and which time or an administrator mends. */
const serverUnavailable: Readonly<Record<number, string>> = {
  1021: 'the disk under the database is full',
  1040: 'the database takes no more connections',
  1041: 'the database is out of memory',
  1044: 'the database refuses this user',
  1045: 'the database refuses this user or password, or wants TLS of it (tls=verify, perhaps cert=, in `database`)',
  1047: 'this node of the cluster serves no statements now',
  1049: 'the server has no database of this name',
  1053: 'the database is shutting down',
  1114: 'the disk or table space under the database is full',
  1129: 'the database has blocked this machine after many broken connections',
  1130: 'the database takes no connections from this machine',
  1142: 'the database does not let this user do it',
  1203: 'the database takes no more connections of this user',
  1290: 'the database is read-only',
  1698: 'the database refuses this user or password',
  1792: 'the database is read-only',
  1836: 'the database is read-only',
  1927: 'the database has ended the connection',
  3159: 'the database takes only connections with TLS: say tls=verify in `database`',
}

/** Deadlock, which is also how Galera says that another node was first; lock wait over; the row changed since it was read. */
const conflictNumbers: ReadonlySet<number> = new Set([1213, 1205, 1020])

/** What the SQL standard calls the same, whatever number the server gives it. */
const serializationFailure = '40001'

/** Of a cluster's node that has lost the others or is not in step yet: another node may serve. */
const elsewhereNumbers: ReadonlySet<number> = new Set([1047, 1053, 1290, 1836])

/** Of the network and of mysql2: the connection is no more, or never was. */
const lostCodes: ReadonlySet<string> = new Set([
  'PROTOCOL_CONNECTION_LOST',
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'POOL_CLOSED',
  'PROTOCOL_SEQUENCE_TIMEOUT',
])

function chain(error: unknown): DriverError[] {
  const errors: DriverError[] = []
  for (let e = error; e instanceof Error && errors.length < 8; e = e.cause) errors.push(e)
  return errors
}

const numberOf = (error: DriverError): number => (typeof error.errno === 'number' ? error.errno : 0)

const sqliteCodeOf = (error: DriverError): number => (typeof error.errcode === 'number' ? error.errcode & 0xff : 0)

/** Whether a statement was refused because a unique key has this value already. Nothing of it was done. */
export function isDuplicate(error: unknown): boolean {
  return chain(error).some((e) => numberOf(e) === 1062 || e.errcode === 2067 || e.errcode === 1555)
}

/** Whether the database gave up a statement, or a whole transaction, for another's sake: done again, it can succeed. */
export function isConflict(error: unknown): boolean {
  return chain(error).some((e) => conflictNumbers.has(numberOf(e)) || e.sqlState === serializationFailure)
}

/** Whether the connection is no more. What was under way on it may or may not have been done. */
export function isLost(error: unknown): boolean {
  // A file that a setting names and that is not there: no connection was tried.
  if (error instanceof Failure && error.code === 'bad-input') return false
  return chain(error).some(
    (e) =>
      (typeof e.code === 'string' && lostCodes.has(e.code)) ||
      // mysql2 gives every error of a TLS handshake its own code.
      /^(read|write) E[A-Z]+$|socket disconnected before/.test(e.message) ||
      e.message.includes('closed state') ||
      // Shutting down, and killed: the server closes the connection after saying so.
      [1053, 1927, 4031].includes(numberOf(e)),
  )
}

/** Whether a statement never left, or not whole, because its connection had been closed before. */
export function isUnsent(error: unknown): boolean {
  return chain(error).some((e) => e.message.includes('closed state') || e.code === 'EPIPE')
}

/** Whether another node of the cluster may do what this one refuses. */
export function isElsewhere(error: unknown): boolean {
  return chain(error).some((e) => elsewhereNumbers.has(numberOf(e)))
}

/** Whether the schema has this table, column, index or row of a migration already, or no longer has what one drops. */
export function isRepeat(error: unknown): boolean {
  return chain(error).some((e) => [1050, 1060, 1061, 1062, 1091].includes(numberOf(e)))
}

/** A change whose answer was lost: it may have been made, so nobody here makes it again. */
export class UnknownOutcome extends Failure {
  constructor(message: string, cause: unknown) {
    super('database-unavailable', message, { cause })
  }
}

export function isUnknownOutcome(error: unknown): boolean {
  return chain(error).some((e) => e instanceof UnknownOutcome)
}

/** The driver's error as a Failure, when it is the world's and not ours; else as it is. */
export function asFailure(error: unknown, database: string): unknown {
  if (!(error instanceof Error) || error instanceof Failure) return error
  const driver: DriverError = error
  const why = sqliteUnavailable[sqliteCodeOf(driver)] ?? serverUnavailable[numberOf(driver)]
  if (why !== undefined) return new Failure('database-unavailable', `${database}: ${why}`, { cause: error })
  if (isConflict(error)) {
    return new Failure('database-unavailable', `${database}: others change the same rows`, { cause: error })
  }
  if (isLost(error)) {
    return new Failure('database-unavailable', `${database} cannot be reached`, { cause: error })
  }
  return error
}
