import { expect, test } from 'vitest'
import { bootTargetForms, isSpent, onceMs, parseBootTarget, partsOf, targetNow } from './boot.ts'

test.each([
  ['scout', { kind: 'scout' }],
  ['local', { kind: 'local' }],
  ['hold', { kind: 'hold' }],
  ['local:1', { kind: 'partition', partition: 1 }],
  ['local:128', { kind: 'partition', partition: 128 }],
  ['netboot:memtest86-6.10', { kind: 'netboot', profile: 'memtest86-6.10' }],
] as const)('%s is a boot target and stays as it is written', (text, parts) => {
  expect(parseBootTarget(text)).toBe(text)
  expect(partsOf(text)).toEqual(parts)
})

test.each([
  ['', bootTargetForms],
  ['disk', bootTargetForms],
  ['Scout', bootTargetForms],
  ['scout\n', bootTargetForms],
  ['local:', 'no number from 1 to 128'],
  ['local:0', 'no number from 1 to 128'],
  ['local:02', 'no number from 1 to 128'],
  ['local:129', 'no number from 1 to 128'],
  ['local:1\n', 'no number from 1 to 128'],
  ['netboot:', 'no name of lower-case letters'],
  ['netboot:../x', 'no name of lower-case letters'],
  ['netboot:a b', 'no name of lower-case letters'],
  [`netboot:${'a'.repeat(64)}`, 'no name of lower-case letters'],
])('%j is no boot target, and the sentence says why', (text, why) => {
  expect(() => parseBootTarget(text, 'finish')).toThrow(
    expect.objectContaining({ code: 'bad-input', at: 'finish', message: expect.stringContaining(why) }),
  )
})

test('a target for one boot is answered until the window after the first request is over, then the default', () => {
  const record = { target: 'netboot:rescue', defaultTarget: 'local', isOnce: true, askedAt: null } as const
  expect(targetNow(record, 1e12)).toBe('netboot:rescue')
  const asked = { ...record, askedAt: 1000 }
  expect(targetNow(asked, 1000 + onceMs - 1)).toBe('netboot:rescue')
  expect(targetNow(asked, 1000 + onceMs)).toBe('local')
  expect(isSpent({ ...asked, isOnce: false }, 1e12)).toBe(false)
})
