// Kysely on MariaDB by mysql2. What the network and other clients can do to a statement is dealt with here: a lone statement
// that was certainly not done is done again; a transaction ends with an error that open.ts knows to begin it again for.

import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  MysqlAdapter,
  MysqlQueryCompiler,
  type QueryResult,
  type TransactionSettings,
} from 'kysely'
import type { ResultSetHeader } from 'mysql2/promise'
import { asFailure, isConflict, isElsewhere, isLost, isRepeat, isUnsent, UnknownOutcome } from './errors.ts'
import { MariadbIntrospector } from './mariadb-introspector.ts'
import { MariadbPool, type Session, unreachableMs } from './mariadb-pool.ts'
import { type MariadbPlace, nameOfPlace } from './place.ts'
import { repeated } from './repeat.ts'

/** How long a statement may take; a server that has vanished without a word is given up after it. */
const statementMs = 30_000

/** The same while the schema is brought forward: large tables are copied. */
const migrationStatementMs = 30 * 60_000

/**
 * With `isMigrating` a statement is never done twice by itself, and one whose work was done already is no failure:
 * MariaDB commits each change of the schema by itself, so a migration that was killed begins again with some of it done.
 */
export type MariadbOptions = { readonly isMigrating: boolean }

export function mariadbDialect(place: MariadbPlace, options: MariadbOptions): Dialect {
  return {
    createAdapter: () => new MysqlAdapter(),
    createDriver: () => new MariadbDriver(place, options),
    createIntrospector: (db) => new MariadbIntrospector(db, place.database),
    createQueryCompiler: () => new MysqlQueryCompiler(),
  }
}

class MariadbDriver implements Driver {
  readonly #place: MariadbPlace
  readonly #options: MariadbOptions
  readonly #pool: MariadbPool

  constructor(place: MariadbPlace, options: MariadbOptions) {
    this.#place = place
    this.#options = options
    this.#pool = new MariadbPool(place)
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<MariadbConnection> {
    const name = nameOfPlace(this.#place)
    try {
      return new MariadbConnection(this.#pool, await this.#pool.acquire(), { ...this.#options, name })
    } catch (error) {
      throw asFailure(error, name)
    }
  }

  async releaseConnection(connection: MariadbConnection): Promise<void> {
    connection.release()
  }

  async beginTransaction(connection: MariadbConnection, { isolationLevel }: TransactionSettings): Promise<void> {
    if (isolationLevel !== undefined) {
      await connection.executeQuery(CompiledQuery.raw(`set transaction isolation level ${isolationLevel}`))
    }
    await connection.begin()
  }

  async commitTransaction(connection: MariadbConnection): Promise<void> {
    await connection.commit()
  }

  async rollbackTransaction(connection: MariadbConnection): Promise<void> {
    await connection.rollback()
  }

  async destroy(): Promise<void> {
    await this.#pool.close()
  }
}

class MariadbConnection implements DatabaseConnection {
  readonly #pool: MariadbPool
  readonly #options: MariadbOptions & { readonly name: string }
  #session: Session
  /** False while a new one is sought in place of a broken one. */
  #hasSession = true
  #isBroken = false
  #isInTransaction = false
  /** What ended the transaction on the server's side, before its end here: no statement may follow. */
  #doom: unknown

  constructor(pool: MariadbPool, session: Session, options: MariadbOptions & { readonly name: string }) {
    this.#pool = pool
    this.#session = session
    this.#options = options
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.#isInTransaction) return await this.#inTransaction(query)
    if (this.#options.isMigrating) return await this.#migrating(query)
    const changesNothing = /^\s*(select|start transaction|set transaction)\b/i.test(query.sql)
    return await repeated(async () => {
      if (this.#isBroken) await this.#renew()
      try {
        return await this.#once<R>(query)
      } catch (error) {
        if (!isLost(error) || isUnsent(error) || changesNothing || isElsewhere(error)) throw error
        throw new UnknownOutcome(
          `${this.#options.name} was lost while it was told a change: it may have been made`,
          error,
        )
      }
    }, unreachableMs)
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query)
  }

  async begin(): Promise<void> {
    this.#doom = undefined
    await this.executeQuery(CompiledQuery.raw('start transaction'))
    this.#isInTransaction = true
  }

  async commit(): Promise<void> {
    try {
      await this.#inTransaction(CompiledQuery.raw('commit'))
    } catch (error) {
      if (!isLost(error) || this.#doom !== error) throw error
      throw new UnknownOutcome(`${this.#options.name} was lost as a change was committed: it may have been made`, error)
    } finally {
      this.#isInTransaction = this.#isBroken ? false : this.#isInTransaction
    }
    this.#isInTransaction = false
  }

  /** Never fails: what began the rollback is what the caller must hear of. */
  async rollback(): Promise<void> {
    this.#isInTransaction = false
    if (this.#isBroken) return
    await this.#once(CompiledQuery.raw('rollback')).catch(() => {
      this.#isBroken = true
    })
  }

  release(): void {
    this.#giveBack(this.#isBroken || this.#isInTransaction)
  }

  /** Once only: the pool counts those that are out. */
  #giveBack(isBroken: boolean): void {
    if (this.#hasSession) this.#pool.release(this.#session, isBroken)
    this.#hasSession = false
  }

  async #inTransaction<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.#doom !== undefined) throw this.#doom
    try {
      return await this.#once<R>(query)
    } catch (error) {
      // After a deadlock the server has rolled all of it back, and would take the next statement for one of its own.
      if (isConflict(error) || isLost(error) || isElsewhere(error)) this.#doom = error
      throw error
    }
  }

  async #migrating<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    try {
      return await this.#once<R>(query)
    } catch (error) {
      if (isRepeat(error)) return { rows: [], numAffectedRows: 0n }
      throw error
    }
  }

  async #renew(): Promise<void> {
    this.#giveBack(true)
    try {
      this.#session = await this.#pool.acquire()
      this.#hasSession = true
    } catch (error) {
      throw asFailure(error, this.#options.name)
    }
    this.#isBroken = false
  }

  async #once<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const timeout = this.#options.isMigrating ? migrationStatementMs : statementMs
    try {
      const [result] = await this.#session.connection.query({
        sql: query.sql,
        values: [...query.parameters],
        timeout,
      })
      // The row type is what Kysely derived for the query text.
      if (Array.isArray(result)) return { rows: result as R[] }
      const { insertId, affectedRows } = result as ResultSetHeader
      return { rows: [], insertId: BigInt(insertId), numAffectedRows: BigInt(affectedRows) }
    } catch (error) {
      if (isLost(error)) this.#isBroken = true
      if (isElsewhere(error)) {
        this.#pool.avoid(this.#session)
        this.#isBroken = true
      }
      throw asFailure(error, this.#options.name)
    }
  }
}
