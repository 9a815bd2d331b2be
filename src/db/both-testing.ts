// For tests that need SQLite and MariaDB in one process: new, empty places of either.
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mariadbProgram, startMariadb, type TestServer } from './mariadb-testing.ts'
import type { DatabasePlace } from './place.ts'

/** SQLite, and MariaDB where it is installed. */
export const databaseKinds: readonly DatabasePlace['kind'][] = existsSync(mariadbProgram)
  ? ['sqlite', 'mariadb']
  : ['sqlite']

export type BothDatabases = {
  readonly folder: string
  readonly server: TestServer | undefined
  emptyPlace(kind: DatabasePlace['kind']): Promise<DatabasePlace>
  close(): Promise<void>
}

export async function startBoth(): Promise<BothDatabases> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-both-'))
  const server = databaseKinds.includes('mariadb') ? await startMariadb() : undefined
  let count = 0
  return {
    folder,
    server,
    async emptyPlace(kind) {
      count += 1
      if (kind === 'sqlite') return { kind, path: join(folder, `${count}.db`) }
      if (!server) throw new Error('mariadbd is not installed')
      return await server.createDatabase()
    },
    async close() {
      await server?.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
