// Machines of no host that boot from the network: which of them get an address of the pool, and the token of the one report
// that a scout may make for them. How many are answered is bounded here: a MAC address costs nothing to forge.
import type { Kysely } from 'kysely'
import { type Discovered, discoveryPolicy, lookUpSeen, putNonce, seenNow } from '../db/discovered.ts'
import { leaseFromPool } from '../db/pool-leases.ts'
import type { Schema } from '../db/schema.ts'
import type { Keyring } from '../lib/seal.ts'
import type { Secret } from '../lib/secret.ts'
import { tellLimit } from '../lib/tell-limit.ts'
import { answerToStranger, type StrangerAnswer } from '../model/discovery.ts'
import { newNonce, reportToken, reportTokenMs } from '../model/token.ts'
import type { DhcpAsker, Reservation } from './dhcp-answer.ts'

type Here = { readonly db: Kysely<Schema>; readonly now: () => number; readonly keyring: Keyring }

/** A rack that is switched on at once; more wait for their turn, as one that forges addresses does. */
const newcomers = { burst: 200, perSecond: 5 }

/** Long enough for a slow machine to load the scout, which asks again at half of it. */
const poolLeaseSeconds = 600

export type ToldStranger = { readonly answer: StrangerAnswer; readonly token?: Secret }

/** Makes what decides the answer to the loader of a machine (lower case, colons) that is no host. */
export function strangerTeller({ db, now, keyring }: Here): (mac: string) => Promise<ToldStranger> {
  const mayArm = tellLimit(newcomers)
  return async (mac) => {
    const policy = await discoveryPolicy(db)
    const seen = policy === 'scout' ? await lookUpSeen(db, mac) : undefined
    const answer = answerToStranger(policy, seen && { state: seen.state, hasReported: seen.inventory_at !== null })
    if (answer !== 'scout') return { answer }
    const known = seen && freshToken(keyring, seen, now())
    if (known) return { answer, token: known }
    if (mayArm() === undefined) return { answer: 'hold' }
    const token = await arm({ db, now, keyring }, mac)
    return token ? { answer, token } : { answer: 'hold' }
  }
}

/** A loader may ask several times in one boot: it is told the same word, unless that would end before the scout uses it. */
function freshToken(keyring: Keyring, seen: Discovered, now: number): Secret | undefined {
  return reportToken(keyring, { mac: seen.mac, nonce: seen.nonce, armedAt: seen.armed_at }, now + reportTokenMs / 2)
}

/** Undefined when the machine has become a host, or has made room for another, meanwhile. */
async function arm({ db, now, keyring }: Here, mac: string): Promise<Secret | undefined> {
  const row = await seenNow(db, { mac, source: 'boot', said: 'asked what to boot' }, now())
  if (row) await putNonce(db, row, newNonce(keyring), now())
  // Another service may have been faster; either's word is good.
  const armed = await lookUpSeen(db, mac)
  return armed && freshToken(keyring, armed, now())
}

/**
 * Makes the look-up of addresses for machines that are no host. Only what boots from the network gets one, while its loader
 * would be told anything: the system on a stranger's disk, or somebody's laptop, is not ours to serve.
 */
export function poolReservations(
  { db, now }: Omit<Here, 'keyring'>,
  addresses: readonly string[],
): (mac: string, asker: DhcpAsker) => Promise<Reservation | undefined> {
  const mayGive = tellLimit(newcomers)
  const pool = { addresses, leaseMs: poolLeaseSeconds * 1000, mayTake: () => mayGive() !== undefined }
  return async (mac, { client, isRelayed }) => {
    // An address of this network is of no use in another.
    if (isRelayed || client.kind === 'system' || (await discoveryPolicy(db)) === 'ignore') return undefined
    const address = await leaseFromPool(db, mac, pool, now())
    if (address === undefined) return undefined
    return { address, bootTarget: 'local', loader: 'auto', leaseSeconds: poolLeaseSeconds }
  }
}
