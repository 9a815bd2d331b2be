// The rules against recorded cases (testdata/, by tools/record-explain.ts): what was done to a machine, and which cause must come
// out first.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { explain, rules } from './explain.ts'
import type { Story } from './story.ts'

type Fixture = { readonly expected: string | null; readonly how: string; readonly story: Story }

const folder = join(import.meta.dirname, 'testdata')
const fixtures = readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .map((file) => ({
    name: file.slice(0, -'.json'.length),
    ...(JSON.parse(readFileSync(join(folder, file), 'utf8')) as Fixture),
  }))
const withCause = fixtures.filter(({ expected }) => expected !== null)
const without = fixtures.filter(({ expected }) => expected === null)

/** Cases that the rules are known to miss. Whoever mends a rule takes its case out. */
const known: readonly string[] = []

test('at least 35 cases are recorded, each with how it was obtained and a cause that there is a rule for', () => {
  expect(withCause.length).toBeGreaterThanOrEqual(35)
  const causes = new Set(rules.map(({ cause }) => cause))
  for (const { name, expected, how } of withCause) {
    expect(how, name).not.toBe('')
    expect(causes, name).toContain(expected)
  }
})

test('the right cause comes first in at least nine of ten recorded cases', () => {
  const missed = withCause.filter(({ story, expected }) => explain(story).causes[0]?.cause !== expected)
  expect(missed.map(({ name }) => name)).toEqual(known)
  expect(missed.length).toBeLessThanOrEqual(withCause.length / 10)
})

test.each(withCause.filter(({ name }) => !known.includes(name)))(
  '$name: the first cause is $expected, and something shows it',
  ({ story, expected }) => {
    const { causes, isStuck, summary } = explain(story)
    const [first] = causes
    expect(first?.cause, summary).toBe(expected)
    expect((first?.evidence.length ?? 0) + (first?.lines?.length ?? 0)).toBeGreaterThan(0)
    expect(first?.check.length).toBeGreaterThan(0)
    expect(isStuck || story.deployment?.state === 'deploying' || story.deployment?.state === 'powering').toBe(true)
  },
)

test.each(without)('$name: no cause is named', ({ name, story }) => {
  const { causes, isStuck, summary } = explain(story)
  expect(causes).toEqual([])
  expect(isStuck).toBe(name.startsWith('unknown'))
  if (isStuck) expect(summary).toContain('Nothing known fits')
})

/** Every beginning of a way that ends well, seen at the moment of its last event, must look well too. */
test.each(without.filter(({ name }) => name === 'healthy-bios' || name === 'healthy-uefi'))(
  '$name: no cause is named at any moment of it',
  ({ story }) => {
    const { endedAt: _, failure: __, ...deployment } = story.deployment ?? ({} as never)
    for (const [index, event] of story.events.entries()) {
      const events = story.events.slice(0, index + 1)
      const now = { ...story, now: event.at + 1000, events, deployment: { ...deployment, state: 'booting' as const } }
      expect(explain(now).causes, `after ${event.kind}`).toEqual([])
      expect(explain(now).isStuck).toBe(false)
    }
  },
)

test('every rule has words and something to check', () => {
  for (const { cause, title, check } of rules) {
    expect(title, cause).toMatch(/\.$/)
    expect(check.length, cause).toBeGreaterThan(0)
  }
  expect(new Set(rules.map(({ cause }) => cause)).size).toBe(rules.length)
})
