import { expect, test } from 'vitest'
import { runHostile } from './hostile.ts'
import { testFolder } from './testing.ts'

/** A part of the ten thousand that `node bench/hostile-images.ts` runs; HOSTILE_INPUTS asks for more. */
const inputs = Number(process.env.HOSTILE_INPUTS ?? 400)

test('hostile images, archives and folders end as images or as failures, leave nothing and keep to their limits', async () => {
  const result = await runHostile({ folder: testFolder(), seed: 1, from: 0, to: inputs })
  expect(result.inputs).toBe(inputs)
  // Both ends occur, or the changes would say nothing.
  expect(result.taken).toBeGreaterThan(inputs / 50)
  expect(result.refused).toBeGreaterThan(inputs / 50)
}, 600_000)
