// Vitest's project `mariadb`: one server for all of its files.
import type { TestProject } from 'vitest/node'
import { startMariadb } from './mariadb-testing.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Only in the project `mariadb`. */
    mariadbSocket?: string
  }
}

/** Starts it; what is returned ends it. Not told by the environment: programs that other projects start would inherit it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startMariadb()
  project.provide('mariadbSocket', server.socketPath)
  return () => server.close()
}
