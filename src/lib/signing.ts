// Signatures by Ed25519 (RFC 8032): one key that a service keeps, and its public half for whoever checks. Keys and signatures
// are base64 of their raw bytes.
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto'

/** What precedes the raw bytes of a key in DER (RFC 8410). */
const privatePrefix = Buffer.from('302e020100300506032b657004220420', 'hex')
const publicPrefix = Buffer.from('302a300506032b6570032100', 'hex')
const keyBytes = 32
const signatureBytes = 64

export class SigningKey {
  readonly #key: KeyObject
  readonly publicKey: string

  /** Throws when `seed` has not 32 bytes. */
  constructor(seed: Uint8Array) {
    if (seed.length !== keyBytes) throw new Error(`the signing key has ${seed.length} bytes, not ${keyBytes}`)
    this.#key = createPrivateKey({ key: Buffer.concat([privatePrefix, seed]), format: 'der', type: 'pkcs8' })
    const spki = createPublicKey(this.#key).export({ format: 'der', type: 'spki' })
    this.publicKey = spki.subarray(publicPrefix.length).toString('base64')
  }

  /** A new random seed. */
  static randomSeed(): Buffer {
    return randomBytes(keyBytes)
  }

  sign(text: string): string {
    return sign(null, Buffer.from(text), this.#key).toString('base64')
  }
}

/** True when `signature` is of `text` by the key whose public half is `publicKey`; false for what is no key or signature. */
export function isSignedBy(text: string, signature: string, publicKey: string): boolean {
  const [key, bytes] = [Buffer.from(publicKey, 'base64'), Buffer.from(signature, 'base64')]
  if (key.length !== keyBytes || bytes.length !== signatureBytes) return false
  const spki = createPublicKey({ key: Buffer.concat([publicPrefix, key]), format: 'der', type: 'spki' })
  return verify(null, Buffer.from(text), spki, bytes)
}
