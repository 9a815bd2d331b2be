import { expect, test } from 'vitest'
import { Keyring, sameSecret } from './seal.ts'
import { Secret } from './secret.ts'

test('what is sealed opens with the same key only, and shows nothing', () => {
  const ring = new Keyring(Keyring.randomKey())
  const sealed = ring.seal(new Secret('hunter2'))
  expect(ring.open(sealed).reveal()).toBe('hunter2')
  expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain('hunter2')
  expect(() => new Keyring(Keyring.randomKey()).open(sealed)).toThrow()
  expect(() => ring.open(sealed.slice(0, 8))).toThrow(/too short/)
})

test('a token depends on every part and on where one part ends', () => {
  const ring = new Keyring(Keyring.randomKey())
  expect(ring.token('a', 'b').reveal()).toBe(ring.token('a', 'b').reveal())
  expect(ring.token('a', 'b').reveal()).not.toBe(ring.token('ab', '').reveal())
  expect(sameSecret(ring.token('a').reveal(), ring.token('a'))).toBe(true)
  expect(sameSecret('', ring.token('a'))).toBe(false)
})

test('a secret prints as stars wherever it is written', () => {
  const secret = new Secret('hunter2')
  expect(`${String(secret)} ${JSON.stringify({ secret })}`).toBe('*** {"secret":"***"}')
})
