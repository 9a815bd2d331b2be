// Secrets at rest and words derived from one key: the database never holds a password in clear, nor any token at all.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { Secret } from './secret.ts'

const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16

/** A key of 32 bytes, from which one key a purpose is derived (RFC 5869). */
export class Keyring {
  readonly #sealKey: Buffer
  readonly #tokenKey: Buffer

  /** Throws when `key` has not 32 bytes. */
  constructor(key: Uint8Array) {
    if (key.length !== keyBytes) throw new Error(`the key has ${key.length} bytes, not ${keyBytes}`)
    const derive = (purpose: string): Buffer => Buffer.from(hkdfSync('sha256', key, '', `hades ${purpose}`, keyBytes))
    this.#sealKey = derive('seal')
    this.#tokenKey = derive('token')
  }

  /** A new random key. */
  static randomKey(): Buffer {
    return randomBytes(keyBytes)
  }

  /** Encrypts with AES-256-GCM; base64 of nonce, tag and text. */
  seal(secret: Secret): string {
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', this.#sealKey, nonce)
    const text = Buffer.concat([cipher.update(secret.reveal(), 'utf8'), cipher.final()])
    return Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64')
  }

  /** Throws when `sealed` was not sealed with this key or was changed since. */
  open(sealed: string): Secret {
    const bytes = Buffer.from(sealed, 'base64')
    if (bytes.length < nonceBytes + tagBytes) throw new Error('a sealed secret is too short to be one')
    const decipher = createDecipheriv('aes-256-gcm', this.#sealKey, bytes.subarray(0, nonceBytes))
    decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes))
    const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()])
    return new Secret(text.toString('utf8'))
  }

  /** A word that only the holder of the key can make from `parts`: base64url, 32 characters. */
  token(...parts: readonly string[]): Secret {
    const mac = createHmac('sha256', this.#tokenKey).update(JSON.stringify(parts)).digest()
    return new Secret(mac.subarray(0, 24).toString('base64url'))
  }
}

/** Compares without telling by its time how much was right. */
export function sameSecret(given: string, expected: Secret): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected.reveal())]
  return a.length === b.length && timingSafeEqual(a, b)
}
