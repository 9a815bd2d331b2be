import { expect, test } from 'vitest'
import { Keyring, sameSecret } from './seal.ts'
import { Secret } from './secret.ts'

test('what is sealed opens with the same key only, and shows nothing', () => {
  const ring = new Keyring(Keyring.randomKey())
  const sealed = ring.seal(new Secret('hunter2'))
  expect(ring.open(sealed).reveal()).toBe('hunter2')
  expect(Buffer.from(sealed.split(':')[1] ?? '', 'base64').toString('latin1')).not.toContain('hunter2')
  expect(() => new Keyring(Keyring.randomKey()).open(sealed)).toThrow(/which is not among/)
  expect(() => ring.open(sealed.slice(0, 12))).toThrow(/too short/)
})

test('what was changed since does not open', () => {
  const ring = new Keyring(Keyring.randomKey())
  const [id, text = ''] = ring.seal(new Secret('hunter2')).split(':')
  const bytes = Buffer.from(text, 'base64')
  bytes.writeUInt8((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1)
  expect(() => ring.open(`${id}:${bytes.toString('base64')}`)).toThrow()
})

test('while a key is being replaced, what it sealed still opens, and new secrets are sealed with the new one', () => {
  const [old, young] = [Keyring.randomKey(), Keyring.randomKey()]
  const ring = new Keyring(old)
  const [before, oldId] = [ring.seal(new Secret('a')), ring.ids[0]]
  const word = ring.token(oldId, 'x')?.reveal()
  ring.replace(young, old)
  expect(ring.open(before).reveal()).toBe('a')
  expect(ring.token(oldId, 'x')?.reveal()).toBe(word)
  expect(ring.seal(new Secret('b')).startsWith(`${ring.ids[0]}:`)).toBe(true)
  ring.replace(young)
  expect(() => ring.open(before)).toThrow(oldId)
  expect(ring.token(oldId, 'x')).toBeUndefined()
})

test('what was sealed before keys had ids opens with the oldest key', () => {
  const [old, young] = [Keyring.randomKey(), Keyring.randomKey()]
  const [, withoutId = ''] = new Keyring(old).seal(new Secret('a')).split(':')
  expect(new Keyring(young, old).open(withoutId).reveal()).toBe('a')
})

test('a token depends on the key, on every part and on where one part ends', () => {
  const ring = new Keyring(Keyring.randomKey())
  const word = (...parts: string[]) => ring.token(undefined, ...parts)?.reveal() ?? ''
  expect(word('a', 'b')).toBe(word('a', 'b'))
  expect(word('a', 'b')).not.toBe(word('ab', ''))
  expect(new Keyring(Keyring.randomKey()).token(undefined, 'a')?.reveal()).not.toBe(word('a'))
  expect(sameSecret(word('a'), new Secret(word('a')))).toBe(true)
  expect(sameSecret('', new Secret(word('a')))).toBe(false)
})

test('a secret prints as stars wherever it is written', () => {
  const secret = new Secret('hunter2')
  expect(`${String(secret)} ${JSON.stringify({ secret })}`).toBe('*** {"secret":"***"}')
})
