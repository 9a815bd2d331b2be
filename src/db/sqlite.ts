// Kysely on Node's own SQLite. One connection a process: statements are synchronous and quick, so a queue in front of it
// is all the concurrency there is; a transaction holds the connection until it ends. WAL and a busy timeout let other
// processes use the same file.
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { asFailure } from './errors.ts'
import { nameOfPlace } from './place.ts'

/** How long a statement waits for another process that holds the file, before it fails. */
const busyTimeoutMs = 10_000

/** Statements kept prepared; each query text of the program is one, so this is never reached in practice. */
const statementsMax = 500

/** `path` is a file or `:memory:`. */
export function sqliteDialect(path: string): Dialect {
  return {
    createAdapter: () => new TransactionalAdapter(),
    createDriver: () => new NodeSqliteDriver(path),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  }
}

/** All migrations are one transaction: a process that is killed in the middle has changed nothing. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

class NodeSqliteDriver implements Driver {
  readonly #path: string
  #connection: NodeSqliteConnection | undefined
  #free: Promise<void> = Promise.resolve()
  #release: (() => void) | undefined

  constructor(path: string) {
    this.#path = path
  }

  async init(): Promise<void> {
    const name = nameOfPlace({ kind: 'sqlite', path: this.#path })
    try {
      const database = new DatabaseSync(this.#path, { enableForeignKeyConstraints: true })
      database.exec(`pragma busy_timeout = ${busyTimeoutMs}; pragma journal_mode = wal; pragma synchronous = normal`)
      // As MariaDB compares names.
      database.exec('pragma case_sensitive_like = on')
      this.#connection = new NodeSqliteConnection(database, name)
    } catch (error) {
      throw asFailure(error, name)
    }
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    if (!this.#connection) throw new Error('the database is not open')
    const before = this.#free
    let release: () => void = () => {}
    this.#free = new Promise((resolve) => {
      release = resolve
    })
    await before
    this.#release = release
    return this.#connection
  }

  async releaseConnection(): Promise<void> {
    this.#release?.()
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    // `immediate` takes the write lock at once: a transaction that reads and then writes cannot fail half-way for it.
    await connection.executeQuery(CompiledQuery.raw('begin immediate'))
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'))
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'))
  }

  async destroy(): Promise<void> {
    this.#connection?.close()
  }
}

class NodeSqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync
  readonly #name: string
  readonly #statements = new Map<string, StatementSync>()

  constructor(database: DatabaseSync, name: string) {
    this.#database = database
    this.#name = name
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    try {
      return this.#execute<R>(query)
    } catch (error) {
      throw asFailure(error, this.#name)
    }
  }

  #execute<R>(query: CompiledQuery): QueryResult<R> {
    const statement = this.#prepare(query.sql)
    // Kysely's parameters are what our own typed queries put in: strings, numbers and null.
    const parameters = query.parameters as SQLInputValue[]
    if (statement.columns().length > 0) {
      // The row type is what Kysely derived for the query text.
      return { rows: statement.all(...parameters) as R[] }
    }
    const { changes, lastInsertRowid } = statement.run(...parameters)
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) }
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query)
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) {
      if (this.#statements.size >= statementsMax) this.#statements.clear()
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}
