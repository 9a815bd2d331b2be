// A MariaDB for tests: Debian's server on a folder of its own, behind a unix socket, as whoever runs the tests, or as `mysql` for
// root. It dies with the process that started it.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { createConnection } from 'mysql2/promise'
import { until } from '../lib/until.ts'
import type { MariadbPlace } from './place.ts'

export const mariadbProgram = '/usr/sbin/mariadbd'

/** Small, and careless of a crash of the machine; a crash of the server alone loses nothing. */
const frugal = [
  '--innodb-buffer-pool-size=32M',
  '--innodb-log-file-size=16M',
  '--innodb-flush-log-at-trx-commit=2',
  '--innodb-doublewrite=0',
  '--innodb-flush-method=nosync',
  '--innodb-fast-shutdown=2',
  '--performance-schema=off',
  '--skip-log-bin',
  '--skip-name-resolve',
  '--max-connections=300',
]

export type TestServer = {
  readonly folder: string
  readonly socketPath: string
  /** Of the server that runs now. */
  pid(): number
  /** A place in a new, empty database. */
  createDatabase(): Promise<MariadbPlace>
  /** As its administrator. */
  execute(sql: string): Promise<unknown>
  /** Ends the server by a signal and waits for its end. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts it again on what it had, with other arguments where they are given. */
  start(extra?: readonly string[]): Promise<void>
  close(): Promise<void>
}

/** Starts a server. `extra` are arguments of mariadbd; without them it listens on its socket alone. */
export async function startMariadb(extra: readonly string[] = ['--skip-networking']): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-mariadb-'))
  const socketPath = join(folder, 'socket')
  // A server of root's would serve, but rsync, by which a cluster's nodes copy their data, gives up root's rights.
  const isRoot = userInfo().uid === 0
  if (isRoot) await execa('chown', ['mysql:', folder])
  const asUser = ['--pdeathsig', 'KILL', ...(isRoot ? ['--reuid=mysql', '--regid=mysql', '--clear-groups'] : []), '--']
  const data = ['--no-defaults', `--datadir=${folder}/data`, `--tmpdir=${folder}`, `--pid-file=${folder}/pid`]
  let child: ChildProcess | undefined

  const execute = (sql: string): Promise<unknown> => administer(socketPath, sql)
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
  const start = async (more: readonly string[] = extra): Promise<void> => {
    const args = [...data, `--socket=${socketPath}`, `--log-error=${folder}/log.err`, ...frugal, ...more]
    child = spawn('setpriv', [...asUser, mariadbProgram, ...args], { stdio: 'ignore' })
    const started = child
    const became = await until(
      'MariaDB',
      async () => {
        const hasEnded = started.exitCode !== null || started.signalCode !== null
        return hasEnded ? 'ended' : (await execute('select 1')) && 'serves'
      },
      { timeoutMs: 60_000, everyMs: 50 },
    )
    if (became === 'serves') return
    throw new Error(`mariadbd ended: ${(await readFile(join(folder, 'log.err'), 'utf8')).slice(-2000)}`)
  }
  try {
    const install = ['mariadb-install-db', ...data, '--auth-root-authentication-method=normal', '--skip-test-db']
    await execa('setpriv', [...asUser, ...install], { cwd: folder })
    await start()
  } catch (error) {
    await kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  return {
    folder,
    socketPath,
    pid: () => child?.pid ?? 0,
    async createDatabase() {
      const database = `hades_${randomBytes(6).toString('hex')}`
      await execute(`create database ${database}`)
      return {
        kind: 'mariadb',
        nodes: [{ socketPath }],
        database,
        user: 'root',
        password: undefined,
        tls: undefined,
      }
    },
    execute,
    kill,
    start,
    async close() {
      await kill('SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function administer(socketPath: string, sql: string): Promise<unknown> {
  const connection = await createConnection({ socketPath, user: 'root' })
  try {
    return (await connection.query(sql))[0]
  } finally {
    connection.destroy()
  }
}
