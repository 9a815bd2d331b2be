import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { SigningKey } from '../lib/signing.ts'
import { checkSignature, signDigest } from './image-signature.ts'

const key = new SigningKey(Buffer.alloc(32, 7))
const digest = createHash('sha256').update('a manifest').digest('hex')
const signed = { reference: 'debian:12', digest, signature: signDigest(key, digest), publicKey: key.publicKey }

test('what the service signed passes, and is signed alike every time', () => {
  checkSignature(signed)
  expect(signDigest(new SigningKey(Buffer.alloc(32, 7)), digest)).toBe(signed.signature)
})

test.each([
  ['without a signature', { signature: undefined }, 'is not signed'],
  ['of another digest', { digest: digest.replace(/^./, (c) => (c === '0' ? '1' : '0')) }, 'not of this service'],
  ['by another key', { publicKey: new SigningKey(Buffer.alloc(32, 8)).publicKey }, 'not of this service'],
  ['that is cut', { signature: signed.signature.slice(0, 40) }, 'not of this service'],
  ['that is no signature', { signature: 'x'.repeat(88) }, 'not of this service'],
  ['with a key that is none', { publicKey: 'AAAA' }, 'not of this service'],
])('an image %s is refused', (_name, change, words) => {
  const check = () => checkSignature({ ...signed, ...change })
  expect(check).toThrow(expect.objectContaining({ code: 'image-corrupt', message: expect.stringContaining(words) }))
})

test('a key is what RFC 8032 says it is', () => {
  // Section 7.1, test 1.
  const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
  const publicKey = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'
  expect(Buffer.from(new SigningKey(seed).publicKey, 'base64').toString('hex')).toBe(publicKey)
})
