// What came from where, added up over the engines that took part. Pure.
import { largest, type SupplyCounts } from '../swarm/piece-supply.ts'

export const noCounts: SupplyCounts = {
  receivedBytes: 0,
  verifiedBytes: 0,
  fromOriginBytes: 0,
  fromPeersBytes: 0,
  toPeersBytes: 0,
  ramBytes: 0,
  spilledBytes: 0,
  sources: [],
  uploads: [],
}

/** So many bytes of image.zst that the origin gave when it was asked for ranges. */
export function countsOfOrigin(bytes: number): SupplyCounts {
  const sources = bytes === 0 ? [] : [{ name: 'origin', bytes }]
  return { ...noCounts, receivedBytes: bytes, fromOriginBytes: bytes, sources }
}

export function addCounts(one: SupplyCounts, other: SupplyCounts): SupplyCounts {
  return {
    receivedBytes: one.receivedBytes + other.receivedBytes,
    verifiedBytes: one.verifiedBytes + other.verifiedBytes,
    fromOriginBytes: one.fromOriginBytes + other.fromOriginBytes,
    fromPeersBytes: one.fromPeersBytes + other.fromPeersBytes,
    toPeersBytes: one.toPeersBytes + other.toPeersBytes,
    ramBytes: one.ramBytes + other.ramBytes,
    spilledBytes: one.spilledBytes + other.spilledBytes,
    sources: largest([...one.sources, ...other.sources]),
    uploads: largest([...one.uploads, ...other.uploads]),
  }
}
