// Ten thousand hostile images: `node bench/hostile-images.ts [--inputs 10000] [--seed 1] [--from 0]`. Prints what was run and
// how it ended; fails with the number of the first input that broke a promise, which `--from N --inputs 1` runs again.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runHostile } from '../src/image/hostile.ts'

const text = (preset: string) => ({ type: 'string', default: preset }) as const
const { values } = parseArgs({ options: { inputs: text('10000'), seed: text('1'), from: text('0') } })
const folder = await mkdtemp(join(tmpdir(), 'hades-hostile-'))
try {
  const from = Number(values.from)
  const start = performance.now()
  const result = await runHostile({ folder, seed: Number(values.seed), from, to: from + Number(values.inputs) })
  console.log(JSON.stringify({ ...result, seconds: (performance.now() - start) / 1000 }, null, 2))
} finally {
  await rm(folder, { recursive: true, force: true })
}
