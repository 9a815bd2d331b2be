// What a source of pieces is to the scheduler's loop: one face for another agent, a stock BitTorrent client and a web
// seed. Whoever implements it calls the events; none of them decides what is asked of whom.

export type PieceSourceEvents = {
  /** A whole piece has arrived, not hashed yet. The buffer now belongs to the receiver. */
  readonly onPiece: (source: PieceSource, piece: number, bytes: Buffer) => void
  /** Bytes of pieces have arrived, whole or not: the source lives. */
  readonly onBytes: (source: PieceSource, bytes: number) => void
  /** The source will not deliver this piece that was asked of it. */
  readonly onRefused: (source: PieceSource, piece: number) => void
  /** The source holds these pieces, or no longer does. */
  readonly onHave: (source: PieceSource, pieces: Iterable<number>) => void
  readonly onDontHave: (source: PieceSource, piece: number) => void
  /** The source is gone, with everything asked of it. Called once, also after `close`. */
  readonly onClosed: (source: PieceSource, reason: Error | undefined) => void
}

export interface PieceSource {
  readonly kind: 'agent' | 'stranger' | 'web-seed'
  /** Unique in one swarm: 40 hex digits of the peer id, or the URL. */
  readonly id: string
  /** Asks for whole pieces, in this order, behind what was asked before. */
  request(pieces: readonly number[]): void
  /** Takes a question back; what is on its way may still arrive. */
  cancel(piece: number): void
  close(reason?: Error): void
}
