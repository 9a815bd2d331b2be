// Proofs of deployments: the record is put together from the rows when a deployment has ended, signed, and kept.
import { createHash } from 'node:crypto'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import type { FailureReport, Inventory, Proof } from '../contract/types.ts'
import { courseOf } from '../db/captures.ts'
import { findDeployment, imagesOfRollout, type NamedDeployment, type StateTime } from '../db/deployments.ts'
import { eventsBetween } from '../db/events.ts'
import { inventoriesOf } from '../db/hosts.ts'
import { signatureOf } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { addProof, findProof, type StoredProof, unkeptProofs } from '../db/proofs.ts'
import { scriptsOfRollout } from '../db/scripts.ts'
import { setupById } from '../db/setups.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { signProof } from '../model/proof.ts'
import { version } from './version.ts'
import { dateTime, present } from './views.ts'
import type { World } from './world.ts'

type Prover = Pick<World, 'signingKey' | 'now'>

export function proofHandlers(world: World): Pick<Handlers<typeof controlOperations>, 'getProof' | 'getSigningKey'> {
  const { db, signingKey } = world
  return {
    async getProof({ deployment }) {
      const { host, signedAt, document, signature, publicKey } =
        (await findProof(db, deployment)) ?? (await keepProof(world, db, deployment))
      return { deployment, host, signedAt: dateTime(signedAt), document, signature, publicKey }
    },
    async getSigningKey() {
      return { publicKey: signingKey.publicKey }
    },
  }
}

/** Makes, signs and keeps the proof of a deployment. Failure `wrong-state` when there is nothing to prove, or not yet. */
export async function keepProof(prover: Prover, db: Db, deployment: number): Promise<StoredProof> {
  const row = await findDeployment(db, deployment)
  if (row.ended_at === null) {
    throw new Failure('wrong-state', `deployment ${deployment} of ${row.host} has not ended: it is ${row.state}`)
  }
  if (row.proof === null) {
    const how = `deployment ${deployment} of ${row.host} ended as ${row.state} before a disk was proven`
    throw new Failure('wrong-state', `${how}: there is no proof`)
  }
  const signed = signProof(prover.signingKey, await recordOf(db, row, JSON.parse(row.proof) as Proof))
  await addProof(db, { ...signed, deploymentId: row.id, host: row.host, signedAt: prover.now() })
  // Two may have made it at once: the one that is kept is the one that counts.
  const kept = await findProof(db, deployment)
  if (!kept) throw new Error(`the proof of deployment ${deployment} was kept and is not there`)
  return kept
}

/** The same for the engine, which ends deployments of every kind: where nothing was proven there is nothing to keep. */
export async function keepProofIfProven(world: World, deployment: number): Promise<void> {
  try {
    await keepProof(world, world.db, deployment)
  } catch (error) {
    // The deployment has ended all the same; who asks for its proof makes it then.
    if (!(error instanceof Failure)) world.log.error({ err: error, deployment }, 'a proof could not be kept')
  }
}

/** Keeps the proofs of a host that is about to be forgotten. Call it in the transaction that forgets it. */
export async function keepProofsOf(prover: Prover, tx: Db, hostId: number): Promise<void> {
  for (const id of await unkeptProofs(tx, hostId)) await keepProof(prover, tx, id)
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** Everything that was proven and seen, in the words of the contract. */
async function recordOf(db: Db, row: NamedDeployment, proof: Proof): Promise<Record<string, unknown>> {
  const setup = await setupById(db, row.setup_id)
  const images = []
  for (const image of await imagesOfRollout(db, row.rollout_id)) {
    const signature = await signatureOf(db, image.digest)
    images.push({ reference: formatImageReference(image), digest: image.digest, signature: signature ?? undefined })
  }
  const scripts = await scriptsOfRollout(db, row.rollout_id)
  const stored = (await inventoriesOf(db, [row.host_id])).get(row.host_id)
  const history = JSON.parse(row.history) as StateTime[]
  const { imageDigest: _, diskPath, diskSerial, diskWwn, diskSizeBytes, ...rest } = proof
  const { bytesFetched, bytesWritten, bytesZeroed, bytesKept, bytesReadBack, bootEntry, ...done } = rest
  return {
    deployment: row.id,
    rollout: row.rollout_id,
    host: row.host,
    ...present({ site: row.site, rack: row.rack }),
    attempt: row.attempt,
    outcome: row.state,
    ...(row.failure === null ? {} : { failure: JSON.parse(row.failure) as FailureReport }),
    setup: { name: setup.name, version: setup.version, sha256: sha256Of(setup.xml) },
    images,
    scripts: [...scripts].map(([reference, text]) => ({ reference, sha256: sha256Of(text) })),
    disk: { path: diskPath, serial: diskSerial, wwn: diskWwn, sizeBytes: diskSizeBytes },
    bytes: {
      fetched: bytesFetched,
      written: bytesWritten,
      zeroed: bytesZeroed,
      kept: bytesKept,
      readBack: bytesReadBack,
    },
    bootEntry,
    ...done,
    probe: await probeResult(db, row),
    times: {
      started: dateTime(row.started_at),
      ended: row.ended_at === null ? undefined : dateTime(row.ended_at),
      states: history.map(({ state, at }) => ({ state, at: dateTime(at) })),
    },
    versions: { service: version, ...present({ agent: row.agent_version, scoutSha256: row.scout_sha256 }) },
    // Of a machine that was looked at again since, this would be another look.
    ...(stored && stored.at <= (row.ended_at ?? 0) ? { machine: machineOf(JSON.parse(stored.json) as Inventory) } : {}),
  }
}

function machineOf(inventory: Inventory) {
  const { firmware, vendor, product, serial, uuid, kernel, cpuModel, cpuCount, memoryBytes, interfaces } = inventory
  const cards = interfaces.map(({ name, mac, speedMbit }) => ({ name, mac, speedMbit }))
  return { firmware, vendor, product, serial, uuid, kernel, cpuModel, cpuCount, memoryBytes, interfaces: cards }
}

/** The engine tells of an end right after it. */
const saidWithinMs = 10_000

/** How the new system was looked for, and what the engine said when it had ended. */
async function probeResult(db: Db, row: NamedDeployment) {
  const { probe, finish } = await courseOf(db, row)
  const during = { from: row.started_at, to: (row.ended_at ?? 0) + saidWithinMs, sources: ['engine'], limit: 20 }
  const isLookedFor = finish.action === 'poweroff' || (finish.action !== 'stay' && probe.kind !== 'none')
  const said = (await eventsBetween(db, row.host_id, during)).findLast(({ kind }) => kind === row.state)
  return {
    ...probe,
    finish: finish.action,
    result: row.state !== 'done' ? 'not-seen' : isLookedFor ? 'seen' : 'not-looked-for',
    ...(said ? { said: said.text, at: dateTime(said.at) } : {}),
  }
}
