// Signed proofs: one a deployment, written once, kept when the host is gone.
import type { SignedProof } from '../model/proof.ts'
import { isDuplicate } from './errors.ts'
import type { Db } from './open.ts'

export type StoredProof = SignedProof & {
  readonly deploymentId: number
  readonly host: string
  readonly signedAt: number
}

/** The proof of a deployment; undefined when none was made. */
export async function findProof(db: Db, deploymentId: number): Promise<StoredProof | undefined> {
  const row = await db.selectFrom('proofs').selectAll().where('deployment_id', '=', deploymentId).executeTakeFirst()
  if (!row) return undefined
  const { document, signature, public_key: publicKey, host, signed_at: signedAt } = row
  return { deploymentId, host, signedAt, document, signature, publicKey }
}

/** Keeps a proof; the first one stays. */
export async function addProof(db: Db, proof: StoredProof): Promise<void> {
  const { deploymentId, host, signedAt, document, signature, publicKey } = proof
  const row = { deployment_id: deploymentId, host, signed_at: signedAt, document, signature, public_key: publicKey }
  try {
    await db.insertInto('proofs').values(row).execute()
  } catch (error) {
    if (!isDuplicate(error)) throw error
  }
}

/** The ended deployments of a host whose disk was proven and whose proof is not kept yet. */
export async function unkeptProofs(db: Db, hostId: number): Promise<number[]> {
  const rows = await db
    .selectFrom('deployments')
    .leftJoin('proofs', 'proofs.deployment_id', 'deployments.id')
    .select('deployments.id')
    .where('host_id', '=', hostId)
    .where('proof', 'is not', null)
    .where('ended_at', 'is not', null)
    .where('proofs.deployment_id', 'is', null)
    .orderBy('deployments.id')
    .execute()
  return rows.map(({ id }) => id)
}
