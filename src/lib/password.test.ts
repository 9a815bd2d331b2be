import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { hashPassword, isPassword } from './password.ts'

test('only the password that a hash was made from fits it, in either form of Unicode', async () => {
  const hash = await hashPassword('Grüße an n07')
  expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  expect(await isPassword('Grüße an n07', hash)).toBe(true)
  expect(await isPassword('Gru\u0308ße an n07', hash)).toBe(true)
  expect(await isPassword('Grüße an n08', hash)).toBe(false)
})

test('the same password has another hash each time', async () => {
  expect(await hashPassword('correct horse')).not.toBe(await hashPassword('correct horse'))
})

test('without a hash no password fits', async () => {
  expect(await isPassword('', undefined)).toBe(false)
})

test('a hash made by the reference implementation is understood', async () => {
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'printf %s "correct horse" | argon2 "a salt of bytes" -id -t 3 -k 4096 -p 1 -l 32 -e',
  ])
  expect(await isPassword('correct horse', stdout.trim())).toBe(true)
  expect(await isPassword('correct house', stdout.trim())).toBe(false)
})

test('what is no hash is told, not taken for a wrong password', async () => {
  await expect(isPassword('x', 'plain')).rejects.toThrow(/form of argon2id/)
})
