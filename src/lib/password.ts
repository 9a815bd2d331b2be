// Passwords as they are kept: argon2id (RFC 9106) in the PHC string format, so that the costs can be raised later and old
// ones still be checked.
import { argon2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import pLimit from 'p-limit'

const derive = promisify(argon2)

/** OWASP's smallest for argon2id: 19 MiB, two passes, one lane; 55 ms on a core of 2020. */
const costs = { memory: 19_456, passes: 2, parallelism: 1 }
const saltBytes = 16
const keyBytes = 32

/** Computed at a time: each takes 19 MiB and a thread of a pool that files are read by too. */
const limit = pLimit(2)
/** Waiting for their turn: more would wait for longer than whoever asks does. */
const waitingMax = 32

const form = /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{8,64})\$([A-Za-z0-9+/]{16,128})$/

/** True when one more password can be checked soon. */
export function canCheckPassword(): boolean {
  return limit.pendingCount < waitingMax
}

export async function hashPassword(password: string): Promise<string> {
  const nonce = randomBytes(saltBytes)
  const key = await limit(() =>
    derive('argon2id', { message: password.normalize('NFC'), nonce, tagLength: keyBytes, ...costs }),
  )
  return `$argon2id$v=19$m=${costs.memory},t=${costs.passes},p=${costs.parallelism}$${base64(nonce)}$${base64(key)}`
}

/**
 * Whether `password` is the one that `hash` was made from. Without a hash it takes as long and is false, so that the
 * time tells nobody who there is. Throws when the hash is none.
 */
export async function isPassword(password: string, hash: string | undefined): Promise<boolean> {
  const [, memory, passes, parallelism, salt = '', key = ''] = form.exec(hash ?? nobody) ?? []
  if (memory === undefined) throw new Error('a stored password is not in the form of argon2id')
  const expected = Buffer.from(key, 'base64')
  const derived = await limit(() =>
    derive('argon2id', {
      message: password.normalize('NFC'),
      nonce: Buffer.from(salt, 'base64'),
      tagLength: expected.length,
      memory: Number(memory),
      passes: Number(passes),
      parallelism: Number(parallelism),
    }),
  )
  return timingSafeEqual(derived, expected) && hash !== undefined
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}

const nobody = `$argon2id$v=19$m=${costs.memory},t=${costs.passes},p=${costs.parallelism}$${base64(randomBytes(saltBytes))}$${base64(randomBytes(keyBytes))}`
