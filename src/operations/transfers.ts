// What the rows of deployments say of their transfers.
import type { Proof, TransferCounts } from '../contract/types.ts'
import type { NamedDeployment } from '../db/deployments.ts'
import type { Image } from '../db/images.ts'
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

/** Bytes in sizes of image.zst, to three digits behind the point; undefined when the image is not known any more. */
export function copiesOf(bytes: number, image: Image | undefined): number | undefined {
  return image === undefined || image.stored_bytes === 0
    ? undefined
    : Math.round((bytes * 1000) / image.stored_bytes) / 1000
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0)
}
