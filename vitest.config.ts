import { existsSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

// Two projects: `unit` runs beside the code with real peers on loopback and in namespaces of its own; `lab` boots real
// virtual machines, one file at a time because the machine has few cores. `mariadb` runs those of `unit` that work on the
// database once more, on a MariaDB of its own.
const common = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  pool: 'forks' as const,
  maxWorkers: 2,
}

const onDatabase = ['src/{db,operations,deploy}/**/*.test.ts', 'src/boot/resolve.test.ts']

const hasMariadb = existsSync('/usr/sbin/mariadbd')
if (!hasMariadb) console.warn('the tests on MariaDB are left out: mariadbd is not installed')

const mariadb = {
  test: {
    ...common,
    name: 'mariadb',
    // A statement costs two switches between processes there, which a busy machine makes long.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    include: onDatabase,
    // These work on both by themselves, or on none.
    exclude: ['src/db/{backup,upgrade,mariadb,mariadb-tls,place}.test.ts'],
    globalSetup: './src/db/mariadb-project.ts',
  },
}

export default defineConfig({
  test: {
    reporters: ['default', './tools/tally-reporter.ts'],
    projects: [
      { test: { ...common, name: 'unit', include: ['{src,tools,lab,bench}/**/*.test.ts'] } },
      ...(hasMariadb ? [mariadb] : []),
      {
        test: {
          ...common,
          name: 'lab',
          include: ['test/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 900_000,
          hookTimeout: 900_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
