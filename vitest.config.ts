import { defineConfig } from 'vitest/config'

// Two projects: `unit` runs beside the code with real peers on loopback and in namespaces of its own; `lab` boots real
// virtual machines, one file at a time because the machine has few cores.
const common = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  pool: 'forks' as const,
}

export default defineConfig({
  test: {
    reporters: ['default', './tools/tally-reporter.ts'],
    projects: [
      { test: { ...common, name: 'unit', include: ['{src,tools,lab,bench}/**/*.test.ts'] } },
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
