// The face of an engine to the agent that writes the image: pieces come in, verified, and their bytes stay readable until
// they are released. Implemented by our own swarm and by aria2.

/** What came from where so far, in bytes of image.zst. */
export type SupplyCounts = {
  /** As they came in, what had to be thrown away included. */
  readonly receivedBytes: number
  readonly verifiedBytes: number
  readonly fromOriginBytes: number
  readonly fromPeersBytes: number
  readonly toPeersBytes: number
  /** Held in memory and in the spill area now. */
  readonly ramBytes: number
  readonly spilledBytes: number
  /** Who gave most, and who was given most, most first, at most `namedPeersMax` each; `origin` is the web seed. */
  readonly sources: readonly PeerBytes[]
  readonly uploads: readonly PeerBytes[]
}

export type PeerBytes = { readonly name: string; readonly bytes: number }

const namedPeersMax = 16

/** Added up by name, the largest first, as many as are named. */
export function largest(moved: readonly PeerBytes[]): readonly PeerBytes[] {
  const totals = new Map<string, number>()
  for (const { name, bytes } of moved) totals.set(name, (totals.get(name) ?? 0) + bytes)
  const peers = [...totals].map(([name, bytes]) => ({ name, bytes })).filter(({ bytes }) => bytes > 0)
  return peers.sort((a, b) => b.bytes - a.bytes).slice(0, namedPeersMax)
}

export interface PieceSupply {
  /** Verified pieces in the order of their arrival, each once; ends after the last. Throws when no more can come. */
  pieces(): AsyncIterable<number>
  /** Bytes of image.zst whose pieces have all come and are not released; to be read, not changed. */
  read(offset: number, length: number): Promise<Buffer>
  /** The agent needs this piece no more; others may. */
  release(piece: number): void
  progress(): SupplyCounts
  /** Stays a source while others gain from it, at most `maxMs`. Rejects with the reason of `signal`. */
  linger(options: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void>
  close(): Promise<void>
}
