// Secrets at rest and words derived from a key: the database never holds a password in clear, nor any token at all. There is
// one key, and while it is being replaced there are two; each has an id, which what was sealed with it begins with.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { Secret } from './secret.ts'

const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16

/** One key of 32 bytes, from which one key a purpose is derived (RFC 5869). */
type Key = { readonly id: string; readonly raw: Uint8Array; readonly seal: Buffer; readonly token: Buffer }

function keyOf(raw: Uint8Array): Key {
  if (raw.length !== keyBytes) throw new Error(`the key has ${raw.length} bytes, not ${keyBytes}`)
  const derive = (purpose: string, bytes: number): Buffer =>
    Buffer.from(hkdfSync('sha256', raw, '', `hades ${purpose}`, bytes))
  return { id: derive('id', 4).toString('hex'), raw, seal: derive('seal', keyBytes), token: derive('token', keyBytes) }
}

/** The keys that there are: the current one, and behind it those that are being replaced. */
export class Keyring {
  #keys: readonly [Key, ...Key[]]

  /** The current key first. Throws when one has not 32 bytes. */
  constructor(current: Uint8Array, ...replaced: readonly Uint8Array[]) {
    this.#keys = [keyOf(current), ...replaced.map(keyOf)]
  }

  /** A new random key. */
  static randomKey(): Buffer {
    return randomBytes(keyBytes)
  }

  /** From now on these are the keys, the current one first. */
  replace(current: Uint8Array, ...replaced: readonly Uint8Array[]): void {
    this.#keys = [keyOf(current), ...replaced.map(keyOf)]
  }

  /** The keys themselves, the current one first, for where they are kept. */
  reveal(): readonly [Uint8Array, ...Uint8Array[]] {
    const [current, ...replaced] = this.#keys
    return [current.raw, ...replaced.map(({ raw }) => raw)]
  }

  /** Ids of the keys, the current one first. */
  get ids(): readonly [string, ...string[]] {
    const [current, ...replaced] = this.#keys
    return [current.id, ...replaced.map(({ id }) => id)]
  }

  /** Encrypts with AES-256-GCM by the current key; its id, and base64 of nonce, tag and text. */
  seal(secret: Secret): string {
    const [{ id, seal }] = this.#keys
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', seal, nonce)
    const text = Buffer.concat([cipher.update(secret.reveal(), 'utf8'), cipher.final()])
    return `${id}:${Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64')}`
  }

  /** Throws when `sealed` was not sealed with one of these keys or was changed since. */
  open(sealed: string): Secret {
    const [first = '', second] = sealed.split(':')
    const [id, text] = second === undefined ? [undefined, first] : [first, second]
    const bytes = Buffer.from(text, 'base64')
    if (bytes.length < nonceBytes + tagBytes) throw new Error('a sealed secret is too short to be one')
    return decrypt(this.#key(id), bytes)
  }

  /**
   * A word that only the holder of the key can make from `parts`: base64url, 32 characters. Undefined when there is no key
   * with this id any more.
   */
  token(id: string | undefined, ...parts: readonly string[]): Secret | undefined {
    const key = this.#find(id)
    const mac = key && createHmac('sha256', key.token).update(JSON.stringify(parts)).digest()
    return mac && new Secret(mac.subarray(0, 24).toString('base64url'))
  }

  #key(id: string | undefined): Key {
    const key = this.#find(id)
    if (!key) throw new Error(`a secret is sealed with the key ${id}, which is not among ${this.ids.join(', ')}`)
    return key
  }

  /** What was made before keys had ids was made with the oldest. */
  #find(id: string | undefined): Key | undefined {
    return id === undefined ? this.#keys.at(-1) : this.#keys.find((key) => key.id === id)
  }
}

function decrypt({ seal }: Key, bytes: Buffer): Secret {
  const decipher = createDecipheriv('aes-256-gcm', seal, bytes.subarray(0, nonceBytes))
  decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes))
  const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()])
  return new Secret(text.toString('utf8'))
}

/** Compares without telling by its time how much was right. */
export function sameSecret(given: string, expected: Secret): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected.reveal())]
  return a.length === b.length && timingSafeEqual(a, b)
}
