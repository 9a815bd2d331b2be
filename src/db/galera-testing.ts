// A Galera cluster for tests: three of Debian's MariaDB servers on loopback addresses of their own.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { until } from '../lib/until.ts'
import { startMariadb, type TestServer } from './mariadb-testing.ts'
import type { MariadbPlace } from './place.ts'

export const galeraLibrary = '/usr/lib/galera/libgalera_smm.so'

export type TestCluster = {
  readonly nodes: readonly TestServer[]
  /** A new, empty database, by the nodes in this order of their indices. */
  createDatabase(order: readonly number[]): Promise<MariadbPlace>
  /** Kills a node, which leaves the others a majority. */
  kill(index: number): Promise<void>
  /** Starts a node that was killed, and waits until it is in step. */
  rejoin(index: number): Promise<void>
  close(): Promise<void>
}

const addresses = ['127.0.77.1', '127.0.77.2', '127.0.77.3'] as const

/** Starts the nodes one after another: each takes the data from one that runs. */
export async function startGalera(): Promise<TestCluster> {
  const nodes: TestServer[] = []
  const close = async (): Promise<void> => {
    for (const node of nodes) await node.close()
  }
  try {
    for (const address of addresses) nodes.push(await startMariadb(argumentsOf(address, nodes.length === 0)))
    for (const node of nodes) await inStep(node, addresses.length)
  } catch (cause) {
    const log = nodes[0] && (await readFile(join(nodes[0].folder, 'log.err'), 'utf8'))
    await close()
    throw new Error(`the cluster did not come up; its first node says: ${log?.slice(-3000)}`, { cause })
  }
  const at = (index: number): TestServer => {
    const node = nodes[index]
    if (!node) throw new Error(`there is no node ${index}`)
    return node
  }
  await at(0).execute(`create user 'hades'@'%' identified via mysql_native_password`)
  await at(0).execute(`grant all on *.* to 'hades'@'%'`)
  let databases = 0
  return {
    nodes,
    async createDatabase(order) {
      databases += 1
      const database = `hades${databases}`
      await at(order[0] ?? 0).execute(`create database ${database}`)
      const places = order.map((index) => ({ host: addresses[index] ?? '', port: 3306 }))
      return { kind: 'mariadb', nodes: places, database, user: 'hades', password: undefined, tls: undefined }
    },
    kill: (index) => at(index).kill('SIGKILL'),
    async rejoin(index) {
      await at(index).start(argumentsOf(addresses[index] ?? '', false))
      await inStep(at(index), addresses.length)
    },
    close,
  }
}

function argumentsOf(address: string, isFirst: boolean): string[] {
  return [
    `--bind-address=${address}`,
    '--port=3306',
    '--wsrep-on=ON',
    `--wsrep-provider=${galeraLibrary}`,
    `--wsrep-cluster-address=gcomm://${isFirst ? '' : addresses.join(',')}`,
    '--wsrep-cluster-name=hades-test',
    `--wsrep-node-address=${address}`,
    `--wsrep-node-name=${address}`,
    `--wsrep-provider-options=gmcast.listen_addr=tcp://${address}:4567;ist.recv_addr=${address}:4568;gcache.size=32M`,
    '--wsrep-sst-method=rsync',
    `--wsrep-sst-receive-address=${address}:4444`,
    '--binlog-format=ROW',
    '--default-storage-engine=InnoDB',
    '--innodb-autoinc-lock-mode=2',
  ]
}

async function inStep(node: TestServer, size: number): Promise<void> {
  const connection = await createConnection({ socketPath: node.socketPath, user: 'root' })
  try {
    const status = async (name: string): Promise<unknown> => {
      const [rows] = await connection.query(`show status like 'wsrep_${name}'`)
      // `show status` has these two columns.
      return (rows as { Value?: unknown }[])[0]?.Value
    }
    await until(
      'the cluster',
      async () => (await status('local_state_comment')) === 'Synced' && Number(await status('cluster_size')) === size,
      { timeoutMs: 60_000 },
    )
  } finally {
    connection.destroy()
  }
}
