// Replacing the key that seals secrets. The new key is kept beside the old one before anything is sealed with it; the old
// one goes when no secret and no agent under way needs it. Both stand in the file meanwhile, so whoever is killed, the next
// start goes on.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import type { SealingKeyView } from '../contract/user-types.ts'
import { countArmed, countSealed, putSealed, sealedOtherwise } from '../db/sealed.ts'
import { Keyring } from '../lib/seal.ts'
import { Failure } from '../model/failure.ts'
import type { World } from './world.ts'

type Here = Pick<World, 'db' | 'keyring' | 'keepKeys'>

/** Secrets that are sealed anew before others have their turn at the database. */
const batch = 100

export function keyHandlers(
  world: World,
): Pick<Handlers<typeof controlOperations>, 'listKeys' | 'rotateKeys' | 'getCertificate'> {
  return {
    async listKeys() {
      return { keys: await keyViews(world) }
    },
    async rotateKeys() {
      await beginRotation(world)
      await continueRotation(world)
      return { keys: await keyViews(world) }
    },
    async getCertificate() {
      const certificate = world.certificate()
      if (!certificate) {
        throw new Failure(
          'wrong-state',
          'this service listens by HTTP on its own machine only: there is no certificate',
        )
      }
      return { certificate }
    },
  }
}

/** Keyrings whose file is being written: two rotations at once would each lose the other's key. */
const beginning = new WeakSet<Keyring>()

async function beginRotation({ keyring, keepKeys }: Here): Promise<void> {
  const [current, ...replaced] = keyring.reveal()
  if (replaced.length > 0 || beginning.has(keyring)) {
    throw new Failure('wrong-state', 'the key before this one is still needed: see listKeys, and wait until it is gone')
  }
  const key = Keyring.randomKey()
  beginning.add(keyring)
  try {
    await keepKeys([key, current])
    keyring.replace(key, current)
  } finally {
    beginning.delete(keyring)
  }
}

/**
 * Seals with the current key what is sealed with another, and lets the others go when nothing needs them. Does nothing
 * when there is one key. True when there is one key now.
 */
export async function continueRotation({ db, keyring, keepKeys }: Here): Promise<boolean> {
  const [current, ...replaced] = keyring.ids
  if (replaced.length === 0) return true
  for (;;) {
    const secrets = await sealedOtherwise(db, current, batch)
    if (secrets.length === 0) break
    for (const secret of secrets) await putSealed(db, secret, keyring.seal(keyring.open(secret.sealed)))
  }
  const needed = await Promise.all(replaced.map((id, at) => countArmed(db, id, at === replaced.length - 1)))
  if (needed.some((count) => count > 0)) return false
  const [key] = keyring.reveal()
  await keepKeys([key])
  keyring.replace(key)
  return true
}

async function keyViews({ db, keyring }: Here): Promise<SealingKeyView[]> {
  const { ids } = keyring
  return await Promise.all(
    ids.map(async (id, at) => ({
      id,
      isCurrent: at === 0,
      sealed: await countSealed(db, id, at === ids.length - 1),
      deployments: await countArmed(db, id, at === ids.length - 1),
    })),
  )
}
