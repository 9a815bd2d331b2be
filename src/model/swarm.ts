// The words of the swarm that several folders share: how an image's bytes are cut into pieces, which engines can bring
// them, and the route that the tracker names to an agent. Pure data; swarm/ holds what acts on it.

/** How the bytes of `image.zst` reach the hosts of a rollout. */
export const transferEngines = ['swarm', 'aria2', 'http'] as const
export type TransferEngine = (typeof transferEngines)[number]

/** How `image.zst` is cut for the swarm: equal pieces, the last one as long as the rest (BEP 3). */
export type PieceGeometry = { readonly totalBytes: number; readonly pieceBytes: number }

export function pieceCount({ totalBytes, pieceBytes }: PieceGeometry): number {
  return Math.ceil(totalBytes / pieceBytes)
}

/** Bytes of piece `piece`. */
export function pieceLength({ totalBytes, pieceBytes }: PieceGeometry, piece: number): number {
  return Math.min(pieceBytes, totalBytes - piece * pieceBytes)
}

const pieceBytesMin = 16 * 1024
const pieceBytesMax = 4 * 1024 * 1024
const piecesWanted = 2048

/**
 * The piece length for an image of so many stored bytes. A pipeline of N hosts is full after N pieces, so there are 2048
 * to 4096 of them; every host must have the hash of each before the first, so there are no more. Below 16 KiB no client
 * asks, above 4 MiB a corrupt piece costs too much.
 */
export function choosePieceBytes(totalBytes: number): number {
  const exact = Math.max(1, totalBytes / piecesWanted)
  return Math.min(pieceBytesMax, Math.max(pieceBytesMin, 2 ** Math.floor(Math.log2(exact))))
}

/** A peer as the tracker names it. */
export type SwarmPeer = {
  /** 40 hex digits. */
  readonly peerId: string
  readonly ip: string
  readonly port: number
}

/**
 * Where an agent gets its pieces from. The pieces are dealt out to `stripes` in runs of `stripePieces`: piece p belongs to
 * stripe floor(p / stripePieces) mod stripes. One stripe is a pipeline; with two, each agent passes on one of them to two
 * others and the way to the last of ten thousand is short (docs/swarm.md).
 */
export type Route = {
  /** Grows with every change of the whole plan. */
  readonly version: number
  readonly stripes: number
  readonly stripePieces: number
  /** For each stripe whom to ask, the predecessor first, then who stands in for it. Empty: the web seed. */
  readonly sources: readonly (readonly SwarmPeer[])[]
  /** For each stripe how many agents stand between us and the web seed; 0 is the head. */
  readonly depth: readonly number[]
  /** Who was told to ask us: they come before all others, and we wait for them before we leave. */
  readonly successors: readonly SwarmPeer[]
  /** Peer ids of those named here that stand at another site: what passes between us crosses its border. */
  readonly far: readonly string[]
}
