// Vitest's project `mariadb`: one server for all of its files.
import { startMariadb } from './mariadb-testing.ts'

/** Starts it; what is returned ends it. */
export async function setup(): Promise<() => Promise<void>> {
  const server = await startMariadb()
  process.env.HADES_TEST_MARIADB_SOCKET = server.socketPath
  return () => server.close()
}
