// Connections to a MariaDB, or to whichever node of its cluster answers first in the order given. Every session is set up
// alike, so that statements mean what they mean on SQLite.
import { setTimeout as delay } from 'node:timers/promises'
import { type Connection, type ConnectionOptions, createConnection } from 'mysql2/promise'
import { Failure } from '../model/failure.ts'
import { isElsewhere, isLost } from './errors.ts'
import { tlsFailure, tlsOptions } from './mariadb-tls.ts'
import { type MariadbNode, type MariadbPlace, nameOfNode, nameOfPlace } from './place.ts'

/** Connections open at a time: enough to keep a database busy, few enough for many services on one server. */
const connectionsMax = 16

/** How long one node is tried. */
const connectMs = 4000

/** How long all nodes are tried, again and again, before a caller is told that the database cannot be reached. */
export const unreachableMs = 15_000

/** How long a caller waits for one of the connections. */
const queueMs = 30_000

/** Older connections are closed when they are given back: work returns to the first node once that is well again. */
const connectionAgeMs = 5 * 60_000

/** A node that failed is asked last for so long. */
const restMs = 10_000

const againMs = 200

/** A session, and when it was opened. */
export type Session = { readonly connection: Connection; readonly openedAt: number }

type Waiter = { readonly take: (session: Session | undefined) => void }

export class MariadbPool {
  readonly #place: MariadbPlace
  readonly #idle: Session[] = []
  readonly #waiters: Waiter[] = []
  readonly #restUntil = new Map<MariadbNode, number>()
  #open = 0
  #isClosed = false

  constructor(place: MariadbPlace) {
    this.#place = place
  }

  /** A session for one caller alone. Failure `database-unavailable` when there is none in time. */
  async acquire(): Promise<Session> {
    if (this.#isClosed) throw new Failure('database-unavailable', `${nameOfPlace(this.#place)} is closed`)
    const idle = this.#idle.pop()
    if (idle) return idle
    if (this.#open >= connectionsMax) {
      const session = await this.#wait()
      if (session) return session
    } else this.#open += 1
    try {
      return await this.#connect()
    } catch (error) {
      this.#letGo()
      throw error
    }
  }

  /** Gives a session back; a broken one is closed. */
  release(session: Session, isBroken: boolean): void {
    const isOld = performance.now() - session.openedAt > connectionAgeMs
    if (isBroken || isOld || this.#isClosed) {
      session.connection.destroy()
      this.#letGo()
      return
    }
    const waiter = this.#waiters.shift()
    if (waiter) waiter.take(session)
    else this.#idle.push(session)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { connection } of this.#idle.splice(0)) {
      this.#open -= 1
      await connection.end().catch(() => connection.destroy())
    }
  }

  /** The place of one session is free: whoever waits may open its own. */
  #letGo(): void {
    const waiter = this.#waiters.shift()
    if (waiter) waiter.take(undefined)
    else this.#open -= 1
  }

  async #wait(): Promise<Session | undefined> {
    return await new Promise((resolve, reject) => {
      const waiter: Waiter = {
        take: (session) => {
          clearTimeout(timer)
          resolve(session)
        },
      }
      const timer = setTimeout(() => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        const why = `all ${connectionsMax} connections have been busy for ${queueMs / 1000} s`
        reject(new Failure('database-unavailable', `${nameOfPlace(this.#place)}: ${why}`))
      }, queueMs)
      this.#waiters.push(waiter)
    })
  }

  async #connect(): Promise<Session> {
    const end = performance.now() + unreachableMs
    for (;;) {
      let cause: unknown
      let distrust: Failure | undefined
      let mayCome = false
      for (const node of this.#nodesByHope()) {
        try {
          return { connection: await connectTo(this.#place, node), openedAt: performance.now() }
        } catch (error) {
          cause = error
          this.#restUntil.set(node, performance.now() + restMs)
          // A certificate is a node's own: another may have a good one.
          const untrusted = tlsFailure(error, this.#place, node)
          distrust ??= untrusted
          if (untrusted !== undefined) continue
          // A refused password is refused by every node, and by the same one again.
          if (!isLost(error) && !isElsewhere(error)) throw error
          mayCome = true
        }
      }
      // Time brings a node back, and mends no certificate.
      if (!mayCome || performance.now() + againMs >= end || this.#isClosed) throw distrust ?? cause
      await delay(againMs)
    }
  }

  /** In the order given, but those that failed lately last. */
  #nodesByHope(): MariadbNode[] {
    const now = performance.now()
    const isResting = (node: MariadbNode): boolean => (this.#restUntil.get(node) ?? 0) > now
    const { nodes } = this.#place
    return [...nodes.filter((node) => !isResting(node)), ...nodes.filter(isResting)]
  }

  /** A node that refused a statement is asked last for a while. */
  avoid(session: Session): void {
    const { host, port, socketPath } = session.connection.config
    const node = this.#place.nodes.find((node) =>
      'socketPath' in node ? node.socketPath === socketPath : node.host === host && node.port === port,
    )
    if (node) this.#restUntil.set(node, performance.now() + restMs)
  }
}

async function connectTo(place: MariadbPlace, node: MariadbNode): Promise<Connection> {
  const options: ConnectionOptions = {
    ...('socketPath' in node ? { socketPath: node.socketPath } : { host: node.host, port: node.port }),
    user: place.user,
    database: place.database,
    connectTimeout: connectMs,
    charset: 'utf8mb4',
    timezone: 'Z',
    // Sums are DECIMAL there.
    decimalNumbers: true,
    ...(place.password === undefined ? {} : { password: place.password.reveal() }),
    ...(place.tls === undefined ? {} : await tlsOptions(place.tls, node)),
  }
  const connection = await createConnection(options)
  // An error while nobody asks: the next statement meets it.
  connection.on('error', () => {})
  try {
    await setUp(connection)
    return connection
  } catch (cause) {
    connection.destroy()
    throw cause instanceof Error ? Object.assign(cause, { message: `${nameOfNode(node)}: ${cause.message}` }) : cause
  }
}

/** How long a statement waits for the rows of another transaction, before it is a conflict. */
const lockWaitSeconds = 10

async function setUp(connection: Connection): Promise<void> {
  const [rows] = await connection.query('select version() as version, @@sql_mode as mode')
  // The one row of the statement above.
  const [{ version }] = rows as [{ version: string }]
  // Strict: a value that does not fit is refused, never cut. No other mode, whatever the server's own are.
  await connection.query(
    `set session sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', innodb_lock_wait_timeout = ${lockWaitSeconds}`,
  )
  // As on SQLite: whoever looks and then writes in one transaction is right about what was seen.
  await connection.query('set session transaction isolation level serializable')
  // On a cluster: what another node has committed is seen by whoever asks here afterwards.
  if (version.includes('MariaDB')) await connection.query('set session wsrep_sync_wait = 1')
}
