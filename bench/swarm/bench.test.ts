import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, onTestFinished, test } from 'vitest'
import type { RunResult } from './run.ts'

const bench = join(import.meta.dirname, 'bench.ts')

async function leftovers(prefix: string): Promise<string[]> {
  return (await readdir('/run/netns').catch(() => [])).filter((name) => name.startsWith(prefix))
}

async function emptyFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hades-bench-test-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const isRoot = process.getuid?.() === 0

test.skipIf(!isRoot)(
  'two nodes fetch over shaped links in namespaces, as fast as these allow, and nothing is left',
  async () => {
    const dir = await emptyFolder()
    const words = ['--nodes', '2', '--methods', 'http', '--mib', '2', '--mbit', '16', '--json', '--dir', dir]
    const running = execa(process.execPath, [bench, ...words])
    const { stdout } = await running
    const result = JSON.parse(stdout) as { [field: string]: number }
    expect(result).toMatchObject({ method: 'http', n: 2, mib: 2, mbit: 16, finished: 2 })
    // Both share the origin's link; the bucket of the shaper gives a little for nothing.
    expect(result.eff_last).toBeGreaterThan(0.35)
    expect(result.eff_last).toBeLessThan(0.53)
    expect(result.origin_copies).toBeGreaterThan(1.99)
    expect(result.origin_copies).toBeLessThan(2.2)
    expect(await leftovers(`hades-bench-${running.pid}-`)).toEqual([])
    expect(await readdir(dir)).toEqual([])
  },
)

test.skipIf(!isRoot)(
  'a run that is interrupted leaves nothing, and a node that is killed is not waited for',
  async () => {
    const dir = await emptyFolder()
    const words = [
      '--nodes',
      '2',
      '--methods',
      'http',
      '--mib',
      '64',
      '--mbit',
      '16',
      '--dir',
      dir,
      '--fault',
      'kill:1@0s',
    ]
    const running = execa(process.execPath, [bench, ...words], { reject: false })
    for await (const line of running.iterable({ from: 'stderr' })) {
      expect(line).toContain('0/1 done')
      running.kill('SIGINT')
      break
    }
    await running.catch(() => {})
    expect(await leftovers(`hades-bench-${running.pid}-`)).toEqual([])
    expect(await readdir(dir)).toEqual([])
  },
)

test.skipIf(!isRoot)('a node whose packets are delayed ends later, and the other does not', async () => {
  const dir = await emptyFolder()
  const words = ['--nodes', '2', '--methods', 'http', '--mib', '1', '--json', '--verbose', '--fault', 'delay:1:200ms']
  const { stdout } = await execa(process.execPath, [bench, ...words, '--dir', dir])
  const { nodes, others_last_s } = JSON.parse(stdout) as RunResult
  const delayed = nodes?.find(({ fault }) => fault !== undefined)
  expect(delayed?.durable_s).toBeGreaterThan((others_last_s ?? Number.POSITIVE_INFINITY) + 0.4)
})
