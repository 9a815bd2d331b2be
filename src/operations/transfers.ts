// What the rows of deployments say of their transfers.
import type { Proof, TransferCounts } from '../contract/types.ts'
import type { NamedDeployment, RolloutImage } from '../db/deployments.ts'
import type { Track } from '../model/pace.ts'

/** What the row says of the transfer: the proof has the last word. */
export function transferOf(row: Pick<NamedDeployment, 'transfer' | 'proof'>): TransferCounts | undefined {
  // Readers of our own JSON: the Service Port's handlers are its only writers.
  const proof = row.proof === null ? undefined : (JSON.parse(row.proof) as Proof)
  if (proof?.transfer) return proof.transfer
  return row.transfer === null ? undefined : (JSON.parse(row.transfer) as TransferCounts)
}

export function trackOf(row: Pick<NamedDeployment, 'track'>): Track | undefined {
  // The same: `reportProgress` is its only writer.
  return row.track === null ? undefined : (JSON.parse(row.track) as Track)
}

/** Bytes that the origin gave to this host. An agent that counts no transfer had all that it fetched from there. */
export function originBytes(row: Pick<NamedDeployment, 'proof'>, transfer: TransferCounts | undefined): number {
  if (transfer) return transfer.fromOriginBytes
  return row.proof === null ? 0 : (JSON.parse(row.proof) as Proof).bytesFetched
}

/** Bytes in sizes of the images together, to three digits behind the point; undefined when they are not known any more. */
export function copiesOf(bytes: number, images: readonly RolloutImage[]): number | undefined {
  const storedBytes = storedBytesOf(images)
  return storedBytes === 0 ? undefined : Math.round((bytes * 1000) / storedBytes) / 1000
}

/** Bytes that each host fetches. */
export function storedBytesOf(images: readonly RolloutImage[]): number {
  return sum(images.map((image) => image.stored_bytes))
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0)
}
